//! How long things took, for tables.

use std::{fmt, time::Duration};

/// Times, in order.
#[derive(Clone, Debug)]
pub struct Times(Vec<Duration>);

impl Times {
    /// Puts them in order.
    #[must_use]
    pub fn new(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The time that `percent` of them do not exceed; zero if there are none.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> Duration {
        let place = (self.0.len() * percent).div_ceil(100).max(1) - 1;
        self.0.get(place).copied().unwrap_or_default()
    }

    /// Of all pairs of one of these and one of `others`, the share in which this one is shorter: 0.5 if they cannot be
    /// told apart by how long they take, 0 or 1 if always (the U of Mann and Whitney, over the number of pairs).
    #[must_use]
    pub fn share_shorter_than(&self, others: &Self) -> f64 {
        let mut twice = 0;
        for time in &self.0 {
            let shorter = others.0.partition_point(|other| other < time);
            let as_long = others.0.partition_point(|other| other <= time) - shorter;
            twice += 2 * (others.0.len() - shorter - as_long) + as_long;
        }
        twice as f64 / (2 * self.0.len() * others.0.len()) as f64
    }
}

/// A row of a table: n, p10, p50, p90, p99 and the longest, in milliseconds.
impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>7}", self.count())?;
        for percent in [10, 50, 90, 99, 100] {
            write!(f, " {:>8.2}", self.percentile(percent).as_secs_f64() * 1e3)?;
        }
        Ok(())
    }
}

/// What stands above such rows.
pub const HEADER: &str = "      n   p10 ms   p50 ms   p90 ms   p99 ms  p100 ms";

#[cfg(test)]
mod tests {
    use super::*;

    fn times(ms: impl IntoIterator<Item = u64>) -> Times {
        Times::new(ms.into_iter().map(Duration::from_millis).collect())
    }

    #[test]
    fn a_percentile_is_one_of_the_times() {
        let times = times((1..=200).rev());
        let at = |percent| times.percentile(percent).as_millis();
        assert_eq!([1, 50, 99, 100].map(at), [2, 100, 198, 200]);
        assert_eq!(Times::new(Vec::new()).percentile(50), Duration::ZERO);
    }

    #[test]
    fn times_that_cannot_be_told_apart_are_as_often_shorter_as_longer() {
        let (fast, slow) = (times([1, 2, 3]), times([4, 5]));
        assert_eq!(fast.share_shorter_than(&slow), 1.0);
        assert_eq!(slow.share_shorter_than(&fast), 0.0);
        assert_eq!(fast.share_shorter_than(&fast), 0.5);
    }
}
