//! Was a limit ever exceeded? Judged from the clients' own log alone.
//!
//! The clients know of each admission only that it happened somewhere between sending the check
//! and receiving the answer. Whatever the true moments were, the admissions that were *sent* at or
//! after `s` and *received* before `e` happened between `s` and `e`; if there are more of them
//! than a limit allows in an interval of that length, the limit was exceeded for certain. So the
//! checker never accuses wrongly, and the shorter the calls are, the less it overlooks.
//!
//! It shares no code with the services, on purpose.

#[cfg(test)]
mod tests;

/// One admission, as its client saw it. A check that was retried spans from the first time it
/// was sent to the answer that counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission {
    /// Before the check was sent, Unix microseconds.
    pub sent_us: u64,
    /// After the answer was received, Unix microseconds.
    pub received_us: u64,
}

/// What a limit promises about every interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// At most `limit` in every interval of length `period_us`, wherever it starts.
    Rolling {
        /// Tokens per period.
        limit: u64,
        /// Length of the period, microseconds.
        period_us: u64,
    },
    /// At most `burst + limit / period_us * length` in every interval of any length.
    Bucket {
        /// Tokens per period.
        limit: u64,
        /// Length of the period, microseconds.
        period_us: u64,
        /// Tokens in a full bucket.
        burst: u64,
    },
    /// At most `limit` in every interval that starts at a whole multiple of the period (UTC).
    Aligned {
        /// Tokens per period.
        limit: u64,
        /// Length of the period, microseconds.
        period_us: u64,
    },
}

/// The interval that came nearest to its limit, or exceeded it most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peak {
    /// Start, Unix microseconds.
    pub from_us: u64,
    /// Length, microseconds.
    pub length_us: u64,
    /// Admissions that lie in the interval for certain.
    pub admitted: u64,
    /// Admissions that the rule allows there.
    pub allowed: u64,
}

impl Peak {
    /// Whether the limit was exceeded for certain.
    #[must_use]
    pub fn exceeded(&self) -> bool {
        self.admitted > self.allowed
    }

    /// How many admissions of the log lie across an edge of the interval: as large an excess could go unseen.
    #[must_use]
    pub fn straddling(&self, log: &[Admission]) -> u64 {
        let (from, to) = (self.from_us, self.from_us + self.length_us);
        let across = |edge: u64, a: &Admission| a.sent_us < edge && a.received_us >= edge;
        log.iter().map(|a| u64::from(across(from, a) || across(to, a))).sum()
    }

    fn worse_than(&self, other: &Self) -> bool {
        let excess = |peak: &Self| i128::from(peak.admitted) - i128::from(peak.allowed);
        excess(self) > excess(other)
    }
}

impl Rule {
    /// The worst interval of a log; `None` if the log is empty.
    #[must_use]
    pub fn worst(&self, log: &[Admission]) -> Option<Peak> {
        let mut log = log.to_vec();
        log.sort_unstable_by_key(|admission| admission.received_us);
        let peaks = match *self {
            Self::Rolling { limit, period_us } => rolling(&log, limit, period_us),
            Self::Bucket { limit, period_us, burst } => bucket(&log, limit, period_us, burst),
            Self::Aligned { limit, period_us } => aligned(&log, limit, period_us),
        };
        peaks.into_iter().reduce(|worst, peak| if peak.worse_than(&worst) { peak } else { worst })
    }

    /// The most that the rule allows between two moments, Unix microseconds: what a limiter
    /// without any loss admits to callers that never pause.
    #[must_use]
    pub fn most(&self, from_us: u64, to_us: u64) -> u64 {
        let length = to_us - from_us;
        match *self {
            Self::Rolling { limit, period_us } => limit * (length / period_us + 1),
            Self::Bucket { limit, period_us, burst } => burst + earned(limit, period_us, length),
            Self::Aligned { limit, period_us } => limit * (to_us / period_us - from_us / period_us + 1),
        }
    }
}

fn rolling(log: &[Admission], limit: u64, period_us: u64) -> Vec<Peak> {
    let peak = |start: &Admission| Peak {
        from_us: start.sent_us,
        length_us: period_us,
        admitted: between(log, start.sent_us, start.sent_us + period_us),
        allowed: limit,
    };
    log.iter().map(peak).collect()
}

fn aligned(log: &[Admission], limit: u64, period_us: u64) -> Vec<Peak> {
    let mut starts: Vec<_> = log.iter().map(|a| a.sent_us / period_us * period_us).collect();
    starts.sort_unstable();
    starts.dedup();
    let peak = |from_us: u64| Peak {
        from_us,
        length_us: period_us,
        admitted: between(log, from_us, from_us + period_us),
        allowed: limit,
    };
    starts.into_iter().map(peak).collect()
}

/// Every pair of a start and an end: the log is sorted by the end, so the count grows by one with
/// each admission that was sent after the start.
fn bucket(log: &[Admission], limit: u64, period_us: u64, burst: u64) -> Vec<Peak> {
    let mut peaks = Vec::with_capacity(log.len());
    for start in log {
        let mut worst: Option<Peak> = None;
        for (admitted, end) in (1..).zip(log.iter().filter(|end| end.sent_us >= start.sent_us)) {
            let length_us = end.received_us - start.sent_us;
            let allowed = burst + earned(limit, period_us, length_us);
            let peak = Peak { from_us: start.sent_us, length_us, admitted, allowed };
            if worst.is_none_or(|worst| peak.worse_than(&worst)) {
                worst = Some(peak);
            }
        }
        peaks.extend(worst);
    }
    peaks
}

/// Admissions sent at or after `from_us` and received before `to_us`.
fn between(log: &[Admission], from_us: u64, to_us: u64) -> u64 {
    let first = log.partition_point(|a| a.received_us < from_us);
    let end = log.partition_point(|a| a.received_us < to_us);
    log[first..end].iter().map(|a| u64::from(a.sent_us >= from_us)).sum()
}

/// Tokens that flow into a bucket within `length_us`.
fn earned(limit: u64, period_us: u64, length_us: u64) -> u64 {
    let tokens = u128::from(limit) * u128::from(length_us) / u128::from(period_us);
    u64::try_from(tokens).unwrap_or(u64::MAX)
}
