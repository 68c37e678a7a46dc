use http::HeaderValue;
use rstest::rstest;
use serde_json::json;
use tidegate_proto::ratelimit::v1::CheckResponse;
use tonic::Status;

use super::*;
use crate::{
    edge::Edge,
    fixture::{LOCAL, NOBODY, REMOTE, Upstream, admitted, ask, config_with, denied, edge, request},
    routes,
};

/// Long enough for a busy machine.
const PATIENT: &str = "[anonymous]\ndeadline = \"5s\"\n";

#[expect(clippy::unnecessary_wraps, reason = "the signature of the fixture")]
fn admit(_: &CheckRequest) -> Result<CheckResponse, Status> {
    Ok(admitted(7))
}

#[expect(clippy::unnecessary_wraps, reason = "the signature of the fixture")]
fn deny(_: &CheckRequest) -> Result<CheckResponse, Status> {
    Ok(denied())
}

async fn before(upstream: &Upstream) -> Edge {
    edge(config_with(&upstream.url(), PATIENT)).await
}

#[test]
fn the_routes_with_rules_of_their_own_are_routes() {
    let document = routes::all().to_openapi();
    for path in EXEMPT {
        assert!(document.paths.paths.contains_key(path), "{path} is not served");
    }
    assert!(document.paths.paths.keys().any(|path| path.starts_with(LOCAL_ONLY)));
}

#[rstest]
#[case::unknown_path("GET", "/nowhere", "192.0.2.7:1", "192.0.2.7", "unmatched")]
#[case::check_from_elsewhere("POST", "/v1/check", "192.0.2.7:1", "192.0.2.7", "/v1/check")]
#[case::wrong_method("GET", "/v1/check:batch", "192.0.2.7:1", "192.0.2.7", "/v1/check:batch")]
#[case::ipv6("GET", "/nowhere", "[2001:db8:1:2:3::4]:1", "2001:db8:1:2::/64", "unmatched")]
#[case::local("GET", "/nowhere", "127.0.0.1:1", "127.0.0.1", "unmatched")]
#[tokio::test]
async fn a_caller_is_counted_by_address_and_route(
    #[case] method: &str,
    #[case] target: &str,
    #[case] peer: &str,
    #[case] ip: &str,
    #[case] route: &str,
) {
    let upstream = Upstream::start(admit);
    let answer = ask(&before(&upstream).await, peer, request(method, target, "")).await;
    assert_eq!(answer.header("x-ratelimit-remaining"), "7", "{answer:?}");
    let (check, _) = upstream.seen().remove(0);
    let counted: Vec<_> = check.attributes.iter().map(|entry| (&*entry.key, &*entry.value)).collect();
    assert_eq!((&*check.namespace, counted), ("gateway", vec![("ip", ip), ("route", route)]));
}

#[tokio::test]
async fn a_denied_caller_gets_429_and_goes_no_further() {
    let upstream = Upstream::start(deny);
    let answer = ask(&before(&upstream).await, REMOTE, request("POST", "/v1/check", "not json")).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (429, "42"));
    assert_eq!(answer.json["error"], json!("rate_limit_exceeded"));
    assert_eq!(answer.header("x-ratelimit-limit"), "10");
}

#[tokio::test]
async fn health_and_the_description_are_never_limited() {
    let upstream = Upstream::start(deny);
    let edge = before(&upstream).await;
    for path in EXEMPT {
        let answer = ask(&edge, REMOTE, request("GET", path, "")).await;
        assert_ne!(answer.status, StatusCode::TOO_MANY_REQUESTS, "{path}");
    }
    assert!(upstream.seen().is_empty(), "{:?}", upstream.seen());
}

#[tokio::test]
async fn the_check_is_open_on_loopback_and_not_counted_there() {
    let upstream = Upstream::start(admit);
    let edge = before(&upstream).await;
    assert_eq!(ask(&edge, LOCAL, request("POST", "/v1/check", "{}")).await.status, StatusCode::OK);
    let seen = upstream.seen();
    assert_eq!((seen.len(), &*seen[0].0.namespace), (1, ""), "only the check itself is asked");
}

#[rstest]
#[case::elsewhere(REMOTE, "127.0.0.1:8000")]
#[case::rebound_name(LOCAL, "evil.example")]
#[tokio::test]
async fn everything_but_health_is_closed_to_everybody_else(#[case] peer: &str, #[case] host: &'static str) {
    let upstream = Upstream::start(admit);
    let edge = before(&upstream).await;
    let document = routes::all().to_openapi();
    let closed: Vec<_> = document.paths.paths.keys().filter(|path| path.starts_with(LOCAL_ONLY)).collect();
    assert!(closed.len() > 2, "{closed:?}");
    for path in closed {
        let mut request = request("POST", path, "{}");
        request.headers_mut().insert("host", HeaderValue::from_static(host));
        let answer = ask(&edge, peer, request).await;
        assert_eq!((answer.status.as_u16(), &answer.json["error"]), (401, &json!("unauthenticated")));
        assert_eq!(answer.header("www-authenticate"), "Bearer");
    }
    assert!(upstream.seen().iter().all(|(check, _)| check.namespace == NAMESPACE), "a check got through");
}

#[tokio::test]
async fn an_outage_of_the_limits_lets_callers_through() {
    let edge = edge(config_with(NOBODY, PATIENT)).await;
    let answer = ask(&edge, REMOTE, request("GET", "/nowhere", "")).await;
    assert_eq!((answer.status.as_u16(), answer.header("x-ratelimit-limit")), (404, ""));
}

#[tokio::test]
async fn it_can_be_turned_off() {
    let upstream = Upstream::start(deny);
    let edge = edge(config_with(&upstream.url(), "[anonymous]\nenabled = false")).await;
    assert_eq!(ask(&edge, REMOTE, request("GET", "/nowhere", "")).await.status, StatusCode::NOT_FOUND);
    assert!(upstream.seen().is_empty());
}
