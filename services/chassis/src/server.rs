//! The gRPC server of every service.
//!
//! One acceptor deals connections out to worker threads, each a current-thread runtime: answers that
//! become ready together leave in one write, and no call crosses a thread. hyper serves HTTP/2
//! directly; the generated tonic services are called per request without a router in between.
//!
//! Whom a call comes from is known before its handler sees it, and so whether it may be made ([`auth`](crate::auth)).
//! Every call is counted and timed, bounded by the caller's `grpc-timeout`, by `request_timeout` if its
//! request is one message, and by `max_in_flight`, and answered INTERNAL if its handler panics. Beside
//! the service stand `grpc.health.v1`, with a status for `""` and for the service's name, and
//! reflection v1 and v1alpha; a full server still answers health checks.
//!
//! A malformed `grpc-timeout` is INVALID_ARGUMENT. Requests that are not gRPC are answered 405 or 415.
//! INTERNAL, UNKNOWN and DATA_LOSS are logged here, with method and request id; handlers need not.

mod body;
mod call;
mod config;
mod connection;
mod deadline;
mod dispatch;
mod gate;
mod health;
mod methods;
mod served;
mod stats;
mod worker;

#[cfg(test)]
mod tests;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::Context;
use futures_util::{StreamExt, stream::FuturesUnordered};
use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use self::{
    call::Worker,
    connection::Connections,
    health::Health,
    methods::Methods,
    stats::{CallMetrics, CallStats, Counters},
    worker::{Assignment, accept, start},
};
pub use self::{config::ServerConfig, served::Served};
use crate::{
    accept::Acceptor,
    auth::{Access, Authenticator},
    clock::{Clock, Random},
    config::Environment,
    metrics::Metrics,
    ops::{self, Readiness},
    tls::Identity,
};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;
/// Beyond the drain timeout, for worker threads to drop what they hold.
const END_TIMEOUT: Duration = Duration::from_millis(500);

/// The open ports of a server: bound before anything is served, so that a taken port stops the start.
#[derive(Debug)]
pub struct Listeners {
    grpc: TcpListener,
    ops: TcpListener,
    grpc_addr: SocketAddr,
    ops_addr: SocketAddr,
}

impl Listeners {
    /// Opens both ports on the current runtime.
    ///
    /// # Errors
    /// If a port is taken or may not be opened; the error names the setting.
    #[expect(clippy::unused_async, reason = "only callable on a runtime, which the signature says")]
    pub async fn bind(config: &ServerConfig) -> anyhow::Result<Self> {
        let grpc = listen(config.listen).with_context(|| format!("server.listen = {}", config.listen))?;
        let ops = listen(config.ops_listen)
            .with_context(|| format!("server.ops_listen = {}", config.ops_listen))?;
        let (grpc_addr, ops_addr) = (grpc.local_addr()?, ops.local_addr()?);
        Ok(Self { grpc, ops, grpc_addr, ops_addr })
    }

    /// Where gRPC is served, with the port that was taken.
    #[must_use]
    pub fn grpc_addr(&self) -> SocketAddr {
        self.grpc_addr
    }

    /// Where `/metrics`, `/live` and `/ready` are served.
    #[must_use]
    pub fn ops_addr(&self) -> SocketAddr {
        self.ops_addr
    }
}

/// Opens a port with `SO_REUSEADDR`, so that a restart need not wait for old connections to be forgotten.
///
/// # Errors
/// If the port is taken or may not be opened.
pub fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// A server that is about to serve.
#[derive(Debug)]
pub struct Server {
    /// Its ports.
    pub listeners: Listeners,
    /// Its settings.
    pub config: ServerConfig,
    /// Where it registers its metrics; one server per registry.
    pub metrics: Metrics,
    /// Dates the start in the metrics.
    pub clock: Clock,
    /// For sampling and jitter.
    pub random: Random,
    /// Names of the services that answer on the gRPC port, as `package.Service`.
    pub services: &'static [&'static str],
    /// Encoded `FileDescriptorSet` that describes the services: for reflection, and for the methods'
    /// names in metrics.
    pub descriptors: &'static [u8],
    /// Production turns reflection off.
    pub environment: Environment,
    /// Tells who calls.
    pub auth: Authenticator,
    /// Who may call which method of `services`, by its path ("/package.Service/Method"): all of them, and nothing else.
    pub access: &'static [(&'static str, Access)],
}

impl Server {
    /// Serves until `stop`, then leaves: NOT_SERVING and `/ready` 503, a lame-duck pause in which it
    /// still accepts, then the port closes, every connection is asked to finish, and after
    /// `drain_timeout` at the latest what is left is dropped.
    ///
    /// `make(worker)` is called once on each worker's own current-thread runtime, so that the service
    /// can open connections that are bound to it. Services apply `max_message_bytes` themselves, see
    /// [`ServerConfig::max_message_bytes`].
    ///
    /// # Errors
    /// If the certificates cannot be used, if the descriptors do not describe the services, if `access` does not fit them,
    /// or if a worker fails.
    pub async fn serve<S: Served>(
        self,
        make: impl Fn(usize) -> S + Send + Sync + 'static,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let Self {
            listeners,
            config,
            metrics,
            clock,
            random,
            services,
            descriptors,
            environment,
            auth,
            access,
        } = self;
        let identity = config
            .tls
            .as_ref()
            .map(|tls| Identity::load(tls, &metrics))
            .transpose()
            .context("server.tls")?
            .map(Arc::new);
        let reflect = config.reflection && environment != Environment::Production;
        let (health, shared) = Health::new(services, descriptors, reflect).await?;
        let methods = Arc::new(Methods::read(services, &health::descriptor_sets(descriptors), access)?);
        let counters = Counters::register(&metrics, &clock);
        let drain = CancellationToken::new();
        // Dropped half-way, the server must not leave threads behind.
        let _drain_at_end = drain.clone().drop_guard();

        let readiness = Readiness::default();
        let ops_stop = CancellationToken::new();
        let _ops_end = ops_stop.clone().drop_guard();
        tokio::spawn(ops::serve(listeners.ops, metrics.clone(), readiness.clone(), ops_stop.clone()));
        if let Some(identity) = identity.clone() {
            let drain = drain.clone();
            tokio::spawn(async move { identity.watch(drain).await });
        }

        let _keys = AbortOnDropHandle::new(tokio::spawn({
            let auth = auth.clone();
            async move { auth.keep_keys().await }
        }));

        let make = Arc::new(make);
        let mut workers = Vec::new();
        let mut ended = FuturesUnordered::new();
        let mut stats = Vec::new();
        for index in 0..config.worker_count() {
            let calls = Arc::new(CallStats::new(&methods));
            stats.push(Arc::clone(&calls));
            let worker = Worker {
                methods: Arc::clone(&methods),
                stats: calls,
                counters: counters.clone(),
                max_in_flight: config.max_in_flight,
                request_timeout: config.request_timeout.get(),
                auth: auth.clone(),
                tokens: Mutex::default(),
            };
            let assignment = Assignment {
                index,
                worker: Arc::new(worker),
                connections: Connections::new(&config, identity.clone(), drain.clone(), random.clone()),
                shared: shared.clone(),
                random: random.clone(),
                drain: drain.clone(),
                drain_timeout: config.drain_timeout.get(),
            };
            let (worker, end) = start(assignment, Arc::clone(&make)).await?;
            workers.push(worker);
            ended.push(end);
        }
        metrics.register_collector(CallMetrics { methods, workers: stats });

        health.serving(&readiness).await;
        let address = listeners.grpc_addr;
        tracing::info!(%address, ops_address = %listeners.ops_addr, workers = workers.len(), tls = identity.is_some(), services = services.join(" "), "serving");
        let mut acceptor = Acceptor::new(listeners.grpc, "grpc");
        let leave = async {
            stop.cancelled().await;
            health.not_serving(&readiness).await;
            tracing::info!(pause = %config.lame_duck, "not serving, still accepting");
            tokio::time::sleep(config.lame_duck.get()).await;
        };
        tokio::select! {
            () = leave => {}
            never = accept(&mut acceptor, &workers, config.max_connections, &counters) => match never {},
            Some(_) = ended.next() => anyhow::bail!("a worker thread ended by a panic"),
        }
        drop(acceptor);
        drop(workers);
        drain.cancel();
        health.end_watches().await;
        let all_ended = async { while ended.next().await.is_some() {} };
        if tokio::time::timeout(config.drain_timeout.get() + END_TIMEOUT, all_ended).await.is_err() {
            tracing::warn!("a worker is stuck in a handler that does not yield, leaving without it");
        }
        tracing::info!("left");
        Ok(())
    }
}
