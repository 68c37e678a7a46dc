//! Says when the next call of an open loop is due. Pure: the time comes in as an argument.

use std::time::{Duration, Instant};

/// Timers of the runtime are this coarse; nearer than that the load thread yields instead of sleeping.
const TIMER: Duration = Duration::from_millis(2);
/// Calls sent in a row by a pacer that is late, before answers are looked at.
const BURST: u32 = 16;

/// When the calls of one load thread are due.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Pace {
    /// From the start until the first.
    pub(crate) first: Duration,
    pub(crate) calls_per_second: f64,
}

/// What a load thread does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Send a call that was due then.
    Send { due: Instant },
    /// Wait; the call after it is not yet due.
    Sleep(Duration),
    /// Let connections read and write, and look at the clock again.
    Yield,
    /// No call is due before the end any more.
    End,
}

/// Walks through the schedule. A call that is late stays due when it was due: the schedule does not
/// move, and the calls behind it follow as fast as they can.
#[derive(Debug)]
pub(super) struct Pacer {
    pace: Pace,
    start: Instant,
    end: Instant,
    sent: u64,
    /// Calls sent since answers were looked at.
    burst: u32,
}

impl Pacer {
    pub(super) fn new(pace: Pace, start: Instant, end: Instant) -> Self {
        Self { pace, start, end, sent: 0, burst: 0 }
    }

    /// What to do at `now`.
    pub(super) fn next(&mut self, now: Instant) -> Next {
        let due = self.due(self.sent);
        if due >= self.end {
            return Next::End;
        }
        let left = due.saturating_duration_since(now);
        if left > TIMER {
            self.burst = 0;
            return Next::Sleep(left - TIMER);
        }
        if !left.is_zero() || self.burst == BURST {
            self.burst = 0;
            return Next::Yield;
        }
        self.burst += 1;
        self.sent += 1;
        Next::Send { due }
    }

    /// When the calls were due that have not been sent; they count as done with.
    pub(super) fn unsent(&mut self) -> impl Iterator<Item = Instant> {
        std::iter::from_fn(|| {
            let due = self.due(self.sent);
            self.sent += u64::from(due < self.end);
            (due < self.end).then_some(due)
        })
    }

    /// When a call is due: computed from the start, so that no rounding adds up.
    fn due(&self, call: u64) -> Instant {
        self.start + self.pace.first + Duration::from_secs_f64(call as f64 / self.pace.calls_per_second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn pacer(calls_per_second: f64, seconds: u64) -> (Pacer, Instant) {
        let start = Instant::now();
        let pace = Pace { first: Duration::ZERO, calls_per_second };
        (Pacer::new(pace, start, start + Duration::from_secs(seconds)), start)
    }

    /// Sends everything that can be sent at `now`; the times that the calls were due.
    fn send_all(pacer: &mut Pacer, now: Instant) -> Vec<Instant> {
        let mut sent = Vec::new();
        loop {
            match pacer.next(now) {
                Next::Send { due } => sent.push(due),
                Next::Yield if pacer.due(pacer.sent) <= now => {}
                Next::Yield | Next::Sleep(_) | Next::End => return sent,
            }
        }
    }

    #[test]
    fn call_is_sent_when_it_is_due_and_slept_for_until_the_timer_is_too_coarse() {
        let (mut pacer, start) = pacer(100.0, 1);
        assert_eq!(pacer.next(start), Next::Send { due: start });
        assert_eq!(pacer.next(start), Next::Sleep(8 * MS));
        assert_eq!(pacer.next(start + 9 * MS), Next::Yield);
        assert_eq!(pacer.next(start + 10 * MS), Next::Send { due: start + 10 * MS });
    }

    #[test]
    fn calls_missed_during_a_stall_are_all_sent_and_stay_due_when_they_were() {
        let (mut pacer, start) = pacer(1000.0, 1);
        let after_stall = start + 500 * MS;
        let sent = send_all(&mut pacer, after_stall);
        assert_eq!(sent.len(), 501);
        assert!(sent.iter().zip(0..).all(|(due, call)| *due == start + call * MS));
    }

    #[test]
    fn late_pacer_lets_answers_be_looked_at() {
        let (mut pacer, start) = pacer(1000.0, 1);
        let looks: Vec<_> = (0..40).map(|_| pacer.next(start + 100 * MS)).collect();
        let yields: Vec<_> = (0..40).filter(|turn| looks[*turn] == Next::Yield).collect();
        assert_eq!(yields, [16, 33]);
    }

    #[test]
    fn schedule_does_not_drift_at_rates_that_are_no_whole_nanoseconds() {
        let (mut pacer, start) = pacer(3_000_000.0, 1);
        assert_eq!(send_all(&mut pacer, start + Duration::from_secs(2)).len(), 3_000_000);
        assert_eq!(pacer.next(start), Next::End);
    }

    #[test]
    fn what_was_due_and_not_sent_is_counted() {
        let (mut pacer, start) = pacer(1000.0, 2);
        send_all(&mut pacer, start + 499 * MS);
        let unsent: Vec<_> = pacer.unsent().collect();
        assert_eq!((unsent.len(), unsent[0]), (1500, start + 500 * MS));
        assert_eq!(pacer.next(start + 600 * MS), Next::End, "they are done with");
    }
}
