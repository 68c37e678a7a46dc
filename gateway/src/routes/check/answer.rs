//! `CheckResponse` to JSON.

use std::{borrow::Cow, collections::BTreeMap};

use serde::Serialize;
use tidegate_proto::ratelimit::v1::{
    Algorithm, CheckBatchResponse, CheckError, CheckResponse, Code, KeyIdentity, Lease, LimitStatus,
    check_batch_result::Outcome,
};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    problem::{Problem, Violation, from_check_error},
    routes::times::moment,
};

/// The decision on one check.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CheckAnswer {
    /// Whether the request may go on.
    allowed: bool,
    /// Why: `ok`, `rate_limited`, `quota_exceeded`, `concurrency_exceeded` or `store_unavailable`; of an API key also
    /// `key_not_found`, `key_revoked`, `key_expired`, `key_disabled`, `ip_forbidden`, `scope_missing` or
    /// `organization_suspended`.
    #[schema(example = "ok")]
    code: &'static str,
    /// The API key; absent if the check names none, or nobody has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    key: Option<KeyAnswer>,
    /// The organization of the API key; absent likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    organization: Option<OrganizationAnswer>,
    /// Credits that the API key has left as far as the replica knows that answered; absent if it has no account of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    credits_remaining: Option<u64>,
    /// Every limit that applied; empty if nothing limits the request.
    limits: Vec<LimitAnswer>,
    /// Name of the limit that binds; null if `limits` is empty.
    #[schema(example = "free/minute")]
    binding_limit: Option<String>,
    /// Whether the store could not be asked, so that this is the policy's failure mode speaking.
    degraded: bool,
    /// Whether the idempotency key had been admitted before, so that nothing was charged now.
    replayed: bool,
    /// Identifies this decision in logs.
    decision_id: Uuid,
    /// Present if a concurrency limit is among `limits` and the check was admitted, and was no dry run: renew it, release it, or
    /// let it expire. If the answer is `replayed`, it is the lease that was taken then; absent if that has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    lease: Option<LeaseAnswer>,
}

/// An API key, as a check tells of it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CheckedKey)]
pub(crate) struct KeyAnswer {
    /// Its id.
    id: String,
    /// What it has in common with the keys that it was rotated from and to.
    lineage_id: String,
    /// Its name.
    #[schema(example = "Production API Key")]
    name: String,
    /// `live` or `test`.
    #[schema(example = "live")]
    environment: String,
    /// What it may do.
    scopes: Vec<String>,
    /// Until when it is accepted, in RFC 3339; null for ever.
    expires_at: Option<String>,
    /// What its owner remembers of it.
    metadata: BTreeMap<String, String>,
}

/// The organization of an API key, as a check tells of it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CheckedOrganization)]
pub(crate) struct OrganizationAnswer {
    /// Its id.
    id: String,
    /// Its name.
    #[schema(example = "Acme")]
    name: String,
    /// Its plan.
    #[schema(example = "free")]
    plan: String,
}

/// Places of concurrency limits that somebody holds.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Lease)]
pub(crate) struct LeaseAnswer {
    /// By which it is renewed and released: at most 6,000 of `A-Z a-z 0-9 _ -`.
    id: String,
    /// Milliseconds until it expires unless it is renewed. Counted from when the request was sent, a holder that stops in
    /// time never shares its place.
    expires_after_ms: u64,
}

/// One limit at the time of the decision.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LimitAnswer {
    /// `plan/limit` or `policy/limit`.
    #[schema(example = "free/minute")]
    name: String,
    /// `sliding_window`, `sliding_log`, `token_bucket`, `fixed_window` or `concurrency`.
    #[schema(example = "sliding_window")]
    algorithm: &'static str,
    /// Tokens per period.
    limit: u64,
    /// Tokens left after this check.
    remaining: u64,
    /// When the limit is wholly unused again if nothing more is charged, in Unix seconds.
    reset: u64,
    /// Whole seconds until this limit would admit the check; 0 if it does now.
    retry_after: u64,
    /// Length of the period; a fraction only if it is not whole seconds.
    #[schema(value_type = f64, example = 60)]
    period_seconds: serde_json::Number,
    /// Present and true if the limit only reports and never denies.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    shadow: bool,
}

/// The answers to a batch, in the order of the checks.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BatchAnswer {
    /// One answer per check.
    results: Vec<BatchItem>,
}

/// What came of one check of a batch: the decision, or an `error`.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
enum BatchItem {
    Decided(Box<CheckAnswer>),
    Undecided {
        /// Why this check could not be decided.
        error: CheckProblem,
    },
}

/// Why one check of a batch could not be decided.
#[derive(Debug, Serialize, ToSchema)]
struct CheckProblem {
    /// The HTTP status that a single check would have had.
    #[schema(example = 404)]
    status: u16,
    /// The stable machine word that a single check would have had.
    #[schema(value_type = String, example = "not_found")]
    error: Cow<'static, str>,
    /// For people; its words may change.
    #[schema(value_type = String)]
    detail: Cow<'static, str>,
    /// Every wrong field of this check.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    violations: Vec<Violation>,
}

/// The service answered something that its contract does not allow.
#[derive(Debug, thiserror::Error)]
#[error("the rate-limit service answered out of contract: {0}")]
pub(crate) struct BrokenAnswer(pub(crate) &'static str);

impl CheckAnswer {
    /// The REST form of `response`, seen at `now_us` (Unix µs).
    ///
    /// # Errors
    /// If the decision id is no UUID, or the binding limit is not in the list.
    pub(crate) fn new(response: &CheckResponse, now_us: u64) -> Result<Self, BrokenAnswer> {
        let limits = response.limits.iter().map(|limit| LimitAnswer::new(limit, now_us)).collect();
        Ok(Self {
            allowed: response.allowed,
            code: code(response.code()),
            key: response.key.as_ref().map(KeyAnswer::new),
            organization: response.key.as_ref().map(OrganizationAnswer::new),
            credits_remaining: response.credits_remaining,
            limits,
            binding_limit: binding(response)?.map(|limit| limit.name.clone()),
            degraded: response.degraded,
            replayed: response.replayed,
            decision_id: Uuid::from_slice(&response.decision_id)
                .map_err(|_| BrokenAnswer("decision_id is no UUID"))?,
            lease: response.lease.as_ref().map(LeaseAnswer::new),
        })
    }
}

impl KeyAnswer {
    fn new(of: &KeyIdentity) -> Self {
        Self {
            id: of.id.clone(),
            lineage_id: of.lineage_id.clone(),
            name: of.name.clone(),
            environment: of.environment.clone(),
            scopes: of.scopes.clone(),
            expires_at: moment(of.expires_at_ms),
            metadata: of.metadata.iter().map(|of| (of.key.clone(), of.value.clone())).collect(),
        }
    }
}

impl OrganizationAnswer {
    fn new(of: &KeyIdentity) -> Self {
        Self { id: of.organization_id.clone(), name: of.organization_name.clone(), plan: of.plan.clone() }
    }
}

impl LeaseAnswer {
    /// The REST form of `lease`.
    pub(crate) fn new(lease: &Lease) -> Self {
        Self { id: lease.id.clone(), expires_after_ms: lease.expires_after_ms }
    }
}

impl BatchAnswer {
    /// The REST form of `response` to a batch, seen at `now_us` (Unix µs); `names_key` says of each check whether it names an API
    /// key.
    ///
    /// # Errors
    /// As [`CheckAnswer::new`] and [`knows_key`], and if there is not one answer per check.
    pub(crate) fn new(
        response: &CheckBatchResponse,
        names_key: &[bool],
        now_us: u64,
    ) -> Result<Self, BrokenAnswer> {
        if response.results.len() != names_key.len() {
            return Err(BrokenAnswer("the answers to a batch are not as many as its checks"));
        }
        let results =
            response.results.iter().zip(names_key).map(|(result, names_key)| match &result.outcome {
                Some(Outcome::Result(decision)) => {
                    knows_key(*names_key, decision)?;
                    CheckAnswer::new(decision, now_us).map(|answer| BatchItem::Decided(Box::new(answer)))
                }
                Some(Outcome::Error(error)) => Ok(BatchItem::Undecided { error: CheckProblem::new(error) }),
                None => Err(BrokenAnswer("a check of a batch has no outcome")),
            });
        Ok(Self { results: results.collect::<Result<_, _>>()? })
    }
}

impl CheckProblem {
    fn new(error: &CheckError) -> Self {
        let Problem { status, error, detail, violations, .. } = from_check_error(error);
        Self { status: status.as_u16(), error, detail, violations }
    }
}

impl LimitAnswer {
    fn new(limit: &LimitStatus, now_us: u64) -> Self {
        Self {
            name: limit.name.clone(),
            algorithm: algorithm(limit.algorithm()),
            limit: limit.limit,
            remaining: limit.remaining,
            reset: reset(now_us, limit.reset_after_ms),
            retry_after: limit.retry_after_ms.div_ceil(1000),
            period_seconds: period_seconds(limit.period_ms),
            shadow: limit.shadow,
        }
    }
}

/// Refuses the admission of a check with an API key that is nobody's: a service that is older than API keys looks at the attributes
/// alone.
///
/// # Errors
/// If it is one.
pub(crate) fn knows_key(names_key: bool, response: &CheckResponse) -> Result<(), BrokenAnswer> {
    match names_key && response.allowed && response.key.is_none() {
        true => Err(BrokenAnswer("an API key was accepted, and is nobody's")),
        false => Ok(()),
    }
}

/// The limit that binds, if any limit applied.
///
/// # Errors
/// If the index points beyond the list.
pub(crate) fn binding(response: &CheckResponse) -> Result<Option<&LimitStatus>, BrokenAnswer> {
    let Some(index) = response.binding_limit else { return Ok(None) };
    let limit = usize::try_from(index).ok().and_then(|index| response.limits.get(index));
    limit.map(Some).ok_or(BrokenAnswer("binding_limit points beyond limits"))
}

/// Unix seconds, rounded up, of the moment `after_ms` from `now_us`.
#[must_use]
pub(crate) fn reset(now_us: u64, after_ms: u64) -> u64 {
    now_us.saturating_add(after_ms.saturating_mul(1000)).div_ceil(1_000_000)
}

/// The word for it.
pub(crate) fn code(code: Code) -> &'static str {
    match code {
        Code::Unspecified => "unspecified",
        Code::Ok => "ok",
        Code::RateLimited => "rate_limited",
        Code::QuotaExceeded => "quota_exceeded",
        Code::StoreUnavailable => "store_unavailable",
        Code::ConcurrencyExceeded => "concurrency_exceeded",
        Code::KeyNotFound => "key_not_found",
        Code::KeyRevoked => "key_revoked",
        Code::KeyExpired => "key_expired",
        Code::KeyDisabled => "key_disabled",
        Code::IpForbidden => "ip_forbidden",
        Code::ScopeMissing => "scope_missing",
        Code::OrganizationSuspended => "organization_suspended",
    }
}

/// The word for it.
pub(crate) fn algorithm(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Unspecified => "unspecified",
        Algorithm::SlidingWindow => "sliding_window",
        Algorithm::SlidingLog => "sliding_log",
        Algorithm::TokenBucket => "token_bucket",
        Algorithm::FixedWindow => "fixed_window",
        Algorithm::Concurrency => "concurrency",
    }
}

/// Whole seconds if they are whole.
pub(crate) fn period_seconds(period_ms: u64) -> serde_json::Number {
    if period_ms.is_multiple_of(1000) {
        return (period_ms / 1000).into();
    }
    #[expect(clippy::cast_precision_loss, reason = "a period below 2^53 ms is exact")]
    let seconds = period_ms as f64 / 1000.0;
    serde_json::Number::from_f64(seconds).expect("a quotient of finite numbers is finite")
}
