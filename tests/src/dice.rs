//! Chance for tests: the same throws in each run, so that a failure can be looked at again.

use std::time::Duration;

/// A sequence of numbers that look thrown (xorshift64, Marsaglia 2003).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// The sequence of a number.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        // Zero would stay zero; small numbers are spread out.
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number.
    pub fn throw(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `end`.
    ///
    /// # Panics
    ///
    /// If `end` is 0.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.throw() % end as u64).expect("below a usize")
    }

    /// A time below `end`, in whole microseconds.
    pub fn time(&mut self, end: Duration) -> Duration {
        let end = u64::try_from(end.as_micros()).unwrap_or(u64::MAX).max(1);
        Duration::from_micros(self.throw() % end)
    }

    /// Puts things into an order by chance.
    pub fn shuffle<T>(&mut self, things: &mut [T]) {
        for last in (1..things.len()).rev() {
            things.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_seed_has_a_sequence_of_its_own_and_every_side_comes_up() {
        assert_ne!(Dice::new(1).throw(), Dice::new(2).throw());
        let mut dice = Dice::new(0);
        let mut seen = [0; 6];
        for _ in 0..6_000 {
            seen[dice.below(6)] += 1;
        }
        assert!(seen.iter().all(|count| (800..1_200).contains(count)), "{seen:?}");
    }

    #[test]
    fn a_shuffle_loses_nothing_and_changes_the_order() {
        let mut things: Vec<u32> = (0..100).collect();
        Dice::new(7).shuffle(&mut things);
        assert!(!things.is_sorted());
        things.sort_unstable();
        assert_eq!(things, (0..100).collect::<Vec<_>>());
    }
}
