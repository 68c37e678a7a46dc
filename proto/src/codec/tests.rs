use std::convert::Infallible;

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::Full;
use prost::Message;
use tonic::{Code, Status, Streaming, body::Body, codec::Codec};
use tonic_types::StatusExt;

use super::ServerCodec;
use crate::{
    ERROR_DOMAIN,
    ratelimit::v1::{
        CheckBatchRequest, CheckRequest, check_request::AttributesEntry,
        rate_limit_service_client::RateLimitServiceClient,
    },
};

/// A body that frames `messages` as gRPC does.
fn framed(messages: &[&[u8]]) -> Full<Bytes> {
    let mut frames = BytesMut::new();
    for message in messages {
        frames.put_u8(0);
        frames.put_u32(u32::try_from(message.len()).expect("a short message"));
        frames.put_slice(message);
    }
    Full::new(frames.freeze())
}

/// What a server takes in that is sent `messages`.
fn received<U: Message + Default + 'static>(messages: &[&[u8]]) -> Streaming<U> {
    let decoder = ServerCodec::<(), U>::default().decoder();
    Streaming::new_request(decoder, framed(messages), None, None)
}

async fn refusal<U: Message + Default + 'static>(message: &[u8]) -> Status {
    received::<U>(&[message]).message().await.err().expect("a message that does not decode")
}

/// Demands `INVALID_REQUEST`, and answers field and description of the violations.
fn violations(status: &Status) -> Vec<(String, String)> {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let details = status.check_error_details().expect("details that decode");
    let info = details.error_info().expect("ErrorInfo");
    assert_eq!((info.reason.as_str(), info.domain.as_str()), ("INVALID_REQUEST", ERROR_DOMAIN));
    let violations = details.bad_request().map(|bad| bad.field_violations.clone()).unwrap_or_default();
    violations.into_iter().map(|violation| (violation.field, violation.description)).collect()
}

#[tokio::test]
async fn messages_that_decode_are_taken_in_one_after_another() {
    let first = CheckRequest { namespace: "edge".to_owned(), cost: Some(3), ..CheckRequest::default() };
    let entry = AttributesEntry { key: "ip".to_owned(), value: "::1".to_owned() };
    let second = CheckRequest { attributes: vec![entry], ..CheckRequest::default() };
    let mut requests = received(&[&first.encode_to_vec(), &[], &second.encode_to_vec()]);
    for expected in [Some(first), Some(CheckRequest::default()), Some(second), None] {
        assert_eq!(requests.message().await.expect("messages that decode"), expected);
    }
}

#[tokio::test]
async fn a_field_that_does_not_decode_is_named_with_its_cause() {
    let cases: [(&[u8], &str, &str); 5] = [
        (&[0x0a, 1, 0xff], "namespace", "invalid string value: data is not UTF-8 encoded"),
        (&[0x0a, 100, b'x'], "namespace", "buffer underflow"),
        (&[0x1a, 1, b'1'], "cost", "invalid wire type: LengthDelimited (expected Varint)"),
        (&[0x18, 0x80], "cost", "invalid varint"),
        (
            &[0x12, 6, 0x0a, 1, b'a', 0x12, 1, 0xc0],
            "attributes.value",
            "invalid string value: data is not UTF-8 encoded",
        ),
    ];
    for (message, field, cause) in cases {
        let status = refusal::<CheckRequest>(message).await;
        assert_eq!(violations(&status), [(field.to_owned(), cause.to_owned())]);
        assert_eq!(status.message(), format!("invalid request: {field}: {cause}"));
    }
    let status = refusal::<CheckBatchRequest>(&[0x0a, 3, 0x0a, 1, 0xff]).await;
    assert_eq!(violations(&status)[0].0, "checks.namespace");
}

#[tokio::test]
async fn what_is_broken_outside_of_a_field_is_refused_without_a_violation() {
    let cases: [(&[u8], &str); 4] = [
        (&[0x0f, 0], "invalid wire type value: 7"),
        (&[0x00, 1], "invalid tag value: 0"),
        (&[0xff; 11], "invalid varint"),
        (&[0xa0], "invalid varint"),
    ];
    for (message, cause) in cases {
        let status = refusal::<CheckRequest>(message).await;
        assert_eq!(violations(&status), []);
        assert_eq!(status.message(), format!("invalid request: the message does not decode: {cause}"));
    }
}

#[tokio::test]
async fn an_answer_that_does_not_decode_is_not_the_callers_fault() {
    let server = tower::service_fn(|_: http::Request<Body>| async {
        Ok::<_, Infallible>(http::Response::new(framed(&[&[0x0a, 1, 0xff]])))
    });
    let mut client = RateLimitServiceClient::new(server);
    let status = client.check(CheckRequest::default()).await.expect_err("an answer that does not decode");
    assert_eq!(status.code(), Code::Internal, "{status:?}");
    assert!(status.get_error_details().error_info().is_none(), "{status:?}");
}
