//! The service as a whole: bound, then served, then left.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::Context;
use tidegate_chassis::{
    auth::{Authenticator, InternalTokens},
    clock::{Clock, Random},
    direct::Direct,
    metrics::Metrics,
    server::{Listeners, Server},
};
use tokio::time::timeout;
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};

use crate::{
    catalog::{Catalog, CatalogSettings},
    config::Config,
    grpc::{self, HookAddress, RateLimitApi, Services, UpgradeHook},
    keys::{self, Keys},
    limiter::{Counters, Limiter, LimiterSettings},
    metrics::CheckMetrics,
    policies::{self, Layers, PolicyWatch},
    store::{MemoryStore, RedisBackend, catalog::CatalogStore},
    usage::Usage,
};

/// How long the last report of how keys were used may take when the service leaves.
const LAST_REPORT: Duration = Duration::from_secs(3);

/// The rate-limit service, with its ports open.
pub struct Service {
    listeners: Listeners,
    config: Config,
    layers: Layers,
    database: Option<Arc<dyn CatalogStore>>,
    hook: Option<HookAddress>,
    metrics: Metrics,
    clock: Clock,
    random: Random,
}

impl Service {
    /// Reads the policies, opens the database and the ports; nothing is served yet.
    ///
    /// # Errors
    ///
    /// Settings unfit for the environment, a policy file with faults (all of them are named), files of `upgrade_hook.tls` that cannot be
    /// read, a database that cannot be reached, a port that cannot be had.
    pub async fn bind(
        config: Config,
        metrics: Metrics,
        clock: Clock,
        random: Random,
    ) -> anyhow::Result<Self> {
        config.refuse_unfit()?;
        let layers = match config.policies.file.as_str() {
            "" => Layers::built_in(config.policies.replicas),
            file => policies::load_layers(Path::new(file), config.policies.replicas)
                .with_context(|| format!("policies.file: {file}"))?,
        };
        let hook = HookAddress::read(&config.upgrade_hook)?;
        let database = match config.database.is_set() {
            true => Some(config.database.open().await.context("database.url (DATABASE_URL)")?),
            false => None,
        };
        let listeners = Listeners::bind(&config.server).await?;
        Ok(Self { listeners, config, layers, database, hook, metrics, clock, random })
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
    /// If what the database holds cannot be used, or the server cannot start its workers.
    pub async fn serve(self, stop: CancellationToken) -> anyhow::Result<()> {
        let Self { listeners, config, layers, database, hook, metrics, clock, random } = self;
        let settings = CatalogSettings {
            poll_every: config.database.poll_every.get(),
            query_timeout: config.database.query_timeout.get(),
            origin: config.policies.file.clone(),
        };
        // To the very end, since what is asked while the server drains is answered too.
        let keep = CancellationToken::new();
        let _ends_last = keep.clone().drop_guard();
        let sources = (clock.clone(), random.clone());
        let catalog = Catalog::start(layers, database, settings, sources, &metrics, keep)
            .await
            .context("the policies of the database (database.url) and the policy file")?;
        let policies = Arc::clone(catalog.policies());
        let memory = Arc::new(MemoryStore::new(&config.store.memory, clock.clone(), &random, &metrics));
        let checks = CheckMetrics::register(&metrics);
        let usage = Usage::new(&config.usage, clock.clone(), random.clone(), &metrics);
        let _turning = AbortOnDropHandle::new(tokio::spawn(usage.clone().keep_turning()));
        let _watch = match config.policies.file.as_str() {
            "" => None,
            file => {
                let (before, catalog) = (policies.load().fingerprint(), catalog.clone());
                let apply = Box::new(move |bytes| catalog.replace_file(bytes));
                Some(PolicyWatch::start(Path::new(file), before, apply, &metrics, &stop)?)
            }
        };
        let upgrades = hook.map(|address| {
            UpgradeHook::start(
                address,
                &config.upgrade_hook,
                (clock.clone(), random.clone()),
                &metrics,
                &stop,
            )
        });
        let settings = LimiterSettings {
            enabled: config.enabled,
            idempotency_ttl_us: u64::try_from(config.idempotency.ttl.as_micros()).unwrap_or(u64::MAX),
        };
        let auth = Authenticator::new(&config.auth, None, clock.clone(), &metrics)?;
        let (keys_stop, key_tasks) = (CancellationToken::new(), TaskTracker::new());
        let sources = keys::Sources {
            clock: clock.clone(),
            random: random.clone(),
            tokens: InternalTokens::new(&config.auth, "ratelimit", clock.clone()),
            on_revoked: {
                let auth = auth.clone();
                Arc::new(move |id: &str| auth.revoke(id))
            },
            replicas: config.policies.replicas,
        };
        let keys = Keys::start(&config.keys, sources, &metrics, &keys_stop, &key_tasks)?;
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
            auth,
            access: grpc::ACCESS,
        };
        let make = move |_worker: usize| {
            let memory = Arc::clone(&memory);
            let counters = match &redis {
                // Each worker has a connection of its own, on its own runtime.
                Some(redis) => Counters::Shared { store: Arc::new(redis.open()), local: memory },
                None => Counters::Memory(memory),
            };
            let limiter =
                Limiter::new(Arc::clone(&policies), counters, clock.clone(), random.clone(), settings)
                    .telling(upgrades.as_ref().map(UpgradeHook::for_worker));
            let (stats, usage) = (checks.for_worker(), usage.for_worker());
            let api = RateLimitApi::new(limiter, catalog.clone(), random.clone(), stats, usage, keys.clone());
            let services = Services::new(api.clone(), max_message_bytes);
            Direct::new(api, services, max_message_bytes)
        };
        let served = server.serve(make, stop).await;
        // What was counted of keys until the last check is told.
        keys_stop.cancel();
        key_tasks.close();
        let _ = timeout(LAST_REPORT, key_tasks.wait()).await;
        served
    }
}
