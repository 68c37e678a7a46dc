//! Tells whoever manages plans of denials that ask for a larger one.

use std::{sync::Arc, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
};
use prost_types::Timestamp;
use tidegate_chassis::{
    clock::{Clock, Random, uuid_v7},
    config::{ConfigError, Fault},
    metrics::Metrics,
};
use tidegate_proto::ratelimit::v1::{
    LimitReachedRequest, limit_reached_request::KeyEntry,
    plan_upgrade_hook_service_client::PlanUpgradeHookServiceClient,
};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Status,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use crate::{
    config::{HookTlsConfig, UpgradeHookConfig},
    limiter::{Told, Upgrade, Upgrades},
};

/// The first wait before a notice is sent again; each is twice the one before, give or take half.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// The longest.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

const USER_AGENT: &str = concat!("tidegate-ratelimit/", env!("CARGO_PKG_VERSION"));

/// Where the hook is, with all that it takes to go there.
pub(crate) struct HookAddress(Endpoint);

impl HookAddress {
    /// Reads what `config` names; nothing if it names no hook.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Refused`] with every file of `upgrade_hook.tls` that cannot be read, or what else is wrong.
    pub(crate) fn read(config: &UpgradeHookConfig) -> Result<Option<Self>, ConfigError> {
        if config.url.is_empty() {
            return Ok(None);
        }
        let refused = |key, error: tonic::transport::Error| {
            ConfigError::Refused(vec![fault(key, format!("{:#}", anyhow::Error::new(error)))])
        };
        let endpoint = Endpoint::from_shared(config.url.clone()).map_err(|error| refused("url", error))?;
        let endpoint = endpoint.user_agent(USER_AGENT).expect("a header's value");
        let endpoint = endpoint.connect_timeout(config.timeout.get()).tcp_nodelay(true);
        if endpoint.uri().scheme_str() != Some("https") {
            return Ok(Some(Self(endpoint)));
        }
        let tls = tls(&config.tls).map_err(ConfigError::Refused)?;
        let endpoint = endpoint.tls_config(tls).map_err(|error| refused("tls", error))?;
        Ok(Some(Self(endpoint)))
    }
}

/// The hook's end of the queue, and how workers get theirs.
pub(crate) struct UpgradeHook {
    queue: mpsc::Sender<Upgrade>,
    told: Arc<Told>,
    outcomes: Family<OutcomeLabel, Counter>,
}

impl UpgradeHook {
    /// Starts to tell the hook at that address, on this runtime and until `stop`.
    ///
    /// Registers `tidegate_ratelimit_plan_upgrades_total{outcome}`: `sent`, `failed` (all attempts, or an error that is final),
    /// `dropped` (the queue was full, or this replica leaves) and `repeated` (told a moment ago, by whichever worker).
    pub(crate) fn start(
        HookAddress(endpoint): HookAddress,
        config: &UpgradeHookConfig,
        (clock, random): (Clock, Random),
        metrics: &Metrics,
        stop: &CancellationToken,
    ) -> Self {
        let told = Arc::new(Told::new(config.quiet.get(), &random));
        let outcomes = Family::<OutcomeLabel, Counter>::default();
        metrics.register(
            "tidegate_ratelimit_plan_upgrades",
            "Denials that ask for a larger plan, by what became of the notice to the hook",
            outcomes.clone(),
        );
        let (queue, notices) = mpsc::channel(config.queue);
        let teller = Teller {
            client: PlanUpgradeHookServiceClient::new(endpoint.connect_lazy()),
            config: config.clone(),
            clock,
            random,
            outcomes: outcomes.clone(),
            told: Arc::clone(&told),
        };
        tokio::spawn(teller.run(notices, stop.child_token()));
        Self { queue, told, outcomes }
    }

    /// Where one worker leaves what is to be told.
    pub(crate) fn for_worker(&self) -> Upgrades {
        let counters = ["dropped", "repeated"]
            .map(|outcome| self.outcomes.get_or_create(&OutcomeLabel { outcome }).clone());
        Upgrades::new(self.queue.clone(), Arc::clone(&self.told), counters)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

/// Sends one notice after the other.
struct Teller {
    client: PlanUpgradeHookServiceClient<Channel>,
    config: UpgradeHookConfig,
    clock: Clock,
    random: Random,
    outcomes: Family<OutcomeLabel, Counter>,
    told: Arc<Told>,
}

impl Teller {
    async fn run(mut self, mut notices: mpsc::Receiver<Upgrade>, stop: CancellationToken) {
        let mut is_left = false;
        while !is_left && let Some(notice) = notices.recv().await {
            let outcome = tokio::select! {
                () = stop.cancelled() => None,
                outcome = self.deal_with(&notice) => Some(outcome),
            };
            is_left = outcome.is_none();
            self.count(outcome.unwrap_or("dropped"));
        }
        notices.close();
        while notices.try_recv().is_ok() {
            self.count("dropped");
        }
    }

    /// What becomes of a notice.
    async fn deal_with(&mut self, notice: &Upgrade) -> &'static str {
        let now_us = self.clock.now_us();
        if self.told.was_told(notice.fingerprint, now_us) {
            return "repeated";
        }
        let told = self.tell(notice).await;
        // Also if it failed: where the hook is gone, the queue is for those it was not tried for.
        self.told.remember(notice.fingerprint, now_us);
        match told {
            Ok(()) => "sent",
            Err(status) => {
                let (code, message) = (status.code(), status.message());
                tracing::warn!(policy = %notice.policy, wanted_plan = %notice.wanted_plan, ?code, message, "the hook for plan upgrades was not told");
                "failed"
            }
        }
    }

    fn count(&self, outcome: &'static str) {
        self.outcomes.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// Sends a notice, again after a while if that may help.
    async fn tell(&mut self, notice: &Upgrade) -> Result<(), Status> {
        let request = self.request(notice);
        let mut wait = FIRST_WAIT;
        for attempt in 1.. {
            let call = self.client.limit_reached(request.clone());
            let answer = timeout(self.config.timeout.get(), call).await;
            let late = |_| Status::deadline_exceeded("no answer in time");
            let Err(status) = answer.map_err(late).flatten() else { return Ok(()) };
            if attempt >= self.config.attempts || !may_pass_later(status.code()) {
                return Err(status);
            }
            tracing::debug!(code = ?status.code(), message = status.message(), attempt, "the hook for plan upgrades is told again");
            sleep(wait.mul_f64(0.5 + self.random.unit_f64())).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
        unreachable!("the last attempt returns")
    }

    fn request(&self, notice: &Upgrade) -> LimitReachedRequest {
        let id = uuid_v7(self.clock.now_us(), &self.random);
        let key = notice.key.iter();
        LimitReachedRequest {
            notice_id: id.into_bytes().to_vec().into(),
            namespace: notice.namespace.to_string(),
            policy: notice.policy.to_string(),
            limit: notice.limit.to_string(),
            key: key
                .map(|(key, value)| KeyEntry { key: key.to_string(), value: value.to_string() })
                .collect(),
            plan: notice.plan.to_string(),
            wanted_plan: notice.wanted_plan.to_string(),
            denied_at: Some(Timestamp {
                seconds: i64::try_from(notice.at_us / 1_000_000).expect("a time within 64 bits"),
                nanos: i32::try_from(notice.at_us % 1_000_000 * 1_000).expect("less than a second"),
            }),
        }
    }
}

/// Whether another attempt may succeed.
fn may_pass_later(code: Code) -> bool {
    match code {
        Code::Unavailable
        | Code::DeadlineExceeded
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::Unknown
        | Code::Internal => true,
        Code::Ok
        | Code::Cancelled
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::DataLoss
        | Code::Unauthenticated => false,
    }
}

fn tls(config: &HookTlsConfig) -> Result<ClientTlsConfig, Vec<Fault>> {
    let mut faults = Vec::new();
    let mut read = |key: &str, path: &str| {
        if path.is_empty() {
            return None;
        }
        let read = std::fs::read(path);
        read.map_err(|error| faults.push(fault(&format!("tls.{key}"), format!("{path}: {error}")))).ok()
    };
    let (ca, cert, key) = (read("ca", &config.ca), read("cert", &config.cert), read("key", &config.key));
    if !faults.is_empty() {
        return Err(faults);
    }
    let tls = match ca {
        None => ClientTlsConfig::new().with_native_roots(),
        Some(pem) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)),
    };
    Ok(match (cert, key) {
        (Some(cert), Some(key)) => tls.identity(Identity::from_pem(cert, key)),
        _ => tls,
    })
}

fn fault(key: &str, message: String) -> Fault {
    Fault { key: format!("upgrade_hook.{key}"), origin: None, message }
}

#[cfg(test)]
mod tests;
