//! One connection: HTTP/1.1 or HTTP/2, whichever the peer speaks.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
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
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::ConnectionSettings;
use crate::edge::Edge;

/// The smallest buffer that hyper takes.
const LEAST_BUFFER_BYTES: usize = 8192;

/// How the connections of one worker are served.
pub(super) struct Connections {
    http: auto::Builder<TokioExecutor>,
    /// For the first request to begin.
    patience: Duration,
    send_timeout: Duration,
    leave: CancellationToken,
}

impl Connections {
    /// After `leave`, connections end with the requests they have in flight.
    pub(super) fn new(settings: &ConnectionSettings, leave: CancellationToken) -> Self {
        let ConnectionSettings { server, head_bytes } = settings;
        let mut http = auto::Builder::new(TokioExecutor::new());
        // hyper's own bound of 100 headers stays: another one would cost an allocation per request.
        http.http1()
            .timer(TokioTimer::new())
            .header_read_timeout(server.header_read_timeout.get())
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
        let has_begun = Arc::new(AtomicBool::new(false));
        let began = Arc::clone(&has_begun);
        let service = service_fn(move |request: Request<Incoming>| {
            began.store(true, Ordering::Relaxed);
            let edge = edge.clone();
            async move { Ok::<_, Infallible>(edge.answer(peer, request.map(Body::new)).await) }
        });
        let mut connection = pin!(self.http.serve_connection(TokioIo::new(stream), service));
        // hyper's own timer starts only once the protocol is known, which a silent peer never shows.
        let mut patience = pin!(tokio::time::sleep(self.patience));
        let (mut is_patient, mut is_leaving) = (true, false);
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
                () = patience.as_mut(), if is_patient => {
                    if !has_begun.load(Ordering::Relaxed) {
                        return;
                    }
                    is_patient = false;
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
