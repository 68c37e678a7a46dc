//! HTTP/2 connections for the generator, on the `h2` crate itself: a call costs a fraction of what
//! a full gRPC client would take, so that one core can saturate a server core.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::Context;
use bytes::Bytes;
use h2::{
    RecvStream,
    client::{ResponseFuture, SendRequest},
};
use http::{HeaderMap, HeaderValue, Method, Request, header::AUTHORIZATION};
use tokio::net::TcpStream;

use super::wire::{Decided, Deframer, Malformed};
use crate::client::Bearer;

/// Received but not yet acknowledged bytes that a server may have under way, per stream and per
/// connection: so much that flow control never decides how fast an answer comes.
const RECEIVE_WINDOW: u32 = 1 << 24;

/// Where a server is and which path of it is called.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) addr: SocketAddr,
    /// The head of every call; cloned, never built again.
    pub(crate) head: Request<()>,
}

impl Target {
    /// Resolves `addr`, `HOST:PORT` with or without `http://`, and prepares the head, with the token if there is one.
    ///
    /// # Errors
    /// The address cannot be resolved.
    pub(crate) async fn resolve(addr: &str, path: &str, bearer: &Bearer) -> anyhow::Result<Self> {
        let authority = addr.strip_prefix("http://").unwrap_or(addr).trim_end_matches('/');
        let resolved = tokio::net::lookup_host(authority)
            .await
            .with_context(|| format!("--addr {addr}: write HOST:PORT"))?
            .next()
            .with_context(|| format!("--addr {addr}: the name has no address"))?;
        let mut head = Request::builder()
            .method(Method::POST)
            .uri(format!("http://{authority}{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .with_context(|| format!("--addr {addr}: write HOST:PORT"))?;
        if let Some(token) = bearer.header() {
            head.headers_mut().insert(AUTHORIZATION, token);
        }
        Ok(Self { addr: resolved, head })
    }
}

/// Why a call brought no decision.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The server answered with an error status.
    #[error("{message}")]
    Status { code: tonic::Code, message: String },
    /// The connection could not be made or broke.
    #[error("{0}")]
    Transport(String),
    /// The server answered something else.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

impl From<h2::Error> for Failure {
    fn from(error: h2::Error) -> Self {
        Self::Transport(error.to_string())
    }
}

/// One connection that is made again when it goes.
pub(crate) struct Line {
    target: Target,
    sender: Mutex<SendRequest<Bytes>>,
    /// Held while connecting, so that many waiting calls make one connection.
    connecting: tokio::sync::Mutex<()>,
}

impl Line {
    /// Connects. The connection lives on the calling runtime.
    ///
    /// # Errors
    /// Nobody listens, or what listens does not speak HTTP/2 in plain text.
    pub(crate) async fn connect(target: Target) -> anyhow::Result<Arc<Self>> {
        let sender = connect(target.addr)
            .await
            .with_context(|| format!("cannot speak HTTP/2 with {} (is the server running?)", target.addr))?;
        Ok(Arc::new(Self { target, sender: Mutex::new(sender), connecting: tokio::sync::Mutex::default() }))
    }

    /// A handle that has room for one more call, on a new connection if the old one has gone.
    ///
    /// # Errors
    /// The server cannot be reached; it has then waited a little, so that callers may try at once.
    pub(crate) async fn ready(&self) -> Result<SendRequest<Bytes>, Failure> {
        if let Ok(sender) = self.sender().ready().await {
            return Ok(sender);
        }
        let _one_at_a_time = self.connecting.lock().await;
        // Another call may have connected while this one waited.
        if let Ok(sender) = self.sender().ready().await {
            return Ok(sender);
        }
        match connect(self.target.addr).await {
            Ok(sender) => {
                *self.sender.lock().expect("nothing panics while it holds the lock") = sender.clone();
                Ok(sender.ready().await?)
            }
            Err(error) => {
                tokio::time::sleep(Duration::from_millis(10)).await;
                Err(Failure::Transport(format!("{error:#}")))
            }
        }
    }

    /// Sends one message and reads the whole answer.
    pub(crate) async fn call(
        &self,
        sender: &mut SendRequest<Bytes>,
        message: Bytes,
        decode: fn(&[u8]) -> Result<Decided, Malformed>,
    ) -> Result<Decided, Failure> {
        let (response, mut send) = sender.send_request(self.target.head.clone(), false)?;
        send.send_data(message, true)?;
        let mut body = Answers::begin(response).await?;
        let mut decided = Decided::default();
        while body
            .next(|message| {
                decided = decode(message)?;
                Ok(())
            })
            .await?
        {}
        Ok(decided)
    }

    /// Opens a stream: the sending half, and the answer to come.
    pub(crate) fn open(
        &self,
        sender: &mut SendRequest<Bytes>,
    ) -> Result<(ResponseFuture, h2::SendStream<Bytes>), Failure> {
        Ok(sender.send_request(self.target.head.clone(), false)?)
    }

    fn sender(&self) -> SendRequest<Bytes> {
        self.sender.lock().expect("nothing panics while it holds the lock").clone()
    }
}

/// The messages of one answer.
pub(crate) struct Answers {
    body: RecvStream,
    deframer: Deframer,
}

impl Answers {
    /// Waits for the head of the answer.
    ///
    /// # Errors
    /// An error status without a body, or a broken connection.
    pub(crate) async fn begin(response: ResponseFuture) -> Result<Self, Failure> {
        let (head, body) = response.await?.into_parts();
        if head.status != http::StatusCode::OK {
            return Err(Failure::Transport(format!("HTTP status {}", head.status)));
        }
        if head.headers.contains_key("grpc-status") {
            status(&head.headers)?;
        }
        Ok(Self { body, deframer: Deframer::default() })
    }

    /// Calls `each` with the messages of the next chunk. False once the answer has ended well.
    ///
    /// # Errors
    /// The answer ended with an error status, `each` failed, or the connection broke.
    pub(crate) async fn next(
        &mut self,
        each: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<bool, Failure> {
        if let Some(chunk) = self.body.data().await {
            let chunk = chunk?;
            self.body.flow_control().release_capacity(chunk.len())?;
            self.deframer.push(&chunk, each)?;
            return Ok(true);
        }
        if let Some(trailers) = self.body.trailers().await? {
            status(&trailers)?;
        }
        Ok(false)
    }
}

/// Reads `grpc-status`.
fn status(headers: &HeaderMap) -> Result<(), Failure> {
    match headers.get("grpc-status").map(HeaderValue::as_bytes) {
        Some(b"0") => Ok(()),
        Some(code) => {
            let message = headers.get("grpc-message").map(|text| String::from_utf8_lossy(text.as_bytes()));
            Err(Failure::Status {
                code: tonic::Code::from_bytes(code),
                message: message.unwrap_or_default().into_owned(),
            })
        }
        None => Err(Failure::Malformed(Malformed)),
    }
}

async fn connect(addr: SocketAddr) -> anyhow::Result<SendRequest<Bytes>> {
    let stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = h2::client::Builder::new()
        .initial_window_size(RECEIVE_WINDOW)
        .initial_connection_window_size(RECEIVE_WINDOW)
        .enable_push(false)
        .handshake(stream)
        .await?;
    // How a connection ends shows in the calls on it.
    tokio::spawn(async move { connection.await.ok() });
    Ok(sender)
}
