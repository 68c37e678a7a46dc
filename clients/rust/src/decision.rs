//! What is answered.

use std::time::Duration;

use tidegate_proto::ratelimit::v1 as proto;

use crate::{
    Check, Error,
    identity::KeyIdentity,
    lease::{Lease, Releaser},
};

/// The answer to a check. A denial is one.
#[derive(Debug)]
#[must_use = "a check that nobody looks at protects nothing"]
#[non_exhaustive]
pub struct Decision {
    /// Whether the request may go on.
    pub allowed: bool,
    /// Why.
    pub code: Code,
    /// Every limit that applied, in the order of the policies' names. Empty: nothing limits it.
    pub limits: Vec<Limit>,
    /// Whether this is a failure mode speaking: the service's, whose store is gone, or this client's, which cannot reach
    /// the service.
    pub degraded: bool,
    /// Whether the idempotency key had been admitted before, so that nothing was charged now.
    pub replayed: bool,
    /// How long until the same check can pass; zero if it was allowed.
    pub retry_after: Duration,
    /// Whose the API key is. Absent if the check named none, or nobody has it.
    pub key: Option<KeyIdentity>,
    /// Places that were taken of concurrency limits. They are given back when this is dropped, so keep it for as long as the work lasts.
    pub lease: Option<Lease>,
    /// Identifies the decision in the logs of the service; zero if a failure mode of this client decided.
    pub id: u128,
    binding: Option<usize>,
}

/// Why a check was answered as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Code {
    /// Admitted.
    Ok,
    /// Denied by a rate limit.
    RateLimited,
    /// Denied by a quota: a fixed window of a day or longer is used up.
    QuotaExceeded,
    /// Denied by a concurrency limit.
    ConcurrencyExceeded,
    /// Denied because it could not be decided: the service's store, or the service, cannot be reached.
    Unavailable,
    /// Nobody has the API key.
    KeyNotFound,
    /// The API key was revoked, or rotated.
    KeyRevoked,
    /// The time of the API key is over.
    KeyExpired,
    /// The API key is switched off.
    KeyDisabled,
    /// The API key may not be used from the client's address, or that is not known.
    IpForbidden,
    /// The API key has not the scopes that are required.
    ScopeMissing,
    /// The organization of the API key is suspended.
    OrganizationSuspended,
    /// A reason to deny that this version of the client does not know.
    Unknown,
}

/// One limit at the time of the decision.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limit {
    /// "plan/limit" or "policy/limit", as "free/minute".
    pub name: String,
    /// Tokens per period; of a concurrency limit, tokens held at once.
    pub limit: u64,
    /// Tokens left after this check.
    pub remaining: u64,
    /// Until it is wholly unused again if nothing more is charged.
    pub reset_after: Duration,
    /// Until it would admit the check.
    pub retry_after: Duration,
    /// Length of the period; of a concurrency limit, how long a lease lasts.
    pub period: Duration,
    /// Whether it had no room for the check.
    pub exceeded: bool,
    /// Whether it only reports and never denies.
    pub shadow: bool,
    /// Whether it counts what is held at once, not what is spent.
    pub is_concurrency: bool,
}

impl Decision {
    /// The limit that binds: on a denial the exceeded one that is longest in coming free, otherwise the one with the least
    /// remaining.
    #[must_use]
    pub fn binding_limit(&self) -> Option<&Limit> {
        self.limits.get(self.binding?)
    }

    /// One of this client's own, made without the service.
    pub(crate) fn local(code: Code, limits: Vec<Limit>, retry_after: Duration) -> Self {
        Self {
            allowed: code == Code::Ok,
            code,
            binding: (!limits.is_empty()).then_some(0),
            limits,
            degraded: true,
            replayed: false,
            retry_after,
            key: None,
            lease: None,
            id: 0,
        }
    }

    /// Of a key that is nobody's by its look.
    pub(crate) fn key_not_found() -> Self {
        Self { degraded: false, ..Self::local(Code::KeyNotFound, Vec::new(), Duration::ZERO) }
    }

    /// What the service said of `check`.
    pub(crate) fn of_answer(
        check: &Check,
        answer: proto::CheckResponse,
        releaser: &Releaser,
    ) -> Result<Self, Error> {
        let code = Code::of_wire(answer.code());
        if answer.allowed != (code == Code::Ok) {
            return Err(Error::Broken("`allowed` and `code` contradict each other"));
        }
        // One that is older than API keys looks at the attributes alone.
        if answer.allowed && check.names_key() && answer.key.is_none() {
            return Err(Error::Broken("an API key was accepted, and is nobody's"));
        }
        let binding = answer.binding_limit.map(|index| usize::try_from(index).unwrap_or(usize::MAX));
        if binding.is_some_and(|index| index >= answer.limits.len()) {
            return Err(Error::Broken("`binding_limit` names no limit"));
        }
        Ok(Self {
            allowed: answer.allowed,
            code,
            limits: answer.limits.into_iter().map(Limit::of_wire).collect(),
            degraded: answer.degraded,
            replayed: answer.replayed,
            retry_after: Duration::from_millis(answer.retry_after_ms),
            key: answer.key.map(KeyIdentity::of_check),
            lease: answer.lease.map(|lease| releaser.guard(lease)),
            id: <[u8; 16]>::try_from(&answer.decision_id[..]).map_or(0, u128::from_be_bytes),
            binding,
        })
    }
}

impl Code {
    /// The word for it in REST answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::RateLimited => "rate_limited",
            Self::QuotaExceeded => "quota_exceeded",
            Self::ConcurrencyExceeded => "concurrency_exceeded",
            Self::Unavailable => "store_unavailable",
            Self::KeyNotFound => "key_not_found",
            Self::KeyRevoked => "key_revoked",
            Self::KeyExpired => "key_expired",
            Self::KeyDisabled => "key_disabled",
            Self::IpForbidden => "ip_forbidden",
            Self::ScopeMissing => "scope_missing",
            Self::OrganizationSuspended => "organization_suspended",
            Self::Unknown => "unknown",
        }
    }

    /// What a word of the keys service stands for.
    pub(crate) fn from_word(word: &str) -> Self {
        const WORDS: [Code; 8] = [
            Code::Ok,
            Code::KeyNotFound,
            Code::KeyRevoked,
            Code::KeyExpired,
            Code::KeyDisabled,
            Code::IpForbidden,
            Code::ScopeMissing,
            Code::OrganizationSuspended,
        ];
        WORDS.into_iter().find(|code| code.as_str() == word).unwrap_or(Self::Unknown)
    }

    fn of_wire(code: proto::Code) -> Self {
        match code {
            proto::Code::Ok => Self::Ok,
            proto::Code::RateLimited => Self::RateLimited,
            proto::Code::QuotaExceeded => Self::QuotaExceeded,
            proto::Code::StoreUnavailable => Self::Unavailable,
            proto::Code::ConcurrencyExceeded => Self::ConcurrencyExceeded,
            proto::Code::KeyNotFound => Self::KeyNotFound,
            proto::Code::KeyRevoked => Self::KeyRevoked,
            proto::Code::KeyExpired => Self::KeyExpired,
            proto::Code::KeyDisabled => Self::KeyDisabled,
            proto::Code::IpForbidden => Self::IpForbidden,
            proto::Code::ScopeMissing => Self::ScopeMissing,
            proto::Code::OrganizationSuspended => Self::OrganizationSuspended,
            // A newer service's code is decoded as this one.
            proto::Code::Unspecified => Self::Unknown,
        }
    }
}

impl Limit {
    /// One of this client's own.
    pub(crate) fn local(limit: u64, remaining: u64, period: Duration, retry_after: Duration) -> Self {
        Self {
            name: "local".to_owned(),
            limit,
            remaining,
            reset_after: period,
            retry_after,
            period,
            exceeded: !retry_after.is_zero(),
            shadow: false,
            is_concurrency: false,
        }
    }

    fn of_wire(limit: proto::LimitStatus) -> Self {
        Self {
            is_concurrency: limit.algorithm() == proto::Algorithm::Concurrency,
            limit: limit.limit,
            remaining: limit.remaining,
            reset_after: Duration::from_millis(limit.reset_after_ms),
            retry_after: Duration::from_millis(limit.retry_after_ms),
            period: Duration::from_millis(limit.period_ms),
            exceeded: limit.exceeded,
            shadow: limit.shadow,
            name: limit.name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(answer: proto::CheckResponse) -> Result<Decision, Error> {
        Decision::of_answer(&Check::new(), answer, &Releaser::nowhere())
    }

    #[test]
    fn an_answer_that_contradicts_itself_admits_nobody() {
        let denied = proto::CheckResponse { allowed: true, code: 2, ..proto::CheckResponse::default() };
        assert!(matches!(read(denied), Err(Error::Broken(_))));
        let unlisted =
            proto::CheckResponse { code: 2, binding_limit: Some(0), ..proto::CheckResponse::default() };
        assert!(matches!(read(unlisted), Err(Error::Broken(_))));
    }

    #[test]
    fn a_service_that_does_not_know_of_keys_admits_none() {
        let admitted = proto::CheckResponse { allowed: true, code: 1, ..proto::CheckResponse::default() };
        let check = Check::new().api_key("tk_live_x");
        let decision = Decision::of_answer(&check, admitted.clone(), &Releaser::nowhere());
        assert!(matches!(decision, Err(Error::Broken(_))), "{decision:?}");
        assert!(read(admitted).is_ok_and(|decision| decision.allowed));
    }

    #[test]
    fn a_code_of_a_newer_service_is_a_denial() {
        let newer = proto::CheckResponse { code: 99, ..proto::CheckResponse::default() };
        let decision = read(newer).expect("a denial");
        assert_eq!((decision.allowed, decision.code), (false, Code::Unknown));
    }
}
