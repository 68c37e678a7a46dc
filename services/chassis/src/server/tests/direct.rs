//! Calls that are answered without the generated service, and those that are not.

use std::time::Duration;

use bytes::Bytes;
use h2::SendStream;
use http::HeaderMap;
use rstest::rstest;
use tonic::Code;

use super::fixture::{
    Answer, CHECK, Running, STREAM, answer, check, eventually, framed, rest, start_with, told, within,
};
use crate::{
    direct::{
        ANSWERS_PER_TURN, Direct,
        tests::{Echo, echoes},
    },
    server::ServerConfig,
};

const MAX_MESSAGE_BYTES: usize = 40_000;
const ADMITTED: [u8; 2] = [8, 1];

async fn start() -> Running {
    start_and(|_| {}).await
}

async fn start_and(set: impl FnOnce(&mut ServerConfig)) -> Running {
    let make = |gate: &_| {
        let service = told(gate).max_decoding_message_size(MAX_MESSAGE_BYTES);
        Direct::new(Echo::default(), service, MAX_MESSAGE_BYTES)
    };
    let set = |config: &mut ServerConfig| {
        config.max_in_flight = 1;
        set(config);
    };
    start_with(set, make).await
}

fn messages(answer: &Answer) -> Vec<&[u8]> {
    echoes(&answer.messages).into_iter().map(|(_, message)| message).collect()
}

/// Sends `bytes` as frames of these lengths, and what is left as another.
fn send(request: &mut SendStream<Bytes>, bytes: &[u8], lengths: &[usize], then_end: bool) {
    let mut rest = bytes;
    for length in lengths {
        let (piece, behind) = rest.split_at(*length);
        request.send_data(Bytes::copy_from_slice(piece), false).unwrap();
        rest = behind;
    }
    request.send_data(Bytes::copy_from_slice(rest), then_end).unwrap();
}

async fn sent(running: &Running, path: &str, bytes: &[u8], lengths: &[usize]) -> Answer {
    let (response, mut request) = running.client().await.begin(path, &[]).await;
    send(&mut request, bytes, lengths, true);
    answer(response).await
}

#[rstest]
#[case::whole(&[])]
#[case::prefix_apart(&[5])]
#[case::within_the_prefix(&[3, 4])]
#[case::in_pieces(&[1, 1, 1, 1, 1, 1, 1, 1])]
#[case::end_apart(&[11])]
#[tokio::test]
async fn message_is_answered_wherever_it_is_cut(#[case] lengths: &[usize]) {
    let server = start().await;
    let answer = sent(&server, CHECK, &framed(b"a word"), lengths).await;
    assert_eq!((answer.status.code(), messages(&answer)), (Code::Ok, vec![&b"a word"[..]]));
    assert_eq!(server.ended("Check", "OK"), 1);
}

#[tokio::test]
async fn empty_message_and_the_longest_are_answered() {
    let server = start().await;
    let longest = vec![7; MAX_MESSAGE_BYTES];
    for message in [&[][..], &longest] {
        let answer = sent(&server, CHECK, &framed(message), &[]).await;
        assert!(answer.status.code() == Code::Ok && messages(&answer) == [message], "{:?}", answer.status);
        let answer = sent(&server, STREAM, &framed(message), &[]).await;
        assert!(answer.status.code() == Code::Ok && messages(&answer) == [message], "{:?}", answer.status);
    }
}

#[tokio::test]
async fn uncompressed_by_name_is_answered_and_compressed_is_left_to_the_service() {
    let server = start().await;
    let client = server.client().await;
    let answer = client.call(CHECK, b"word", &[("grpc-encoding", "identity")]).await;
    assert_eq!(messages(&answer), [b"word"]);
    for path in [CHECK, STREAM] {
        let answer = client.call(path, b"word", &[("grpc-encoding", "gzip")]).await;
        assert_eq!((answer.status.code(), &answer.messages[..]), (Code::Unimplemented, &[][..]), "{path}");
    }
}

#[tokio::test]
async fn request_that_is_not_one_whole_message_is_answered_by_the_service_as_it_came() {
    let server = start().await;
    let one = framed(&check("word"));
    let two = [&one[..], &one].concat();
    let long = framed(&vec![0; MAX_MESSAGE_BYTES + 1]);
    let compressed = [&[1], &one[1..]].concat();
    for (what, bytes, code) in [
        ("nothing", &[][..], Code::Internal),
        ("half a prefix", &one[..3], Code::Internal),
        ("half a message", &one[..9], Code::Internal),
        ("compressed", &compressed, Code::Internal),
        ("too long", &long, Code::OutOfRange),
        // The service answers the first.
        ("two messages", &two, Code::Ok),
    ] {
        for lengths in [&[][..], &[bytes.len() / 2]] {
            let answer = sent(&server, CHECK, bytes, lengths).await;
            assert_eq!(answer.status.code(), code, "{what}: {:?}", answer.status);
            let expected = if code == Code::Ok { framed(&ADMITTED) } else { Bytes::new() };
            assert_eq!(answer.messages, expected, "{what}");
        }
    }
}

#[tokio::test]
async fn other_methods_are_the_services() {
    let server = start().await;
    let answer = sent(&server, "/tidegate.ratelimit.v1.RateLimitService/Peek", &framed(&[]), &[]).await;
    assert_eq!(answer.status.code(), Code::Unimplemented);
}

#[rstest]
#[case::together(&[])]
#[case::each_cut_in_two(&[7, 9, 9, 9])]
#[case::two_at_a_time(&[18, 18])]
#[tokio::test]
async fn messages_of_a_stream_are_answered_in_order_wherever_they_are_cut(#[case] lengths: &[usize]) {
    let server = start().await;
    let words = [b"ones", b"twos", b"tris", b"four", b"five"];
    let bytes = words.map(|word| framed(word)).concat();
    let answer = sent(&server, STREAM, &bytes, lengths).await;
    assert_eq!((answer.status.code(), messages(&answer)), (Code::Ok, words.map(|word| &word[..]).to_vec()));
    assert_eq!(server.ended("CheckStream", "OK"), 1);
}

#[tokio::test]
async fn answers_come_while_the_stream_is_open() {
    let server = start().await;
    let (response, mut request) = server.client().await.begin(STREAM, &[]).await;
    let mut answers = within(response).await.unwrap().into_body();
    for word in [&b"one"[..], b"two"] {
        request.send_data(framed(word), false).unwrap();
        let answer = within(answers.data()).await.unwrap().unwrap();
        assert_eq!(&answer[9..], word);
    }
    drop(request);
}

#[tokio::test]
async fn messages_that_came_together_are_answered_in_turns_of_few() {
    let server = start().await;
    let bytes: Vec<u8> = (0..1_000_u32).flat_map(|number| framed(&number.to_be_bytes())).collect();
    let answer = sent(&server, STREAM, &bytes, &[]).await;
    let echoes = echoes(&answer.messages);
    assert!(
        echoes.iter().map(|(_, message)| *message).eq((0..1_000_u32).map(u32::to_be_bytes)),
        "{echoes:?}"
    );
    let turns: Vec<_> = echoes.chunk_by(|a, b| a.0 == b.0).map(<[_]>::len).collect();
    assert!(turns.iter().all(|turn| *turn <= ANSWERS_PER_TURN), "{turns:?}");
    assert!(turns.len() < 100, "what came together is answered together: {turns:?}");
}

#[rstest]
#[case::refused(&framed(b"refuse"), Code::NotFound)]
#[case::cut(&framed(b"a word")[..8], Code::Internal)]
#[case::cut_after_the_prefix(&framed(b"a word")[..5], Code::Internal)]
#[case::cut_in_the_prefix(&[0, 0], Code::Internal)]
#[case::compressed(&[1, 0, 0, 0, 0], Code::Internal)]
#[case::too_long(&framed(&vec![0; MAX_MESSAGE_BYTES + 1])[..5], Code::OutOfRange)]
#[tokio::test]
async fn fault_ends_a_stream_after_the_answers_owed(#[case] fault: &[u8], #[case] code: Code) {
    let server = start().await;
    let bytes = [&framed(b"one"), &framed(b"two"), fault].concat();
    let answer = sent(&server, STREAM, &bytes, &[]).await;
    assert_eq!((answer.status.code(), messages(&answer)), (code, vec![&b"one"[..], b"two"]));
    let answer = sent(&server, STREAM, &framed(b"one"), &[]).await;
    assert_eq!(answer.status.code(), Code::Ok, "its place is free again");
}

#[tokio::test]
async fn refusal_of_a_message_is_the_status_of_its_call() {
    let server = start().await;
    let answer = sent(&server, CHECK, &framed(b"refuse"), &[]).await;
    assert_eq!((answer.status.code(), answer.status.message()), (Code::NotFound, "as told"));
    assert!(answer.messages.is_empty(), "nothing of a refused answer is sent");
    assert_eq!(server.ended("Check", "NOT_FOUND"), 1);
}

#[tokio::test]
async fn panic_is_answered_internal_and_gives_its_place_back() {
    let server = start().await;
    for path in [CHECK, STREAM, CHECK] {
        let answer = sent(&server, path, &framed(b"panic"), &[]).await;
        assert_eq!((answer.status.code(), answer.reason().as_str()), (Code::Internal, "INTERNAL"), "{path}");
    }
}

#[tokio::test]
async fn caller_that_takes_no_answers_is_read_no_further() {
    let server = start().await;
    let (response, mut request) = server.client().await.begin(STREAM, &[]).await;
    let response = within(response).await.unwrap();
    // More than the server takes in unread, and more than it sends unasked.
    let mut sent = 0_usize;
    let message = framed(&[7; 8_000]);
    while sent < 16 << 20 {
        request.reserve_capacity(message.len());
        let granted = std::future::poll_fn(|context| request.poll_capacity(context));
        match tokio::time::timeout(Duration::from_millis(300), granted).await {
            Ok(Some(Ok(bytes))) if bytes >= message.len() => {
                request.send_data(message.clone(), false).unwrap();
                sent += message.len();
            }
            Ok(Some(Ok(_))) => {}
            Ok(other) => panic!("the stream ended: {other:?}"),
            Err(_) => break,
        }
    }
    assert!(sent < 4 << 20, "{sent} bytes were taken in of a caller that reads nothing");
    request.send_data(Bytes::new(), true).unwrap();
    let answer = rest(response).await;
    assert_eq!((answer.status.code(), messages(&answer).len()), (Code::Ok, sent / message.len()));
}

#[rstest]
#[tokio::test]
async fn message_may_take_its_time(#[values(CHECK, STREAM)] path: &str) {
    let server = start().await;
    let (response, mut request) = server.client().await.begin(path, &[]).await;
    let message = framed(b"a word");
    for piece in [&message[..3], &message[3..8], &message[8..]] {
        request.send_data(Bytes::copy_from_slice(piece), false).unwrap();
        // Time for the server to find that this is not all. Without it the test would pass too, and meet that by chance only.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    request.send_data(Bytes::new(), true).unwrap();
    let answer = answer(response).await;
    assert_eq!((answer.status.code(), messages(&answer)), (Code::Ok, vec![&b"a word"[..]]));
}

#[rstest]
#[tokio::test]
async fn trailers_of_a_request_end_it(#[values(CHECK, STREAM)] path: &str) {
    let server = start().await;
    let (response, mut request) = server.client().await.begin(path, &[]).await;
    request.send_data(framed(b"a word"), false).unwrap();
    let trailers = HeaderMap::from_iter([(http::header::ETAG, http::HeaderValue::from_static("x"))]);
    request.send_trailers(trailers).unwrap();
    let answer = answer(response).await;
    assert_eq!((answer.status.code(), messages(&answer)), (Code::Ok, vec![&b"a word"[..]]));
}

#[tokio::test]
async fn request_that_never_ends_is_not_waited_for() {
    let server = start_and(|config| config.request_timeout = Duration::from_millis(100).into()).await;
    let client = server.client().await;
    for message in [&framed(b"a word")[..], &[0, 0, 0, 0x10, 0]] {
        let (response, mut request) = client.begin(CHECK, &[]).await;
        request.send_data(Bytes::copy_from_slice(message), false).unwrap();
        assert_eq!(answer(response).await.status.code(), Code::DeadlineExceeded);
    }
    assert_eq!(client.check("").await.status.code(), Code::Ok, "its place is free again");
}

#[tokio::test]
async fn stream_that_outlasts_its_callers_deadline_ends_with_a_status() {
    let server = start().await;
    let (response, mut request) = server.client().await.begin(STREAM, &[("grpc-timeout", "200m")]).await;
    request.send_data(framed(b"a word"), false).unwrap();
    let answer = answer(response).await;
    assert_eq!((answer.status.code(), messages(&answer)), (Code::DeadlineExceeded, vec![&b"a word"[..]]));
}

#[rstest]
#[tokio::test]
async fn caller_that_leaves_is_counted_as_cancelled_and_gives_its_place_back(
    #[values(CHECK, STREAM)] path: &str,
    #[values(true, false)] resets: bool,
) {
    let server = start().await;
    let client = server.client().await;
    let (response, mut request) = client.begin(path, &[]).await;
    request.send_data(Bytes::copy_from_slice(&framed(b"a word")[..8]), false).unwrap();
    let method = path.rsplit('/').next().unwrap();
    let service = "tidegate.ratelimit.v1.RateLimitService";
    let in_flight = format!(r#"rpc_server_calls_in_flight{{rpc_service="{service}",rpc_method="{method}"}}"#);
    eventually("it is under way", async || server.metric(&in_flight) == 1).await;
    if resets {
        request.send_reset(h2::Reason::CANCEL);
    } else {
        client.closed.abort();
    }
    eventually("it is counted", async || server.ended(method, "CANCELLED") == 1).await;
    drop(response);
    let answer = sent(&server, path, &framed(b"a word"), &[]).await;
    assert_eq!(answer.status.code(), Code::Ok, "its place is free again");
}

#[tokio::test]
async fn stream_ends_by_itself_while_the_server_leaves() {
    let mut server = start_and(|config| config.drain_timeout = Duration::from_secs(600).into()).await;
    let client = server.client().await;
    let (response, mut request) = client.begin(STREAM, &[]).await;
    request.send_data(framed(b"before"), false).unwrap();
    let mut answers = within(response).await.unwrap().into_body();
    within(answers.data()).await.unwrap().unwrap();
    server.stop.cancel();
    eventually("it says that it leaves", async || client.is_told_to_go().await).await;
    request.send_data(framed(b"behind"), true).unwrap();
    let answer = within(answers.data()).await.unwrap().unwrap();
    assert_eq!(&answer[9..], b"behind");
    within(answers.trailers()).await.unwrap().expect("trailers");
    drop((answers, client));
    server.left().await;
}

#[tokio::test]
async fn flood_of_small_frames_is_held_back_and_ends_nothing() {
    let server = start_and(|config| config.max_in_flight = 20).await;
    let client = server.client().await;
    // Nobody takes the answers, so these streams fill their windows with frames of a usual check's size.
    let (frame, mut streams) = (framed(&[7; 36]), Vec::new());
    for _ in 0..12 {
        let (response, mut request) = client.begin(STREAM, &[]).await;
        let response = within(response).await.unwrap();
        loop {
            request.reserve_capacity(frame.len());
            let granted = std::future::poll_fn(|context| request.poll_capacity(context));
            match tokio::time::timeout(Duration::from_millis(100), granted).await {
                Ok(Some(Ok(bytes))) if bytes >= frame.len() => {
                    request.send_data(frame.clone(), false).unwrap();
                }
                Ok(Some(Ok(_))) => {}
                Ok(other) => panic!("the stream ended: {other:?}"),
                Err(_) => break,
            }
        }
        streams.push((response, request));
    }
    assert_eq!(client.check("").await.status.code(), Code::Ok, "the connection serves other calls");
    for (response, mut request) in streams {
        request.reserve_capacity(0);
        request.send_data(Bytes::new(), true).unwrap();
        let answer = rest(response).await;
        assert_eq!(answer.status.code(), Code::Ok, "{:?}", answer.status);
        assert!(messages(&answer).len() > 1_000, "{}", messages(&answer).len());
    }
}
