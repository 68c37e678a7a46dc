//! Plain HTTP/1.1 requests, and raw bytes for what no client library would send.

use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header::HOST};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const WITHIN: Duration = Duration::from_secs(20);

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// A header as text; empty if there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The body as JSON; `Null` if it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The body as text, for messages.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A request with headers and a body; `Host` is added if it is missing.
///
/// # Errors
///
/// No connection, an answer that is not HTTP, or none within 20 s.
pub async fn request(
    address: &str,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> anyhow::Result<Answer> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        request = request.header(HOST, address);
    }
    let request = request.body(Full::new(body.into()))?;
    tokio::time::timeout(WITHIN, send(address, request)).await.context("no answer within 20 s")?
}

async fn send(address: &str, request: Request<Full<Bytes>>) -> anyhow::Result<Answer> {
    let stream = TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let answer = sender.send_request(request).await?;
    let (parts, body) = answer.into_parts();
    let body = body.collect().await?.to_bytes();
    driver.abort();
    Ok(Answer { status: parts.status, headers: parts.headers, body })
}

/// `GET`.
///
/// # Errors
///
/// As [`request`].
pub async fn get(address: &str, path: &str) -> anyhow::Result<Answer> {
    request(address, Method::GET, path, &[], Bytes::new()).await
}

/// `POST` of JSON.
///
/// # Errors
///
/// As [`request`].
pub async fn post(address: &str, path: &str, body: &Value) -> anyhow::Result<Answer> {
    let headers = [("content-type", "application/json")];
    request(address, Method::POST, path, &headers, body.to_string()).await
}

/// Sends bytes as they are and reads until the other side closes, or for `wait`. Returns what was read, and
/// whether the other side closed.
///
/// # Errors
///
/// No connection.
pub async fn raw(address: &str, bytes: &[u8], wait: Duration) -> anyhow::Result<(Vec<u8>, bool)> {
    let mut stream = TcpStream::connect(address).await?;
    // A server that has seen enough may close before everything is written.
    stream.write_all(bytes).await.ok();
    let mut answer = Vec::new();
    // A reset is an end as well.
    let closed = tokio::time::timeout(wait, stream.read_to_end(&mut answer)).await.is_ok();
    Ok((answer, closed))
}

/// The sum of a Prometheus metric over all label sets that contain `labels`, as text in `page`.
#[must_use]
pub fn metric(page: &str, name: &str, labels: &str) -> f64 {
    let belongs = |line: &&str| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])) && line.contains(labels)
    };
    page.lines().filter(belongs).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}
