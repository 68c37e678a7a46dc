//! Answers while the store is gone.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{LimitVerdict, Matches, Reason, Verdict, limited};
use crate::{
    domain::{Check, Enforcement, FailureMode, LimitOutcome},
    store::{CounterStore, MemoryStore, StoreError},
};

/// When a check denied by failure mode `closed` should be tried again: one second, about what a
/// broken connection takes to come back.
const RETRY_US: u64 = 1_000_000;

/// What the failure modes of the matching policies say, all of them together: one `closed` denies;
/// `local` ones are decided in this replica's memory against its share; `open` ones have no say and
/// are not listed, since nothing is known of them. Shadow policies never deny.
///
/// `check` is what the store could not decide, with one cell per limited match. Its charge may have
/// happened if the answer was lost; nothing here gives it back.
pub(super) async fn verdict<'p>(
    local: &MemoryStore,
    matches: &Matches<'p>,
    check: Check,
    error: StoreError,
) -> Verdict<'p> {
    tracing::debug!(%error, "answering by failure mode");
    let mut cells = SmallVec::new();
    let mut counted = SmallVec::<[_; 4]>::new();
    let mut closed = SmallVec::<[LimitVerdict<'p>; 4]>::new();
    for (found, cell) in limited(matches).zip(check.cells) {
        let shadow = found.policy.enforcement == Enforcement::Shadow;
        match found.policy.failure_mode {
            FailureMode::Open => {}
            FailureMode::Closed if shadow => {}
            FailureMode::Closed => {
                closed.extend(found.bundle.limits.iter().map(|limit| unknown(limit, shadow)));
            }
            FailureMode::Local => {
                // A share may be too small for a cost that the whole limit admits; it is then a denial.
                let layout = Arc::clone(&found.bundle.local_layout);
                counted.extend(found.bundle.limits.iter().map(|limit| (limit, shadow)));
                cells.push(crate::domain::CellCheck { layout, ..cell });
            }
        }
    }
    let charge = check.charge && closed.is_empty();
    let local_check = Check { cells, charge, idempotency: check.idempotency };
    let mut admitted = closed.is_empty();
    let mut replayed = false;
    let mut limits = closed;
    if !local_check.cells.is_empty() {
        match local.decide(&local_check).get().await {
            Ok(decision) => {
                admitted &= decision.admitted && !decision.key_reused;
                replayed = decision.replayed;
                let verdicts = counted.iter().zip(&decision.outcomes);
                limits.extend(verdicts.map(|((limit, shadow), outcome)| LimitVerdict {
                    limit,
                    outcome: *outcome,
                    shadow: *shadow,
                }));
            }
            // At its own memory bound: what cannot be counted is not admitted.
            Err(_) => {
                admitted &= counted.iter().all(|(_, shadow)| *shadow);
                limits.extend(counted.iter().map(|(limit, shadow)| unknown(limit, *shadow)));
            }
        }
    }
    let mut verdict = Verdict { degraded: true, replayed, ..Verdict::of(limits, admitted) };
    if !admitted && verdict.limits.iter().any(|limit| limit.outcome == unknown_outcome()) {
        verdict.reason = Reason::StoreUnavailable;
    }
    verdict
}

fn unknown(limit: &crate::domain::BundleLimit, shadow: bool) -> LimitVerdict<'_> {
    LimitVerdict { limit, outcome: unknown_outcome(), shadow }
}

fn unknown_outcome() -> LimitOutcome {
    LimitOutcome { remaining: 0, retry_after_us: RETRY_US, reset_after_us: RETRY_US }
}
