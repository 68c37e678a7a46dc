//! What is counted while load runs.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;

use super::{client::Failure, wire::Decided};

/// Latencies from 1 ns to this are told apart; longer ones count as this.
const LONGEST: Duration = Duration::from_secs(120);
const SIGNIFICANT_DIGITS: u8 = 3;

/// When load begins, when it counts and when it ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timeline {
    /// The first check is due.
    pub(crate) start: Instant,
    /// The end of the warm-up: from here on it counts.
    pub(crate) measure: Instant,
    /// No check is sent from here on.
    pub(crate) end: Instant,
}

impl Timeline {
    /// Whether something that happened then belongs to the measurement.
    pub(crate) fn counts(&self, instant: Instant) -> bool {
        self.measure <= instant && instant < self.end
    }
}

/// Counts of one load thread; those of all threads are added up at the end.
pub(crate) struct Tally {
    timeline: Timeline,
    /// Nanoseconds per call, or per check on a stream.
    pub(crate) latency: Histogram<u64>,
    /// Open loop: nanoseconds from when a call was due until the generator sent it.
    pub(crate) lag: Histogram<u64>,
    /// What answers that arrived while it counted said of their checks.
    pub(crate) decided: Decided,
    /// Per error: how often, and the first one's words.
    pub(crate) errors: BTreeMap<String, (u64, String)>,
    /// Calls, or checks on a stream, still unanswered when the generator stopped waiting.
    pub(crate) unanswered: u64,
    /// Open loop: calls that were due but never sent.
    pub(crate) unsent: u64,
}

impl Tally {
    pub(crate) fn new(timeline: Timeline) -> Self {
        Self {
            timeline,
            latency: histogram(),
            lag: histogram(),
            decided: Decided::default(),
            errors: BTreeMap::new(),
            unanswered: 0,
            unsent: 0,
        }
    }

    /// Closed loop: counts what was answered within the measurement, from when it was sent.
    pub(crate) fn closed(&mut self, sent: Instant, now: Instant, answer: Result<Decided, Failure>) {
        if self.timeline.counts(now) {
            self.count(sent, now, answer, true);
        }
    }

    /// Open loop: latency counts for all that was *due* within the measurement, however late the
    /// answer, and from when it was due, however late it was sent: a stall is felt by all the
    /// callers that came during it. Throughput counts what was answered within the measurement.
    pub(crate) fn open(&mut self, due: Instant, now: Instant, answer: Result<Decided, Failure>) {
        if self.timeline.counts(due) {
            let in_time = self.timeline.counts(now);
            self.count(due, now, answer, in_time);
        } else if self.timeline.counts(now)
            && let Ok(decided) = answer
        {
            self.decide(decided);
        }
    }

    /// Open loop: a call had no answer when the generator stopped waiting. It took at least that long, and
    /// leaving it out would leave out just the slowest.
    pub(crate) fn gave_up(&mut self, due: Instant, now: Instant) {
        if self.timeline.counts(due) {
            self.latency.saturating_record(nanos(now - due));
            self.unanswered += 1;
        }
    }

    /// Open loop: a call was due and was never sent. Whoever would have made it waited to the end at least.
    pub(crate) fn never_sent(&mut self, due: Instant) {
        if self.timeline.counts(due) {
            self.latency.saturating_record(nanos(self.timeline.end - due));
            self.unsent += 1;
        }
    }

    /// Open loop: a call was handed to its connection now.
    pub(crate) fn sent(&mut self, due: Instant, now: Instant) {
        if self.timeline.counts(due) {
            self.lag.saturating_record(nanos(now - due));
        }
    }

    /// Adds the counts of another thread.
    pub(crate) fn add(&mut self, other: &Self) {
        self.latency.add(&other.latency).expect("both histograms have the same bounds");
        self.lag.add(&other.lag).expect("both histograms have the same bounds");
        self.decide(other.decided.clone());
        self.unanswered += other.unanswered;
        self.unsent += other.unsent;
        for (name, (count, words)) in &other.errors {
            self.errors.entry(name.clone()).or_insert_with(|| (0, words.clone())).0 += count;
        }
    }

    fn count(&mut self, from: Instant, now: Instant, answer: Result<Decided, Failure>, in_time: bool) {
        match answer {
            Ok(decided) => {
                self.latency.saturating_record(nanos(now - from));
                if in_time {
                    self.decide(decided);
                }
            }
            Err(failure) => self.fail(&failure),
        }
    }

    fn decide(&mut self, decided: Decided) {
        self.decided.add(decided);
    }

    fn fail(&mut self, failure: &Failure) {
        let name = match failure {
            Failure::Status { code, .. } => format!("{code:?}"),
            Failure::Transport(_) => "Transport".to_owned(),
            Failure::Malformed(_) => "Malformed".to_owned(),
        };
        self.errors.entry(name).or_insert_with(|| (0, failure.to_string())).0 += 1;
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(nanos(LONGEST), SIGNIFICANT_DIGITS).expect("the bounds are constants that fit")
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOWED: Decided = Decided { allowed: 1, denied: 0, refused: 0, reason: None };
    const MS: Duration = Duration::from_millis(1);

    fn timeline() -> Timeline {
        let start = Instant::now();
        Timeline { start, measure: start + 100 * MS, end: start + 200 * MS }
    }

    fn near(histogram: &Histogram<u64>, quantile: f64, expected: Duration) -> bool {
        let value = histogram.value_at_quantile(quantile) as f64 / expected.as_nanos() as f64;
        (0.999..1.001).contains(&value)
    }

    #[test]
    fn open_loop_latency_counts_from_when_it_was_due() {
        let timeline = timeline();
        let mut tally = Tally::new(timeline);
        // Ten checks are due one millisecond apart; the server stalls, and all answers come at 120.
        let answered = timeline.start + 120 * MS;
        for i in 0..10 {
            tally.open(timeline.start + (100 + i) * MS, answered, Ok(ALLOWED));
        }
        assert_eq!(tally.latency.len(), 10);
        assert!(near(&tally.latency, 1.0, 20 * MS) && near(&tally.latency, 0.0, 11 * MS));
    }

    #[test]
    fn open_loop_answer_after_the_end_counts_as_latency_but_not_as_throughput() {
        let timeline = timeline();
        let mut tally = Tally::new(timeline);
        tally.open(timeline.start + 199 * MS, timeline.start + 500 * MS, Ok(ALLOWED));
        assert!(near(&tally.latency, 1.0, 301 * MS));
        assert_eq!(tally.decided, Decided::default());
    }

    #[test]
    fn calls_without_an_answer_count_as_long_as_they_were_waited_for() {
        let timeline = timeline();
        let mut tally = Tally::new(timeline);
        let due = timeline.start + 150 * MS;
        tally.open(due, due + MS, Ok(ALLOWED));
        tally.gave_up(due, timeline.end + 950 * MS);
        tally.never_sent(due);
        tally.gave_up(timeline.start, timeline.end);
        assert_eq!((tally.latency.len(), tally.unanswered, tally.unsent), (3, 1, 1));
        assert!(near(&tally.latency, 0.5, 50 * MS) && near(&tally.latency, 1.0, 1_000 * MS));
    }

    #[test]
    fn warm_up_is_not_measured() {
        let timeline = timeline();
        let mut tally = Tally::new(timeline);
        let warm = timeline.start + 50 * MS;
        tally.closed(timeline.start, warm, Ok(ALLOWED));
        tally.open(warm, warm + MS, Ok(ALLOWED));
        tally.sent(warm, warm + MS);
        assert_eq!((tally.latency.len(), tally.lag.len(), tally.decided.sum()), (0, 0, 0));
    }

    #[test]
    fn errors_are_counted_by_code_with_the_first_ones_words() {
        let timeline = timeline();
        let error =
            |words: &str| Err(Failure::Status { code: tonic::Code::NotFound, message: words.to_owned() });
        let mut first = Tally::new(timeline);
        first.closed(timeline.start, timeline.measure, error("no namespace a"));
        let mut second = Tally::new(timeline);
        second.closed(timeline.start, timeline.measure, error("no namespace b"));
        first.add(&second);
        assert_eq!(first.errors["NotFound"], (2, "no namespace a".to_owned()));
        assert_eq!(first.latency.len(), 0);
    }

    #[test]
    fn longer_than_the_longest_is_the_longest() {
        let timeline = timeline();
        let mut tally = Tally::new(timeline);
        tally.open(timeline.measure, timeline.measure + 2 * LONGEST, Ok(ALLOWED));
        assert!(near(&tally.latency, 1.0, LONGEST));
    }
}
