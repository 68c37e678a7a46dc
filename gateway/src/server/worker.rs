//! One thread that serves its share of the connections.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use tokio::{
    net::TcpStream,
    runtime::Builder,
    sync::{mpsc, oneshot},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Accepted, ConnectionSettings, MakeEdge, connection::Connections};

/// The handle of a worker. Dropping it makes the worker drain and end.
#[derive(Debug)]
pub(super) struct Worker {
    accepted: mpsc::UnboundedSender<Accepted>,
    connections: Arc<AtomicUsize>,
}

/// Resolves when the worker's thread has ended.
pub(super) type Ended = oneshot::Receiver<Infallible>;

impl Worker {
    /// Starts its thread.
    pub(super) fn start(
        index: usize,
        make_edge: MakeEdge,
        settings: ConnectionSettings,
        leave: CancellationToken,
    ) -> std::io::Result<(Self, Ended)> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (accepted, incoming) = mpsc::unbounded_channel();
        let (end, ended) = oneshot::channel();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        thread::Builder::new().name(format!("rest-{index}")).spawn(move || {
            let _end: oneshot::Sender<Infallible> = end;
            runtime.block_on(work(incoming, make_edge, settings, leave, count));
            // What is still open after the drain timeout is cut off here.
            runtime.shutdown_background();
        })?;
        Ok((Self { accepted, connections }, ended))
    }

    /// How many connections it has.
    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Gives it one more.
    pub(super) fn take(&self, accepted: Accepted) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        // Fails only after a panic, with which the server ends.
        let _ = self.accepted.send(accepted);
    }
}

async fn work(
    mut incoming: mpsc::UnboundedReceiver<Accepted>,
    make_edge: MakeEdge,
    settings: ConnectionSettings,
    leave: CancellationToken,
    count: Arc<AtomicUsize>,
) {
    let edge = make_edge().await;
    let drain_timeout = settings.server.drain_timeout.get();
    let connections = Arc::new(Connections::new(&settings, leave.clone()));
    let tasks = TaskTracker::new();
    while let Some(Accepted { stream, peer, open }) = incoming.recv().await {
        let (connections, edge, count) = (Arc::clone(&connections), edge.clone(), Arc::clone(&count));
        tasks.spawn(async move {
            // Fails only if this runtime is shutting down.
            if let Ok(stream) = TcpStream::from_std(stream) {
                connections.serve(stream, peer, edge).await;
            }
            count.fetch_sub(1, Ordering::Relaxed);
            drop(open);
        });
    }
    leave.cancel();
    tasks.close();
    if tokio::time::timeout(drain_timeout, tasks.wait()).await.is_err() {
        tracing::warn!(connections = tasks.len(), "requests were cut off at the drain timeout");
    }
}
