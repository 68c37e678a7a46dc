//! The exact rolling window: one entry per admission, for small limits.

use super::{Charged, Look};

/// At most `limit` tokens in every interval of the period, exactly.
///
/// State, `2 + limit` words: number of entries (16 bits), room for entries (16 bits) and tokens in them
/// (32 bits); time of the newest admission; then the entries from oldest to newest, each the time in
/// Unix microseconds (upper 52 bits, which last until 2112) and the cost (lower 12 bits). An entry counts while it is
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

    /// Notes in fresh state how many entries it has room for, so that it can be found and carried
    /// over when the limit has changed.
    pub(super) fn prepare(&self, words: &mut [u64]) {
        words[COUNTS] = counts(0, self.limit as usize, 0);
    }

    /// Words of state written under whatever limit was in force then.
    pub(super) fn words_found(words: &[u64]) -> usize {
        ENTRIES + room(words)
    }

    /// Takes over the log of another limit. If it has more entries than there is room for, the oldest
    /// are merged into the newest of them: they count longer than they should, never shorter.
    pub(super) fn carry(&self, old: &[u64], words: &mut [u64]) {
        let old_entries = entries(old);
        let merged = old_entries.len().saturating_sub(self.limit as usize);
        let kept = &old_entries[merged..];
        words[ENTRIES..ENTRIES + kept.len()].copy_from_slice(kept);
        words[ENTRIES] += old_entries[..merged].iter().map(|entry| cost_of(*entry)).sum::<u64>();
        words[COUNTS] = counts(kept.len(), self.limit as usize, tokens(old));
        words[NEWEST] = old[NEWEST];
    }

    pub(super) fn look(&self, words: &[u64], cost: u64, now_us: u64) -> Look {
        let now_us = now_us.max(words[NEWEST]);
        let entries = entries(words);
        let live = self.first_live(entries, now_us);
        let used: u64 =
            if live == 0 { tokens(words) } else { entries[live..].iter().map(|e| cost_of(*e)).sum() };
        let remaining = u64::from(self.limit).saturating_sub(used);
        Look {
            remaining,
            retry_after_us: if cost <= remaining {
                0
            } else {
                self.retry_after(&entries[live..], cost, used, now_us)
            },
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
        words[COUNTS] = counts(kept + 1, self.limit as usize, used);
        words[NEWEST] = now_us;
        self.period_us
    }

    /// The newest entries go first. With none left it is still known how far the clock has come.
    pub(super) fn refund(&self, words: &mut [u64], tokens: u64, now_us: u64) {
        let now_us = now_us.max(words[NEWEST]);
        let live = self.first_live(entries(words), now_us);
        let mut count = entries(words).len();
        let (mut left, mut used) = (tokens, self::tokens(words));
        while count > live && left > 0 {
            let entry = &mut words[ENTRIES + count - 1];
            let taken = cost_of(*entry).min(left);
            left -= taken;
            used -= taken;
            if taken < cost_of(*entry) {
                *entry -= taken;
            } else {
                *entry = 0;
                count -= 1;
            }
        }
        words[COUNTS] = counts(count, room(words), used);
    }

    /// Removes the entry of that time and cost; one like it is as good.
    pub(super) fn undo(&self, words: &mut [u64], charged: &Charged) {
        let entry = charged.at_us << COST_BITS | charged.cost;
        let Some(place) = entries(words).iter().rposition(|other| *other == entry) else { return };
        let count = entries(words).len();
        let used = tokens(words) - charged.cost;
        words.copy_within(ENTRIES + place + 1..ENTRIES + count, ENTRIES + place);
        words[ENTRIES + count - 1] = 0;
        words[COUNTS] = counts(count - 1, room(words), used);
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

fn counts(entries: usize, room: usize, tokens: u64) -> u64 {
    entries as u64 | (room as u64) << 16 | tokens << 32
}

fn entries(words: &[u64]) -> &[u64] {
    let count = usize::from(low_16(words[COUNTS]));
    &words[ENTRIES..ENTRIES + count]
}

fn room(words: &[u64]) -> usize {
    usize::from(low_16(words[COUNTS] >> 16))
}

#[expect(clippy::cast_possible_truncation, reason = "the low 16 bits are what is asked for")]
fn low_16(word: u64) -> u16 {
    word as u16
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
