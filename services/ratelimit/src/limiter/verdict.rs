//! A decision with the names of what decided it.

use smallvec::SmallVec;
use tidegate_credentials::Standing;

use super::LeaseGrant;
use crate::domain::{BundleLimit, Decision, Enforcement, LimitOutcome, Match, Policy, Rule};

/// Shortest fixed window that is called a quota, in microseconds: a day.
const QUOTA_US: u64 = 86_400_000_000;

/// The answer to one check.
#[derive(Debug)]
pub struct Verdict<'p> {
    /// Whether the request may go on.
    pub allowed: bool,
    /// Why.
    pub reason: Reason,
    /// Every limit that applied, in the order of policies.
    pub limits: SmallVec<[LimitVerdict<'p>; 4]>,
    /// Index into `limits` of the one that binds.
    pub binding: Option<usize>,
    /// Microseconds until the same check can pass; 0 if it was allowed.
    pub retry_after_us: u64,
    /// Whether the failure modes answered, not the store.
    pub degraded: bool,
    /// Whether the idempotency key had been admitted before.
    pub replayed: bool,
    /// Whether policies apply, and none of them has a limit. Told of descriptors only.
    pub exempt: bool,
    /// The lease that is held, if any.
    pub lease: Option<Box<LeaseGrant>>,
    /// In Unix microseconds by the clock of this process: when the check was taken up, if it was decided at once;
    /// otherwise when the store had answered.
    pub at_us: u64,
}

/// Why a check was answered as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Admitted.
    Ok,
    /// A rate limit is exceeded.
    RateLimited,
    /// A quota is used up.
    QuotaExceeded,
    /// Too many leases are held.
    ConcurrencyExceeded,
    /// The store is gone and a policy fails closed.
    StoreUnavailable,
    /// The API key is not good for it.
    Key(Standing),
}

impl Reason {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::RateLimited => "rate_limited",
            Self::QuotaExceeded => "quota_exceeded",
            Self::ConcurrencyExceeded => "concurrency_exceeded",
            Self::StoreUnavailable => "store_unavailable",
            Self::Key(standing) => standing.as_str(),
        }
    }
}

/// One limit in the answer.
#[derive(Clone, Copy, Debug)]
pub struct LimitVerdict<'p> {
    /// The limit.
    pub limit: &'p BundleLimit,
    /// The policy that sets it.
    pub policy: &'p Policy,
    /// Where it stands.
    pub outcome: LimitOutcome,
}

impl<'p> Verdict<'p> {
    /// No limit applies.
    pub(super) fn unlimited(at_us: u64) -> Self {
        Self {
            at_us,
            allowed: true,
            reason: Reason::Ok,
            limits: SmallVec::new(),
            binding: None,
            retry_after_us: 0,
            degraded: false,
            replayed: false,
            exempt: false,
            lease: None,
        }
    }

    /// What the store decided; `decision` has one outcome per limit of the limited matches, in order.
    #[inline]
    pub(super) fn decided(matches: &[Match<'p>], decision: &Decision, at_us: u64) -> Self {
        // Not from `unlimited`: a verdict is large, and moved only at a price.
        let mut verdict = Self {
            allowed: decision.admitted,
            reason: Reason::Ok,
            limits: SmallVec::new(),
            binding: None,
            retry_after_us: 0,
            degraded: false,
            replayed: decision.replayed,
            exempt: false,
            lease: None,
            at_us,
        };
        let mut outcomes = decision.outcomes.iter();
        for found in matches {
            for (limit, outcome) in found.bundle.limits.iter().zip(outcomes.by_ref()) {
                verdict.limits.push(LimitVerdict { limit, policy: found.policy, outcome: *outcome });
            }
        }
        verdict.bind();
        verdict
    }

    /// Admits, whatever the limits say: nothing was asked of them.
    pub(super) fn admit(&mut self) {
        self.allowed = true;
        self.reason = Reason::Ok;
        self.retry_after_us = 0;
    }

    /// Denies by a limit that could never admit what is asked: the one of that index.
    pub(super) fn refuse(&mut self, limit: usize) {
        let binding = &self.limits[limit];
        self.allowed = false;
        self.binding = Some(limit);
        self.reason = binding.denial_reason();
        // Never, in truth; but not at once.
        self.retry_after_us =
            binding.outcome.reset_after_us.max(binding.limit.limit.period.length_us(self.at_us));
    }

    /// Denies, though nothing is known of any limit.
    pub(super) fn refused(at_us: u64) -> Self {
        Self { allowed: false, reason: Reason::RateLimited, ..Self::unlimited(at_us) }
    }

    /// Denies, since an API key is not good for it: no limit was asked.
    pub(crate) fn refused_by_key(standing: Standing, at_us: u64) -> Self {
        Self { allowed: false, reason: Reason::Key(standing), ..Self::unlimited(at_us) }
    }

    /// Denies, since the credits of an API key are used up; they may be there again after `retry_after_us`, never if that is 0.
    pub(crate) fn out_of_credits(retry_after_us: u64, at_us: u64) -> Self {
        Self { allowed: false, reason: Reason::QuotaExceeded, retry_after_us, ..Self::unlimited(at_us) }
    }

    /// What the failure modes say.
    pub(super) fn degraded(
        limits: SmallVec<[LimitVerdict<'p>; 4]>,
        allowed: bool,
        replayed: bool,
        at_us: u64,
    ) -> Self {
        let mut verdict = Self { allowed, limits, replayed, degraded: true, ..Self::unlimited(at_us) };
        verdict.bind();
        verdict
    }

    /// Finds what binds: on a denial the exceeded limit that is longest in coming free, otherwise the
    /// limit with the least remaining. Limits that only report bind nothing unless there are no others.
    #[inline]
    fn bind(&mut self) {
        let limits = &self.limits;
        let enforced = limits.iter().enumerate().filter(|(_, limit)| !limit.is_shadow());
        let binding = if self.allowed {
            enforced
                .min_by_key(|(_, limit)| limit.outcome.remaining)
                .or_else(|| limits.iter().enumerate().min_by_key(|(_, limit)| limit.outcome.remaining))
        } else {
            // The first of equals, as above.
            enforced.rev().max_by_key(|(_, limit)| limit.outcome.retry_after_us)
        };
        self.binding = binding.map(|(index, _)| index);
        if let (Some((_, limit)), false) = (binding, self.allowed) {
            self.reason = limit.denial_reason();
            self.retry_after_us = limit.outcome.retry_after_us;
        }
    }
}

impl LimitVerdict<'_> {
    /// Whether it only reports.
    pub fn is_shadow(&self) -> bool {
        self.policy.enforcement == Enforcement::Shadow
    }

    fn denial_reason(&self) -> Reason {
        match self.limit.limit.rule {
            Rule::FixedWindow(_) if self.limit.limit.period.length_us(0) >= QUOTA_US => Reason::QuotaExceeded,
            Rule::Concurrency(_) => Reason::ConcurrencyExceeded,
            Rule::FixedWindow(_) | Rule::SlidingWindow(_) | Rule::SlidingLog(_) | Rule::TokenBucket(_) => {
                Reason::RateLimited
            }
        }
    }
}
