//! One connection, from its handshake to its polite end.

use std::{
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::oneshot,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::{config::ServerConfig, dispatch::Dispatch, served::Served};
use crate::{auth, clock::Random, tls::Identity};

/// For the TLS handshake.
const TLS_TIMEOUT: Duration = Duration::from_secs(5);
/// When the server drains, for peers that have connected but said nothing yet: their preface may be under way.
const LAST_PREFACE: Duration = Duration::from_millis(100);
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// What a peer may send on one call before we have read it. A stream of small messages, each in a frame of its own, may fill
/// it: h2 takes frames below 256 bytes that lie unread for an attack once they exceed a budget of half the
/// [`CONNECTION_WINDOW`], and ends the connection with all of its calls. So this is small against that: frames of 41 bytes,
/// a usual check, fill it on 97 calls at a time before that.
const STREAM_WINDOW: u32 = 64 << 10;
/// And on all calls of a connection: 1,024 of them. This bounds what lies unread, no more: an unfinished message
/// is read as it comes, and the window is given back. What a connection can make us hold of those is
/// `max_concurrent_streams` x `max_message_bytes`: of unary calls for `request_timeout`, of streams while they last. Answers
/// that it does not take are not bounded in time either; of unary calls there are as many as `max_concurrent_streams`.
const CONNECTION_WINDOW: u32 = 64 << 20;

/// How the connections of a server are served.
pub(super) struct Connections {
    http2: http2::Builder<TokioExecutor>,
    identity: Option<Arc<Identity>>,
    /// For the HTTP/2 preface; after it, keepalive watches over the peer.
    preface_timeout: Duration,
    max_age: Duration,
    age_grace: Duration,
    drain: CancellationToken,
    random: Random,
}

/// Why a connection never came to be.
#[derive(Debug)]
pub(super) struct HandshakeFailed;

impl Connections {
    pub(super) fn new(
        config: &ServerConfig,
        identity: Option<Arc<Identity>>,
        drain: CancellationToken,
        random: Random,
    ) -> Self {
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .keep_alive_interval(config.keepalive_interval.get())
            .keep_alive_timeout(config.keepalive_timeout.get())
            .max_concurrent_streams(config.max_concurrent_streams)
            .max_header_list_size(config.max_header_bytes)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            // No gRPC client reads it.
            .auto_date_header(false);
        let (max_age, age_grace) = (config.max_connection_age.get(), config.max_connection_age_grace.get());
        let preface_timeout = config.request_timeout.get();
        Self { http2, identity, preface_timeout, max_age, age_grace, drain, random }
    }

    /// Serves until the peer leaves, the connection is too old, or the server drains.
    pub(super) async fn serve<S>(
        &self,
        stream: TcpStream,
        mut dispatch: Dispatch<S>,
    ) -> Result<(), HandshakeFailed>
    where
        S: Served,
    {
        match &self.identity {
            None => self.serve_io(stream, dispatch).await,
            Some(identity) => {
                let handshake = TlsAcceptor::from(identity.current()).accept(stream);
                match self.drain.run_until_cancelled(timeout(TLS_TIMEOUT, handshake)).await {
                    Some(Ok(Ok(stream))) => {
                        let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
                        if let Some(certificate) = certificates.first() {
                            dispatch.certified(&auth::names(certificate));
                        }
                        self.serve_io(stream, dispatch).await
                    }
                    Some(Ok(Err(error))) => {
                        tracing::debug!(%error, "TLS handshake failed");
                        Err(HandshakeFailed)
                    }
                    Some(Err(_)) => Err(HandshakeFailed),
                    None => Ok(()),
                }
            }
        }
    }

    async fn serve_io<S, I>(&self, io: I, dispatch: Dispatch<S>) -> Result<(), HandshakeFailed>
    where
        S: Served,
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let has_preface = Arc::new(AtomicBool::new(false));
        let io = Watched { io, missing: PREFACE, has_preface: Arc::clone(&has_preface) };
        let mut connection = pin!(self.http2.serve_connection(TokioIo::new(io), dispatch));
        let mut event = self.watch_over(Arc::clone(&has_preface));
        tokio::select! {
            biased;
            // The peer reset it or broke the protocol; its calls have ended as cancelled.
            _ = connection.as_mut() => {
                return if has_preface.load(Ordering::Relaxed) { Ok(()) } else { Err(HandshakeFailed) };
            }
            event = &mut event => match event {
                Ok(Event::NoPreface) => return Err(HandshakeFailed),
                Ok(Event::TooOld) | Err(_) => {}
                Ok(Event::Drain) => {
                    connection.as_mut().graceful_shutdown();
                    // hyper would wait for the preface of a peer that may never mean to send one.
                    if !has_preface.load(Ordering::Relaxed) {
                        let ended = timeout(LAST_PREFACE, connection.as_mut()).await.is_ok();
                        if ended || !has_preface.load(Ordering::Relaxed) {
                            return Ok(());
                        }
                    }
                    // The worker drops what outlives the drain timeout.
                    let _ = connection.await;
                    return Ok(());
                }
            }
        }
        connection.as_mut().graceful_shutdown();
        let _ = timeout(self.age_grace, connection).await;
        Ok(())
    }

    /// Waits for what ends a connection from outside, in a task of its own: the connection's task
    /// then looks at one flag whenever it is woken, rather than at a token and two timers.
    fn watch_over(&self, has_preface: Arc<AtomicBool>) -> oneshot::Receiver<Event> {
        let (mut tell, told) = oneshot::channel();
        let drain = self.drain.clone();
        let preface_timeout = self.preface_timeout;
        let max_age =
            (!self.max_age.is_zero()).then(|| self.max_age.mul_f64(0.9 + 0.2 * self.random.unit_f64()));
        tokio::spawn(async move {
            let preface = async {
                sleep(preface_timeout).await;
                if has_preface.load(Ordering::Relaxed) {
                    std::future::pending::<()>().await;
                }
            };
            let age = async {
                match max_age {
                    Some(max_age) => sleep(max_age).await,
                    None => std::future::pending().await,
                }
            };
            let event = tokio::select! {
                () = tell.closed() => return,
                () = drain.cancelled() => Event::Drain,
                () = age => Event::TooOld,
                () = preface => Event::NoPreface,
            };
            // The connection may have ended meanwhile.
            let _ = tell.send(event);
        });
        told
    }
}

#[derive(Debug)]
enum Event {
    NoPreface,
    TooOld,
    Drain,
}

/// Tells when the HTTP/2 preface has come, and fails at the first byte that is not of it.
struct Watched<I> {
    io: I,
    missing: &'static [u8],
    has_preface: Arc<AtomicBool>,
}

impl<I: AsyncRead + Unpin> AsyncRead for Watched<I> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let polled = Pin::new(&mut this.io).poll_read(cx, buffer);
        if !this.missing.is_empty() {
            let new = &buffer.filled()[before..];
            let (expected, missing) = this.missing.split_at(new.len().min(this.missing.len()));
            if !new.starts_with(expected) {
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
            this.missing = missing;
            this.has_preface.store(missing.is_empty(), Ordering::Relaxed);
        }
        polled
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Watched<I> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, parts)
    }

    /// Not before the preface, which is when h2 asks for the first time, and decides by it from what size on the data of a frame are not copied: to
    /// 256 bytes, or to 1,024 if this is false. What is not copied cannot wait for what comes next, so that each answer from 256 bytes on, as
    /// those of checks by API key, would be a write of its own. Once it writes it asks again, and what is large goes out as it lies.
    fn is_write_vectored(&self) -> bool {
        self.missing.is_empty() && self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
