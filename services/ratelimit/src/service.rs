//! The service as a whole: bound, then served, then left.

use std::{net::SocketAddr, path::Path, sync::Arc};

use anyhow::Context;
use arc_swap::ArcSwap;
use tidegate_chassis::{
    clock::{Clock, Random},
    direct::Direct,
    metrics::Metrics,
    server::{Listeners, Server},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    config::Config,
    domain::PolicySet,
    grpc::{self, RateLimitApi, Services, UpgradeHook},
    limiter::{Counters, Limiter, LimiterSettings},
    metrics::CheckMetrics,
    policies::{self, PolicyWatch},
    store::{MemoryStore, RedisBackend},
    usage::Usage,
};

/// The rate-limit service, with its ports open.
pub struct Service {
    listeners: Listeners,
    config: Config,
    policies: Arc<ArcSwap<PolicySet>>,
    metrics: Metrics,
    clock: Clock,
    random: Random,
}

impl Service {
    /// Reads the policies and opens the ports; nothing is served yet.
    ///
    /// # Errors
    ///
    /// Settings unfit for the environment, a policy file with faults (all of them are named), a port
    /// that cannot be had.
    pub async fn bind(
        config: Config,
        metrics: Metrics,
        clock: Clock,
        random: Random,
    ) -> anyhow::Result<Self> {
        config.refuse_unfit()?;
        let policies = match config.policies.file.as_str() {
            "" => policies::builtin(config.policies.replicas),
            file => policies::load(Path::new(file), config.policies.replicas)
                .with_context(|| format!("policies.file: {file}"))?,
        };
        let listeners = Listeners::bind(&config.server).await?;
        Ok(Self {
            listeners,
            config,
            policies: Arc::new(ArcSwap::from_pointee(policies)),
            metrics,
            clock,
            random,
        })
    }

    /// Address of the gRPC port.
    pub fn addr(&self) -> SocketAddr {
        self.listeners.grpc_addr()
    }

    /// Address of the ops port.
    pub fn ops_addr(&self) -> SocketAddr {
        self.listeners.ops_addr()
    }

    /// Serves until `stop`, then leaves gracefully.
    ///
    /// # Errors
    ///
    /// If the server cannot start its workers.
    pub async fn serve(self, stop: CancellationToken) -> anyhow::Result<()> {
        let Self { listeners, config, policies, metrics, clock, random } = self;
        let memory = Arc::new(MemoryStore::new(&config.store.memory, clock.clone(), &random, &metrics));
        let checks = CheckMetrics::register(&metrics);
        let usage = Usage::new(&config.usage, clock.clone(), random.clone(), &metrics);
        let _turning = AbortOnDropHandle::new(tokio::spawn(usage.clone().keep_turning()));
        let _watch = match config.policies.file.as_str() {
            "" => None,
            file => Some(PolicyWatch::start(
                Path::new(file),
                config.policies.replicas,
                Arc::clone(&policies),
                &metrics,
                &stop,
            )?),
        };
        let upgrades =
            UpgradeHook::start(&config.upgrade_hook, (clock.clone(), random.clone()), &metrics, &stop)?;
        let settings = LimiterSettings {
            enabled: config.enabled,
            idempotency_ttl_us: u64::try_from(config.idempotency.ttl.as_micros()).unwrap_or(u64::MAX),
        };
        let redis = match config.uses_redis() {
            true => Some(RedisBackend::new(&config.store.redis, random.clone(), &metrics)?),
            false => None,
        };
        let max_message_bytes = config.server.max_message_bytes;
        let server = Server {
            listeners,
            config: config.server,
            metrics,
            clock: clock.clone(),
            random: random.clone(),
            services: grpc::NAMES,
            descriptors: tidegate_proto::DESCRIPTORS,
            environment: config.environment,
        };
        let make = move |_worker: usize| {
            let memory = Arc::clone(&memory);
            let counters = match &redis {
                // Each worker has a connection of its own, on its own runtime.
                Some(redis) => Counters::Shared { store: Arc::new(redis.open()), local: memory },
                None => Counters::Memory(memory),
            };
            let limiter = Limiter::new(Arc::clone(&policies), counters, clock.clone(), settings)
                .telling(upgrades.as_ref().map(UpgradeHook::for_worker));
            let api = RateLimitApi::new(limiter, random.clone(), checks.for_worker(), usage.for_worker());
            let services = Services::new(api.clone(), max_message_bytes);
            Direct::new(api, services, max_message_bytes)
        };
        server.serve(make, stop).await
    }
}
