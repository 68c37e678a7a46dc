//! The ops port: `/metrics`, `/live` and `/ready` over plain HTTP/1.1, for Prometheus and Kubernetes.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::sync::CancellationToken;

use crate::metrics::{CONTENT_TYPE, Metrics};

/// Connections at a time; more wait in the backlog. Probes and scrapes are few.
const MAX_CONNECTIONS: usize = 64;
/// For the request head to arrive; also how long a connection may idle between requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// For an answer to be taken.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Before accepting again after the system refused to, for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Whether the service takes requests: what `/ready` says. Clones share the state; it starts as no.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// From now on.
    pub fn set(&self, is_ready: bool) {
        self.0.store(is_ready, Ordering::Release);
    }

    /// Now.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Serves the ops port until `stop`; open connections end with it.
pub async fn serve(listener: TcpListener, metrics: Metrics, readiness: Readiness, stop: CancellationToken) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let accept = async {
        loop {
            // Never closed, so there is always a permit to wait for.
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let connection = serve_connection(stream, metrics.clone(), readiness.clone());
            let stop = stop.clone();
            tokio::spawn(async move {
                let _slot = slot;
                stop.run_until_cancelled_owned(connection).await;
            });
        }
    };
    stop.run_until_cancelled(accept).await;
}

async fn serve_connection(stream: TcpStream, metrics: Metrics, readiness: Readiness) {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = answer(request.method(), request.uri().path(), &metrics, &readiness);
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .half_close(false)
        .serve_connection(TokioIo::new(stream), service);
    // A peer that goes away, dawdles or speaks something else is its own business.
    let _ = tokio::time::timeout(HEAD_TIMEOUT + ANSWER_TIMEOUT, connection).await;
}

fn answer(method: &Method, path: &str, metrics: &Metrics, readiness: &Readiness) -> Response<Full<Bytes>> {
    const JSON: &str = "application/json";
    let known = matches!(path, "/metrics" | "/live" | "/ready");
    let (status, content_type, body) = match path {
        _ if known && !matches!(*method, Method::GET | Method::HEAD) => {
            (StatusCode::METHOD_NOT_ALLOWED, JSON, r#"{"status":"method_not_allowed"}"#.into())
        }
        "/metrics" => (StatusCode::OK, CONTENT_TYPE, metrics.encode().into()),
        "/live" => (StatusCode::OK, JSON, r#"{"status":"ok"}"#.into()),
        "/ready" if readiness.is_ready() => (StatusCode::OK, JSON, r#"{"status":"ready"}"#.into()),
        "/ready" => (StatusCode::SERVICE_UNAVAILABLE, JSON, r#"{"status":"not_ready"}"#.into()),
        _ => (StatusCode::NOT_FOUND, JSON, r#"{"status":"not_found"}"#.into()),
    };
    let mut response = Response::new(Full::<Bytes>::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}
