//! Answers while a policy that is strict about losses cannot trust what its store counted.

use smallvec::SmallVec;

use super::{CheckError, Counters, Limiter, Matches, Verdict, degraded, limited};
use crate::{
    domain::{CellCheck, Check, Enforcement, Match, OnDataLoss},
    store::StoreError,
};

/// For how long after a promotion another replica may still have asked the old master, in microseconds: as long as Redis lets a
/// master count that nobody follows (docs/reference/redis.md).
const PARTITION_US: u64 = 10_000_000;

/// The strict policies of a check that may not trust their counters, each with its cell.
pub(super) struct Distrust<'p> {
    matches: Matches<'p>,
    cells: SmallVec<[CellCheck<'p>; 2]>,
}

impl Limiter {
    /// What the store decides of a check, unless a policy distrusts it and denies.
    pub(super) async fn ask_store<'p>(
        &self,
        matches: &Matches<'p>,
        check: &Check<'p>,
    ) -> Result<Verdict<'p>, CheckError> {
        let cells = || limited(matches).zip(&check.cells);
        let distrust = self.distrust(false, cells());
        if let Some(distrust) = distrust {
            return Ok(self.denied_for_loss(distrust));
        }
        let answer = self.store().decide(check).get().await;
        // Not before: this replica may have to decide by itself, and now it is later.
        let verdict = self.verdict(matches, check, answer, self.clock.now_us())?;
        Ok(self.after_loss(verdict, cells()))
    }

    /// Which of these policies distrust the store now, and if it `was_asked` also one that knows nothing. Costs
    /// nothing where none is strict.
    pub(super) fn distrust<'p: 'c, 'c>(
        &self,
        was_asked: bool,
        cells: impl Iterator<Item = (&'c Match<'p>, &'c CellCheck<'p>)>,
    ) -> Option<Distrust<'p>> {
        let Counters::Shared { store, .. } = &self.counters else { return None };
        let mut distrust: Option<Distrust<'p>> = None;
        let is_strict = |found: &Match<'_>| {
            found.policy.on_data_loss == OnDataLoss::Strict
                && found.policy.enforcement == Enforcement::Enforce
        };
        for (found, cell) in cells.filter(|(found, _)| is_strict(found)) {
            let (complete_for_us, now_us) = (store.complete_for_us(&cell.key), self.clock.now_us());
            if complete_for_us == 0 && !was_asked {
                continue;
            }
            let complete_for_us = complete_for_us.saturating_sub(PARTITION_US);
            let mut limits = found.bundle.limits.iter();
            if !limits.all(|limit| limit.limit.is_covered_by(complete_for_us, now_us)) {
                let distrust = distrust
                    .get_or_insert_with(|| Distrust { matches: Matches::new(), cells: SmallVec::new() });
                distrust.matches.push(*found);
                distrust.cells.push(cell.clone());
            }
        }
        distrust
    }

    /// The denial of policies that distrust the store: their failure mode is `closed`, since whatever another one admits
    /// would come on top of what the store has admitted.
    fn denied_for_loss<'p>(&self, distrust: Distrust<'p>) -> Verdict<'p> {
        let check =
            Check { cells: distrust.cells, charge: false, idempotency: None, lease: None, fence: None };
        let now_us = self.clock.now_us();
        let verdict = degraded::verdict(None, &distrust.matches, &check, StoreError::Incomplete, now_us);
        verdict.expect("a check without an idempotency key is always decided")
    }

    /// What a check is answered that the store has decided, by the policies that distrust it.
    pub(super) fn after_loss<'p: 'c, 'c>(
        &self,
        verdict: Verdict<'p>,
        cells: impl Iterator<Item = (&'c Match<'p>, &'c CellCheck<'p>)>,
    ) -> Verdict<'p> {
        let is_admitted = verdict.allowed && !verdict.degraded;
        // A replay was admitted, and counted, before.
        let distrust = self.distrust(true, cells).filter(|_| is_admitted && !verdict.replayed);
        distrust.map_or(verdict, |distrust| self.denied_for_loss(distrust))
    }
}
