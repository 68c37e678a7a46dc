//! Where counters live. Every backend passes the same suite, `store::conformance`.

use std::{pin::Pin, sync::Arc};

use smallvec::SmallVec;

use crate::domain::{Algorithm, Check, Decision, Fence, Layout, LeaseId};

pub mod catalog;
#[cfg(test)]
pub(crate) mod conformance;
mod memory;
mod redis;

pub use memory::{MemoryStore, MemoryStoreConfig};
#[cfg(test)]
pub(crate) use redis::tests::config as redis_config;
pub use redis::{RedisBackend, RedisStore, RedisStoreConfig};

/// Keeps the counters of a check and decides it.
///
/// Not an `async fn`: a store in memory answers at once, and a boxed future for each check of the hot
/// path would cost more than the decision.
pub trait CounterStore: Send + Sync + 'static {
    /// Decides `check` by the store's own clock and charges what it admits. In memory the hot path gives the time
    /// itself, and does not pass here: `MemoryStore::decide_at`.
    ///
    /// Atomic: checks that share a cell act as if made one after another, and a denial changes
    /// nothing in any cell. A key never seen, or idle for as long as its limits look back, counts as
    /// unused. With an idempotency record of the same digest the check is admitted and nothing is
    /// charged; with one of another digest `key_reused` is set and nothing is decided. If a fence of the organization is known that is
    /// higher than the one of the check, `stale` is set and nothing is decided, whatever else there is.
    ///
    /// # Errors
    ///
    /// [`StoreError`]. After `Timeout` or `Disconnected` the charge may still have happened; it is
    /// never sent again.
    fn decide(&self, check: &Check<'_>) -> Answer<'static, Decision>;

    /// Forgets what was counted: of the whole cell, or of one rule of its layout. A cell that does not
    /// exist is left alone. Idempotency records stay. Atomic per cell.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; cells before the failing one may have been cleared. Clearing again is safe.
    fn reset<'a>(&'a self, cells: &'a [CellReset]) -> Answer<'a, ()>;

    /// Gives tokens back: of each limit of a cell those that were charged last and still count, as many as there are. A
    /// cell that does not exist is left alone. Atomic per cell.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; some cells may have been given theirs. After `Timeout` or `Disconnected` so may the failing
    /// one; it is never sent again.
    fn refund<'a>(&'a self, cells: &'a [CellRefund]) -> Answer<'a, ()>;

    /// Lets a lease last until `ttl_us` from now, in each of its cells. Answers whether it does: not if one of the limits of an
    /// enforced cell does not hold it any more, since it expired, was released or cleared. What has ended is never
    /// begun again. Atomic per cell; cells before the one that does not hold it may have been renewed.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; some cells may have been renewed. Renewing again is safe.
    fn renew<'a>(&'a self, cells: &'a [CellLease], ttl_us: u64) -> Answer<'a, bool>;

    /// Gives the places of a lease back, in each of its cells, and answers whether any of them held it. Atomic per cell.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; some cells may have been given theirs. Releasing again is safe.
    fn release<'a>(&'a self, cells: &'a [CellLease]) -> Answer<'a, bool>;

    /// Makes the generation of `fence` known to all who count in the same store, unless a higher one is. Answers whether the store keeps
    /// it: one in the memory of this process does not, since whatever would be too old is in the same process.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; some checks may meet it already. Telling it again is safe.
    fn fence(&self, fence: Fence) -> Answer<'_, bool>;

    /// For how many microseconds nothing that was counted under `key` has been lost, as far as the store can know; 0 if it
    /// does not know. A loss is known before anything is decided by what is left.
    fn complete_for_us(&self, key: &[u8]) -> u64;
}

/// One cell in which a lease was taken. It need not be there any more, nor be what it was: then it does not hold the lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CellLease {
    /// As in [`crate::domain::CellCheck`].
    pub key: SmallVec<[u8; 64]>,
    /// Those of the limits counted in the cell, in their order.
    pub algorithms: SmallVec<[Algorithm; 4]>,
    /// As in [`crate::domain::CellCheck`].
    pub enforced: bool,
    /// The lease.
    pub id: LeaseId,
}

/// Tokens of one cell to be given back.
#[derive(Clone, Debug)]
pub struct CellRefund {
    /// As in [`crate::domain::CellCheck`].
    pub key: SmallVec<[u8; 64]>,
    /// The limits counted in the cell.
    pub layout: Arc<Layout>,
    /// How many, of each limit.
    pub tokens: u64,
}

/// One cell to be cleared.
#[derive(Clone, Debug)]
pub struct CellReset {
    /// As in [`crate::domain::CellCheck`].
    pub key: SmallVec<[u8; 64]>,
    /// The limits counted in the cell.
    pub layout: Arc<Layout>,
    /// Index of the one rule to clear; all of them if absent.
    pub rule: Option<usize>,
}

/// The answer of a store: at once, or later.
pub enum Answer<'a, T> {
    /// Here it is.
    Ready(Result<T, StoreError>),
    /// It takes a round trip.
    Pending(Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>),
}

impl<T> Answer<'_, T> {
    /// Waits for the answer.
    ///
    /// # Errors
    ///
    /// As the call that gave it.
    #[inline]
    pub async fn get(self) -> Result<T, StoreError> {
        match self {
            Self::Ready(result) => result,
            Self::Pending(future) => future.await,
        }
    }
}

/// Why a store could not decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The deadline passed; the charge may have happened.
    #[error("the store did not answer within its deadline")]
    Timeout,
    /// The connection broke; the charge may have happened.
    #[error("the connection to the store broke")]
    Disconnected,
    /// Nothing was sent: the store has failed repeatedly and is being left alone for a moment.
    #[error("the store is not being asked: its breaker is open")]
    BreakerOpen,
    /// The store answered, but not what it should have; nothing can be said about the charge.
    #[error("the store refused or answered nonsense")]
    Protocol,
    /// The store has no room for another key; nothing was charged.
    #[error("the store is at its memory bound")]
    Full,
    /// The store may have lost what was counted, and the policy does not accept that.
    #[error("the store may have lost what was counted")]
    Incomplete,
}
