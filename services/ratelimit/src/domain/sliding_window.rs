//! A rolling window in sub-windows: constant memory, and never more than the exact log admits.

use super::{Charged, Look};

/// At most `limit` tokens in every interval of the period.
///
/// Time is cut on an absolute grid into sub-windows of a thirtieth of the period, rounded up. What
/// is in use at a time is the sum over the current sub-window and the 30 before it. The oldest of
/// these is partly expired and still counted in full, so the true window is always covered and the
/// limit holds for every interval of the period, wherever it starts. The price is that capacity
/// comes back up to one sub-window (a thirtieth of the period) late.
///
/// State, 17 words: index of the newest sub-window charged in; tokens in use (low half) and tokens
/// of the newest sub-window (high half); 30 counters of closed sub-windows, two to a word, each at
/// its index modulo 30.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SlidingWindow {
    /// Tokens per period.
    pub limit: u32,
    /// Length of a sub-window in microseconds.
    pub width_us: u64,
}

const HEAD: usize = 0;
const COUNTS: usize = 1;
const CLOSED: usize = 2;

impl SlidingWindow {
    /// Closed sub-windows that still count beside the current one.
    pub const SUB_WINDOWS: u64 = 30;
    /// Words of state.
    pub const WORDS: usize = CLOSED + 15;

    /// Covers `period_us` with [`SUB_WINDOWS`](Self::SUB_WINDOWS) sub-windows.
    pub(super) fn new(limit: u32, period_us: u64) -> Self {
        Self { limit, width_us: period_us.div_ceil(Self::SUB_WINDOWS) }
    }

    #[inline]
    pub(super) fn look(&self, words: &[u64], cost: u64, now_us: u64) -> Look {
        let (now_us, current) = self.not_before(words[HEAD], now_us);
        let used = u64::from(total(words)) - self.expired(words, current);
        let remaining = u64::from(self.limit).saturating_sub(used);
        Look {
            remaining,
            retry_after_us: if cost <= remaining { 0 } else { self.retry_after(words, cost, used, now_us) },
            reset_after_us: if used == 0 { 0 } else { self.leaves_at(words[HEAD]) - now_us },
        }
    }

    #[inline]
    pub(super) fn charge(&self, words: &mut [u64], cost: u64, now_us: u64) -> u64 {
        let (now_us, current) = self.not_before(words[HEAD], now_us);
        self.advance(words, current);
        let cost = u32::try_from(cost).expect("a cost that fits the limit fits 32 bits");
        set_counts(words, total(words) + cost, head_count(words) + cost);
        self.leaves_at(current) - now_us
    }

    /// What was charged last goes first. With nothing left it still is the sub-window that the clock has come to.
    pub(super) fn refund(&self, words: &mut [u64], tokens: u64, now_us: u64) {
        let head = words[HEAD];
        let (_, current) = self.not_before(head, now_us);
        let oldest = current.saturating_sub(Self::SUB_WINDOWS);
        let mut left = u32::try_from(tokens).unwrap_or(u32::MAX);
        let given = left;
        let mut take = |count: u32| {
            let taken = count.min(left);
            left -= taken;
            count - taken
        };
        let newest = if head >= oldest { take(head_count(words)) } else { head_count(words) };
        for index in (oldest.max(head.saturating_sub(Self::SUB_WINDOWS))..head).rev() {
            set_closed(words, index, take(closed(words, index)));
        }
        set_counts(words, total(words) - (given - left), newest);
    }

    /// Takes the tokens out of the sub-window of that time, if it still is in the ring. If the clock stood still they lie in a later
    /// one: then others' are taken that go sooner than these.
    pub(super) fn undo(&self, words: &mut [u64], charged: &Charged) {
        let (head, index) = (words[HEAD], charged.at_us / self.width_us);
        let cost = u32::try_from(charged.cost).unwrap_or(u32::MAX);
        let taken = match head.checked_sub(index) {
            Some(0) => head_count(words).min(cost),
            Some(1..=Self::SUB_WINDOWS) => {
                let count = closed(words, index);
                set_closed(words, index, count.saturating_sub(cost));
                count.min(cost)
            }
            _ => 0,
        };
        let newest = if head == index { head_count(words) - taken } else { head_count(words) };
        set_counts(words, total(words) - taken, newest);
    }

    /// The time, at least the beginning of sub-window `head`, and the sub-window that it is in.
    #[inline]
    fn not_before(&self, head: u64, now_us: u64) -> (u64, u64) {
        let begin = head * self.width_us;
        let since = now_us.saturating_sub(begin);
        // Most often it still is the one that was charged last, which takes no division to find.
        let current = if since < self.width_us { head } else { now_us / self.width_us };
        (begin + since, current)
    }

    /// Tokens in `total` that no longer count in sub-window `current`.
    #[inline]
    fn expired(&self, words: &[u64], current: u64) -> u64 {
        if current == words[HEAD] { 0 } else { self.expired_by(words, current) }
    }

    fn expired_by(&self, words: &[u64], current: u64) -> u64 {
        let head = words[HEAD];
        if current - head > Self::SUB_WINDOWS {
            return u64::from(total(words));
        }
        // Closed ones count from `head - 30`; those before `current - 30` are gone.
        (head..current).map(|index| u64::from(closed(words, index))).sum()
    }

    /// Moves the newest sub-window to `current` and forgets what has expired.
    #[inline]
    fn advance(&self, words: &mut [u64], current: u64) {
        if current != words[HEAD] {
            self.move_to(words, current);
        }
    }

    fn move_to(&self, words: &mut [u64], current: u64) {
        let head = words[HEAD];
        if current - head > Self::SUB_WINDOWS {
            words.fill(0);
        } else {
            let expired = self.expired(words, current);
            let still = u64::from(total(words)) - expired;
            let still = u32::try_from(still).expect("less than the total, which has 32 bits");
            for index in head..current {
                // The slot of `index` held `index - 30`; only `head` itself has tokens to keep.
                let tokens = if index == head { head_count(words) } else { 0 };
                set_closed(words, index, tokens);
            }
            set_counts(words, still, 0);
        }
        words[HEAD] = current;
    }

    /// When the tokens of sub-window `index` stop counting.
    fn leaves_at(&self, index: u64) -> u64 {
        (index + Self::SUB_WINDOWS + 1) * self.width_us
    }

    fn retry_after(&self, words: &[u64], cost: u64, used: u64, now_us: u64) -> u64 {
        let head = words[HEAD];
        let oldest = (now_us / self.width_us).saturating_sub(Self::SUB_WINDOWS);
        let mut left = used;
        for index in oldest..head {
            left -= u64::from(closed(words, index));
            if left + cost <= u64::from(self.limit) {
                return self.leaves_at(index) - now_us;
            }
        }
        self.leaves_at(head) - now_us
    }
}

fn total(words: &[u64]) -> u32 {
    low(words[COUNTS])
}

fn head_count(words: &[u64]) -> u32 {
    high(words[COUNTS])
}

fn set_counts(words: &mut [u64], total: u32, head: u32) {
    words[COUNTS] = u64::from(total) | u64::from(head) << 32;
}

fn closed(words: &[u64], index: u64) -> u32 {
    let (word, upper) = slot(index);
    if upper { high(words[word]) } else { low(words[word]) }
}

fn set_closed(words: &mut [u64], index: u64, tokens: u32) {
    let (word, upper) = slot(index);
    words[word] = if upper {
        u64::from(low(words[word])) | u64::from(tokens) << 32
    } else {
        words[word] & !0xffff_ffff | u64::from(tokens)
    };
}

fn slot(index: u64) -> (usize, bool) {
    let slot = (index % SlidingWindow::SUB_WINDOWS) as usize;
    (CLOSED + slot / 2, slot % 2 == 1)
}

#[expect(clippy::cast_possible_truncation, reason = "the low half is what is asked for")]
fn low(word: u64) -> u32 {
    word as u32
}

fn high(word: u64) -> u32 {
    low(word >> 32)
}
