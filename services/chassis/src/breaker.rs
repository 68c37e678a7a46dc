//! A circuit breaker, pure: the time comes in as an argument.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use garde::Validate;
use serde::{Deserialize, Serialize};

use crate::config::HumanDuration;

/// When to stop asking something that fails, and when to try again.
#[derive(Clone, Debug, Deserialize, Serialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct BreakerConfig {
    /// Failures in a row that open the breaker; at least 1.
    #[garde(range(min = 1))]
    pub failures: u32,
    /// Successes in a row that close it again; at least 1.
    #[garde(range(min = 1))]
    pub successes: u32,
    /// How long it stays open before one probe is let through; at least 100 ms, since what failed is
    /// not to be asked all the time.
    #[garde(custom(at_least_100_ms))]
    pub open_for: HumanDuration,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that garde calls")]
fn at_least_100_ms(duration: &HumanDuration, _: &()) -> garde::Result {
    if **duration < Duration::from_millis(100) {
        return Err(garde::Error::new("must be at least 100ms"));
    }
    Ok(())
}

/// What a [`Breaker`] does with calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BreakerState {
    /// Lets every call through.
    Closed,
    /// Lets one probe through at a time.
    HalfOpen,
    /// Lets nothing through.
    Open,
}

/// A circuit breaker. Every call that [`try_acquire`](Self::try_acquire) lets through reports its
/// outcome with [`record`](Self::record); one that never does is taken for a failed probe after
/// `open_for`. Times are any monotonic µs, always of the same clock.
#[derive(Debug)]
pub struct Breaker {
    config: BreakerConfig,
    phase: Mutex<Phase>,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Closed { failures: u32 },
    Open { since_us: u64 },
    HalfOpen { successes: u32, probe_since_us: Option<u64> },
}

impl Breaker {
    /// Starts closed.
    #[must_use]
    pub fn new(config: BreakerConfig) -> Self {
        Self { config, phase: Mutex::new(Phase::Closed { failures: 0 }) }
    }

    /// Whether a call may be made now.
    #[must_use]
    pub fn try_acquire(&self, now_us: u64) -> bool {
        let mut phase = self.phase();
        match *phase {
            Phase::Closed { .. } => true,
            Phase::Open { since_us } => {
                let admitted = self.has_passed(since_us, now_us);
                if admitted {
                    *phase = Phase::HalfOpen { successes: 0, probe_since_us: Some(now_us) };
                }
                admitted
            }
            Phase::HalfOpen { successes, probe_since_us } => {
                let admitted = probe_since_us.is_none_or(|since_us| self.has_passed(since_us, now_us));
                if admitted {
                    *phase = Phase::HalfOpen { successes, probe_since_us: Some(now_us) };
                }
                admitted
            }
        }
    }

    /// Takes in how a call went. A late outcome that arrives while the breaker is open changes nothing.
    pub fn record(&self, success: bool, now_us: u64) {
        let mut phase = self.phase();
        *phase = match (*phase, success) {
            (Phase::Closed { failures }, false) if failures + 1 < self.config.failures => {
                Phase::Closed { failures: failures + 1 }
            }
            (Phase::Closed { .. } | Phase::HalfOpen { .. }, false) => Phase::Open { since_us: now_us },
            (Phase::HalfOpen { successes, .. }, true) if successes + 1 < self.config.successes => {
                Phase::HalfOpen { successes: successes + 1, probe_since_us: None }
            }
            (Phase::Closed { .. } | Phase::HalfOpen { .. }, true) => Phase::Closed { failures: 0 },
            (open @ Phase::Open { .. }, _) => open,
        };
    }

    /// What it does with calls now. It stays `Open` until the probe is asked for.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        match *self.phase() {
            Phase::Closed { .. } => BreakerState::Closed,
            Phase::Open { .. } => BreakerState::Open,
            Phase::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    fn has_passed(&self, since_us: u64, now_us: u64) -> bool {
        u128::from(now_us.saturating_sub(since_us)) >= self.config.open_for.as_micros()
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn breaker_that_would_ask_all_the_time_is_refused() {
        let config = |millis| {
            let open_for = HumanDuration::from(Duration::from_millis(millis));
            BreakerConfig { failures: 1, successes: 1, open_for }
        };
        assert!(config(100).validate().is_ok());
        let error = config(99).validate().expect_err("too short").to_string();
        assert!(error.contains("open_for: must be at least 100ms"), "{error}");
    }

    fn breaker() -> Breaker {
        let open_for = HumanDuration::from(Duration::from_micros(100));
        Breaker::new(BreakerConfig { failures: 2, successes: 2, open_for })
    }

    fn opened_at(now_us: u64) -> Breaker {
        let breaker = breaker();
        breaker.record(false, now_us);
        breaker.record(false, now_us);
        assert_eq!(breaker.state(), BreakerState::Open);
        breaker
    }

    #[test]
    fn only_failures_in_a_row_open_it() {
        let breaker = breaker();
        for success in [false, true, false, true] {
            assert!(breaker.try_acquire(0));
            breaker.record(success, 0);
        }
        assert_eq!(breaker.state(), BreakerState::Closed);
        breaker.record(false, 0);
        breaker.record(false, 0);
        assert!(!breaker.try_acquire(99));
    }

    #[test]
    fn one_probe_at_a_time_until_enough_succeed() {
        let breaker = opened_at(0);
        assert!(breaker.try_acquire(100));
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        assert!(!breaker.try_acquire(101), "a probe is under way");
        breaker.record(true, 102);
        assert!(breaker.try_acquire(103));
        breaker.record(true, 104);
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    #[test]
    fn failed_probe_opens_it_for_another_period() {
        let breaker = opened_at(0);
        assert!(breaker.try_acquire(100));
        breaker.record(false, 150);
        assert!(!breaker.try_acquire(249));
        assert!(breaker.try_acquire(250));
    }

    #[test]
    fn probe_that_never_reports_does_not_hold_it_for_good() {
        let breaker = opened_at(0);
        assert!(breaker.try_acquire(100));
        assert!(breaker.try_acquire(200));
    }

    #[test]
    fn late_outcome_does_not_close_an_open_breaker() {
        let breaker = opened_at(0);
        breaker.record(true, 50);
        assert_eq!(breaker.state(), BreakerState::Open);
    }
}
