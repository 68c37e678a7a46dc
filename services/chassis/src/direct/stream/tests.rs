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
use crate::direct::tests::{Echo, LATER, anybody, echoes};

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
    Stream::new(echo(&Echo::default()), body)
}

fn echo(methods: &Echo) -> Answers<Echo> {
    Answers { methods: methods.clone(), method: (), caller: anybody(), max_message_bytes: 1 << 20 }
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

/// Those messages, each in its frame.
fn said(said: &[&[u8]]) -> Bytes {
    let mut messages = Vec::new();
    for said in said {
        let message = frame(&mut messages, |buffer| {
            buffer.extend_from_slice(said);
            Ok::<_, Status>(())
        });
        message.unwrap();
    }
    messages.into()
}

/// The messages that one poll answered, and whether each had waited.
fn heard<B>(stream: &mut Stream<Echo, B>) -> Vec<(String, bool)>
where
    B: Body<Data = Bytes, Error: Display> + Unpin,
{
    match poll(stream).0 {
        Poll::Ready(Some(Ok(frame))) => {
            let answers = frame.into_data().expect("answers");
            let heard = echoes(&answers).into_iter();
            heard.map(|(turn, said)| (String::from_utf8(said.to_vec()).unwrap(), turn == LATER)).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn answers_behind_one_that_waits_are_ready_when_it_is_and_keep_their_order() {
    let methods = Echo::default();
    let body = Full::new(said(&[b"one", b"wait a", b"two", b"wait b", b"three"]));
    let mut stream = Stream::new(echo(&methods), body);
    let of = |said: &str, waited| (said.to_owned(), waited);
    assert_eq!(heard(&mut stream), [of("one", false)]);
    assert!(poll(&mut stream).0.is_pending());
    methods.released.add_permits(1);
    assert_eq!(heard(&mut stream), [of("wait a", true), of("two", false)]);
    let (polled, woken) = poll(&mut stream);
    assert!(polled.is_pending() && !woken, "{polled:?}");
    methods.released.add_permits(1);
    assert_eq!(heard(&mut stream), [of("wait b", true), of("three", false)]);
    assert!(matches!(poll(&mut stream).0, Poll::Ready(Some(Ok(frame))) if frame.is_trailers()));
}

#[test]
fn messages_are_taken_up_behind_one_that_waits_up_to_a_bound() {
    let methods = Echo::default();
    let mut all: Vec<&[u8]> = vec![b"wait"];
    all.resize(2 * MOST_OWED, b"more");
    let mut stream = Stream::new(echo(&methods), Full::new(said(&all)));
    // A turn each, in between of which others have theirs.
    for _ in 0..2 * MOST_OWED {
        assert!(poll(&mut stream).0.is_pending());
    }
    assert_eq!(stream.owed.answers.len(), MOST_OWED);
    methods.released.add_permits(1);
    let mut answers = 0;
    while answers < all.len() {
        if let (Poll::Ready(Some(Ok(frame))), _) = poll(&mut stream) {
            answers += echoes(&frame.into_data().expect("answers")).len();
        }
    }
    assert!(stream.owed.is_empty());
}

#[rstest::rstest]
#[case::that_wait(b"wait")]
#[case::that_are_answered_behind_one_that_waits(b"more")]
fn messages_are_taken_up_until_the_stream_holds_64_kib_of_those(#[case] word: &[u8]) {
    let methods = Echo::default();
    let mut long = word.to_vec();
    long.resize(10_000, b'.');
    let mut all: Vec<&[u8]> = vec![b"wait"];
    all.resize(20, &long);
    let mut stream = Stream::new(echo(&methods), Full::new(said(&all)));
    for _ in 0..2 * all.len() {
        assert!(poll(&mut stream).0.is_pending());
    }
    assert_eq!(stream.owed.answers.len(), 1 + 7, "{} bytes are held", stream.owed.held_bytes);
    methods.released.add_permits(all.len());
    let mut answers = Vec::new();
    while answers.len() < all.len() {
        if let (Poll::Ready(Some(Ok(frame))), _) = poll(&mut stream) {
            answers.extend(
                echoes(&frame.into_data().expect("answers")).into_iter().map(|(_, said)| said.to_vec()),
            );
        }
    }
    assert_eq!(answers, all);
    assert_eq!((stream.owed.held_bytes, stream.owed.held.len()), (0, 0));
}

#[test]
fn fault_behind_an_answer_that_waits_ends_the_stream_after_it() {
    let methods = Echo::default();
    let mut stream = Stream::new(echo(&methods), Full::new(said(&[b"wait", b"one", b"refuse", b"two"])));
    assert!(poll(&mut stream).0.is_pending());
    methods.released.add_permits(1);
    assert_eq!(heard(&mut stream), [("wait".to_owned(), true), ("one".to_owned(), false)]);
    match poll(&mut stream).0 {
        Poll::Ready(Some(Ok(frame))) => {
            let status = Status::from_header_map(&frame.into_trailers().expect("trailers")).unwrap();
            assert_eq!(status.code(), tonic::Code::NotFound);
        }
        other => panic!("{other:?}"),
    }
}
