//! Credits that this replica holds, and hands out without asking anybody.
//!
//! They were taken off the account before they came here (`ReserveCredits`), so what is held may be spent, and what is lost is spent:
//! too little is admitted then, never too much. A reservation of which nothing is known is asked for again by its own id.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use tidegate_chassis::clock::uuid_v7;
use tidegate_proto::keys::v1::ReserveCreditsRequest;
use tokio::{
    sync::{Mutex as Turns, Semaphore},
    time::timeout,
};
use tonic::Code;
use uuid::Uuid;

use super::{Inner, Keys, KeysError, Record, cache::Cache};

/// The most that is reserved at a time without somebody waiting for it.
const MOST_AHEAD: u64 = 1_000;
/// Of the balance that was told last, one part in so many is reserved ahead at most, so that little lies on replicas when it runs low.
const SHARE_AHEAD: u64 = 100;
/// The most that the keys service takes off at a time.
const MOST_RESERVED: u64 = 1_000_000_000;
/// For so long an account that was found empty is taken for empty.
const EMPTY_US: u64 = 1_000_000;
/// A reservation that lasts less is followed by one of twice as much, one that lasts ten times as long by one of half.
const BUSY_US: u64 = 1_000_000;
/// How often somebody who waits asks: the first answer may be that of an older, smaller reservation, others may be quicker to take it.
const MOST_ASKED: usize = 8;

/// What this replica holds, by lineage. Of a lineage that is pushed out by others what is held is spent.
pub(super) struct Credits {
    accounts: Cache<Arc<Account>>,
    /// Reservations that may be under way.
    places: Semaphore,
}

/// What came of paying for a check.
#[derive(Debug)]
pub(crate) enum Payment {
    /// The key has no account: nothing is to be paid.
    Free,
    /// It is paid.
    Paid(Paid),
    /// There is not enough.
    Empty {
        /// Until the account is refilled, in microseconds; 0 for never.
        retry_after_us: u64,
        /// What is left.
        remaining: u64,
    },
}

/// Credits that were taken for a check. They are given back when this is dropped, unless they are spent.
#[derive(Debug)]
pub(crate) struct Paid {
    account: Arc<Account>,
    cost: u64,
}

/// What is held of one lineage.
#[derive(Debug)]
struct Account {
    lineage: Uuid,
    organization: Uuid,
    state: Mutex<State>,
    /// Whose turn it is to reserve.
    turns: Arc<Turns<()>>,
    /// What those who wait for a reservation need together.
    waiting: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    held: u64,
    /// What the keys service said last is left on the account.
    balance: u64,
    next_refill_us: u64,
    empty_until_us: u64,
    /// What is reserved ahead, if the balance allows it.
    block: u64,
    reserved_us: u64,
    /// A reservation that was asked for, and of which nothing is known: its id and amount.
    pending: Option<(Uuid, u64)>,
    /// Counts reservations that failed, so that who waited for one does not try it once more.
    failures: u64,
}

impl Credits {
    pub(super) fn new(most_lineages: usize, most_reservations: usize) -> Self {
        Self { accounts: Cache::new(most_lineages), places: Semaphore::new(most_reservations) }
    }

    fn account(&self, lineage: Uuid, organization: Uuid) -> Arc<Account> {
        self.accounts.get_or_put(lineage.as_u128(), || {
            Arc::new(Account {
                lineage,
                organization,
                state: Mutex::default(),
                turns: Arc::default(),
                waiting: AtomicU64::new(0),
            })
        })
    }
}

impl Keys {
    /// Pays for a check of `cost`, if that can be said here and now.
    #[inline]
    pub(crate) fn pay_at_once(&self, record: &Record, cost: u64) -> Option<Payment> {
        let Some(lineage) = record.credits else { return Some(Payment::Free) };
        let account = self.0.credits.account(lineage, record.organization);
        account.take(cost, self.0.clock.now_us())
    }

    /// Pays for a check of `cost`.
    ///
    /// # Errors
    ///
    /// Not enough is held, and the keys service cannot be asked.
    pub(crate) async fn pay(&self, record: &Record, cost: u64) -> Result<Payment, KeysError> {
        let Some(lineage) = record.credits else { return Ok(Payment::Free) };
        let account = self.0.credits.account(lineage, record.organization);
        if let Some(payment) = account.take(cost, self.0.clock.now_us()) {
            return Ok(payment);
        }
        let _waiting = Waiting::new(&account, cost);
        let failures = account.state().failures;
        for _ in 0..MOST_ASKED {
            let turn = Arc::clone(&account.turns).lock_owned().await;
            if let Some(payment) = account.take(cost, self.0.clock.now_us()) {
                return Ok(payment);
            }
            if account.state().failures != failures {
                return Err(KeysError::Unavailable);
            }
            // It goes on when nobody waits any more, and on the runtime of the connection.
            let (inner, of) = (Arc::clone(&self.0), Arc::clone(&account));
            let task = self.0.runtime.spawn(async move {
                let _turn = turn;
                inner.reserve(&of, cost).await
            });
            task.await.unwrap_or(Err(KeysError::Unavailable))?;
            if let Some(payment) = account.take(cost, self.0.clock.now_us()) {
                return Ok(payment);
            }
        }
        Err(KeysError::Busy)
    }
}

impl Inner {
    async fn reserve(&self, account: &Account, cost: u64) -> Result<(), KeysError> {
        let Ok(_place) = self.credits.places.try_acquire() else {
            self.metrics.refused.inc();
            return Err(KeysError::Busy);
        };
        self.metrics.reservations.inc();
        let now_us = self.clock.now_us();
        let (id, amount) = account.next_reservation(cost, now_us, || uuid_v7(now_us, &self.random));
        let request = ReserveCreditsRequest {
            lineage_id: account.lineage.to_string(),
            organization_id: account.organization.to_string(),
            amount,
            reservation_id: id.to_string(),
        };
        let mut client = self.client.get();
        let answered = timeout(self.config.deadline.get(), client.reserve_credits(request)).await;
        let mut state = account.state();
        let what = match answered {
            // More than was asked for is out of contract, and nothing that may be handed out.
            Ok(Ok(answer)) if answer.get_ref().granted <= amount => {
                let answer = answer.into_inner();
                let now_us = self.clock.now_us();
                state.pending = None;
                state.held = state.held.saturating_add(answer.granted);
                state.balance = answer.balance;
                state.next_refill_us = answer.next_refill_at_ms.saturating_mul(1_000);
                state.reserved_us = now_us;
                if answer.balance == 0 {
                    state.empty_until_us = now_us.saturating_add(EMPTY_US);
                }
                return Ok(());
            }
            Ok(Ok(_)) => "more was granted than was asked for".to_owned(),
            Ok(Err(status)) => {
                if is_refusal(status.code()) {
                    state.pending = None;
                }
                status.to_string()
            }
            Err(_) => "it took too long".to_owned(),
        };
        state.failures += 1;
        drop(state);
        self.metrics.reservation_failures.inc();
        tracing::debug!(what, "no credits could be reserved");
        Err(KeysError::Unavailable)
    }
}

/// Whether a reservation that was answered so has certainly taken nothing.
fn is_refusal(code: Code) -> bool {
    matches!(
        code,
        Code::InvalidArgument
            | Code::NotFound
            | Code::FailedPrecondition
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::Unimplemented
    )
}

impl Account {
    /// Takes credits if enough are held, or says that there are none if that is known.
    fn take(self: &Arc<Self>, cost: u64, now_us: u64) -> Option<Payment> {
        let mut state = self.state();
        if let Some(left) = state.held.checked_sub(cost) {
            state.held = left;
            return Some(Payment::Paid(Paid { account: Arc::clone(self), cost }));
        }
        let refill_us = state.next_refill_us;
        let is_refilled = state.reserved_us < refill_us && refill_us <= now_us;
        if now_us >= state.empty_until_us || is_refilled {
            return None;
        }
        let retry_after_us = match refill_us {
            0 => 0,
            // Due, and yet to be done.
            at_us => at_us.saturating_sub(now_us).max(EMPTY_US / 1_000),
        };
        Some(Payment::Empty { retry_after_us, remaining: state.remaining() })
    }

    /// The reservation of which nothing is known; a new one if there is none.
    fn next_reservation(&self, cost: u64, now_us: u64, id: impl FnOnce() -> Uuid) -> (Uuid, u64) {
        let mut state = self.state();
        if let Some(pending) = state.pending {
            return pending;
        }
        let lasted_us = now_us.saturating_sub(state.reserved_us);
        state.block = match state.block {
            block if lasted_us < BUSY_US => block.saturating_mul(2).clamp(1, MOST_AHEAD),
            block if lasted_us >= 10 * BUSY_US => (block / 2).max(1),
            block => block.max(1),
        };
        let needed = self.waiting.load(Ordering::Relaxed).max(cost).saturating_sub(state.held);
        let ahead = state.block.min(state.balance / SHARE_AHEAD);
        let reservation = (id(), needed.max(ahead).clamp(1, MOST_RESERVED));
        state.pending = Some(reservation);
        reservation
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn remaining(&self) -> u64 {
        self.held.saturating_add(self.balance)
    }
}

impl Paid {
    /// They are gone.
    pub(crate) fn spend(&mut self) {
        self.cost = 0;
    }

    /// What was spent is not, after all: `cost` is given back when this is dropped.
    pub(crate) fn unspend(&mut self, cost: u64) {
        self.cost = cost;
    }

    /// What is left if these are not spent, or were.
    pub(crate) fn remaining(&self) -> u64 {
        self.account.state().remaining().saturating_add(self.cost)
    }
}

impl Drop for Paid {
    fn drop(&mut self) {
        if self.cost > 0 {
            let mut state = self.account.state();
            state.held = state.held.saturating_add(self.cost);
        }
    }
}

/// Somebody who waits for a reservation.
struct Waiting<'a> {
    account: &'a Account,
    cost: u64,
}

impl<'a> Waiting<'a> {
    fn new(account: &'a Account, cost: u64) -> Self {
        account.waiting.fetch_add(cost, Ordering::Relaxed);
        Self { account, cost }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.account.waiting.fetch_sub(self.cost, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
