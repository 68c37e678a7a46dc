//! The scripts that Redis runs.

use std::sync::OnceLock;

use redis::{Cmd, aio::MultiplexedConnection};

use super::encode::{kind, layouts_of_one};
use crate::{
    domain::{Charged, Layout, Rule},
    store::{CellLease, CellRefund, CellReset},
};

/// Decides a batch of checks; the first file holds the algorithms.
pub(super) const DECIDE: &str = concat!(include_str!("algorithms.lua"), include_str!("decide.lua"));

/// Gives back tokens of a cell; the first file holds the algorithms.
pub(super) static REFUND: Known =
    Known::new(concat!(include_str!("algorithms.lua"), include_str!("refund.lua")));

/// A script that is called by its digest: far shorter than its text, which a server then need not digest for each call.
pub(super) struct Known {
    pub(super) text: &'static str,
    digest: OnceLock<String>,
}

impl Known {
    const fn new(text: &'static str) -> Self {
        Self { text, digest: OnceLock::new() }
    }

    fn digest(&self) -> &str {
        self.digest.get_or_init(|| redis::Script::new(self.text).get_hash().to_owned())
    }
}

/// Makes a server know the scripts that are called by digest but seldom.
///
/// # Errors
///
/// As Redis answers, or the connection fails.
pub(super) async fn load_seldom(connection: &mut MultiplexedConnection) -> redis::RedisResult<()> {
    redis::cmd("SCRIPT").arg("LOAD").arg(REFUND.text).query_async(connection).await
}

/// Takes back a charge of a cell; the first file holds the algorithms.
pub(super) const UNDO: &str = concat!(include_str!("algorithms.lua"), include_str!("undo.lua"));

/// Clears one rule of a cell.
const RESET: &str = include_str!("reset.lua");

/// Renews or releases a lease of a cell.
pub(super) const LEASE: &str = include_str!("lease.lua");

/// Loads [`DECIDE`] and answers the digest by which it is called.
///
/// # Errors
///
/// As Redis answers, or the connection fails.
pub(super) async fn load(connection: &mut MultiplexedConnection) -> redis::RedisResult<String> {
    redis::cmd("SCRIPT").arg("LOAD").arg(DECIDE).query_async(connection).await
}

/// Writes a `key` of its own, which expires at once: a Redis that answers but takes no writes cannot decide. One
/// that is full can, as far as it denies.
///
/// # Errors
///
/// As Redis answers, or the connection fails.
pub(super) async fn probe(connection: &mut MultiplexedConnection, key: &str) -> redis::RedisResult<()> {
    let written = redis::cmd("SET").arg(key).arg("").arg("PX").arg(1_000).query_async(connection).await;
    match written {
        Err(error) if error.code() == Some("OOM") => Ok(()),
        result => result,
    }
}

/// The command that clears a cell. Sent as text: it is rare, and clearing again is safe.
pub(super) fn reset_command(cell: &CellReset) -> Cmd {
    let Some(rule) = cell.rule else {
        let mut command = redis::cmd("DEL");
        command.arg(&cell.key[..]);
        return command;
    };
    let kinds: Vec<u8> = cell.layout.rules().iter().map(Rule::algorithm).map(kind).collect();
    let mut command = redis::cmd("EVAL");
    command.arg(RESET).arg(1).arg(&cell.key[..]).arg(&kinds[..]).arg(rule + 1);
    command
}

/// The command that gives tokens of a cell back.
pub(super) fn refund_command(cell: &CellRefund) -> Cmd {
    let mut command = redis::cmd("EVALSHA");
    command
        .arg(REFUND.digest())
        .arg(1)
        .arg(&cell.key[..])
        .arg(layouts_of_one(&cell.layout))
        .arg(cell.tokens.min(u32::MAX.into()));
    command
}

/// The command that takes back what was charged in a cell at a time: `cost`, of those rules that had room. Sent as text: it
/// is rare.
pub(super) fn undo_command(
    key: &[u8],
    layout: &Layout,
    charged: &Charged,
    were_charged: impl Iterator<Item = bool>,
) -> Cmd {
    let mut command = redis::cmd("EVAL");
    command.arg(UNDO).arg(1).arg(key).arg(layouts_of_one(layout));
    command.arg(charged.cost).arg(charged.at_us).arg(charged.ago_us);
    let lease = charged.lease.map_or([0; 8], |id| id.get().to_le_bytes());
    command.arg(were_charged.map(u8::from).chain(lease).collect::<Vec<_>>());
    command
}

/// What becomes of a lease.
#[derive(Clone, Copy, Debug)]
pub(super) enum LeaseStep {
    /// It lasts so many microseconds from now.
    Renew(u64),
    /// It ends.
    Release,
    /// Nothing: it is asked when it expires.
    Look,
}

/// The command that does something with the lease of a cell. Sent as text, as that which gives tokens back.
pub(super) fn lease_command(cell: &CellLease, step: LeaseStep) -> Cmd {
    let kinds: Vec<u8> = cell.algorithms.iter().copied().map(kind).collect();
    let mut command = redis::cmd("EVAL");
    command.arg(LEASE).arg(1).arg(&cell.key[..]).arg(&kinds[..]);
    command.arg(&cell.id.get().to_le_bytes()).arg(u8::from(cell.enforced));
    match step {
        LeaseStep::Renew(ttl_us) => command.arg(ttl_us),
        LeaseStep::Release => command.arg(0),
        LeaseStep::Look => command.arg(-1),
    };
    command
}
