//! One call of the script.

use std::sync::Arc;

use redis::{
    Cmd, ErrorKind, Pipeline, RedisError, RedisResult, ServerErrorKind, Value, aio::MultiplexedConnection,
};
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

/// Why a call did not decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// It may have run, unless the error says that it did not.
    Store(StoreError),
    /// It was not sent, or Redis says why it has run nothing.
    Refused(StoreError),
    /// The node has run nothing: as far as it knows the cluster is down, or nobody has the slot.
    Down,
    /// The node says that it has run nothing, and where to ask instead.
    Elsewhere(Elsewhere),
}

/// Where a node of a cluster sends callers. It has run nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Elsewhere {
    /// The slot lies on another node, `host:port`; the host may be missing, then it is the same
    /// ([`completed`](Self::completed)).
    Moved(Arc<str>),
    /// The slot is moving to another node, and the keys may have arrived there.
    Ask(Arc<str>),
    /// The slot is moving, and the keys lie on both nodes, or are new: only one at a time can be asked for.
    Divided,
}

impl Elsewhere {
    /// With the host of the `node` that says so, `host:port`, where it names none.
    pub(super) fn completed(self, node: &str) -> Self {
        let complete = |address: Arc<str>| match (address.rsplit_once(':'), node.rsplit_once(':')) {
            (Some(("" | "?", port)), Some((host, _))) => Arc::from(format!("{host}:{port}")),
            _ => address,
        };
        match self {
            Self::Moved(address) => Self::Moved(complete(address)),
            Self::Ask(address) => Self::Ask(complete(address)),
            Self::Divided => Self::Divided,
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Store(error) | Failure::Refused(error) => error,
            // Where nobody follows, it is an answer that decides nothing.
            Failure::Elsewhere(_) | Failure::Down => Self::Protocol,
        }
    }
}

/// With these codes Redis refuses a call before it runs, or a script before it has written anything: the script takes care that
/// what comes later has another code.
const REFUSALS: [&str; 8] =
    ["READONLY", "MISCONF", "NOREPLICAS", "MASTERDOWN", "LOADING", "BUSY", "NOPERM", "NOSCRIPT"];

/// What callers are told of an error.
pub(super) fn failure(error: &RedisError) -> Failure {
    let address = || error.redirect_node().map(|(address, _)| Arc::from(address));
    let elsewhere = match error.kind() {
        ErrorKind::Server(ServerErrorKind::Moved) => address().map(Elsewhere::Moved),
        ErrorKind::Server(ServerErrorKind::Ask) => address().map(Elsewhere::Ask),
        ErrorKind::Server(ServerErrorKind::TryAgain) => Some(Elsewhere::Divided),
        _ => None,
    };
    match elsewhere {
        Some(elsewhere) => Failure::Elsewhere(elsewhere),
        None if error.kind() == ErrorKind::Server(ServerErrorKind::ClusterDown) => Failure::Down,
        None => {
            let is_lost = error.is_unrecoverable_error() || error.is_io_error();
            let told = if is_lost { StoreError::Disconnected } else { StoreError::Protocol };
            let is_refused = error.code().is_some_and(|code| REFUSALS.contains(&code));
            if is_refused { Failure::Refused(told) } else { Failure::Store(told) }
        }
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
    let asking = batch.lane().asking;
    let sent_at = Instant::now();
    let first = send(&mut redis, &command, asking).await;
    let answer = match first {
        Err(error) if is_noscript(&error) && batch.is_awaited() => match script::load(&mut redis).await {
            Ok(_) => send(&mut redis, &command, asking).await,
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

/// Sends a command; `asking` makes a node take it to which the slot is only moving.
pub(super) async fn send(
    redis: &mut MultiplexedConnection,
    command: &Cmd,
    asking: bool,
) -> RedisResult<Value> {
    if !asking {
        return redis.send_packed_command(command).await.and_then(Value::extract_error);
    }
    // Both leave in one piece, so no other command of this connection comes between them.
    let mut pair = Pipeline::with_capacity(2);
    pair.cmd("ASKING").add_command(command.clone());
    let mut answers = redis.send_packed_commands(&pair, 1, 1).await?;
    answers.pop().unwrap_or(Value::Nil).extract_error()
}

/// As [`send`], of a command that may call a script by its digest: a server that does not know it has run nothing, and is
/// sent it and the command once more.
pub(super) async fn send_known(
    redis: &mut MultiplexedConnection,
    command: &Cmd,
    asking: bool,
) -> RedisResult<Value> {
    match send(redis, command, asking).await {
        Err(error) if is_noscript(&error) => {
            script::load_seldom(redis).await?;
            send(redis, command, asking).await
        }
        answer => answer,
    }
}

fn is_noscript(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}
