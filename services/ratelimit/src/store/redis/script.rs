//! The scripts that Redis runs.

use redis::{Cmd, Value, aio::MultiplexedConnection};

use super::encode::{Encoder, kind};
use crate::store::CellReset;

/// Decides a batch of checks; the first file holds the algorithms.
pub(super) const DECIDE: &str = concat!(include_str!("algorithms.lua"), include_str!("decide.lua"));

/// Clears one rule of a cell.
const RESET: &str = include_str!("reset.lua");

/// Loads [`DECIDE`] and answers the digest by which it is called.
///
/// # Errors
///
/// As Redis answers, or the connection fails.
pub(super) async fn load(connection: &mut MultiplexedConnection) -> redis::RedisResult<String> {
    redis::cmd("SCRIPT").arg("LOAD").arg(DECIDE).query_async(connection).await
}

/// Calls the script with no check: it answers an empty string and changes nothing.
///
/// # Errors
///
/// As Redis answers, or the connection fails.
pub(super) async fn probe(connection: &mut MultiplexedConnection, sha: &str) -> redis::RedisResult<()> {
    match connection.send_packed_command(&Encoder::default().command(sha, |_| true)).await?.extract_error()? {
        Value::BulkString(answer) if answer.is_empty() => Ok(()),
        _ => {
            Err((redis::ErrorKind::UnexpectedReturnType, "the probe was not answered by an empty string")
                .into())
        }
    }
}

/// The command that clears a cell. Sent as text: it is rare, and clearing again is safe.
pub(super) fn reset_command(cell: &CellReset) -> Cmd {
    let Some(rule) = cell.rule else {
        let mut command = redis::cmd("DEL");
        command.arg(&cell.key[..]);
        return command;
    };
    let kinds: Vec<u8> = cell.layout.rules().iter().map(kind).collect();
    let mut command = redis::cmd("EVAL");
    command.arg(RESET).arg(1).arg(&cell.key[..]).arg(&kinds[..]).arg(rule + 1);
    command
}
