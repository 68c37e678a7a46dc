//! One connection: HTTP/1.1 or HTTP/2, whichever the peer speaks.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::body::Body;
use http::Request;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{net::TcpStream, time::Instant};
use tokio_util::sync::CancellationToken;

use super::ConnectionSettings;
use crate::edge::Edge;

/// The smallest buffer that hyper takes.
const LEAST_BUFFER_BYTES: usize = 8192;

/// The requests of one connection.
#[derive(Default)]
struct Activity {
    begun: AtomicU64,
    ended: AtomicU64,
}

/// A request that has begun; it ends when this is dropped, by an answer or by a peer that gave up.
struct UnderWay(Arc<Activity>);

impl UnderWay {
    fn begin(activity: &Arc<Activity>) -> Self {
        activity.begun.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(activity))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Relaxed);
    }
}

/// How the connections of one worker are served.
pub(super) struct Connections {
    http: auto::Builder<TokioExecutor>,
    /// For the first request to begin, and, at least, for another one.
    patience: Duration,
    send_timeout: Duration,
    leave: CancellationToken,
}

impl Connections {
    /// After `leave`, connections end with the requests they have in flight.
    pub(super) fn new(settings: &ConnectionSettings, leave: CancellationToken) -> Self {
        let ConnectionSettings { server, head_bytes, headers } = settings;
        let mut http = auto::Builder::new(TokioExecutor::new());
        http.http1()
            .timer(TokioTimer::new())
            .header_read_timeout(server.header_read_timeout.get())
            .max_headers(*headers)
            .max_buf_size((*head_bytes).max(LEAST_BUFFER_BYTES));
        http.http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(server.keepalive_interval.get())
            .keep_alive_timeout(server.keepalive_timeout.get())
            .max_concurrent_streams(server.max_concurrent_streams)
            .max_header_list_size(u32::try_from(*head_bytes).unwrap_or(u32::MAX));
        let (patience, send_timeout) = (server.header_read_timeout.get(), server.send_timeout.get());
        Self { http, patience, send_timeout, leave }
    }

    /// Serves until the peer leaves, is too slow, or the gateway leaves.
    pub(super) async fn serve(&self, stream: TcpStream, peer: SocketAddr, edge: Edge) {
        self.set_options(&stream);
        let activity = Arc::new(Activity::default());
        let requests = Arc::clone(&activity);
        let service = service_fn(move |request: Request<Incoming>| {
            let under_way = UnderWay::begin(&requests);
            let edge = edge.clone();
            async move {
                let answer = edge.answer(peer, request.map(Body::new)).await;
                drop(under_way);
                Ok::<_, Infallible>(answer)
            }
        });
        let mut connection = pin!(self.http.serve_connection(TokioIo::new(stream), service));
        // hyper's own timer starts only once the protocol is known, which a silent peer never shows, and
        // knows of no idle HTTP/2: there, pings alone would hold a connection for ever.
        let mut patience = pin!(tokio::time::sleep(self.patience));
        let (mut begun_before, mut is_leaving, mut is_idle) = (0, false, false);
        loop {
            tokio::select! {
                biased;
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(error, "a connection broke");
                    }
                    return;
                }
                () = self.leave.cancelled(), if !is_leaving => {
                    is_leaving = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = patience.as_mut() => {
                    let begun = activity.begun.load(Ordering::Relaxed);
                    let is_quiet = begun == begun_before && activity.ended.load(Ordering::Relaxed) == begun;
                    // A peer that was told to go, and neither went nor took its last answers.
                    if begun == 0 || (is_quiet && is_idle) {
                        return;
                    }
                    if is_quiet {
                        is_idle = true;
                        connection.as_mut().graceful_shutdown();
                    }
                    begun_before = begun;
                    patience.as_mut().reset(Instant::now() + self.patience);
                }
            }
        }
    }

    /// An option that the system does not know costs speed or patience, and nothing else.
    fn set_options(&self, stream: &TcpStream) {
        // An answer leaves in one piece; waiting to fill a segment would only delay it.
        let _ = stream.set_nodelay(true);
        #[cfg(target_os = "linux")]
        let _ = socket2::SockRef::from(stream).set_tcp_user_timeout(Some(self.send_timeout));
    }
}
