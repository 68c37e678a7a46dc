//! A bucket that refills steadily, as the generic cell rate algorithm.

use super::{Charged, Look};

/// At most `burst` tokens at once and `limit` per period in the long run: in every interval of length
/// `t`, at most `burst + limit × t / period`.
///
/// This is GCRA in its virtual scheduling form (ITU-T I.371, annex A): the state is the theoretical
/// arrival time, when the bucket will be full again. One token takes `period / limit`, which is
/// seldom a whole number of microseconds, so times are kept as whole microseconds and a fraction in
/// units of `1 / denominator`; nothing is rounded.
///
/// State, 2 words: arrival time in whole microseconds; fraction in `0..denominator` (low 32 bits) and the
/// pace it was written at (high 32 bits). At another pace the same time would be another number of
/// tokens: what is missing from the bucket is then converted, rounded up to a token.
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
    /// Microseconds per token as the upper half of a double, so rounded down by less than a millionth.
    /// Only compared, and used to convert state when the limit has changed.
    pub pace: u32,
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
        let (whole_us, fraction) = (period_us / denominator, period_us % denominator);
        Self { burst, whole_us, fraction, denominator, pace: pace(whole_us, fraction, denominator) }
    }

    pub(super) fn look(&self, words: &[u64], cost: u64, now_us: u64) -> Look {
        let full_at = self.full_at(words, now_us);
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
        let full_at = self.full_at(words, now_us) + self.span(cost);
        self.set_full_at(words, full_at);
        self.micros_up(full_at - self.at(now_us))
    }

    pub(super) fn refund(&self, words: &mut [u64], tokens: u64, now_us: u64) {
        let given = self.span(tokens.min(self.burst.into()));
        let full_at = self.full_at(words, now_us).saturating_sub(given).max(self.at(now_us));
        self.set_full_at(words, full_at);
    }

    /// Without the charge the bucket may have been full ever since, so that refilling filled nothing: so much of the charge
    /// has been paid already. After a change of pace it stays, since what it took then is not known.
    pub(super) fn undo(&self, words: &mut [u64], charged: &Charged, now_us: u64) {
        if words[FRACTION] >> 32 != u64::from(self.pace) {
            return;
        }
        // Another charge may have been made just before the clock stepped back.
        let paid = self.at(now_us.saturating_sub(charged.at_us).max(charged.ago_us));
        let owed = self.span(charged.cost).saturating_sub(paid);
        let full_at = self.full_at(words, now_us).saturating_sub(owed).max(self.at(now_us));
        self.set_full_at(words, full_at);
    }

    fn set_full_at(&self, words: &mut [u64], full_at: u128) {
        words[WHOLE] = narrow(full_at / u128::from(self.denominator));
        words[FRACTION] = narrow(full_at % u128::from(self.denominator)) | u64::from(self.pace) << 32;
    }

    /// The arrival time, at least now, in units of `1 / denominator` microseconds.
    fn full_at(&self, words: &[u64], now_us: u64) -> u128 {
        let (fraction, pace) = (words[FRACTION] & 0xffff_ffff, words[FRACTION] >> 32);
        if pace == u64::from(self.pace) {
            return (self.at(words[WHOLE]) + u128::from(fraction)).max(self.at(now_us));
        }
        let waiting_us = (words[WHOLE] + u64::from(fraction > 0)).saturating_sub(now_us);
        self.at(now_us) + self.span(self.missing(waiting_us, pace))
    }

    /// Tokens that are missing from a bucket that is full in `waiting_us` at another pace; at most all.
    #[expect(clippy::cast_precision_loss, reason = "times are below 2^53")]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the burst")]
    fn missing(&self, waiting_us: u64, pace: u64) -> u64 {
        if waiting_us == 0 {
            return 0;
        }
        // The script computes the same in the same doubles.
        let tokens = (waiting_us as f64 / f64::from_bits(pace << 32)).ceil();
        tokens.min(f64::from(self.burst)) as u64
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

#[expect(clippy::cast_precision_loss, reason = "a period is below 2^53 microseconds")]
fn pace(whole_us: u64, fraction: u64, denominator: u64) -> u32 {
    let us_per_token = whole_us as f64 + fraction as f64 / denominator as f64;
    u32::try_from(us_per_token.to_bits() >> 32).expect("32 bits are left")
}

fn narrow(value: u128) -> u64 {
    u64::try_from(value).expect("bounded by the burst and by times in this era")
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}
