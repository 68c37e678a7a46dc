//! A circuit breaker: a service that is gone costs one call a second, not the deadline of each.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Calls in a row without any answer that open it.
const FAILURES: u32 = 5;
/// How long it stays open before one call is let through to see.
const OPEN_FOR: Duration = Duration::from_secs(1);

/// Every call that [`admits`](Self::admits) lets through reports how it went; one that never does, because its caller went
/// away, is taken for a failed probe after [`OPEN_FOR`].
#[derive(Debug)]
pub(crate) struct Breaker(Mutex<Phase>);

#[derive(Clone, Copy, Debug)]
enum Phase {
    Closed {
        failures: u32,
    },
    /// Nothing passes until the time; then one call does, and the time is set anew.
    Open {
        until: Instant,
    },
}

impl Breaker {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Phase::Closed { failures: 0 }))
    }

    /// Whether a call may be made now.
    pub(crate) fn admits(&self, now: Instant) -> bool {
        let mut phase = self.phase();
        match *phase {
            Phase::Closed { .. } => true,
            Phase::Open { until } if now < until => false,
            Phase::Open { .. } => {
                *phase = Phase::Open { until: now + OPEN_FOR };
                true
            }
        }
    }

    /// Takes in whether a call was answered. An answer closes it at once: a service that answers is there.
    pub(crate) fn record(&self, is_answered: bool, now: Instant) {
        let mut phase = self.phase();
        *phase = match (*phase, is_answered) {
            (_, true) => Phase::Closed { failures: 0 },
            (Phase::Closed { failures }, false) if failures + 1 < FAILURES => {
                Phase::Closed { failures: failures + 1 }
            }
            (Phase::Closed { .. }, false) => Phase::Open { until: now + OPEN_FOR },
            (open @ Phase::Open { .. }, false) => open,
        };
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(now: Instant) -> Breaker {
        let breaker = Breaker::new();
        for _ in 0..FAILURES {
            assert!(breaker.admits(now));
            breaker.record(false, now);
        }
        breaker
    }

    #[test]
    fn only_failures_in_a_row_open_it() {
        let (breaker, now) = (Breaker::new(), Instant::now());
        for is_answered in [false, false, false, false, true, false, false, false, false] {
            breaker.record(is_answered, now);
        }
        assert!(breaker.admits(now));
        breaker.record(false, now);
        assert!(!breaker.admits(now));
    }

    #[test]
    fn one_call_a_period_is_let_through_to_see() {
        let now = Instant::now();
        let breaker = opened(now);
        assert!(!breaker.admits(now + OPEN_FOR / 2));
        assert!(breaker.admits(now + OPEN_FOR));
        assert!(!breaker.admits(now + OPEN_FOR), "a probe is under way");
        breaker.record(false, now + OPEN_FOR);
        assert!(!breaker.admits(now + OPEN_FOR + OPEN_FOR / 2));
        assert!(breaker.admits(now + 2 * OPEN_FOR), "also if the probe never reported");
    }

    #[test]
    fn an_answer_closes_it() {
        let now = Instant::now();
        let breaker = opened(now);
        breaker.record(true, now);
        assert!(breaker.admits(now));
    }
}
