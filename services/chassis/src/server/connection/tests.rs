use std::sync::atomic::AtomicUsize;

use bytes::Bytes;
use http::{Request, Response};
use tokio::io::DuplexStream;

use super::*;

const CALLS: usize = 64;
/// More than h2 copies if it is told of vectored writes at once, and less than it does otherwise.
const ANSWER: usize = 400;

/// Counts writes.
struct Counted {
    io: DuplexStream,
    writes: Arc<AtomicUsize>,
}

impl AsyncRead for Counted {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.get_mut().io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn answers_that_are_ready_together_leave_together() {
    let (here, there) = tokio::io::duplex(1 << 20);
    let writes = Arc::new(AtomicUsize::new(0));
    let io = Counted { io: here, writes: Arc::clone(&writes) };
    let io = Watched { io, missing: PREFACE, has_preface: Arc::default() };
    let counted = Arc::clone(&writes);
    tokio::spawn(async move {
        let mut connection = h2::server::handshake(io).await.unwrap();
        let mut calls = Vec::new();
        while calls.len() < CALLS {
            calls.push(connection.accept().await.unwrap().unwrap().1);
        }
        for mut call in calls {
            let mut body = call.send_response(Response::new(()), false).unwrap();
            body.send_data(Bytes::from(vec![0; ANSWER]), true).unwrap();
        }
        counted.store(0, Ordering::Relaxed);
        while connection.accept().await.is_some() {}
    });

    let (mut sender, connection) = h2::client::handshake(there).await.unwrap();
    tokio::spawn(connection);
    let mut answers = Vec::new();
    for _ in 0..CALLS {
        sender = sender.ready().await.unwrap();
        answers.push(sender.send_request(Request::new(()), true).unwrap().0);
    }
    for answer in answers {
        let mut body = answer.await.unwrap().into_body();
        let mut bytes = 0;
        while let Some(data) = body.data().await {
            bytes += data.unwrap().len();
        }
        assert_eq!(bytes, ANSWER);
    }
    let writes = writes.load(Ordering::Relaxed);
    assert!((1..=8).contains(&writes), "{writes} writes for {CALLS} answers");
}
