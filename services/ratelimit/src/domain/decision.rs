//! Many limits of many policies, decided as one.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{Concurrency, Fence, Layout, Lease, LeaseId, Rule};

/// One check as a store decides it.
#[derive(Clone, Debug)]
pub struct Check<'p> {
    /// What is counted. All keys of a check differ.
    pub cells: SmallVec<[CellCheck<'p>; 2]>,
    /// Whether an admission is charged. If not, the decision is made as usual and nothing changes.
    pub charge: bool,
    /// Makes a retry of an admitted check free.
    pub idempotency: Option<Idempotency>,
    /// What is taken of the concurrency limits. If absent, they are only looked at.
    pub lease: Option<Lease>,
    /// By which state of an organization it was prepared, if it is about one. Known to a store that replicas share.
    pub fence: Option<Fence>,
}

impl Check<'_> {
    /// Every key that it counts by.
    pub fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.cells
            .iter()
            .map(|cell| &cell.key[..])
            .chain(self.idempotency.iter().map(|record| &record.key[..]))
    }
}

/// The limits of one policy for one subject.
#[derive(Clone, Debug)]
pub struct CellCheck<'p> {
    /// Identifies policy and subject; see `key.rs`.
    pub key: SmallVec<[u8; 64]>,
    /// The limits.
    pub layout: &'p Arc<Layout>,
    /// Tokens to charge, from 1 to the least capacity among the layout's rules.
    pub cost: u64,
    /// Whether an exceeded limit denies the check; if not, it only says so (shadow).
    pub enforced: bool,
}

/// Identifies a check that may be sent again.
#[derive(Clone, Debug)]
pub struct Idempotency {
    /// Key of the record, beside the cells' keys.
    pub key: SmallVec<[u8; 64]>,
    /// What was checked: attributes and cost. Another digest under the same key is a mistake.
    pub digest: u128,
    /// How long an admission is remembered, in microseconds.
    pub ttl_us: u64,
}

/// What was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether every enforced limit had room.
    pub admitted: bool,
    /// Whether the idempotency key had been admitted before, so that nothing was charged now.
    pub replayed: bool,
    /// Whether the idempotency key belongs to another check; then nothing was decided.
    pub key_reused: bool,
    /// Whether the organization has changed since the check was prepared; then nothing was decided.
    pub stale: bool,
    /// One per rule, in the order of the cells and of the rules in their layouts.
    pub outcomes: SmallVec<[LimitOutcome; 4]>,
    /// The lease that was taken, or, of a retry, the one that was taken before, if it is still held.
    pub lease: Option<HeldLease>,
}

impl Decision {
    /// Nothing was decided, since the idempotency key belongs to another check.
    pub fn of_reused_key() -> Self {
        Self { key_reused: true, ..Self::of_nothing() }
    }

    /// Nothing was decided, since the organization has changed.
    pub fn of_stale() -> Self {
        Self { stale: true, ..Self::of_nothing() }
    }

    fn of_nothing() -> Self {
        let (outcomes, lease) = (SmallVec::new(), None);
        Self { admitted: false, replayed: false, key_reused: false, stale: false, outcomes, lease }
    }
}

/// A lease that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldLease {
    /// What tells it from others.
    pub id: LeaseId,
    /// Microseconds until the first of the enforced limits has it expire.
    pub expires_after_us: u64,
}

/// What is remembered of an admission with an idempotency key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replay {
    /// The lease that was taken.
    pub lease: Option<LeaseId>,
}

/// One limit after the decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitOutcome {
    /// Tokens left, after the charge if there was one.
    pub remaining: u64,
    /// Microseconds until this limit would admit the check; 0 exactly if it did now.
    pub retry_after_us: u64,
    /// Microseconds until the limit is wholly unused again if nothing more is charged.
    pub reset_after_us: u64,
}

impl LimitOutcome {
    /// Whether the limit had no room for the check.
    pub fn exceeded(&self) -> bool {
        self.retry_after_us > 0
    }
}

/// The state of the cells of a check, as a store holds it, locked for the decision.
pub trait Cells {
    /// State of a cell without changing it; all zeros if it is new.
    fn peek(&mut self, cell: usize) -> &[u64];
    /// State of a cell to be charged.
    fn update(&mut self, cell: usize) -> &mut [u64];
    /// Keeps the cell until `idle_at_us`, in Unix microseconds, or as long as it was to be kept before, if that is
    /// longer; then it is as good as new.
    fn keep_until(&mut self, cell: usize, idle_at_us: u64);
}

/// Decides `check` at `now_us`: first every limit is read, then, only if all of the enforced ones
/// have room, every limit that has room is charged. A denial changes nothing.
///
/// `replay` is there if the idempotency key of the check was admitted before: the check is then
/// admitted without a charge.
#[inline]
pub fn decide(check: &Check<'_>, cells: &mut impl Cells, now_us: u64, replay: Option<Replay>) -> Decision {
    let mut outcomes = SmallVec::<[LimitOutcome; 4]>::new();
    let mut admitted = true;
    for (index, cell) in check.cells.iter().enumerate() {
        let words = cells.peek(index);
        for (rule, part) in cell.layout.parts() {
            let look = rule.look(&words[part], cell.cost, now_us);
            admitted &= look.retry_after_us == 0 || !cell.enforced;
            outcomes.push(LimitOutcome {
                remaining: look.remaining,
                retry_after_us: look.retry_after_us,
                reset_after_us: look.reset_after_us,
            });
        }
    }
    if let Some(Replay { lease }) = replay {
        for outcome in &mut outcomes {
            outcome.retry_after_us = 0;
        }
        let lease = lease.and_then(|id| held(check, id, cells, now_us));
        return Decision { admitted: true, replayed: true, key_reused: false, stale: false, outcomes, lease };
    }
    let mut lease = None;
    if admitted && check.charge {
        let mut rest = outcomes.iter_mut();
        for (index, cell) in check.cells.iter().enumerate() {
            let words = cells.update(index);
            let mut longest = 0;
            for (rule, part) in cell.layout.parts() {
                let outcome = rest.next().expect("one outcome was pushed for every rule");
                if !outcome.exceeded()
                    && let Some(reset_after_us) =
                        rule.charge(&mut words[part], cell.cost, check.lease, now_us)
                {
                    outcome.remaining -= cell.cost;
                    outcome.reset_after_us = reset_after_us;
                }
                longest = longest.max(outcome.reset_after_us);
            }
            cells.keep_until(index, now_us + longest);
        }
        lease = check.lease.map(|Lease { id, ttl_us }| HeldLease { id, expires_after_us: ttl_us });
    }
    Decision { admitted, replayed: false, key_reused: false, stale: false, outcomes, lease }
}

/// A lease that was taken before, unless one of the enforced limits does not hold it any more.
#[cold]
fn held(check: &Check<'_>, id: LeaseId, cells: &mut impl Cells, now_us: u64) -> Option<HeldLease> {
    let mut expires_after_us = check.lease?.ttl_us;
    for (index, cell) in check.cells.iter().enumerate().filter(|(_, cell)| cell.enforced) {
        let words = cells.peek(index);
        for (_, part) in cell.layout.parts().filter(|(rule, _)| matches!(rule, Rule::Concurrency(_))) {
            let expires_us = Concurrency::expiry(&words[part], id, now_us)?;
            expires_after_us = expires_after_us.min(expires_us - now_us);
        }
    }
    Some(HeldLease { id, expires_after_us })
}
