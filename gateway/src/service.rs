//! The gateway as a whole: bound, then served, then left.

use std::{net::SocketAddr, sync::Arc};

use anyhow::Context;
use tidegate_chassis::{
    clock::{Clock, Random},
    metrics::Metrics,
    ops,
    server::listen,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    app::{App, ServiceEndpoints, Shared},
    config::Config,
    edge::Edge,
    metrics::GatewayMetrics,
    readiness::Probes,
    server::{ConnectionSettings, MakeEdge, Server},
};

/// The gateway with its ports open; nothing is served yet.
#[derive(Debug)]
pub struct Service {
    listener: TcpListener,
    ops_listener: TcpListener,
    addr: SocketAddr,
    ops_addr: SocketAddr,
    endpoints: ServiceEndpoints,
    shared: Arc<Shared>,
    metrics: Metrics,
}

impl Service {
    /// Opens the ports and reads the certificates. The services behind need not be up.
    ///
    /// # Errors
    /// If a port is taken, or a certificate cannot be used.
    #[expect(clippy::unused_async, reason = "only callable on a runtime, which the signature says")]
    pub async fn bind(
        config: Config,
        metrics: Metrics,
        clock: Clock,
        random: Random,
    ) -> anyhow::Result<Self> {
        let (listener, addr) = open("server.listen", config.server.listen)?;
        let (ops_listener, ops_addr) = open("server.ops_listen", config.server.ops_listen)?;
        let endpoints = ServiceEndpoints::new(&config.upstreams)?;
        let shared = Arc::new(Shared::new(config, clock, random, GatewayMetrics::register(&metrics)));
        Ok(Self { listener, ops_listener, addr, ops_addr, endpoints, shared, metrics })
    }

    /// Where REST is.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where `/metrics`, `/live` and `/ready` are.
    #[must_use]
    pub fn ops_addr(&self) -> SocketAddr {
        self.ops_addr
    }

    /// Serves until `stop`. Then it is not ready for the lame-duck pause while requests are still
    /// taken, takes nothing new, lets requests in flight finish within the drain timeout, and
    /// resolves.
    ///
    /// # Errors
    /// If a worker's thread cannot be started.
    pub async fn serve(self, stop: CancellationToken) -> anyhow::Result<()> {
        let Self { listener, ops_listener, addr, ops_addr, endpoints, shared, metrics } = self;
        // Dropped with this future, whichever way it ends.
        let background = CancellationToken::new();
        let _background_ends = background.clone().drop_guard();

        let ops_readiness = ops::Readiness::default();
        tokio::spawn(ops::serve(ops_listener, metrics, ops_readiness.clone(), background.clone()));
        let probes = Probes::open(&endpoints, &shared.random).await;
        let probing =
            shared.readiness.clone().keep(probes, shared.config.health.clone(), ops_readiness.clone());
        tokio::spawn(background.clone().run_until_cancelled_owned(probing));

        let leaving = CancellationToken::new();
        let leave = {
            let (shared, leaving) = (Arc::clone(&shared), leaving.clone());
            async move {
                stop.cancelled().await;
                shared.readiness.leave();
                ops_readiness.set(false);
                let pause = shared.config.server.lame_duck;
                tracing::info!(%pause, "not ready, still accepting");
                tokio::time::sleep(pause.get()).await;
                leaving.cancel();
            }
        };
        tokio::spawn(background.run_until_cancelled_owned(leave));

        let server = Server {
            listener,
            connections: ConnectionSettings::new(&shared.config.server, &shared.config.limits),
            metrics: Arc::clone(&shared.metrics),
        };
        let make_edge: MakeEdge = Arc::new(move || {
            let (shared, endpoints) = (Arc::clone(&shared), endpoints.clone());
            Box::pin(async move { Edge::new(&App::open(shared, &endpoints).await) })
        });
        tracing::info!(address = %addr, ops_address = %ops_addr, "serving");
        server.serve(make_edge, leaving).await?;
        tracing::info!("left");
        Ok(())
    }
}

fn open(key: &str, address: SocketAddr) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let opened = listen(address).and_then(|listener| {
        let address = listener.local_addr()?;
        Ok((listener, address))
    });
    opened.with_context(|| format!("{key} = {address}"))
}

#[cfg(test)]
mod tests;
