//! One call of the script.

use std::sync::Arc;

use redis::{Cmd, ErrorKind, RedisError, RedisResult, ServerErrorKind, Value};
use tokio::time::Instant;

use super::{batch::Batch, connection::Connection, encode::Encoder, script};
use crate::store::StoreError;

/// A call that has ended.
pub(super) struct Done {
    pub(super) batch: Arc<Batch>,
    pub(super) encoder: Encoder,
    pub(super) checks: usize,
    pub(super) sent_at: Instant,
    pub(super) outcome: RedisResult<Vec<u8>>,
}

/// What callers are told of an error.
pub(super) fn store_error(error: &RedisError) -> StoreError {
    if error.is_unrecoverable_error() || error.is_io_error() {
        StoreError::Disconnected
    } else {
        StoreError::Protocol
    }
}

/// Calls the script. Only if Redis says that it does not know the script, and so has run nothing, it is
/// loaded and called once more.
pub(super) async fn call(
    connection: Connection,
    command: Cmd,
    batch: Arc<Batch>,
    checks: usize,
    encoder: Encoder,
) -> Done {
    let Connection { mut redis, .. } = connection;
    let sent_at = Instant::now();
    let first = redis.send_packed_command(&command).await.and_then(Value::extract_error);
    let answer = match first {
        Err(error) if is_noscript(&error) && batch.is_awaited() => match script::load(&mut redis).await {
            Ok(_) => redis.send_packed_command(&command).await.and_then(Value::extract_error),
            Err(error) => Err(error),
        },
        answer => answer,
    };
    let outcome = answer.and_then(|value| match value {
        Value::BulkString(bytes) => Ok(bytes),
        _ => Err((ErrorKind::UnexpectedReturnType, "the script answers a string").into()),
    });
    Done { batch, encoder, checks, sent_at, outcome }
}

fn is_noscript(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}
