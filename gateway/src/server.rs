//! From sockets to requests: one listener, whose connections are dealt out to workers, each a thread
//! with its own current-thread runtime and its own connections to the services.

mod connection;
mod worker;

#[cfg(test)]
mod tests;

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    net::TcpListener,
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::sync::CancellationToken;

use self::worker::Worker;
use crate::{
    config::{LimitsConfig, ServerConfig},
    edge::Edge,
    metrics::GatewayMetrics,
};

/// Before accepting again after the system refused to, for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Beyond the drain timeout, for a worker's thread to end.
const END_TIMEOUT: Duration = Duration::from_secs(1);

/// Makes the edge of one worker, on that worker's runtime.
pub(crate) type MakeEdge = Arc<dyn Fn() -> BoxFuture<'static, Edge> + Send + Sync>;

/// A server that is about to serve.
pub(crate) struct Server {
    /// Where connections come in.
    pub listener: TcpListener,
    /// Of every worker.
    pub connections: ConnectionSettings,
    /// What is counted.
    pub metrics: Arc<GatewayMetrics>,
}

/// What a connection may take.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionSettings {
    /// `[server]`
    pub server: ServerConfig,
    /// Bytes of request line and headers that a parser takes at most.
    pub head_bytes: usize,
    /// Header lines of HTTP/1.1 that a parser takes at most.
    pub headers: usize,
}

impl ConnectionSettings {
    /// The parsers take more than `limits`, so that an oversized head gets a proper answer from the
    /// edge unless it is far too large.
    pub(crate) fn new(server: &ServerConfig, limits: &LimitsConfig) -> Self {
        Self {
            server: server.clone(),
            head_bytes: 2 * (limits.uri_bytes + limits.header_bytes),
            headers: 2 * limits.headers,
        }
    }
}

impl Server {
    /// Takes connections until `stop`, then lets requests in flight finish within the drain timeout.
    ///
    /// # Errors
    /// If a worker's thread cannot be started, or if one panics.
    pub(crate) async fn serve(self, make_edge: MakeEdge, stop: CancellationToken) -> anyhow::Result<()> {
        let Self { listener, connections, metrics } = self;
        let count = match connections.server.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            count => count,
        };
        let leave = stop.child_token();
        let (mut workers, mut ended) = (Vec::new(), FuturesUnordered::new());
        for index in 0..count {
            let started = Worker::start(index, Arc::clone(&make_edge), connections.clone(), leave.clone());
            let (worker, end) = started.context("starting a worker thread")?;
            workers.push(worker);
            ended.push(end);
        }
        tokio::select! {
            () = stop.cancelled() => {}
            never = deal(&listener, &workers, connections.server.max_connections, &metrics) => match never {},
            Some(_) = ended.next() => anyhow::bail!("a worker thread ended by a panic"),
        }
        drop((listener, workers));
        let all_ended = async { while ended.next().await.is_some() {} };
        let drain_timeout = connections.server.drain_timeout.get();
        if tokio::time::timeout(drain_timeout + END_TIMEOUT, all_ended).await.is_err() {
            tracing::warn!("a worker is stuck, leaving without it");
        }
        Ok(())
    }
}

/// Each new connection goes to the worker that has the fewest. No more are accepted than allowed:
/// the others wait in the kernel's queue.
async fn deal(
    listener: &TcpListener,
    workers: &[Worker],
    max_connections: usize,
    metrics: &Arc<GatewayMetrics>,
) -> Infallible {
    let slots = Arc::new(Semaphore::new(max_connections.min(Semaphore::MAX_PERMITS)));
    loop {
        let slot = Arc::clone(&slots).acquire_owned().await.expect("the semaphore is never closed");
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let least = workers.iter().min_by_key(|worker| worker.connections());
        let open = Open::new(slot, metrics);
        if let (Some(worker), Ok(stream)) = (least, stream.into_std()) {
            worker.take(Accepted { stream, peer, open });
        }
    }
}

/// A connection on its way to a worker.
#[derive(Debug)]
struct Accepted {
    stream: std::net::TcpStream,
    peer: SocketAddr,
    open: Open,
}

/// Counts a connection until it is dropped, and then makes room for another.
#[derive(Debug)]
struct Open {
    _slot: OwnedSemaphorePermit,
    metrics: Arc<GatewayMetrics>,
}

impl Open {
    fn new(slot: OwnedSemaphorePermit, metrics: &Arc<GatewayMetrics>) -> Self {
        metrics.connections.inc();
        Self { _slot: slot, metrics: Arc::clone(metrics) }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.metrics.connections.dec();
    }
}
