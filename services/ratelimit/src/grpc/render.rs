//! Verdicts as answers.

use bytes::Bytes;
use tidegate_chassis::clock::{Clock, Random, uuid_v7};
use tidegate_proto::ratelimit::v1 as pb;

use crate::{
    domain::{Algorithm, Period},
    limiter::{LimitVerdict, Reason, Verdict},
};

/// Turns verdicts into answers.
pub(super) struct Renderer {
    clock: Clock,
    random: Random,
}

impl Renderer {
    pub(super) fn new(clock: Clock, random: Random) -> Self {
        Self { clock, random }
    }

    /// The answer to a check.
    pub(super) fn check(&self, verdict: &Verdict<'_>) -> pb::CheckResponse {
        let now_us = self.clock.now_us();
        let id = uuid_v7(now_us, &self.random);
        pb::CheckResponse {
            allowed: verdict.allowed,
            code: code(verdict.reason).into(),
            limits: verdict.limits.iter().map(|limit| status(limit, now_us)).collect(),
            binding_limit: verdict.binding.map(|index| u32::try_from(index).expect("a check has few limits")),
            degraded: verdict.degraded,
            replayed: verdict.replayed,
            retry_after_ms: millis(verdict.retry_after_us),
            decision_id: Bytes::copy_from_slice(id.as_bytes()),
        }
    }

    /// The answer to a question for use.
    pub(super) fn usage(&self, verdict: &Verdict<'_>) -> pb::GetUsageResponse {
        let now_us = self.clock.now_us();
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

fn status(found: &LimitVerdict<'_>, now_us: u64) -> pb::LimitStatus {
    let limit = &found.limit.limit;
    pb::LimitStatus {
        name: found.limit.full_name.as_ref().to_owned(),
        algorithm: algorithm(limit.algorithm).into(),
        limit: limit.limit.into(),
        remaining: found.outcome.remaining,
        reset_after_ms: millis(found.outcome.reset_after_us),
        retry_after_ms: millis(found.outcome.retry_after_us),
        period_ms: period_ms(limit.period, now_us),
        exceeded: found.outcome.exceeded(),
        shadow: found.is_shadow(),
    }
}

fn period_ms(period: Period, now_us: u64) -> u64 {
    millis(period.length_us(now_us))
}

fn millis(us: u64) -> u64 {
    us.div_ceil(1_000)
}

fn code(reason: Reason) -> pb::Code {
    match reason {
        Reason::Ok => pb::Code::Ok,
        Reason::RateLimited => pb::Code::RateLimited,
        Reason::QuotaExceeded => pb::Code::QuotaExceeded,
        Reason::StoreUnavailable => pb::Code::StoreUnavailable,
    }
}

fn algorithm(algorithm: Algorithm) -> pb::Algorithm {
    match algorithm {
        Algorithm::SlidingWindow => pb::Algorithm::SlidingWindow,
        Algorithm::SlidingLog => pb::Algorithm::SlidingLog,
        Algorithm::TokenBucket => pb::Algorithm::TokenBucket,
        Algorithm::FixedWindow => pb::Algorithm::FixedWindow,
    }
}
