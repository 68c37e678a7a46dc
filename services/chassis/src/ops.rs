//! The ops port: `/metrics`, `/live` and `/ready` over plain HTTP/1.1, for Prometheus and Kubernetes.

use std::{
    collections::VecDeque,
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
    task::AbortHandle,
};
use tokio_util::sync::CancellationToken;

use crate::{
    accept::Acceptor,
    metrics::{CONTENT_TYPE, Metrics},
};

/// Connections at a time. Probes and scrapes are few and answered at once, so what has been open longest
/// is what nobody needs: it gives way to the newest. Waiting for it would let whoever reaches the port
/// starve `/live`, and so have the process ended.
const MAX_CONNECTIONS: usize = 64;
/// For the request head to arrive.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// For an answer to be taken.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_HEAD_BYTES: usize = 16 * 1024;

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
    let mut acceptor = Acceptor::new(listener, "ops");
    let mut open = VecDeque::<AbortHandle>::with_capacity(MAX_CONNECTIONS);
    let accept = async {
        loop {
            let stream = acceptor.accept().await;
            open.retain(|connection| !connection.is_finished());
            if open.len() == MAX_CONNECTIONS
                && let Some(oldest) = open.pop_front()
            {
                oldest.abort();
            }
            let connection = serve_connection(stream, metrics.clone(), readiness.clone());
            let task = tokio::spawn(stop.clone().run_until_cancelled_owned(connection));
            open.push_back(task.abort_handle());
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
        .keep_alive(false)
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn get(address: std::net::SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: tidegate\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        // To the end: one request a connection.
        let read = stream.read_to_string(&mut answer);
        tokio::time::timeout(Duration::from_secs(5), read).await.expect("answered at once").unwrap();
        answer
    }

    #[tokio::test]
    async fn silent_connections_do_not_starve_the_probes() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let _stop = stop.clone().drop_guard();
        tokio::spawn(serve(listener, Metrics::new(), Readiness::default(), stop));
        let mut silent = Vec::new();
        for _ in 0..3 * MAX_CONNECTIONS {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        assert!(get(address, "/live").await.starts_with("HTTP/1.1 200 OK"));
        assert!(get(address, "/ready").await.starts_with("HTTP/1.1 503"));
        assert!(get(address, "/metrics").await.contains("# EOF"));
        // The newest of them still has its place.
        let newest = silent.last_mut().expect("many");
        newest.write_all(b"GET /live HTTP/1.1\r\nhost: tidegate\r\n\r\n").await.unwrap();
        let mut status = [0; 15];
        newest.read_exact(&mut status).await.unwrap();
        assert_eq!(&status, b"HTTP/1.1 200 OK");
    }
}
