//! One limit, checked when it is made: inside the service a [`Limit`] is always valid.

use std::sync::Arc;

use super::{
    Calendar, Charged, Concurrency, FixedWindow, Lease, Look, SlidingLog, SlidingWindow, TokenBucket,
};

/// The most tokens a limit, a burst or a cost may name.
pub const MAX_TOKENS: u64 = 1_000_000_000;

/// The longest period in microseconds: ten years of 365 days.
const MAX_PERIOD_US: u64 = 3_650 * 86_400_000_000;

/// The shortest period in microseconds.
const MIN_PERIOD_US: u64 = 1_000;

/// By how much the clocks of replicas and stores may differ, in microseconds, where a decision of theirs is judged by another clock.
const CLOCKS_DIFFER_US: u64 = 10_000_000;

/// Doubles are exact below this, and Redis computes in doubles.
const EXACT: u64 = 1 << 53;

/// How a limit counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// [`SlidingWindow`]: the default.
    #[default]
    SlidingWindow,
    /// [`SlidingLog`]: exact, for limits up to 1,000.
    SlidingLog,
    /// [`TokenBucket`]: a steady rate with a burst.
    TokenBucket,
    /// [`FixedWindow`]: calendar-aligned, for quotas.
    FixedWindow,
    /// [`Concurrency`]: leases held at once, up to 1,000.
    Concurrency,
}

impl Algorithm {
    /// The word for it in policy files and in REST.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SlidingWindow => "sliding_window",
            Self::SlidingLog => "sliding_log",
            Self::TokenBucket => "token_bucket",
            Self::FixedWindow => "fixed_window",
            Self::Concurrency => "concurrency",
        }
    }
}

/// How long a limit looks back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Period {
    /// That many microseconds.
    Micros(u64),
    /// A week; calendar-aligned it starts on Monday.
    Week,
    /// A calendar month; only for fixed windows.
    Month,
}

impl Period {
    /// Length in microseconds; of a month, its length at `now_us`.
    pub fn length_us(self, now_us: u64) -> u64 {
        match self {
            Self::Micros(us) => us,
            Self::Week => 7 * 86_400_000_000,
            Self::Month => {
                let window = Calendar::Month.window_at(now_us);
                window.end_us - window.start_us
            }
        }
    }
}

/// A limit as somebody wrote it.
#[derive(Clone, Debug)]
pub struct LimitSpec {
    /// Name within its plan or policy.
    pub name: String,
    /// How it counts.
    pub algorithm: Algorithm,
    /// Tokens per period; of a concurrency limit, tokens held at once.
    pub limit: u64,
    /// How long it looks back; of a concurrency limit, how long a lease lasts unless it is renewed.
    pub period: Period,
    /// Tokens that can be saved up; `limit` if absent. Only for token buckets.
    pub burst: Option<u64>,
}

/// What is wrong with a [`LimitSpec`], and in which of its fields.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {description}")]
pub struct LimitError {
    /// Field of [`LimitSpec`].
    pub field: &'static str,
    /// What is wrong.
    pub description: String,
}

/// A valid limit.
#[derive(Clone, Debug)]
pub struct Limit {
    /// Name within its plan or policy, as `minute`.
    pub name: Arc<str>,
    /// How it counts.
    pub algorithm: Algorithm,
    /// Tokens per period, 0 if it denies everything; of a concurrency limit, tokens held at once.
    pub limit: u32,
    /// How long it looks back; of a concurrency limit, how long a lease lasts unless it is renewed.
    pub period: Period,
    /// What the stores run.
    pub rule: Rule,
}

impl Limit {
    /// Checks `spec` as a whole.
    ///
    /// # Errors
    ///
    /// Every fault of the specification, in the order of its fields.
    pub fn new(spec: LimitSpec) -> Result<Self, Vec<LimitError>> {
        let mut errors = Vec::new();
        let mut fault = |field, description: String| errors.push(LimitError { field, description });
        let counts_leases = spec.algorithm == Algorithm::Concurrency;
        if spec.limit == 0 || spec.limit > MAX_TOKENS {
            fault("limit", format!("must be 1 to {MAX_TOKENS} tokens, is {}", spec.limit));
        } else if spec.algorithm == Algorithm::SlidingLog && spec.limit > u64::from(SlidingLog::MAX_LIMIT) {
            fault(
                "limit",
                format!(
                    "a sliding_log keeps every admission and holds at most {} tokens; use sliding_window",
                    SlidingLog::MAX_LIMIT
                ),
            );
        } else if counts_leases && spec.limit > u64::from(Concurrency::MAX_LIMIT) {
            let most = Concurrency::MAX_LIMIT;
            fault("limit", format!("a concurrency limit keeps every lease and holds at most {most} tokens"));
        }
        match spec.period {
            Period::Micros(us)
                if counts_leases && (MIN_PERIOD_US..=Concurrency::MAX_LEASE_US).contains(&us) => {}
            _ if counts_leases => {
                fault("lease", "must be 1ms to 1d; a lease is renewed to last longer".to_owned());
            }
            Period::Micros(us) if !(MIN_PERIOD_US..=MAX_PERIOD_US).contains(&us) => {
                fault("period", "must be 1ms to 3650d".to_owned());
            }
            Period::Month if spec.algorithm != Algorithm::FixedWindow => {
                fault("period", "a calendar month needs the algorithm fixed_window".to_owned());
            }
            Period::Micros(_) | Period::Week | Period::Month => {}
        }
        match spec.burst {
            Some(_) if spec.algorithm != Algorithm::TokenBucket => {
                fault("burst", "only a token_bucket has a burst".to_owned());
            }
            Some(burst) if burst == 0 || burst > MAX_TOKENS => {
                fault("burst", format!("must be 1 to {MAX_TOKENS} tokens, is {burst}"));
            }
            Some(_) | None => {}
        }
        if errors.is_empty() { Self::build(spec).map_err(|error| vec![error]) } else { Err(errors) }
    }

    /// The same limit with no tokens at all: it denies everything. It is looked at, and counted in shadow, as one of 1.
    #[must_use]
    pub fn of_nothing(self) -> Self {
        Self { limit: 0, ..self }
    }

    /// The largest cost that it could ever admit.
    pub fn capacity(&self) -> u64 {
        if self.limit == 0 { 0 } else { self.rule.capacity() }
    }

    /// Whether everything that counts at `now_us` was charged within the last `complete_for_us`. Of a calendar window it is
    /// enough that it began since; clocks may then differ by ten seconds.
    pub fn is_covered_by(&self, complete_for_us: u64, now_us: u64) -> bool {
        let looks_back_us = match self.rule {
            Rule::SlidingWindow(rule) => rule.width_us * (SlidingWindow::SUB_WINDOWS + 1),
            Rule::SlidingLog(rule) => rule.period_us,
            Rule::TokenBucket(rule) => (rule.whole_us + 1) * u64::from(rule.burst),
            // What was lost is not renewed.
            Rule::Concurrency(rule) => rule.lease_us,
            Rule::FixedWindow(rule) => {
                let began_us = rule.calendar.window_at(now_us.saturating_sub(CLOCKS_DIFFER_US)).start_us;
                now_us.saturating_sub(began_us)
            }
        };
        // A loss at the very beginning of a window is one within it.
        looks_back_us < complete_for_us
    }

    /// The same limit with `1 / replicas` of its tokens, rounded down: what one replica may admit by
    /// itself when the store is gone. Nothing if that is less than a token.
    pub fn share(&self, replicas: u32) -> Option<Self> {
        let divide = |tokens: u32| Some(tokens / replicas.max(1)).filter(|share| *share > 0);
        let limit = divide(self.limit)?;
        let rule = match self.rule {
            Rule::SlidingWindow(rule) => Rule::SlidingWindow(SlidingWindow { limit, ..rule }),
            Rule::SlidingLog(rule) => Rule::SlidingLog(SlidingLog { limit, ..rule }),
            Rule::FixedWindow(rule) => Rule::FixedWindow(FixedWindow { limit, ..rule }),
            Rule::Concurrency(rule) => Rule::Concurrency(Concurrency { limit, ..rule }),
            Rule::TokenBucket(rule) => {
                Rule::TokenBucket(TokenBucket::new(limit, self.period.length_us(0), divide(rule.burst)?))
            }
        };
        Some(Self { limit, rule, ..self.clone() })
    }

    fn build(spec: LimitSpec) -> Result<Self, LimitError> {
        let narrow = |tokens: u64| u32::try_from(tokens).expect("MAX_TOKENS fits 32 bits");
        let limit = narrow(spec.limit);
        let period_us = spec.period.length_us(0);
        let rule = match spec.algorithm {
            Algorithm::SlidingWindow => Rule::SlidingWindow(SlidingWindow::new(limit, period_us)),
            Algorithm::SlidingLog => Rule::SlidingLog(SlidingLog { limit, period_us }),
            Algorithm::TokenBucket => {
                let burst = narrow(spec.burst.unwrap_or(spec.limit));
                let bucket = TokenBucket::new(limit, period_us, burst);
                if bucket.denominator.saturating_mul(u64::from(burst)) >= EXACT {
                    return Err(LimitError {
                        field: "limit",
                        description: "limit and burst are too large together to be counted exactly; choose a limit that \
                                      shares more factors with the period in microseconds"
                            .to_owned(),
                    });
                }
                if u128::from(bucket.whole_us + 1) * u128::from(burst) >= u128::from(EXACT) / 2 {
                    return Err(LimitError {
                        field: "burst",
                        description: "takes more than 140 years to refill".to_owned(),
                    });
                }
                Rule::TokenBucket(bucket)
            }
            Algorithm::FixedWindow => {
                let calendar = match spec.period {
                    Period::Micros(us) => Calendar::Every(us),
                    Period::Week => Calendar::Week,
                    Period::Month => Calendar::Month,
                };
                Rule::FixedWindow(FixedWindow { limit, calendar })
            }
            Algorithm::Concurrency => Rule::Concurrency(Concurrency { limit, lease_us: period_us }),
        };
        Ok(Self { name: spec.name.into(), algorithm: spec.algorithm, limit, period: spec.period, rule })
    }
}

/// One algorithm with its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// See [`SlidingWindow`].
    SlidingWindow(SlidingWindow),
    /// See [`SlidingLog`].
    SlidingLog(SlidingLog),
    /// See [`TokenBucket`].
    TokenBucket(TokenBucket),
    /// See [`FixedWindow`].
    FixedWindow(FixedWindow),
    /// See [`Concurrency`].
    Concurrency(Concurrency),
}

impl Rule {
    /// How it counts.
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Self::SlidingWindow(_) => Algorithm::SlidingWindow,
            Self::SlidingLog(_) => Algorithm::SlidingLog,
            Self::TokenBucket(_) => Algorithm::TokenBucket,
            Self::FixedWindow(_) => Algorithm::FixedWindow,
            Self::Concurrency(_) => Algorithm::Concurrency,
        }
    }

    /// The most tokens that can be in use at once; a larger cost can never pass.
    pub fn capacity(&self) -> u64 {
        u64::from(match self {
            Self::SlidingWindow(rule) => rule.limit,
            Self::SlidingLog(rule) => rule.limit,
            Self::TokenBucket(rule) => rule.burst,
            Self::FixedWindow(rule) => rule.limit,
            Self::Concurrency(rule) => rule.limit,
        })
    }

    /// 64-bit words of state. A limit never charged is all zeros.
    pub fn words(&self) -> usize {
        match self {
            Self::SlidingWindow(_) => SlidingWindow::WORDS,
            Self::SlidingLog(rule) => rule.words(),
            Self::TokenBucket(_) => TokenBucket::WORDS,
            Self::FixedWindow(_) => FixedWindow::WORDS,
            Self::Concurrency(rule) => rule.words(),
        }
    }

    /// Makes words of zeros the state of a limit never charged.
    pub(super) fn prepare(&self, words: &mut [u64]) {
        match self {
            Self::SlidingLog(rule) => rule.prepare(words),
            Self::Concurrency(rule) => rule.prepare(words),
            Self::SlidingWindow(_) | Self::TokenBucket(_) | Self::FixedWindow(_) => {}
        }
    }

    /// What a charge of `cost` would meet at `now_us`. A clock that steps back counts as standing
    /// still, and state that is all zeros as a limit never charged.
    #[inline]
    pub fn look(&self, words: &[u64], cost: u64, now_us: u64) -> Look {
        match self {
            Self::SlidingWindow(rule) => rule.look(words, cost, now_us),
            Self::SlidingLog(rule) => rule.look(words, cost, now_us),
            Self::TokenBucket(rule) => rule.look(words, cost, now_us),
            Self::FixedWindow(rule) => rule.look(words, cost, now_us),
            Self::Concurrency(rule) => rule.look(words, cost, now_us),
        }
    }

    /// Charges `cost`, which [`look`](Self::look) has just found to fit at the same `now_us`.
    /// Answers in how many microseconds the limit is wholly unused again; nothing, and charges nothing, if it counts leases and
    /// none is to be taken.
    #[inline]
    pub fn charge(&self, words: &mut [u64], cost: u64, lease: Option<Lease>, now_us: u64) -> Option<u64> {
        Some(match self {
            Self::SlidingWindow(rule) => rule.charge(words, cost, now_us),
            Self::SlidingLog(rule) => rule.charge(words, cost, now_us),
            Self::TokenBucket(rule) => rule.charge(words, cost, now_us),
            Self::FixedWindow(rule) => rule.charge(words, cost, now_us),
            Self::Concurrency(rule) => rule.charge(words, cost, lease?, now_us),
        })
    }

    /// Takes back one charge, as far as that is certain not to give back more than it took: whatever was charged or taken back in
    /// between, no more can be admitted afterwards than if the charge had never been. How far the clock had come stays known, so that
    /// it still stands still where it steps back. Exact at the time of the charge. A refund in between may have given back the same
    /// tokens. The reference for `undo.lua`: a store in memory charges all or nothing and needs none.
    pub fn undo(&self, words: &mut [u64], charged: &Charged, now_us: u64) {
        match self {
            Self::SlidingWindow(rule) => rule.undo(words, charged),
            Self::SlidingLog(rule) => rule.undo(words, charged),
            Self::TokenBucket(rule) => rule.undo(words, charged, now_us),
            Self::FixedWindow(rule) => rule.undo(words, charged),
            Self::Concurrency(_) => Concurrency::undo(words, charged, now_us),
        }
    }

    /// Gives `tokens` back: those that were charged last and still count at `now_us`, as many as there are. Of leases none: who
    /// holds one releases it.
    pub fn refund(&self, words: &mut [u64], tokens: u64, now_us: u64) {
        match self {
            Self::SlidingWindow(rule) => rule.refund(words, tokens, now_us),
            Self::SlidingLog(rule) => rule.refund(words, tokens, now_us),
            Self::TokenBucket(rule) => rule.refund(words, tokens, now_us),
            Self::FixedWindow(rule) => rule.refund(words, tokens, now_us),
            Self::Concurrency(_) => {}
        }
    }
}
