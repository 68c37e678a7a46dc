//! The exact rolling window: one entry per admission, for small limits.

use super::Look;

/// At most `limit` tokens in every interval of the period, exactly.
///
/// State, `2 + limit` words: number of entries (low half) and tokens in them (high half); time of the
/// newest admission; then the entries from oldest to newest, each the time in Unix microseconds
/// (upper 52 bits, which last until 2112) and the cost (lower 12 bits). An entry counts while it is
/// less than a period old.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SlidingLog {
    /// Tokens per period, at most [`MAX_LIMIT`](Self::MAX_LIMIT).
    pub limit: u32,
    /// Length of the window in microseconds.
    pub period_us: u64,
}

const COUNTS: usize = 0;
const NEWEST: usize = 1;
const ENTRIES: usize = 2;
const COST_BITS: u32 = 12;

impl SlidingLog {
    /// The largest limit: each token may take an entry of 8 bytes for every key.
    pub const MAX_LIMIT: u32 = 1_000;

    /// Words of state.
    pub(super) fn words(&self) -> usize {
        ENTRIES + self.limit as usize
    }

    pub(super) fn look(&self, words: &[u64], cost: u64, now_us: u64) -> Look {
        let now_us = now_us.max(words[NEWEST]);
        let entries = entries(words);
        let live = self.first_live(entries, now_us);
        let used: u64 = if live == 0 { tokens(words) } else { entries[live..].iter().map(|e| cost_of(*e)).sum() };
        let remaining = u64::from(self.limit).saturating_sub(used);
        Look {
            remaining,
            retry_after_us: if cost <= remaining { 0 } else { self.retry_after(&entries[live..], cost, used, now_us) },
            reset_after_us: if used == 0 { 0 } else { words[NEWEST] + self.period_us - now_us },
        }
    }

    pub(super) fn charge(&self, words: &mut [u64], cost: u64, now_us: u64) -> u64 {
        let now_us = now_us.max(words[NEWEST]);
        let count = entries(words).len();
        let live = self.first_live(entries(words), now_us);
        let gone: u64 = entries(words)[..live].iter().map(|e| cost_of(*e)).sum();
        let used = tokens(words) - gone + cost;
        words.copy_within(ENTRIES + live..ENTRIES + count, ENTRIES);
        let kept = count - live;
        words[ENTRIES + kept] = now_us << COST_BITS | cost;
        words[COUNTS] = (kept as u64 + 1) | used << 32;
        words[NEWEST] = now_us;
        self.period_us
    }

    /// Index of the first entry less than a period old.
    fn first_live(&self, entries: &[u64], now_us: u64) -> usize {
        entries.partition_point(|entry| time_of(*entry) + self.period_us <= now_us)
    }

    fn retry_after(&self, live: &[u64], cost: u64, used: u64, now_us: u64) -> u64 {
        let mut left = used;
        for entry in live {
            left -= cost_of(*entry);
            if left + cost <= u64::from(self.limit) {
                return time_of(*entry) + self.period_us - now_us;
            }
        }
        self.period_us // only for a cost above the limit, which callers refuse
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the count of entries is the low half")]
fn entries(words: &[u64]) -> &[u64] {
    &words[ENTRIES..ENTRIES + words[COUNTS] as u32 as usize]
}

fn tokens(words: &[u64]) -> u64 {
    words[COUNTS] >> 32
}

fn time_of(entry: u64) -> u64 {
    entry >> COST_BITS
}

fn cost_of(entry: u64) -> u64 {
    entry & ((1 << COST_BITS) - 1)
}
