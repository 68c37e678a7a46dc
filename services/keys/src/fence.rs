//! Puts changes in force: tells rate-limit services that what they remember of an organization is over. See
//! docs/adr/0021-generations-and-fences.md.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context;
use futures_util::future::join_all;
use prometheus_client::metrics::{counter::Counter, gauge::Gauge};
use tidegate_chassis::{auth::BearerToken, clock::Random, metrics::Metrics};
use tidegate_proto::ratelimit::v1::{
    FenceOrganizationRequest, rate_limit_service_client::RateLimitServiceClient,
};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Status,
    service::interceptor::InterceptedService,
    transport::{Channel, Endpoint},
};

use crate::{config::RateLimitConfig, domain::OrganizationId, feed::Feed};

/// Between attempts to tell what could not be told, give or take half; each wait is twice the one before …
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// … up to this.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Organizations that may wait to be told of, for each service. Beyond it the feed alone tells.
const MAX_PENDING: usize = 100_000;

const USER_AGENT: &str = concat!("tidegate-keys/", env!("CARGO_PKG_VERSION"));

/// Tells every rate-limit service that the settings name. Clones are the same.
#[derive(Clone)]
pub struct Fences(Arc<[Arc<Target>]>);

/// One rate-limit service.
struct Target {
    client: RateLimitServiceClient<InterceptedService<Channel, BearerToken>>,
    url: String,
    deadline: Duration,
    /// What could not be told, with the highest generation.
    pending: Mutex<BTreeMap<OrganizationId, u64>>,
    more: Notify,
    random: Random,
    metrics: FenceMetrics,
}

#[derive(Clone, Default)]
struct FenceMetrics {
    failures: Counter,
    pending: Gauge,
}

impl Fences {
    /// Will tell the services that `config` names, and those that cannot be told at once on this runtime until `stop`.
    ///
    /// Registers `tidegate_keys_fence_failures_total` and `tidegate_keys_fences_pending`.
    ///
    /// # Errors
    ///
    /// A URL cannot be used, or a file of `ratelimit.tls`.
    pub fn start(
        config: &RateLimitConfig,
        token: &BearerToken,
        random: &Random,
        metrics: &Metrics,
        stop: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let deadline = config.deadline.get();
        let counted = FenceMetrics::default();
        metrics.register(
            "tidegate_keys_fence_failures",
            "Attempts to tell a rate-limit service of a change that failed",
            counted.failures.clone(),
        );
        metrics.register(
            "tidegate_keys_fences_pending",
            "Organizations whose change a rate-limit service could not be told of yet",
            counted.pending.clone(),
        );
        let target = |url: &String| -> anyhow::Result<_> {
            let endpoint = Endpoint::from_shared(url.clone())?.user_agent(USER_AGENT)?;
            let endpoint = endpoint.connect_timeout(deadline).tcp_nodelay(true);
            let endpoint = match url.starts_with("https://") {
                true => endpoint.tls_config(config.tls.read().context("ratelimit.tls")?)?,
                false => endpoint,
            };
            let target = Arc::new(Target {
                client: RateLimitServiceClient::with_interceptor(endpoint.connect_lazy(), token.clone()),
                url: url.clone(),
                deadline,
                pending: Mutex::default(),
                more: Notify::new(),
                random: random.clone(),
                metrics: counted.clone(),
            });
            let retried = Arc::clone(&target);
            let stop = stop.clone();
            tokio::spawn(async move {
                tokio::select! {
                    never = retried.keep_telling() => match never {},
                    () = stop.cancelled() => {}
                }
            });
            Ok(target)
        };
        let targets: Result<Vec<_>, _> = config.urls.iter().map(target).collect();
        Ok(Self(targets.context("ratelimit.urls")?.into()))
    }

    /// Tells all of them at once, and returns when each has answered or its deadline has passed. What failed is tried again by itself.
    pub async fn raise(&self, organization: OrganizationId, generation: u64) {
        join_all(self.0.iter().map(|target| target.raise(organization, generation))).await;
    }

    /// Tells of everything that the feed told lately, sometime soon: whoever told of it may have been stopped half-way.
    pub fn tell_again(&self, feed: &Feed) {
        for (organization, generation) in feed.generations() {
            for target in self.0.iter() {
                target.put_off(organization, generation);
            }
        }
    }
}

impl Target {
    async fn raise(&self, organization: OrganizationId, generation: u64) {
        if let Err(status) = self.tell(organization, generation).await {
            tracing::warn!(
                url = self.url,
                code = ?status.code(),
                error = status.message(),
                reason = "RATE_LIMIT_UNAVAILABLE",
                "a rate-limit service could not be told of a change; it learns it from the feed, and is told again"
            );
            self.put_off(organization, generation);
        }
    }

    async fn tell(&self, organization: OrganizationId, generation: u64) -> Result<(), Status> {
        let request = FenceOrganizationRequest { organization_id: organization.to_string(), generation };
        let mut client = self.client.clone();
        let answer = timeout(self.deadline, client.fence_organization(request)).await;
        let told = answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer within the deadline")));
        if told.is_err() {
            self.metrics.failures.inc();
        }
        told.map(drop)
    }

    fn put_off(&self, organization: OrganizationId, generation: u64) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if pending.len() < MAX_PENDING || pending.contains_key(&organization) {
            let highest = pending.entry(organization).or_insert_with(|| {
                self.metrics.pending.inc();
                0
            });
            *highest = generation.max(*highest);
        }
        drop(pending);
        self.more.notify_one();
    }

    /// Tells what is pending, again and again. A fence never goes back, so what was told late does no harm.
    async fn keep_telling(&self) -> std::convert::Infallible {
        let mut wait = FIRST_WAIT;
        let mut last = None;
        loop {
            // In turn: one that fails does not keep the others.
            let Some((organization, generation)) = self.pending_after(last) else {
                self.more.notified().await;
                continue;
            };
            last = Some(organization);
            match self.tell(organization, generation).await {
                // One that refuses the call will not take it the next time either; the feed tells.
                Err(status) if !is_final(status.code()) => {
                    sleep(wait.mul_f64(0.5 + self.random.unit_f64())).await;
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
                Ok(()) | Err(_) => {
                    wait = FIRST_WAIT;
                    self.remove(organization, generation);
                }
            }
        }
    }

    /// The next of those that are pending, in the order of their ids; after the last one the first.
    fn pending_after(&self, last: Option<OrganizationId>) -> Option<(OrganizationId, u64)> {
        let pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let after = (last.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let next = pending.range(after).next().or_else(|| pending.iter().next());
        next.map(|(organization, generation)| (*organization, *generation))
    }

    fn remove(&self, organization: OrganizationId, generation: u64) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if pending.get(&organization).is_some_and(|highest| *highest <= generation) {
            pending.remove(&organization);
            self.metrics.pending.dec();
        }
    }
}

fn is_final(code: Code) -> bool {
    matches!(code, Code::InvalidArgument | Code::Unimplemented)
}

#[cfg(test)]
pub(crate) mod tests;
