//! What came of the calls, and how long they took.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use serde_json::json;

/// Latencies up to this are told apart, in microseconds; longer ones count as this.
const LONGEST_US: u64 = 120_000_000;

/// Counts of calls.
pub(super) struct Tally {
    begun: Instant,
    /// For how long calls were sent; absent: until now.
    lasted: Option<Duration>,
    latency_us: Histogram<u64>,
    by_word: BTreeMap<String, u64>,
}

impl Tally {
    /// Begins now.
    pub(super) fn begin() -> Self {
        let latency_us = Histogram::new_with_max(LONGEST_US, 3).expect("the bounds are constants that fit");
        Self { begun: Instant::now(), lasted: None, latency_us, by_word: BTreeMap::new() }
    }

    /// Begins now, and is about so many seconds.
    pub(super) fn begin_with(seconds: u32) -> Self {
        Self { lasted: Some(Duration::from_secs(seconds.into())), ..Self::begin() }
    }

    /// A call that was due, or sent, then has been answered now.
    pub(super) fn count(&mut self, since: Instant, word: &str) {
        let took = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.latency_us.saturating_record(took.max(1));
        *self.by_word.entry(word.to_owned()).or_default() += 1;
    }

    /// Adds the calls of another lane.
    pub(super) fn add(&mut self, other: &Self) {
        self.latency_us.add(&other.latency_us).expect("both histograms have the same bounds");
        for (word, count) in &other.by_word {
            *self.by_word.entry(word.clone()).or_default() += count;
        }
    }

    /// For `cargo xtask bench`.
    pub(super) fn json(&self) -> serde_json::Value {
        let lasted = self.lasted.unwrap_or_else(|| self.begun.elapsed());
        let at = |quantile| self.latency_us.value_at_quantile(quantile);
        json!({
            "calls": self.latency_us.len(),
            "calls_per_second": self.latency_us.len() as f64 / lasted.as_secs_f64(),
            "by_status": self.by_word,
            "latency_us": { "p50": at(0.5), "p99": at(0.99), "max": self.latency_us.max() },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_all_lanes_are_counted_by_what_came_of_them() {
        let mut all = Tally::begin_with(2);
        for words in [["Ok", "Ok"], ["Ok", "Unauthenticated"]] {
            let mut lane = Tally::begin();
            let sent = Instant::now().checked_sub(Duration::from_millis(5)).unwrap();
            words.iter().for_each(|word| lane.count(sent, word));
            all.add(&lane);
        }
        let json = all.json();
        assert_eq!((&json["calls"], &json["calls_per_second"]), (&json!(4), &json!(2.0)));
        assert_eq!(json["by_status"], json!({ "Ok": 3, "Unauthenticated": 1 }));
        assert!(json["latency_us"]["p50"].as_u64().is_some_and(|us| us >= 5_000), "{json}");
    }
}
