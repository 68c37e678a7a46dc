//! The calls.

use std::{fmt, sync::Arc, time::Duration};

use http::HeaderMap;
use tidegate_proto::{
    keys::v1::{VerifyKeyRequest, keys_service_client::KeysServiceClient},
    ratelimit::v1::{
        self as proto, check_batch_result::Outcome, rate_limit_service_client::RateLimitServiceClient,
    },
};
use tokio::time::Instant;

use crate::{
    Builder, Check, Code, Decision, Error, FailureMode, Reason, Retries, VerifiedKey,
    call::{Repeat, Terms, Upstream},
    fallback::Fallback,
    lease::Releaser,
    random::KeyMaker,
    remembered::RememberedKeys,
    token::Token,
};

/// Longer ones are cut to it.
const LONGEST_DEADLINE: Duration = Duration::from_secs(24 * 3600);
/// How long the end or the renewal of a lease may take.
const LEASE_DEADLINE: Duration = Duration::from_secs(2);

/// Asks Tidegate. Cheap to clone; clones share connections, breaker and local limits. It lives on the runtime that it was
/// built on.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    settings: Settings,
    fallback: Fallback,
    remembered: RememberedKeys,
    keys: KeyMaker,
}

/// What a [`Builder`] has made.
pub(crate) struct Settings {
    pub(crate) ratelimit: Upstream,
    pub(crate) keys: Option<Upstream>,
    pub(crate) token: Token,
    pub(crate) metadata: HeaderMap,
    pub(crate) deadline: Duration,
    pub(crate) retries: Retries,
    pub(crate) failure_mode: FailureMode,
    pub(crate) remember_keys: Duration,
}

impl Client {
    /// Sets up a client of the rate-limit service at `http://HOST:PORT` or `https://HOST:PORT`. A name stands for all of its
    /// addresses.
    pub fn builder(url: impl Into<String>) -> Builder {
        Builder::new(url.into())
    }

    pub(crate) fn new(mut settings: Settings) -> Self {
        let fallback = Fallback::new(std::mem::take(&mut settings.failure_mode));
        let remembered = RememberedKeys::new(settings.remember_keys);
        Self(Arc::new(Inner { settings, fallback, remembered, keys: KeyMaker::new() }))
    }

    /// Decides one request. If the service cannot be reached in time, the failure mode does, and the decision says `degraded`.
    ///
    /// # Errors
    ///
    /// What no waiting helps against: [`Error::is_outage`] is false for all of them.
    pub async fn check(&self, check: Check) -> Result<Decision, Error> {
        if check.is_keys_shape_wrong() {
            return Ok(Decision::key_not_found());
        }
        let check = self.keyed(check);
        let releaser = Releaser::new(self);
        let answer = self.send_check(&check).await;
        self.or_fallback(&check, answer.and_then(|answer| Decision::of_answer(&check, answer, &releaser)))
    }

    /// Decides up to 1,000 requests in one call, each on its own; the answers keep their order. The deadline is the longest
    /// among those of the checks, and the headers are those of the first.
    ///
    /// # Errors
    ///
    /// As [`check`](Self::check): of the whole, in which case nothing was charged, or of single checks.
    pub async fn check_batch(
        &self,
        checks: impl IntoIterator<Item = Check>,
    ) -> Result<Vec<Result<Decision, Error>>, Error> {
        let checks: Vec<_> = checks.into_iter().map(|check| self.keyed(check)).collect();
        let releaser = Releaser::new(self);
        let results = match self.send_batch(&checks).await {
            Ok(answer) => answer.results,
            Err(error) if error.is_outage() => {
                let now = Instant::now();
                return Ok(checks.iter().map(|check| Ok(self.fall_back(check, now))).collect());
            }
            Err(error) => return Err(error),
        };
        if results.len() != checks.len() {
            return Err(Error::Broken("a batch has not as many answers as checks"));
        }
        let decisions = checks.iter().zip(results).map(|(check, result)| {
            let decision = match result.outcome {
                Some(Outcome::Result(answer)) => Decision::of_answer(check, answer, &releaser),
                Some(Outcome::Error(error)) => Err(Error::of_check(error)),
                None => Err(Error::Broken("a check of a batch has no outcome")),
            };
            self.or_fallback(check, decision)
        });
        Ok(decisions.collect())
    }

    /// What [`check`](Self::check) would answer now; charges nothing. No failure mode answers in its place.
    ///
    /// # Errors
    ///
    /// As [`check`](Self::check), and every outage. [`Reason::InvalidRequest`] if the check names an API key: only `check` takes one.
    pub async fn peek(&self, check: Check) -> Result<Decision, Error> {
        only_attributes(&check)?;
        let send = |channel, request| async move { RateLimitServiceClient::new(channel).peek(request).await };
        let terms = self.terms(&check, Repeat::Always);
        let answer = self.answered(self.0.settings.ratelimit.call(check.to_peek(), &terms, send).await)?;
        let result = answer.result.ok_or(Error::Broken("Peek answered nothing"))?;
        Decision::of_answer(&check, result, &Releaser::new(self))
    }

    /// Decides like [`check`](Self::check) and takes a lease of `ttl`, or of as long as the limits allow. If it was admitted,
    /// [`Decision::lease`] is there, unless nothing limits the caller or a failure mode admitted it.
    ///
    /// # Errors
    ///
    /// As [`check`](Self::check), and [`Reason::LimitNotFound`] if no concurrency limit applies. [`Reason::InvalidRequest`] if the check
    /// names an API key: only `check` takes one, and it takes leases as well.
    pub async fn acquire_lease(&self, check: Check, ttl: Option<Duration>) -> Result<Decision, Error> {
        only_attributes(&check)?;
        let check = self.keyed(check);
        let releaser = Releaser::new(self);
        let send = |channel, request| async move {
            RateLimitServiceClient::new(channel).acquire_lease(request).await
        };
        let terms = self.terms(&check, self.repeat(&check));
        let answer = self.0.settings.ratelimit.call(check.to_lease(ttl.map(millis)), &terms, send).await;
        let decision = self.answered(answer).and_then(|answer| {
            let result = answer.result.ok_or(Error::Broken("AcquireLease answered nothing"))?;
            Decision::of_answer(&check, result, &releaser)
        });
        self.or_fallback(&check, decision)
    }

    /// Asks the keys service whose a key is and whether it is accepted; no limits are asked. No failure mode answers in its place.
    ///
    /// # Errors
    ///
    /// [`Error::NotConfigured`] without [`Builder::keys`]; every outage; what is wrong with the question.
    pub async fn verify_key(&self, check: Check) -> Result<VerifiedKey, Error> {
        let keys = self.0.settings.keys.as_ref().ok_or(Error::NotConfigured("keys"))?;
        if check.is_keys_shape_wrong() {
            return Ok(VerifiedKey { valid: false, code: Code::KeyNotFound, key: None });
        }
        let asked = check.to_request();
        let request = VerifyKeyRequest {
            api_key: asked.api_key,
            client_ip: asked.client_ip,
            required_scopes: asked.required_scopes,
        };
        let send =
            |channel, request| async move { KeysServiceClient::new(channel).verify_key(request).await };
        let terms = self.terms(&check, Repeat::Always);
        VerifiedKey::of_answer(self.answered(keys.call(request, &terms, send).await)?)
    }

    /// Gives back the places of the lease with this id, and answers whether they were held until now.
    ///
    /// # Errors
    ///
    /// An outage, or an id that is none.
    pub async fn release_lease(&self, lease_id: impl Into<String>) -> Result<bool, Error> {
        let request = proto::ReleaseLeaseRequest { lease_id: lease_id.into() };
        let send = |channel, request| async move {
            RateLimitServiceClient::new(channel).release_lease(request).await
        };
        let check = Check::new().deadline(LEASE_DEADLINE);
        let terms = self.terms(&check, Repeat::Always);
        let answer = self.0.settings.ratelimit.call(request, &terms, send).await;
        Ok(self.answered(answer)?.released)
    }

    pub(crate) async fn renew_lease(
        &self,
        lease_id: String,
        ttl: Option<Duration>,
    ) -> Result<proto::Lease, Error> {
        let request = proto::RenewLeaseRequest { lease_id, ttl_ms: ttl.map(millis) };
        let send =
            |channel, request| async move { RateLimitServiceClient::new(channel).renew_lease(request).await };
        let check = Check::new().deadline(LEASE_DEADLINE);
        let terms = self.terms(&check, Repeat::Always);
        let answer = self.0.settings.ratelimit.call(request, &terms, send).await;
        self.answered(answer)?.lease.ok_or(Error::Broken("RenewLease answered no lease"))
    }

    async fn send_check(&self, check: &Check) -> Result<proto::CheckResponse, Error> {
        let send =
            |channel, request| async move { RateLimitServiceClient::new(channel).check(request).await };
        let terms = self.terms(check, self.repeat(check));
        self.answered(self.0.settings.ratelimit.call(check.to_request(), &terms, send).await)
    }

    async fn send_batch(&self, checks: &[Check]) -> Result<proto::CheckBatchResponse, Error> {
        let Some(first) = checks.first() else { return Ok(proto::CheckBatchResponse::default()) };
        let repeats = checks.iter().map(|check| self.repeat(check));
        let all = repeats.reduce(|one, other| if one == other { one } else { Repeat::Unexecuted });
        let mut terms = self.terms(first, all.unwrap_or(Repeat::Never));
        terms.deadline = checks.iter().map(|check| self.deadline(check)).max().unwrap_or(terms.deadline);
        let batch = proto::CheckBatchRequest { checks: checks.iter().map(Check::to_request).collect() };
        let send =
            |channel, request| async move { RateLimitServiceClient::new(channel).check_batch(request).await };
        self.answered(self.0.settings.ratelimit.call(batch, &terms, send).await)
    }

    fn keyed(&self, mut check: Check) -> Check {
        if self.0.settings.retries == Retries::Idempotent {
            check.or_idempotency_key(|| self.0.keys.next());
        }
        check
    }

    fn repeat(&self, check: &Check) -> Repeat {
        match self.0.settings.retries {
            Retries::Never => Repeat::Never,
            Retries::Unexecuted | Retries::Idempotent if check.is_repeatable() => Repeat::Always,
            Retries::Unexecuted | Retries::Idempotent => Repeat::Unexecuted,
        }
    }

    fn terms<'a>(&'a self, check: &'a Check, repeat: Repeat) -> Terms<'a> {
        let settings = &self.0.settings;
        Terms {
            deadline: self.deadline(check),
            repeat,
            headers: [&settings.metadata, check.headers()],
            authorization: settings.token.header(),
        }
    }

    fn deadline(&self, check: &Check) -> Duration {
        check.own_deadline().unwrap_or(self.0.settings.deadline).min(LONGEST_DEADLINE)
    }

    /// Notes that the token is not liked any more.
    fn answered<T>(&self, answer: Result<T, Error>) -> Result<T, Error> {
        if let Err(error) = &answer
            && error.reason() == Some(&Reason::CredentialsInvalid)
        {
            self.0.settings.token.refused();
        }
        answer
    }

    fn or_fallback(&self, check: &Check, decision: Result<Decision, Error>) -> Result<Decision, Error> {
        match decision {
            Err(error) if error.is_outage() => {
                tracing::debug!(%error, "the service did not decide");
                Ok(self.fall_back(check, Instant::now()))
            }
            Ok(decision) => {
                self.0.remembered.learn(check, &decision, Instant::now());
                Ok(decision)
            }
            Err(error) => Err(error),
        }
    }

    fn fall_back(&self, check: &Check, now: Instant) -> Decision {
        self.0.fallback.decide(check, self.0.remembered.recall(check, now), now)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("ratelimit", &self.0.settings.ratelimit).finish_non_exhaustive()
    }
}

fn only_attributes(check: &Check) -> Result<(), Error> {
    let unknown = check.fields_of_check_alone();
    if unknown.is_empty() { Ok(()) } else { Err(Error::unsupported(&unknown)) }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1)
}
