//! Counters in Redis, shared by all replicas.
//!
//! The checks of a worker that are in flight together go to Redis in one call of one script: no timer,
//! a batch leaves as soon as a call is free. Redis runs scripts one at a time and by its own clock, so
//! replicas cannot admit too much between them, whatever their clocks say. A worker has a link to each node: one, which may be
//! whatever the sentinels name the master, or those of a cluster, where a call is about the keys of one slot.

mod alarm;
mod batch;
mod breakers;
mod call;
mod cluster;
mod coalescer;
mod connection;
mod denied;
mod encode;
mod fence;
mod history;
mod link;
mod metrics;
mod queue;
mod rights;
mod script;
mod sentinel;
mod tls;
mod url;

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use futures_util::TryFutureExt;
use garde::Validate;
use serde::{Deserialize, Serialize};
use tidegate_chassis::{
    breaker::BreakerConfig,
    clock::Random,
    config::{HumanDuration, Secret},
    metrics::Metrics,
    tls::install_crypto_provider,
};
use tokio::time::{Instant, timeout_at};

use self::{
    batch::Lane, breakers::Breakers, cluster::Cluster, connection::Origin, link::Link, metrics::StoreMetrics,
    script::LeaseStep, sentinel::Sentinels, url::Topology,
};
use super::{Answer, CellLease, CellRefund, CellReset, CounterStore, StoreError};
use crate::domain::{Check, Decision, Fence};

/// Settings of the [`RedisStore`].
#[derive(Clone, Debug, Deserialize, Serialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct RedisStoreConfig {
    /// Where Redis is, with user and password if it wants them; empty = none.
    #[garde(custom(a_redis_url))]
    pub url: Secret,
    /// PEM file of the authorities that sign the certificates of Redis; empty = those of the system.
    #[garde(custom(with_tls(&self.url)))]
    pub tls_ca: String,
    /// PEM file of the certificate that Redis is shown, its authorities after it; empty = none.
    #[garde(custom(with_tls(&self.url)))]
    pub tls_cert: String,
    /// PEM file of its private key.
    #[garde(custom(with_tls(&self.url)), custom(both_or_none(&self.tls_cert)))]
    pub tls_key: String,
    /// From asking the store to its answer or an error, 1 ms to 10 s.
    #[garde(custom(between(Duration::from_millis(1), Duration::from_secs(10))))]
    pub deadline: HumanDuration,
    /// From opening a connection to having it ready, 1 ms to 1 min.
    #[garde(custom(between(Duration::from_millis(1), Duration::from_secs(60))))]
    pub connect_timeout: HumanDuration,
    /// The most checks in one call, 1 to 256.
    #[garde(range(min = 1, max = 256))]
    pub max_batch: usize,
    /// Calls under way at a time for each worker, 1 to 64.
    #[garde(range(min = 1, max = 64))]
    pub calls_in_flight: usize,
    /// Denials that each worker remembers of each node, at most 1,000,000; 0 = none.
    #[garde(range(max = 1_000_000))]
    pub denied_keys: usize,
    /// When to leave Redis alone.
    #[garde(dive)]
    pub breaker: BreakerConfig,
}

/// What the stores of all workers have in common.
#[derive(Clone, Debug)]
pub struct RedisBackend {
    config: RedisStoreConfig,
    topology: Topology,
    breakers: Breakers,
    random: Random,
    metrics: StoreMetrics,
    started: Instant,
}

impl RedisBackend {
    /// Reads the settings; nothing is connected yet.
    ///
    /// # Errors
    ///
    /// If the URL is none of Redis, or a file of certificates cannot be used. The message does not contain the URL.
    pub fn new(config: &RedisStoreConfig, random: Random, metrics: &Metrics) -> anyhow::Result<Self> {
        let mut topology = Topology::parse(config.url.expose()).context("store.redis.url")?;
        if topology.is_tls() {
            install_crypto_provider();
            topology = topology.with_certificates(&tls::read(config)?).context("store.redis.tls_…")?;
        }
        let breakers = Breakers::new(config.breaker.clone());
        let metrics = StoreMetrics::register(metrics, breakers.clone());
        Ok(Self { config: config.clone(), topology, breakers, random, metrics, started: Instant::now() })
    }

    /// Opens a store with connections of its own, kept up by tasks on the current runtime until the
    /// store is dropped. Redis need not be there yet.
    pub fn open(&self) -> RedisStore {
        let nodes = match &self.topology {
            Topology::Single(info) => Nodes::One(Link::open(self, "redis", Origin::Server(info.clone()))),
            Topology::Sentinel { sentinels, master, node } => {
                let patience = self.config.connect_timeout.get();
                let sentinels = Sentinels::new(sentinels.clone(), master.clone(), node.clone(), patience);
                Nodes::One(Link::open(self, master, Origin::Master(sentinels)))
            }
            Topology::Cluster { seeds } => Nodes::Cluster(Cluster::open(self, seeds.clone())),
        };
        RedisStore { nodes, deadline: self.config.deadline.get() }
    }
}

/// Counters in Redis, for the checks of one worker.
///
/// Every answer comes within the deadline. A check whose answer is lost is not sent again: it may have
/// been charged. While the breaker of a node is open nothing waits for it.
#[derive(Debug)]
pub struct RedisStore {
    nodes: Nodes,
    deadline: Duration,
}

#[derive(Debug)]
enum Nodes {
    /// All keys are there.
    One(Link),
    /// Each has a part of the keys.
    Cluster(Arc<Cluster>),
}

impl CounterStore for RedisStore {
    fn decide(&self, check: &Check<'_>) -> Answer<'static, Decision> {
        let link = match &self.nodes {
            Nodes::One(link) => link,
            Nodes::Cluster(cluster) => return cluster.decide(check),
        };
        if let Some(decision) = link.denied.answer(check) {
            return Answer::Ready(Ok(decision));
        }
        match link.ask(check, Lane::default(), Instant::now() + self.deadline) {
            Ok(pending) => Answer::Pending(Box::pin(async move { Ok(pending.await?.decision) })),
            Err(error) => Answer::Ready(Err(error)),
        }
    }

    fn reset<'a>(&'a self, cells: &'a [CellReset]) -> Answer<'a, ()> {
        Answer::Pending(Box::pin(self.send(cells, |cell| &cell.key, script::reset_command).map_ok(drop)))
    }

    fn refund<'a>(&'a self, cells: &'a [CellRefund]) -> Answer<'a, ()> {
        Answer::Pending(Box::pin(self.send(cells, |cell| &cell.key, script::refund_command).map_ok(drop)))
    }

    fn renew<'a>(&'a self, cells: &'a [CellLease], ttl_us: u64) -> Answer<'a, bool> {
        let command = move |cell: &CellLease| script::lease_command(cell, LeaseStep::Renew(ttl_us));
        Answer::Pending(Box::pin(async move {
            let held = self.send(cells, |cell| &cell.key, command).await?;
            Ok(cells.iter().zip(held).all(|(cell, held)| held || !cell.enforced))
        }))
    }

    fn release<'a>(&'a self, cells: &'a [CellLease]) -> Answer<'a, bool> {
        let command = |cell: &CellLease| script::lease_command(cell, LeaseStep::Release);
        Answer::Pending(Box::pin(async move {
            Ok(self.send(cells, |cell| &cell.key, command).await?.contains(&true))
        }))
    }

    fn fence(&self, fence: Fence) -> Answer<'_, bool> {
        Answer::Pending(Box::pin(self.raise(fence)))
    }

    fn complete_for_us(&self, key: &[u8]) -> u64 {
        match &self.nodes {
            Nodes::One(link) => link.history.complete_for_us(),
            Nodes::Cluster(cluster) => cluster.complete_for_us(key),
        }
    }
}

impl RedisStore {
    /// Sends commands one after the other, all within the deadline, until one fails. Answers of each whether it did anything.
    async fn send<T>(
        &self,
        cells: &[T],
        key: impl Fn(&T) -> &[u8],
        command: impl Fn(&T) -> redis::Cmd,
    ) -> Result<Vec<bool>, StoreError> {
        let deadline = Instant::now() + self.deadline;
        let send = async {
            let mut done = Vec::with_capacity(cells.len());
            for cell in cells {
                let answer = match &self.nodes {
                    Nodes::One(link) => {
                        let mut redis = link.queue.connection().await?;
                        let sent = call::send_known(&mut redis, &command(cell), false).await;
                        sent.map_err(|error| StoreError::from(call::failure(&error)))?
                    }
                    Nodes::Cluster(cluster) => cluster.send(key(cell), &command(cell)).await?,
                };
                done.push(matches!(answer, redis::Value::Int(1..)));
            }
            Ok(done)
        };
        timeout_at(deadline, send).await.unwrap_or(Err(StoreError::Timeout))
    }
}

fn between(least: Duration, most: Duration) -> impl Fn(&HumanDuration, &()) -> garde::Result {
    move |value, &()| {
        if (least..=most).contains(&value.get()) {
            return Ok(());
        }
        let (least, most) = (HumanDuration::from(least), HumanDuration::from(most));
        Err(garde::Error::new(format!("must be {least} to {most}")))
    }
}

fn a_redis_url(url: &Secret, &(): &()) -> garde::Result {
    if url.is_empty() {
        return Ok(());
    }
    Topology::parse(url.expose()).map(drop).map_err(|error| garde::Error::new(error.to_string()))
}

/// Certificates are for a URL with TLS.
fn with_tls(url: &Secret) -> impl Fn(&String, &()) -> garde::Result {
    let is_tls = Topology::parse(url.expose()).is_ok_and(|topology| topology.is_tls());
    move |file, &()| {
        if file.is_empty() || is_tls {
            return Ok(());
        }
        Err(garde::Error::new(
            "is set, but the URL is one without TLS: rediss://, rediss+sentinel:// or rediss-cluster://",
        ))
    }
}

fn both_or_none(cert: &str) -> impl Fn(&String, &()) -> garde::Result {
    let has_cert = !cert.is_empty();
    move |key, &()| {
        if key.is_empty() != has_cert {
            return Ok(());
        }
        Err(garde::Error::new("tls_cert and tls_key belong together, and one is missing"))
    }
}

#[cfg(test)]
pub(crate) mod tests;
