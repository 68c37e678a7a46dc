//! Answers while the store is gone.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{CheckError, LimitVerdict, Matches, Reason, Verdict, leases, limited};
use crate::{
    domain::{CellCheck, Check, Enforcement, FailureMode, Layout, LimitOutcome, Match, Rule},
    store::{MemoryStore, StoreError},
};

/// When a check denied by failure mode `closed` should be tried again: one second, about what a
/// broken connection takes to come back.
const RETRY_US: u64 = 1_000_000;

/// What the failure modes of the matching policies say, all of them together: one `closed` denies;
/// `local` ones are decided in this replica's memory against its share; `open` ones have no say and
/// are not listed, since nothing is known of them. Shadow policies never deny.
///
/// `now_us`, in Unix microseconds, is when the store had failed to answer: this replica decides at that time.
/// `check` is what the store could not decide, with one cell per limited match. Its charge may have
/// happened if the answer was lost; nothing here gives it back.
///
/// # Errors
///
/// [`CheckError::IdempotencyKeyReused`], as far as this replica remembers the key.
#[cold]
pub(super) fn verdict<'p>(
    local: Option<&MemoryStore>,
    matches: &Matches<'p>,
    check: &Check<'p>,
    error: StoreError,
    now_us: u64,
) -> Result<Verdict<'p>, CheckError> {
    tracing::debug!(%error, "answering by failure mode");
    let mut limits = SmallVec::<[LimitVerdict<'p>; 4]>::new();
    let mut cells = SmallVec::new();
    // Which of the limits this replica decides by itself, and whether another one denies without asking.
    let mut counted = SmallVec::<[usize; 4]>::new();
    let mut unknown_denies = false;
    for (found, cell) in limited(matches).zip(&check.cells) {
        let share = match found.policy.failure_mode {
            FailureMode::Open => continue,
            FailureMode::Closed => None,
            FailureMode::Local => local.and_then(|_| share(found, cell)),
        };
        if share.is_none() && found.policy.enforcement == Enforcement::Shadow {
            continue;
        }
        let first = limits.len();
        limits.extend(found.bundle.limits.iter().map(|limit| LimitVerdict {
            limit,
            policy: found.policy,
            outcome: UNKNOWN,
        }));
        match share {
            Some((layout, cost)) => {
                counted.extend(first..limits.len());
                cells.push(CellCheck { layout, cost, ..cell.clone() });
            }
            None => unknown_denies = true,
        }
    }
    let mut admitted = !unknown_denies;
    let (mut replayed, mut lease) = (false, None);
    if let (Some(local), false) = (local, cells.is_empty()) {
        let charge = check.charge && admitted;
        let counts_leases = cells.iter().any(|cell: &CellCheck<'_>| cell.layout.is_leased());
        let local_check = Check {
            cells,
            charge,
            idempotency: check.idempotency.clone(),
            lease: check.lease.filter(|_| counts_leases),
            fence: None,
        };
        match local.decide_at(&local_check, now_us) {
            Ok(decision) if decision.key_reused => return Err(CheckError::IdempotencyKeyReused),
            Ok(decision) => {
                replayed = admitted && decision.replayed;
                admitted &= decision.admitted;
                lease = decision.lease.map(|held| leases::grant(&local_check.cells, held, true));
                for (index, outcome) in counted.into_iter().zip(decision.outcomes) {
                    limits[index].outcome = outcome;
                }
            }
            // At its own memory bound: what cannot be counted is not admitted.
            Err(_) => {
                unknown_denies |= counted.iter().any(|index| !limits[*index].is_shadow());
                admitted &= !unknown_denies;
            }
        }
    }
    let mut verdict = Verdict::degraded(limits, admitted, replayed, now_us);
    verdict.lease = lease.filter(|_| admitted);
    if unknown_denies {
        verdict.reason = Reason::StoreUnavailable;
    }
    Ok(verdict)
}

/// What this replica counts of a check by itself: against which limits, and at what cost. Nothing if its
/// share cannot hold the cost, which the whole limit does.
fn share<'p>(found: &Match<'p>, cell: &CellCheck<'_>) -> Option<(&'p Arc<Layout>, u64)> {
    let layout = found.bundle.local_layout.as_ref()?;
    let capacity = layout.rules().iter().map(Rule::capacity).min()?;
    match cell.enforced {
        true => (cell.cost <= capacity).then_some((layout, cell.cost)),
        false => Some((layout, cell.cost.min(capacity))),
    }
}

/// Of a limit of which nothing is known.
const UNKNOWN: LimitOutcome =
    LimitOutcome { remaining: 0, retry_after_us: RETRY_US, reset_after_us: RETRY_US };
