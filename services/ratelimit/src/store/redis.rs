//! Counters in Redis, shared by all replicas.
//!
//! The checks of a worker that are in flight together go to Redis in one call of one script: no timer,
//! a batch leaves as soon as a call is free. Redis runs scripts one at a time and by its own clock, so
//! replicas cannot admit too much between them, whatever their clocks say.

mod alarm;
mod batch;
mod call;
mod coalescer;
mod connection;
mod encode;
mod metrics;
mod queue;
mod script;

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use garde::Validate;
use serde::{Deserialize, Serialize};
use tidegate_chassis::{
    breaker::{Breaker, BreakerConfig},
    clock::Random,
    config::{HumanDuration, Secret},
    metrics::Metrics,
};
use tokio::time::{Instant, timeout_at};

use self::{coalescer::Coalescer, connection::Connector, metrics::StoreMetrics, queue::Queue};
use super::{Answer, CellRefund, CellReset, CounterStore, StoreError};
use crate::domain::{Check, Decision};

/// Settings of the [`RedisStore`].
#[derive(Clone, Debug, Deserialize, Serialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct RedisStoreConfig {
    /// `redis://` or `rediss://`, with user and password if Redis wants them; empty = none.
    #[garde(custom(a_redis_url))]
    pub url: Secret,
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
    /// When to leave Redis alone.
    #[garde(dive)]
    pub breaker: BreakerConfig,
}

/// What the stores of all workers have in common.
#[derive(Debug)]
pub struct RedisBackend {
    config: RedisStoreConfig,
    connector: Connector,
    breaker: Arc<Breaker>,
    metrics: StoreMetrics,
    started: Instant,
}

impl RedisBackend {
    /// Reads the settings; nothing is connected yet.
    ///
    /// # Errors
    ///
    /// If the URL is not one of a single Redis. The message does not contain it.
    pub fn new(config: &RedisStoreConfig, random: Random, metrics: &Metrics) -> anyhow::Result<Self> {
        let breaker = Arc::new(Breaker::new(config.breaker.clone()));
        let metrics = StoreMetrics::register(metrics, Arc::clone(&breaker));
        let connector =
            Connector::new(config.url.expose(), config.connect_timeout.get(), random, metrics.clone())
                .context("store.redis.url")?;
        Ok(Self { config: config.clone(), connector, breaker, metrics, started: Instant::now() })
    }

    /// Opens a store with a connection of its own, kept up by a task on the current runtime until the
    /// store is dropped. Redis need not be there yet.
    pub fn open(&self) -> RedisStore {
        let queue = Arc::new(Queue::new(self.config.max_batch, self.config.deadline.get()));
        let coalescer = Coalescer::new(self, Arc::clone(&queue));
        tokio::spawn(coalescer.run());
        RedisStore { queue, deadline: self.config.deadline.get() }
    }
}

/// Counters in Redis, for the checks of one worker.
///
/// Every answer comes within the deadline. A check whose answer is lost is not sent again: it may have
/// been charged. While the breaker is open nothing waits for Redis.
#[derive(Debug)]
pub struct RedisStore {
    queue: Arc<Queue>,
    deadline: Duration,
}

impl CounterStore for RedisStore {
    fn decide(&self, check: &Check<'_>) -> Answer<'static, Decision> {
        match self.queue.push(check) {
            Ok(pending) => Answer::Pending(Box::pin(pending)),
            Err(error) => Answer::Ready(Err(error)),
        }
    }

    fn reset<'a>(&'a self, cells: &'a [CellReset]) -> Answer<'a, ()> {
        Answer::Pending(Box::pin(self.send(cells, script::reset_command)))
    }

    fn refund<'a>(&'a self, cells: &'a [CellRefund]) -> Answer<'a, ()> {
        Answer::Pending(Box::pin(self.send(cells, script::refund_command)))
    }
}

impl RedisStore {
    /// Sends commands one after the other, all within the deadline, until one fails.
    async fn send<T>(&self, cells: &[T], command: impl Fn(&T) -> redis::Cmd) -> Result<(), StoreError> {
        let deadline = Instant::now() + self.deadline;
        let send = async {
            let mut redis = self.queue.connection().await?;
            for cell in cells {
                let answer = redis.send_packed_command(&command(cell)).await;
                let answer = answer.and_then(redis::Value::extract_error);
                answer.map_err(|error| call::store_error(&error))?;
            }
            Ok(())
        };
        timeout_at(deadline, send).await.unwrap_or(Err(StoreError::Timeout))
    }
}

impl Drop for RedisStore {
    fn drop(&mut self) {
        self.queue.close();
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
    connection::parse_url(url.expose()).map(drop).map_err(|_| {
        garde::Error::new("must be redis://[user:password@]host[:port][/database], or rediss:// for TLS")
    })
}

#[cfg(test)]
mod tests;
