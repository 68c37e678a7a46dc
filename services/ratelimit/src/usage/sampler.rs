//! Which events are looked at.

use std::sync::atomic::{AtomicU64, Ordering};

use tidegate_chassis::clock::Random;

const SECOND_US: u64 = 1_000_000;

/// The most events that one sample stands for.
const MAX_EVERY: u64 = 1 << 16;

/// Events that are passed over before the next is looked at. One thread counts down, with a plain load and store.
#[derive(Debug, Default)]
pub(super) struct Countdown(AtomicU64);

impl Countdown {
    /// Whether this event is to be looked at; then [`restart`](Self::restart) says when the next is.
    #[inline]
    pub(super) fn is_over(&self) -> bool {
        let left = self.0.load(Ordering::Relaxed);
        if left > 0 {
            self.0.store(left - 1, Ordering::Relaxed);
        }
        left == 0
    }

    /// Passes over so many.
    pub(super) fn restart(&self, events: u64) {
        self.0.store(events, Ordering::Relaxed);
    }
}

/// How many events one sample stands for: all are looked at while there are few, and a bounded number in each second however
/// many there are.
///
/// Each event is looked at with the same probability and whatever became of the others (the gaps are geometric), so the weights of the
/// samples add up, on average, to the number of events, of each key as of all.
#[derive(Debug)]
pub(super) struct Pace {
    per_second: u64,
    every: u64,
    samples: u64,
    since_us: u64,
}

impl Pace {
    /// About so many samples in a second, at least 1.
    pub(super) fn new(per_second: u64) -> Self {
        Self { per_second: per_second.max(1), every: 1, samples: 0, since_us: 0 }
    }

    /// Takes a sample at `now_us`: the events that it stands for, and how many are to be passed over before the next.
    pub(super) fn take(&mut self, now_us: u64, random: &Random) -> (u64, u64) {
        let weight = self.every;
        self.samples += 1;
        let elapsed_us = now_us.saturating_sub(self.since_us);
        let is_back = now_us < self.since_us;
        if elapsed_us >= SECOND_US || is_back {
            let events = u128::from(self.samples * self.every) * u128::from(SECOND_US);
            let per_second = events / u128::from(elapsed_us.max(SECOND_US));
            let every = per_second.div_ceil(u128::from(self.per_second));
            self.every = u64::try_from(every).unwrap_or(u64::MAX).clamp(1, MAX_EVERY);
            (self.samples, self.since_us) = (0, now_us);
        } else if self.samples >= self.per_second {
            // There are more than there were: the second is not waited for.
            self.every = (self.every * 2).min(MAX_EVERY);
            (self.samples, self.since_us) = (0, now_us);
        }
        (weight, gap(self.every, random))
    }
}

/// How many events come before the next one that is looked at, if each is with probability `1 / every`.
#[expect(clippy::cast_precision_loss, reason = "`every` is at most 2^16")]
#[expect(
    clippy::cast_possible_truncation,
    reason = "a float becomes the nearest integer; the largest gap is below 2^22"
)]
fn gap(every: u64, random: &Random) -> u64 {
    if every <= 1 {
        return 0;
    }
    // Never 0, whose logarithm is infinite.
    let chance = 1.0 - random.unit_f64();
    (chance.ln() / (-1.0 / every as f64).ln_1p()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Samples of so many events, evenly spread over so many seconds: their number, and what they stand for.
    fn sampled(pace: &mut Pace, events: u64, from_us: u64, seconds: u64, random: &Random) -> (u64, u64) {
        let countdown = Countdown::default();
        let (mut samples, mut stands_for) = (0, 0);
        for event in 0..events {
            if countdown.is_over() {
                let (weight, next) = pace.take(from_us + event * seconds * SECOND_US / events, random);
                countdown.restart(next);
                samples += 1;
                stands_for += weight;
            }
        }
        (samples, stands_for)
    }

    #[test]
    fn few_events_are_all_looked_at() {
        let (samples, stands_for) = sampled(&mut Pace::new(1_000), 9_000, SECOND_US, 10, &Random::seeded(1));
        assert_eq!((samples, stands_for), (9_000, 9_000));
    }

    #[test]
    fn samples_are_bounded_and_stand_for_all_events() {
        for seed in 1..6 {
            let (samples, stands_for) =
                sampled(&mut Pace::new(1_000), 3_000_000, SECOND_US, 10, &Random::seeded(seed));
            // Ten doublings at the start, and then about as many as are wanted.
            assert!(samples < 10 * 1_000 * 2, "{samples}");
            assert!(samples > 10 * 1_000 / 4, "{samples}");
            // Six standard deviations of a sample of one in 512.
            assert!(stands_for.abs_diff(3_000_000) < 240_000, "{stands_for}");
        }
    }

    #[test]
    fn after_a_storm_few_events_are_all_looked_at_again() {
        let (mut pace, random) = (Pace::new(1_000), Random::seeded(1));
        sampled(&mut pace, 3_000_000, SECOND_US, 10, &random);
        assert!(pace.every > 64);
        // The first sample after it tells.
        sampled(&mut pace, 5_000, 60 * SECOND_US, 50, &random);
        let (samples, stands_for) = sampled(&mut pace, 5_000, 120 * SECOND_US, 50, &random);
        assert_eq!((samples, stands_for), (5_000, 5_000));
    }

    #[test]
    fn clock_that_steps_back_does_not_stop_the_samples() {
        let (mut pace, random) = (Pace::new(10), Random::seeded(1));
        pace.take(1_000 * SECOND_US, &random);
        for second in 0..5 {
            assert_eq!(pace.take(second * 2 * SECOND_US, &random), (1, 0));
        }
    }
}
