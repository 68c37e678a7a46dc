//! Reading a JSON body: type, size, time, encoding and syntax, each refused with its own status.

pub(crate) mod fields;
mod value;

use std::time::Duration;

use axum::{body::Body, extract::Request};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::Value;

use crate::problem::{Problem, Violations};

/// How much of a body is read, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyLimits {
    /// The most bytes.
    pub bytes: usize,
    /// From the end of the headers to the end of the body.
    pub timeout: Duration,
}

/// The body as JSON; names that stand twice in one object are added to `violations`.
///
/// # Errors
/// 415 for another type or a content coding, 501 for a transfer coding, 413 over the size, 408 over
/// the time, 400 for a body that breaks off, is not UTF-8 or not JSON.
pub(crate) async fn read_json(
    request: Request,
    limits: BodyLimits,
    violations: &mut Violations,
) -> Result<Value, Box<Problem>> {
    let (parts, body) = request.into_parts();
    require_json(&parts.headers)?;
    let declared = parts.headers.get(header::CONTENT_LENGTH).and_then(parse_length);
    if declared.is_some_and(|length| length > limits.bytes as u64) {
        return Err(too_large(limits.bytes));
    }
    let bytes = read(body, limits).await?;
    parse(&bytes, violations)
}

fn require_json(headers: &HeaderMap) -> Result<(), Box<Problem>> {
    if headers.get_all(header::CONTENT_ENCODING).iter().any(|coding| coding != "identity") {
        return Err(wrong_type("The body must not be compressed"));
    }
    if !headers.get_all(header::TRANSFER_ENCODING).iter().all(is_chunked) {
        let detail = "The only transfer coding known here is chunked";
        return Err(Box::new(Problem::new(StatusCode::NOT_IMPLEMENTED, "not_implemented", detail)));
    }
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    match (types.next(), types.next()) {
        (None, _) => Err(wrong_type("The body needs Content-Type: application/json")),
        (Some(value), None) if is_json(value) => Ok(()),
        (Some(_), None) => Err(wrong_type("The body must be application/json in UTF-8")),
        // Whoever is in front may have looked at the other one.
        (Some(_), Some(_)) => Err(wrong_type("The body needs one Content-Type, not several")),
    }
}

/// The parser has seen to it that chunked comes last; a coding before it would be left undone.
fn is_chunked(value: &HeaderValue) -> bool {
    value.to_str().is_ok_and(|value| value.trim().eq_ignore_ascii_case("chunked"))
}

fn is_json(value: &HeaderValue) -> bool {
    let Ok(value) = value.to_str() else { return false };
    let mut parts = value.split(';').map(str::trim);
    let named = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/json"));
    named
        && parts.all(|parameter| match parameter.split_once('=') {
            Some((name, charset)) if name.trim().eq_ignore_ascii_case("charset") => {
                charset.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
            }
            _ => true,
        })
}

fn parse_length(value: &HeaderValue) -> Option<u64> {
    value.to_str().ok()?.parse().ok()
}

async fn read(body: Body, limits: BodyLimits) -> Result<Bytes, Box<Problem>> {
    let reading = Limited::new(body, limits.bytes).collect();
    match tokio::time::timeout(limits.timeout, reading).await {
        Err(_elapsed) => Err(Box::new(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "request_timeout",
            format!("The body did not arrive within {:?}", limits.timeout),
        ))),
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large(limits.bytes)),
        Ok(Err(_broken)) => Err(bad_json("The body broke off".to_owned())),
    }
}

fn parse(bytes: &[u8], violations: &mut Violations) -> Result<Value, Box<Problem>> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        bad_json(format!("The body is not UTF-8: the byte at offset {} is wrong", error.valid_up_to()))
    })?;
    value::read(text, violations).map_err(|error| bad_json(format!("The body is not JSON: {error}")))
}

fn bad_json(detail: String) -> Box<Problem> {
    Box::new(Problem::new(StatusCode::BAD_REQUEST, "invalid_json", detail))
}

fn too_large(most: usize) -> Box<Problem> {
    let detail = format!("The body is larger than {most} bytes");
    Box::new(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail))
}

fn wrong_type(detail: &'static str) -> Box<Problem> {
    let problem = Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail);
    Box::new(problem.with_header(header::ACCEPT, HeaderValue::from_static("application/json")))
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use rstest::rstest;

    use super::*;

    const LIMITS: BodyLimits = BodyLimits { bytes: 1024, timeout: Duration::from_secs(1) };

    async fn read(headers: &[(&str, &str)], body: Body) -> Result<Value, (u16, String)> {
        let mut request = Request::builder();
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let read = read_json(request.body(body).unwrap(), LIMITS, &mut Violations::default()).await;
        read.map_err(|problem| (problem.status.as_u16(), problem.error.into_owned()))
    }

    #[rstest]
    #[case::usual("application/json", true)]
    #[case::utf_8("Application/JSON; Charset=\"UTF-8\"", true)]
    #[case::other_parameter("application/json; profile=x", true)]
    #[case::latin_1("application/json; charset=latin1", false)]
    #[case::other("text/json", false)]
    #[case::form("application/x-www-form-urlencoded", false)]
    #[case::longer("application/jsonx", false)]
    #[case::list("text/plain, application/json", false)]
    #[case::nothing("", false)]
    #[tokio::test]
    async fn only_json_is_taken(#[case] content_type: &str, #[case] is_taken: bool) {
        let read = read(&[("content-type", content_type)], Body::from("{}")).await;
        let refused = Err((415, "unsupported_media_type".to_owned()));
        assert_eq!(read, if is_taken { Ok(Value::Object(serde_json::Map::new())) } else { refused });
    }

    #[tokio::test]
    async fn a_compressed_body_is_refused() {
        let headers = [("content-type", "application/json"), ("content-encoding", "gzip")];
        assert_eq!(read(&headers, Body::from("{}")).await.unwrap_err().0, 415);
    }

    #[tokio::test]
    async fn a_second_line_is_looked_at_too() {
        for (name, second, status) in [
            ("content-type", "text/plain", 415),
            ("content-type", "application/json", 415),
            ("content-encoding", "gzip", 415),
            ("transfer-encoding", "gzip", 501),
        ] {
            let first = match name {
                "content-type" => "application/json",
                "content-encoding" => "identity",
                _ => "chunked",
            };
            let mut headers = vec![(name, first), (name, second)];
            if name != "content-type" {
                headers.push(("content-type", "application/json"));
            }
            assert_eq!(read(&headers, Body::from("{}")).await.unwrap_err().0, status, "{name}: {second}");
        }
    }

    #[rstest]
    #[case("chunked", true)]
    #[case("Chunked", true)]
    #[case("gzip, chunked", false)]
    #[case("chunked, chunked", false)]
    #[tokio::test]
    async fn only_chunked_is_undone(#[case] coding: &str, #[case] is_taken: bool) {
        let headers = [("content-type", "application/json"), ("transfer-encoding", coding)];
        let refused = read(&headers, Body::from("{}")).await.err();
        assert_eq!(refused, (!is_taken).then(|| (501, "not_implemented".to_owned())));
    }

    #[rstest]
    #[case::nothing(&b""[..])]
    #[case::half(br#"{"cost":"#)]
    #[case::two(b"{}{}")]
    #[case::nan(br#"{"cost":NaN}"#)]
    #[case::comment(b"{} // free")]
    #[case::not_utf_8(b"\"\xff\"")]
    #[case::byte_order_mark(b"\xef\xbb\xbf{}")]
    #[tokio::test]
    async fn what_is_not_json_is_refused(#[case] body: &'static [u8]) {
        let refused = read(&[("content-type", "application/json")], Body::from(body)).await;
        assert_eq!(refused, Err((400, "invalid_json".to_owned())));
    }

    #[tokio::test]
    async fn nesting_has_an_end() {
        let deep = "[".repeat(1000);
        assert_eq!(read(&[("content-type", "application/json")], Body::from(deep)).await.unwrap_err().0, 400);
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused_declared_or_not() {
        let json = ("content-type", "application/json");
        let at_limit = format!("{}{{}}", " ".repeat(1022));
        assert!(read(&[json], Body::from(at_limit.clone())).await.is_ok());
        let over = format!(" {at_limit}");
        let refused = Err((413, "body_too_large".to_owned()));
        assert_eq!(read(&[json], Body::from(over)).await, refused);
        // Before a byte of it is read.
        let never = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
        assert_eq!(read(&[json, ("content-length", "1025")], never).await, refused);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_comes_is_given_up() {
        let never = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
        let refused = read(&[("content-type", "application/json")], never).await;
        assert_eq!(refused, Err((408, "request_timeout".to_owned())));
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_refused() {
        let broken = stream::iter([Ok(Bytes::from_static(b"{")), Err(std::io::Error::other("reset"))]);
        let refused = read(&[("content-type", "application/json")], Body::from_stream(broken)).await;
        assert_eq!(refused.unwrap_err().0, 400);
    }
}
