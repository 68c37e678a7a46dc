//! Whether the gateway can do its work. Probes run in the background; an answer is the last one's
//! result and never waits for a service.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use futures_util::{StreamExt, stream::FuturesUnordered};
use tidegate_chassis::ops;
use tidegate_proto::ratelimit::v1::rate_limit_service_server::SERVICE_NAME;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::{
    config::HealthConfig,
    upstream::{Member, Pool},
};

/// The last result. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Readiness(Arc<ArcSwap<Ready>>);

/// What is known now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ready {
    /// The rate-limit service.
    pub ratelimit: Component,
    /// Whether the gateway has been asked to leave.
    pub is_leaving: bool,
}

/// One service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Component {
    /// How it is.
    pub state: State,
    /// How long the last good probe took.
    pub response_time: Option<Duration>,
}

/// How a service is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum State {
    /// Not probed yet.
    #[default]
    Unknown,
    /// At least one address says SERVING.
    Serving,
    /// None does.
    NotServing,
}

impl Ready {
    /// Whether requests should be sent here.
    #[must_use]
    pub(crate) fn is_ready(&self) -> bool {
        !self.is_leaving && self.ratelimit.state == State::Serving
    }
}

impl Readiness {
    /// What is known now.
    #[must_use]
    pub(crate) fn get(&self) -> Arc<Ready> {
        self.0.load_full()
    }

    /// From now on not ready.
    pub(crate) fn leave(&self) {
        self.0.rcu(|ready| Ready { is_leaving: true, ..Ready::clone(ready) });
    }

    /// Takes in the result of a probe.
    pub(crate) fn set_ratelimit(&self, component: Component) {
        let before = self.get().ratelimit.state;
        if before != component.state {
            tracing::info!(service = "ratelimit", state = ?component.state, "a service changed");
        }
        self.0.rcu(|ready| Ready { ratelimit: component, ..Ready::clone(ready) });
    }

    /// Probes for ever, and tells the ops port.
    pub(crate) async fn keep(self, pool: Pool, config: HealthConfig, ops: ops::Readiness) {
        loop {
            self.set_ratelimit(probe(&pool, config.timeout.get()).await);
            ops.set(self.get().is_ready());
            tokio::time::sleep(config.interval.get()).await;
        }
    }
}

/// Asks all addresses at once; the first that serves decides.
async fn probe(pool: &Pool, timeout: Duration) -> Component {
    let members = pool.members();
    let mut probes: FuturesUnordered<_> = members.iter().map(|member| ask(member)).collect();
    let asking = async {
        while let Some(answer) = probes.next().await {
            if answer.is_some() {
                return answer;
            }
        }
        None
    };
    match tokio::time::timeout(timeout, asking).await {
        Ok(Some(took)) => Component { state: State::Serving, response_time: Some(took) },
        Ok(None) | Err(_) => Component { state: State::NotServing, response_time: None },
    }
}

async fn ask(member: &Member) -> Option<Duration> {
    let started = Instant::now();
    let request = HealthCheckRequest { service: SERVICE_NAME.to_owned() };
    match HealthClient::new(member.channel()).check(request).await {
        Ok(answer) if answer.get_ref().status() == ServingStatus::Serving => Some(started.elapsed()),
        Ok(_) => None,
        Err(status) => {
            tracing::debug!(address = %member.address(), error = ?status, "a probe failed");
            None
        }
    }
}

#[cfg(test)]
mod tests;
