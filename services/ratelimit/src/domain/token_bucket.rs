//! A bucket that refills steadily, as the generic cell rate algorithm.

use super::Look;

/// At most `burst` tokens at once and `limit` per period in the long run: in every interval of length
/// `t`, at most `burst + limit × t / period`.
///
/// This is GCRA in its virtual scheduling form (ITU-T I.371, annex A): the state is the theoretical
/// arrival time, when the bucket will be full again. One token takes `period / limit`, which is
/// seldom a whole number of microseconds, so times are kept as whole microseconds and a fraction in
/// units of `1 / denominator`; nothing is rounded.
///
/// State, 2 words: arrival time in whole microseconds, fraction in `0..denominator`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TokenBucket {
    /// Tokens that can be saved up.
    pub burst: u32,
    /// Whole microseconds per token.
    pub whole_us: u64,
    /// Fraction of a microsecond per token, in units of `1 / denominator`.
    pub fraction: u64,
    /// Denominator of all fractions: `limit` divided by what it shares with the period.
    pub denominator: u64,
}

const WHOLE: usize = 0;
const FRACTION: usize = 1;

impl TokenBucket {
    /// Words of state.
    pub const WORDS: usize = 2;

    /// A bucket of `burst` tokens that regains `limit` of them each `period_us`.
    pub(super) fn new(limit: u32, period_us: u64, burst: u32) -> Self {
        let shared = greatest_common_divisor(u64::from(limit), period_us);
        let denominator = u64::from(limit) / shared;
        let period_us = period_us / shared;
        Self { burst, whole_us: period_us / denominator, fraction: period_us % denominator, denominator }
    }

    pub(super) fn look(&self, words: &[u64], cost: u64, now_us: u64) -> Look {
        let full_at = self.time(words).max(self.at(now_us));
        let empty_at = self.at(now_us) + self.span(u64::from(self.burst));
        let remaining = narrow((empty_at.saturating_sub(full_at)) / self.span(1));
        let after = full_at + self.span(cost);
        Look {
            remaining,
            retry_after_us: self.micros_up(after.saturating_sub(empty_at)),
            reset_after_us: self.micros_up(full_at - self.at(now_us)),
        }
    }

    pub(super) fn charge(&self, words: &mut [u64], cost: u64, now_us: u64) -> u64 {
        let full_at = self.time(words).max(self.at(now_us)) + self.span(cost);
        words[WHOLE] = narrow(full_at / u128::from(self.denominator));
        words[FRACTION] = narrow(full_at % u128::from(self.denominator));
        self.micros_up(full_at - self.at(now_us))
    }

    /// The arrival time, in units of `1 / denominator` microseconds.
    fn time(&self, words: &[u64]) -> u128 {
        self.at(words[WHOLE]) + u128::from(words[FRACTION])
    }

    fn at(&self, us: u64) -> u128 {
        u128::from(us) * u128::from(self.denominator)
    }

    /// What `tokens` take, in units of `1 / denominator` microseconds.
    fn span(&self, tokens: u64) -> u128 {
        (self.at(self.whole_us) + u128::from(self.fraction)) * u128::from(tokens)
    }

    fn micros_up(&self, units: u128) -> u64 {
        narrow(units.div_ceil(u128::from(self.denominator)))
    }
}

fn narrow(value: u128) -> u64 {
    u64::try_from(value).expect("bounded by the burst and by times in this era")
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}
