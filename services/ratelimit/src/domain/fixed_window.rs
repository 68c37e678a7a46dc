//! A counter per calendar window, for quotas.

use super::{Calendar, Charged, Look};

/// At most `limit` tokens in each window of the calendar.
///
/// State, 2 words: start of the window counted in (Unix µs), tokens charged in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FixedWindow {
    /// Tokens per window.
    pub limit: u32,
    /// How time is cut into windows.
    pub calendar: Calendar,
}

const START: usize = 0;
const USED: usize = 1;

impl FixedWindow {
    /// Words of state.
    pub const WORDS: usize = 2;

    pub(super) fn look(&self, words: &[u64], cost: u64, now_us: u64) -> Look {
        let now_us = now_us.max(words[START]);
        let window = self.calendar.window_at(now_us);
        let used = if words[START] == window.start_us { words[USED] } else { 0 };
        let remaining = u64::from(self.limit).saturating_sub(used);
        let until_end = window.end_us - now_us;
        Look {
            remaining,
            retry_after_us: if cost <= remaining { 0 } else { until_end },
            reset_after_us: if used == 0 { 0 } else { until_end },
        }
    }

    pub(super) fn charge(&self, words: &mut [u64], cost: u64, now_us: u64) -> u64 {
        let now_us = now_us.max(words[START]);
        let window = self.calendar.window_at(now_us);
        if words[START] != window.start_us {
            words[START] = window.start_us;
            words[USED] = 0;
        }
        words[USED] += cost;
        window.end_us - now_us
    }

    /// If it still is the same window.
    pub(super) fn undo(&self, words: &mut [u64], charged: &Charged) {
        if self.calendar.window_at(charged.at_us).start_us == words[START] {
            words[USED] = words[USED].saturating_sub(charged.cost);
        }
    }

    /// With nothing left it still is the window that the clock has come to.
    pub(super) fn refund(&self, words: &mut [u64], tokens: u64, now_us: u64) {
        if self.calendar.window_at(now_us.max(words[START])).start_us == words[START] {
            words[USED] = words[USED].saturating_sub(tokens);
        }
    }
}
