//! Tells whoever manages plans of denials that ask for a larger one.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use hashbrown::HashMap;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
};
use prost_types::Timestamp;
use tidegate_chassis::{
    clock::{Clock, Random, uuid_v7},
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
    limiter::{Upgrade, Upgrades},
};

/// The first wait before a notice is sent again; each is twice the one before, give or take half.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// The longest.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// So many subjects are remembered as told. Of more, all are told that are denied.
const REMEMBERED: usize = 100_000;

const USER_AGENT: &str = concat!("tidegate-ratelimit/", env!("CARGO_PKG_VERSION"));

/// The hook's end of the queue, and how workers get theirs.
pub(crate) struct UpgradeHook {
    queue: mpsc::Sender<Upgrade>,
    outcomes: Family<OutcomeLabel, Counter>,
    quiet: Duration,
}

impl UpgradeHook {
    /// Starts to tell the hook that `config` names, on this runtime and until `stop`; nothing if it names none.
    ///
    /// Registers `tidegate_ratelimit_plan_upgrades_total{outcome}`: `sent`, `failed` (all attempts, or an error that is final),
    /// `dropped` (the queue was full) and `repeated` (told a moment ago).
    ///
    /// # Errors
    ///
    /// If the address is no URL, or a file of `upgrade_hook.tls` cannot be read.
    pub(crate) fn start(
        config: &UpgradeHookConfig,
        (clock, random): (Clock, Random),
        metrics: &Metrics,
        stop: &CancellationToken,
    ) -> anyhow::Result<Option<Self>> {
        if config.url.is_empty() {
            return Ok(None);
        }
        let channel = endpoint(config).context("upgrade_hook")?.connect_lazy();
        let outcomes = Family::<OutcomeLabel, Counter>::default();
        metrics.register(
            "tidegate_ratelimit_plan_upgrades",
            "Denials that ask for a larger plan, by what became of the notice to the hook",
            outcomes.clone(),
        );
        let (queue, notices) = mpsc::channel(config.queue);
        let teller = Teller {
            client: PlanUpgradeHookServiceClient::new(channel),
            config: config.clone(),
            clock,
            random,
            outcomes: outcomes.clone(),
            told: Told::default(),
        };
        let stopped = stop.child_token();
        tokio::spawn(async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                () = teller.run(notices) => {}
            }
        });
        Ok(Some(Self { queue, outcomes, quiet: config.quiet.get() }))
    }

    /// Where one worker leaves what is to be told.
    pub(crate) fn for_worker(&self) -> Upgrades {
        let dropped = self.outcomes.get_or_create(&OutcomeLabel { outcome: "dropped" }).clone();
        Upgrades::new(self.queue.clone(), dropped, self.quiet)
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
    told: Told,
}

impl Teller {
    async fn run(mut self, mut notices: mpsc::Receiver<Upgrade>) {
        let quiet_us = u64::try_from(self.config.quiet.get().as_micros()).unwrap_or(u64::MAX);
        while let Some(notice) = notices.recv().await {
            let subject = Subject::of(&notice);
            let now_us = self.clock.now_us();
            let outcome = if self.told.was_told(&subject, now_us) {
                "repeated"
            } else {
                let told = self.tell(&notice).await;
                // Also if it failed: where the hook is gone, the queue is for those it was not tried for.
                self.told.remember(subject, now_us, quiet_us);
                match told {
                    Ok(()) => "sent",
                    Err(status) => {
                        let (code, message) = (status.code(), status.message());
                        tracing::warn!(policy = %notice.policy, wanted_plan = %notice.wanted_plan, ?code, message, "the hook for plan upgrades was not told");
                        "failed"
                    }
                }
            };
            self.outcomes.get_or_create(&OutcomeLabel { outcome }).inc();
        }
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

/// Whom a notice is about, and what is wanted.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Subject {
    namespace: Arc<str>,
    policy: Arc<str>,
    key: Vec<(Box<str>, Box<str>)>,
    wanted_plan: Arc<str>,
}

impl Subject {
    fn of(notice: &Upgrade) -> Self {
        Self {
            namespace: Arc::clone(&notice.namespace),
            policy: Arc::clone(&notice.policy),
            key: notice.key.clone(),
            wanted_plan: Arc::clone(&notice.wanted_plan),
        }
    }
}

/// Who was told of lately.
#[derive(Debug, Default)]
struct Told {
    /// Until when nothing more is told, in Unix microseconds.
    until_us: HashMap<Subject, u64>,
}

impl Told {
    fn was_told(&self, subject: &Subject, now_us: u64) -> bool {
        self.until_us.get(subject).is_some_and(|until_us| now_us < *until_us)
    }

    fn remember(&mut self, subject: Subject, now_us: u64, quiet_us: u64) {
        if self.until_us.len() >= REMEMBERED {
            self.until_us.retain(|_, until_us| now_us < *until_us);
        }
        if self.until_us.len() < REMEMBERED {
            self.until_us.insert(subject, now_us.saturating_add(quiet_us));
        }
    }
}

fn endpoint(config: &UpgradeHookConfig) -> anyhow::Result<Endpoint> {
    let endpoint = Endpoint::from_shared(config.url.clone())?
        .user_agent(USER_AGENT)?
        .connect_timeout(config.timeout.get())
        .tcp_nodelay(true);
    match endpoint.uri().scheme_str() {
        Some("https") => Ok(endpoint.tls_config(tls(&config.tls)?)?),
        Some("http") => Ok(endpoint),
        _ => anyhow::bail!("url must be http://host:port or https://host:port"),
    }
}

fn tls(config: &HookTlsConfig) -> anyhow::Result<ClientTlsConfig> {
    let read = |path: &str| std::fs::read(path).with_context(|| format!("tls: {path}"));
    let tls = match config.ca.as_str() {
        "" => ClientTlsConfig::new().with_native_roots(),
        path => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(path)?)),
    };
    match (config.cert.as_str(), config.key.as_str()) {
        ("", "") => Ok(tls),
        (cert, key) => Ok(tls.identity(Identity::from_pem(read(cert)?, read(key)?))),
    }
}

#[cfg(test)]
mod tests;
