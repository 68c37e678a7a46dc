//! Attempts, counted by the rate-limit service: policies of the namespace `identity` decide.

use std::time::Duration;

use anyhow::Context;
use tidegate_chassis::auth::{BearerToken, IDENTITY_NAMESPACE};
use tidegate_proto::ratelimit::v1::{
    CheckRequest, ReleaseLeaseRequest, check_request, rate_limit_service_client::RateLimitServiceClient,
};
use tokio::time::timeout;
use tonic::{
    service::interceptor::InterceptedService,
    transport::{Channel, Endpoint},
};

use crate::identity::{Attempt, AttemptLimiter, LimitsConfig, Ticket, Verdict};

const NAMESPACE: &str = IDENTITY_NAMESPACE;
const USER_AGENT: &str = concat!("tidegate-keys/", env!("CARGO_PKG_VERSION"));
/// When a denial does not say.
const SOME_TIME: Duration = Duration::from_secs(1);

/// The rate-limit service.
pub struct RateLimitAttempts {
    client: RateLimitServiceClient<InterceptedService<Channel, BearerToken>>,
    timeout: Duration,
}

impl RateLimitAttempts {
    /// Asks the service that the settings name, showing `token`; none if they name none.
    ///
    /// # Errors
    ///
    /// The URL is none. The service need not be there yet.
    pub fn connect(config: &LimitsConfig, token: BearerToken) -> anyhow::Result<Option<Self>> {
        if config.url.is_empty() {
            return Ok(None);
        }
        let endpoint = Endpoint::from_shared(config.url.clone())
            .and_then(|endpoint| endpoint.user_agent(USER_AGENT))
            .context("identity.limits.url")?;
        let channel = endpoint.connect_timeout(config.timeout.get()).tcp_nodelay(true).connect_lazy();
        let client = RateLimitServiceClient::with_interceptor(channel, token);
        Ok(Some(Self { client, timeout: config.timeout.get() }))
    }
}

#[tonic::async_trait]
impl AttemptLimiter for RateLimitAttempts {
    async fn check(
        &self,
        attempt: Attempt,
        account: Option<&str>,
        ip_address: Option<&str>,
    ) -> Option<Verdict> {
        let attributes = attributes(attempt, account, ip_address)
            .map(|(key, value)| check_request::AttributesEntry { key: key.into(), value: value.into() });
        let request = CheckRequest {
            namespace: NAMESPACE.into(),
            attributes: attributes.collect(),
            ..CheckRequest::default()
        };
        let mut client = self.client.clone();
        let answer = match timeout(self.timeout, client.check(request)).await {
            Ok(Ok(answer)) => answer.into_inner(),
            Ok(Err(status)) => {
                let (code, message) = (status.code(), status.message());
                tracing::warn!(?code, message, "attempts are counted here: the rate-limit service did not");
                return None;
            }
            Err(_elapsed) => {
                tracing::warn!("attempts are counted here: the rate-limit service did not answer in time");
                return None;
            }
        };
        if answer.allowed {
            return Some(Verdict::Admitted(
                answer.lease.map_or(Ticket::None, |lease| Ticket::Lease(lease.id)),
            ));
        }
        let retry_after = match answer.retry_after_ms {
            0 => SOME_TIME,
            ms => Duration::from_millis(ms),
        };
        Some(Verdict::Denied { retry_after })
    }

    async fn give_back(&self, lease: &str) {
        let request = ReleaseLeaseRequest { lease_id: lease.into() };
        let mut client = self.client.clone();
        // What is not given back is over by itself in a quarter of an hour.
        match timeout(self.timeout, client.release_lease(request)).await {
            Ok(Ok(_)) => {}
            Ok(Err(status)) => {
                let (code, message) = (status.code(), status.message());
                tracing::debug!(?code, message, "an attempt that was no failure was not given back");
            }
            Err(_elapsed) => tracing::debug!("an attempt that was no failure was not given back in time"),
        }
    }
}

fn attributes<'a>(
    attempt: Attempt,
    account: Option<&'a str>,
    ip_address: Option<&'a str>,
) -> impl Iterator<Item = (&'static str, &'a str)> {
    let named = [("action", Some(attempt.name())), ("account", account), ("ip", ip_address)];
    named.into_iter().filter_map(|(name, value)| Some((name, value?)))
}

#[cfg(test)]
mod tests;
