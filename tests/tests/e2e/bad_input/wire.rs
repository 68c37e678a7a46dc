//! What no client library sends: broken messages, broken frames, other protocols.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use tidegate_tests::{http_client, rpc, test_result::TestResult, turn};
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

use super::{VICTIM, ratelimit, unharmed};

/// Bytes as they are, in place of a message.
#[derive(Clone, Copy, Debug, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let left = buffer.remaining();
        Ok(Some(buffer.copy_to_bytes(left)))
    }
}

async fn call(
    address: &str,
    path: &'static str,
    request: Request<Bytes>,
) -> anyhow::Result<Result<Bytes, Status>> {
    let mut client = Grpc::new(rpc::channel(address)?).max_encoding_message_size(usize::MAX);
    client.ready().await?;
    let answer = client.unary(request, http::uri::PathAndQuery::from_static(path), Raw).await;
    Ok(answer.map(tonic::Response::into_inner))
}

const CHECK: &str = "/tidegate.ratelimit.v1.RateLimitService/Check";
const CHECK_STREAM: &str = "/tidegate.ratelimit.v1.RateLimitService/CheckStream";

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_do_not_decode_are_the_callers_fault() -> TestResult {
    let _turn = turn::shared().await;
    let service = ratelimit().await?;
    let cases: [(&str, &[u8], &[&str]); 8] = [
        ("invalid UTF-8 in the namespace", &[0x0a, 2, 0xff, 0xfe], &["namespace"]),
        ("invalid UTF-8 in an attribute", &[0x12, 6, 0x0a, 1, b'a', 0x12, 1, 0xc0], &["attributes.value"]),
        ("a length beyond the message", &[0x0a, 100, b'x'], &["namespace"]),
        (
            "a length of 2^64 - 1",
            &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
            &["namespace"],
        ),
        (
            "a cost of eleven bytes",
            &[0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
            &["cost"],
        ),
        ("a string where a number belongs", &[0x1a, 3, b'o', b'n', b'e'], &["cost"]),
        ("an unknown wire type", &[0x0f, 0, 0], &[]),
        ("noise", &[0xde; 64], &[]),
    ];
    for (what, bytes, fields) in cases {
        let status =
            call(service.address(), CHECK, Request::new(Bytes::from_static(bytes))).await?.expect_err(what);
        assert_refused(what, &status, fields)?;
    }
    unharmed(&service).await?;
    Ok(())
}

fn assert_refused(what: &str, status: &Status, fields: &[&str]) -> anyhow::Result<()> {
    let seen = rpc::explain(status)?;
    assert_eq!((seen.code, seen.reason.as_str()), (Code::InvalidArgument, "INVALID_REQUEST"), "{what}");
    assert_eq!(seen.domain, "tidegate.dev", "{what}");
    assert_eq!(seen.fields, fields, "{what}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_a_stream_that_does_not_decode_ends_it_after_the_answers_owed() -> TestResult {
    let _turn = turn::shared().await;
    let service = ratelimit().await?;
    // An id of 7 with an empty check; then a check whose namespace is no UTF-8.
    let messages: [&[u8]; 2] = [&[0x08, 7, 0x12, 0], &[0x12, 3, 0x0a, 1, 0xff]];
    let mut client = Grpc::new(rpc::channel(service.address())?);
    client.ready().await?;
    let path = http::uri::PathAndQuery::from_static(CHECK_STREAM);
    let requests = Request::new(tokio_stream::iter(messages.map(Bytes::from_static)));
    let mut answers = client.streaming(requests, path, Raw).await?.into_inner();
    let first = answers.message().await?.expect("the answer to the first check");
    assert_eq!(&first[..2], [0x08, 7], "{first:?}");
    let status = answers.message().await.expect_err("the second check does not decode");
    assert_refused("a check of a stream", &status, &["check.namespace"])?;
    unharmed(&service).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_that_this_version_does_not_know_is_passed_over() -> TestResult {
    let _turn = turn::shared().await;
    let service = ratelimit().await?;
    // dry_run, then field 1000 of a later version.
    let newer: &[u8] = &[0x20, 1, 0xc2, 0x3e, 1, b'x'];
    call(service.address(), CHECK, Request::new(Bytes::from_static(newer))).await??;
    unharmed(&service).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn too_much_is_refused_before_it_is_read() -> TestResult {
    let _turn = turn::shared().await;
    let service = ratelimit().await?;
    let huge = Request::new(Bytes::from(vec![0x0a; 3 << 20]));
    let status = call(service.address(), CHECK, huge).await?.expect_err("a message of 3 MiB");
    assert!(matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted), "{status:?}");

    let mut headers = Request::new(Bytes::new());
    for number in 0..40_u8 {
        let name = format!("x-{number}").parse::<tonic::metadata::MetadataKey<_>>()?;
        headers.metadata_mut().insert(name, "v".repeat(1_000).parse()?);
    }
    // HTTP/2 answers 431 or resets the stream; it may not be decided.
    call(service.address(), CHECK, headers).await?.expect_err("headers of 40 KB");
    unharmed(&service).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_methods_are_unimplemented() -> TestResult {
    let _turn = turn::shared().await;
    let service = ratelimit().await?;
    for path in ["/tidegate.ratelimit.v1.RateLimitService/Czech", "/no.such.Service/Check", "/"] {
        let status = call(service.address(), path, Request::new(Bytes::new())).await?.expect_err(path);
        assert_eq!(status.code(), Code::Unimplemented, "{path}: {status:?}");
    }
    unharmed(&service).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_the_grpc_port_ends_the_connection_and_nothing_else() -> TestResult {
    let _turn = turn::shared().await;
    let service = ratelimit().await?;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let settings: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
    let after = |frame: &[u8]| [preface.as_slice(), settings, frame].concat();
    let cases = [
        ("noise", vec![0xde; 4096]),
        ("HTTP/1.1", format!("GET /{VICTIM} HTTP/1.1\r\nHost: x\r\n\r\n").into_bytes()),
        ("a TLS hello", [&[0x16, 3, 1, 2, 0][..], &[7; 512]].concat()),
        ("a frame of 16 MiB", after(&[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1])),
        ("DATA on stream 0", after(&[0, 0, 1, 0, 0, 0, 0, 0, 0, 9])),
        ("HEADERS that do not decompress", after(&[0, 0, 4, 1, 5, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff])),
    ];
    for (what, bytes) in cases {
        let (_, closed) = http_client::raw(service.address(), &bytes, Duration::from_secs(5)).await?;
        assert!(closed, "{what} keeps its connection");
        let mut client = rpc::client(service.address())?;
        rpc::used(&mut client, &rpc::organization(VICTIM))
            .await
            .unwrap_or_else(|error| panic!("after {what}: {error}"));
    }
    unharmed(&service).await?;
    Ok(())
}
