//! Verdicts as answers.

use tidegate_chassis::clock::{Random, uuid_v7};
use tidegate_credentials::Standing;
use tidegate_proto::{Writer, ratelimit::v1 as pb};

use crate::{
    domain::{Algorithm, BundleLimit, Period},
    limiter::{LeaseGrant, LimitVerdict, Reason, Verdict},
};

/// Turns verdicts into answers.
pub(super) struct Renderer {
    random: Random,
}

impl Renderer {
    pub(super) fn new(random: Random) -> Self {
        Self { random }
    }

    /// Where ids come from.
    pub(super) fn random(&self) -> &Random {
        &self.random
    }

    /// Writes the fields of a `CheckResponse`.
    #[inline]
    pub(super) fn check(&self, verdict: &Verdict<'_>, out: &mut Writer<'_>) {
        let now_us = verdict.at_us;
        out.numbers([(1, verdict.allowed.into()), (2, enumerated(code(verdict.reason)))]);
        for limit in &verdict.limits {
            out.message(3, |out| status(limit, now_us, out));
        }
        if let Some(binding) = verdict.binding {
            out.present(4, binding as u64);
        }
        out.numbers([
            (5, verdict.degraded.into()),
            (6, verdict.replayed.into()),
            (7, millis(verdict.retry_after_us)),
        ]);
        out.bytes(8, uuid_v7(now_us, &self.random).as_bytes());
        if let Some(lease) = &verdict.lease {
            out.generated(9, &self::lease(lease));
        }
    }

    /// The answer to a question for use.
    pub(super) fn usage(&self, verdict: &Verdict<'_>) -> pb::GetUsageResponse {
        let now_us = verdict.at_us;
        let limits = verdict.limits.iter().map(|found| {
            let limit = &found.limit.limit;
            let capacity = limit.rule.capacity();
            pb::LimitUsage {
                name: found.limit.full_name.as_ref().to_owned(),
                algorithm: algorithm(limit.algorithm).into(),
                limit: limit.limit.into(),
                used: capacity.saturating_sub(found.outcome.remaining),
                remaining: found.outcome.remaining,
                capacity,
                reset_after_ms: millis(found.outcome.reset_after_us),
                period_ms: period_ms(limit.period, now_us),
                shadow: found.is_shadow(),
            }
        });
        pb::GetUsageResponse { limits: limits.collect() }
    }
}

/// A lease as its holder is told of it. It must not be thought to last longer than it does.
pub(super) fn lease(lease: &LeaseGrant) -> pb::Lease {
    pb::Lease { id: lease.id.clone(), expires_after_ms: lease.expires_after_us / 1_000 }
}

/// Writes the fields of a `LimitStatus`.
#[inline]
fn status(found: &LimitVerdict<'_>, now_us: u64, out: &mut Writer<'_>) {
    out.written(found.limit.label.get_or_init(|| label(found.limit)));
    out.numbers([
        (4, found.outcome.remaining),
        (5, millis(found.outcome.reset_after_us)),
        (6, millis(found.outcome.retry_after_us)),
        (7, period_ms(found.limit.limit.period, now_us)),
        (8, found.outcome.exceeded().into()),
        (9, found.is_shadow().into()),
    ]);
}

/// The fields of a `LimitStatus` that are the same in every answer.
fn label(limit: &BundleLimit) -> Box<[u8]> {
    let mut label = Vec::new();
    let mut out = Writer::new(&mut label);
    out.bytes(1, limit.full_name.as_bytes());
    out.numbers([(2, enumerated(algorithm(limit.limit.algorithm))), (3, limit.limit.limit.into())]);
    label.into()
}

fn period_ms(period: Period, now_us: u64) -> u64 {
    millis(period.length_us(now_us))
}

fn millis(us: u64) -> u64 {
    us.div_ceil(1_000)
}

/// The number of a constant; ours are small and positive.
#[inline]
fn enumerated(constant: impl Into<i32>) -> u64 {
    u64::try_from(constant.into()).expect("no constant is negative")
}

fn code(reason: Reason) -> pb::Code {
    match reason {
        Reason::Ok => pb::Code::Ok,
        Reason::RateLimited => pb::Code::RateLimited,
        Reason::QuotaExceeded => pb::Code::QuotaExceeded,
        Reason::ConcurrencyExceeded => pb::Code::ConcurrencyExceeded,
        Reason::StoreUnavailable => pb::Code::StoreUnavailable,
        Reason::Key(standing) => match standing {
            Standing::Accepted => pb::Code::Ok,
            Standing::KeyNotFound => pb::Code::KeyNotFound,
            Standing::OrganizationSuspended => pb::Code::OrganizationSuspended,
            Standing::KeyRevoked => pb::Code::KeyRevoked,
            Standing::KeyDisabled => pb::Code::KeyDisabled,
            Standing::KeyExpired => pb::Code::KeyExpired,
            Standing::IpForbidden => pb::Code::IpForbidden,
            Standing::ScopeMissing => pb::Code::ScopeMissing,
        },
    }
}

fn algorithm(algorithm: Algorithm) -> pb::Algorithm {
    match algorithm {
        Algorithm::SlidingWindow => pb::Algorithm::SlidingWindow,
        Algorithm::SlidingLog => pb::Algorithm::SlidingLog,
        Algorithm::TokenBucket => pb::Algorithm::TokenBucket,
        Algorithm::FixedWindow => pb::Algorithm::FixedWindow,
        Algorithm::Concurrency => pb::Algorithm::Concurrency,
    }
}

#[cfg(test)]
mod tests;
