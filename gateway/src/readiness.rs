//! Whether the gateway can do its work. Probes run in the background; an answer is the last one's
//! result and never waits for a service.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use futures_util::{StreamExt, future::join_all, stream::FuturesUnordered};
use tidegate_chassis::{clock::Random, ops};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::{
    app::ServiceEndpoints,
    config::HealthConfig,
    upstream::{Behind, Member, Pool},
};

/// The last result. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Readiness(Arc<ArcSwap<Ready>>);

/// What is known now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ready {
    /// The rate-limit service.
    pub ratelimit: Component,
    /// The keys service; none if none is configured.
    pub keys: Option<Component>,
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
        let serves = |component: Component| component.state == State::Serving;
        !self.is_leaving && serves(self.ratelimit) && self.keys.is_none_or(serves)
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
    pub(crate) fn set(&self, of: Behind, component: Component) {
        let known = self.get();
        let before = match of {
            Behind::RateLimit => known.ratelimit,
            Behind::Keys => known.keys.unwrap_or_default(),
        };
        if before.state != component.state {
            tracing::info!(service = of.name(), state = ?component.state, "a service changed");
        }
        self.0.rcu(|ready| {
            let ready = Ready::clone(ready);
            match of {
                Behind::RateLimit => Ready { ratelimit: component, ..ready },
                Behind::Keys => Ready { keys: Some(component), ..ready },
            }
        });
    }

    /// Probes for ever, and tells the ops port.
    pub(crate) async fn keep(self, probes: Probes, config: HealthConfig, ops: ops::Readiness) {
        // So that one that is configured is waited for, whichever is probed first.
        for (of, _) in &probes.0 {
            self.set(*of, Component::default());
        }
        loop {
            let asking = probes.0.iter().map(async |(of, pool)| {
                self.set(*of, probe(*of, pool, config.timeout.get()).await);
            });
            join_all(asking).await;
            ops.set(self.get().is_ready());
            tokio::time::sleep(config.interval.get()).await;
        }
    }
}

/// The services that are probed, by connections of their own.
#[derive(Debug)]
pub(crate) struct Probes(Vec<(Behind, Pool)>);

impl Probes {
    /// Of every service that is configured.
    pub(crate) async fn open(endpoints: &ServiceEndpoints, random: &Random) -> Self {
        let ratelimit = Pool::open(endpoints.ratelimit.clone(), random.clone()).await;
        let mut probes = vec![(Behind::RateLimit, ratelimit)];
        if let Some(keys) = &endpoints.keys {
            probes.push((Behind::Keys, Pool::open(keys.clone(), random.clone()).await));
        }
        Self(probes)
    }
}

/// Asks all addresses at once; the first that serves decides.
async fn probe(of: Behind, pool: &Pool, timeout: Duration) -> Component {
    let members = pool.members();
    let mut probes: FuturesUnordered<_> = members.iter().map(|member| ask(of, member)).collect();
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

async fn ask(of: Behind, member: &Member) -> Option<Duration> {
    let started = Instant::now();
    let request = HealthCheckRequest { service: of.health_name().to_owned() };
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
