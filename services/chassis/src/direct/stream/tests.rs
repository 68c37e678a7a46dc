use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Wake, Waker},
};

use http_body_util::{BodyExt, Full};
use tokio::sync::mpsc;

use super::*;
use crate::direct::tests::{Echo, echoes};

/// Whether it was woken.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

type Polled = Poll<Option<Result<Frame<Bytes>, Status>>>;

/// Polls once; whether it was woken meanwhile.
fn poll<B>(stream: &mut Stream<Echo, B>) -> (Polled, bool)
where
    B: Body<Data = Bytes, Error: Display> + Unpin,
{
    let woken = Arc::new(Woken::default());
    let polled = Pin::new(stream).poll_frame(&mut Context::from_waker(&Waker::from(Arc::clone(&woken))));
    (polled, woken.0.load(Ordering::Relaxed))
}

/// Answers of one poll.
fn answered<B>(stream: &mut Stream<Echo, B>) -> usize
where
    B: Body<Data = Bytes, Error: Display> + Unpin,
{
    match poll(stream).0 {
        Poll::Ready(Some(Ok(frame))) => {
            let answers = frame.into_data().expect("answers");
            let echoes = echoes(&answers);
            assert!(echoes.iter().all(|(turn, _)| *turn == echoes[0].0), "a frame is one turn: {echoes:?}");
            echoes.len()
        }
        other => panic!("{other:?}"),
    }
}

fn messages(count: usize, bytes: usize) -> Bytes {
    let mut messages = Vec::new();
    for _ in 0..count {
        let message = frame(&mut messages, |buffer| {
            buffer.resize(buffer.len() + bytes, 7);
            Ok::<_, Status>(())
        });
        message.unwrap();
    }
    messages.into()
}

fn stream<B>(body: B) -> Stream<Echo, B>
where
    B: Body<Data = Bytes, Error: Display> + Unpin,
{
    Stream::new(Echo::default(), (), body, 1 << 20)
}

#[test]
fn others_have_their_turn_after_each_of_ours() {
    let mut stream = stream(Full::new(messages(ANSWERS_PER_TURN + 1, 10)));
    assert_eq!(answered(&mut stream), ANSWERS_PER_TURN);
    let (polled, woken) = poll(&mut stream);
    assert!(polled.is_pending() && woken, "{polled:?}");
    assert_eq!(answered(&mut stream), 1);
    assert!(matches!(poll(&mut stream).0, Poll::Ready(Some(Ok(frame))) if frame.is_trailers()));
    assert!(stream.is_end_stream());
    assert!(matches!(poll(&mut stream).0, Poll::Ready(None)));
}

#[test]
fn turn_ends_when_its_answers_are_long() {
    let mut stream = stream(Full::new(messages(20, 10_000)));
    assert_eq!(answered(&mut stream), 4);
    assert!(poll(&mut stream).0.is_pending());
    assert_eq!(answered(&mut stream), 4);
}

#[test]
fn stream_that_rests_holds_nothing() {
    let (send, receive) = mpsc::unbounded_channel::<Result<Frame<Bytes>, Status>>();
    let body = http_body_util::StreamBody::new(tokio_stream(receive));
    let mut stream = stream(body.boxed_unsync());
    let message = messages(1, 10_000);
    for piece in [message.slice(..7), message.slice(7..)] {
        send.send(Ok(Frame::data(piece))).unwrap();
    }
    assert_eq!(answered(&mut stream), 1);
    let (polled, woken) = poll(&mut stream);
    assert!(polled.is_pending() && !woken, "it waits for the next message: {polled:?}");
    assert!(stream.request.received.bytes().is_empty());
    send.send(Ok(Frame::data(messages(1, 3)))).unwrap();
    assert_eq!(answered(&mut stream), 1);
    drop(send);
    assert!(matches!(poll(&mut stream).0, Poll::Ready(Some(Ok(frame))) if frame.is_trailers()));
}

fn tokio_stream<T>(mut receive: mpsc::UnboundedReceiver<T>) -> impl futures_util::Stream<Item = T> {
    futures_util::stream::poll_fn(move |context| receive.poll_recv(context))
}

#[test]
fn request_that_breaks_off_is_cancelled_after_the_answers_owed() {
    let frames = [Ok(Frame::data(messages(2, 10))), Err("the connection was lost")];
    let mut stream = stream(http_body_util::StreamBody::new(futures_util::stream::iter(frames)));
    assert_eq!(answered(&mut stream), 2);
    match poll(&mut stream).0 {
        Poll::Ready(Some(Ok(frame))) => {
            let trailers = frame.into_trailers().expect("trailers");
            let status = Status::from_header_map(&trailers).expect("a status");
            assert_eq!(status.code(), tonic::Code::Cancelled);
            assert!(status.message().contains("the connection was lost"), "{status:?}");
        }
        other => panic!("{other:?}"),
    }
}
