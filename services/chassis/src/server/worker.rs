//! Worker threads, each with a runtime of its own, and the acceptor that deals connections out.

use std::{
    convert::Infallible,
    io::ErrorKind,
    net::TcpStream as StdStream,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use tokio::{
    net::TcpStream,
    sync::{mpsc, oneshot},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::service::Routes;

use super::{call::Worker, connection::Connections, dispatch::Dispatch, served::Served, stats::Counters};
use crate::{accept::Acceptor, clock::Random};

/// What a worker thread is given.
pub(super) struct Assignment {
    pub(super) index: usize,
    pub(super) worker: Arc<Worker>,
    pub(super) connections: Connections,
    pub(super) shared: Routes,
    pub(super) random: Random,
    pub(super) drain: CancellationToken,
    pub(super) drain_timeout: Duration,
}

/// A worker thread, as the acceptor sees it.
pub(super) struct WorkerHandle {
    streams: mpsc::UnboundedSender<StdStream>,
    open: Arc<AtomicUsize>,
}

/// Ends when the worker's thread does.
pub(super) type Ended = oneshot::Receiver<Infallible>;

/// Starts a worker thread; it is ready once `make` has given its service.
pub(super) async fn start<S, M>(assignment: Assignment, make: Arc<M>) -> anyhow::Result<(WorkerHandle, Ended)>
where
    M: Fn(usize) -> S + Send + Sync + 'static,
    S: Served,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (streams, incoming) = mpsc::unbounded_channel();
    let (ready, is_ready) = oneshot::channel();
    let (end, ended) = oneshot::channel();
    let open = Arc::new(AtomicUsize::new(0));
    let handle = WorkerHandle { streams, open: Arc::clone(&open) };
    let index = assignment.index;
    std::thread::Builder::new().name(format!("rpc-{index}")).spawn(move || {
        let _end: oneshot::Sender<Infallible> = end;
        runtime.block_on(async {
            let service = make(index);
            // Nobody waits any more: then the channel of connections is closed too.
            let _ = ready.send(());
            run(assignment, service, incoming, open).await;
        });
        // Dropping the runtime drops what is left on it; a blocking task must not hold it.
        runtime.shutdown_background();
    })?;
    is_ready.await.with_context(|| format!("worker {index} panicked while it made its service"))?;
    Ok((handle, ended))
}

async fn run<S>(
    assignment: Assignment,
    service: S,
    mut incoming: mpsc::UnboundedReceiver<StdStream>,
    open: Arc<AtomicUsize>,
) where
    S: Served,
{
    let Assignment { worker, connections, shared, random, drain, drain_timeout, .. } = assignment;
    let connections = Arc::new(connections);
    let tasks = TaskTracker::new();
    while let Some(stream) = incoming.recv().await {
        let slot = Slot { open: Arc::clone(&open), counters: worker.counters.clone() };
        let stream = TcpStream::from_std(stream).and_then(|stream| Ok((stream.peer_addr()?, stream)));
        let (peer, stream) = match stream {
            Ok(taken) => taken,
            // It may have left already.
            Err(error) if error.kind() == ErrorKind::NotConnected => continue,
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be taken over");
                continue;
            }
        };
        let dispatch =
            Dispatch::new(service.clone(), shared.clone(), Arc::clone(&worker), random.clone(), peer.ip());
        let connections = Arc::clone(&connections);
        tasks.spawn(async move {
            if connections.serve(stream, dispatch).await.is_err() {
                slot.counters.handshake_failures.inc();
            }
            drop(slot);
        });
    }
    // The acceptor has ended: either the server drains, or it was dropped, which drains too.
    drain.cancelled().await;
    tasks.close();
    if tokio::time::timeout(drain_timeout, tasks.wait()).await.is_err() {
        tracing::warn!(connections = tasks.len(), "drain timed out, dropping connections");
    }
}

/// An open connection, counted until it is dropped.
struct Slot {
    open: Arc<AtomicUsize>,
    counters: Counters,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        self.counters.connections.dec();
    }
}

/// Accepts connections and gives each to the worker that has the fewest; among equals they take
/// turns. (gRPC clients hold few, long connections: a hash as of `SO_REUSEPORT` leaves cores idle.)
pub(super) async fn accept(
    acceptor: &mut Acceptor,
    workers: &[WorkerHandle],
    max_connections: usize,
    counters: &Counters,
) -> Infallible {
    let mut turn = 0;
    loop {
        let stream = acceptor.accept().await;
        let open = |at: usize| workers[at].open.load(Ordering::Relaxed);
        if (0..workers.len()).map(open).sum::<usize>() >= max_connections {
            counters.refused.inc();
            continue;
        }
        // The peer may have gone already; its worker will find out.
        let _ = stream.set_nodelay(true);
        let Ok(stream) = stream.into_std() else { continue };
        let Some(at) = (0..workers.len()).map(|at| (at + turn) % workers.len()).min_by_key(|at| open(*at))
        else {
            continue;
        };
        turn = at + 1;
        counters.accepted.inc();
        counters.connections.inc();
        workers[at].open.fetch_add(1, Ordering::Relaxed);
        if workers[at].streams.send(stream).is_err() {
            workers[at].open.fetch_sub(1, Ordering::Relaxed);
            counters.connections.dec();
        }
    }
}
