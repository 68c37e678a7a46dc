//! Whole calls against a small gRPC server in the place of the rate-limit service.

use std::sync::atomic::{AtomicUsize, Ordering};

use rstest::rstest;
use serde_json::json;
use tidegate_chassis::error::status;
use tidegate_proto::ratelimit::v1::{self as pb, CheckRequest, CheckResponse, KeyIdentity};

use super::*;
use crate::fixture::{
    self, Answer, Keys, LOCAL, REMOTE, Upstream, admitted, ask, claims, config_with, config_with_keys,
    denied, request, with_header,
};

const KEY: &str = "tk_live_right";
/// Of those on this machine.
const TRUSTED: &str = "[forward_auth]\ntrusted = [\"127.0.0.0/8\"]\n[anonymous]\ndeadline = \"5s\"\n";

fn identity() -> KeyIdentity {
    KeyIdentity {
        id: "k-1".to_owned(),
        name: "Größe 100%\r\nX-Evil: 1".to_owned(),
        environment: "live".to_owned(),
        scopes: vec!["a:read".to_owned(), "b".to_owned()],
        organization_id: "o-1".to_owned(),
        organization_name: "Acme".to_owned(),
        plan: "free".to_owned(),
        ..KeyIdentity::default()
    }
}

fn decide(check: &CheckRequest) -> Result<CheckResponse, Status> {
    let refused = |code: pb::Code| CheckResponse { code: code.into(), ..CheckResponse::default() };
    Ok(match &*check.api_key {
        KEY => CheckResponse { key: Some(identity()), ..admitted(7) },
        "tk_live_unasked" => {
            return Err(status(Code::Unauthenticated, "CREDENTIALS_INVALID", "not good", None));
        }
        "tk_live_spent" => denied(),
        "tk_live_revoked" => refused(pb::Code::KeyRevoked),
        "tk_live_elsewhere" => refused(pb::Code::IpForbidden),
        // The limit of the gateway's own callers; and a service that does not look at keys.
        "" | "tk_live_ignored" => admitted(7),
        _ => refused(pb::Code::KeyNotFound),
    })
}

struct Asked {
    answer: Answer,
    seen: Vec<(CheckRequest, HeaderMap)>,
}

async fn asked(peer: &str, request: Request, toml: &str) -> Asked {
    let upstream = Upstream::start(decide);
    let keys = Keys::start(|_| Ok(Vec::new()));
    let trusted = if toml.contains("[forward_auth]") { "" } else { TRUSTED };
    let edge = fixture::edge(config_with_keys(&upstream.url(), &keys, &format!("{trusted}{toml}"))).await;
    let answer = ask(&edge, peer, request).await;
    Asked { answer, seen: upstream.seen() }
}

fn by_nginx(key: &str) -> Request {
    let told = [
        ("x-api-key", key),
        ("x-original-uri", "/invoices/7?page=2"),
        ("x-original-method", "PUT"),
        ("x-original-host", "shop.example"),
        ("x-forwarded-for", "203.0.113.7"),
    ];
    let target = "/v1/forward-auth?namespace=shop&required_scopes=a:read+or+b&cost=3";
    told.into_iter()
        .fold(request("GET", target, ""), |request, (name, value)| with_header(request, name, value))
}

#[tokio::test]
async fn a_proxy_learns_whose_the_key_is_and_what_is_left() {
    let Asked { answer, seen } = asked(LOCAL, by_nginx(KEY), "").await;
    assert_eq!((answer.status.as_u16(), answer.json), (200, serde_json::Value::Null));
    let names = ["organization", "key-id", "key-name", "plan", "scopes", "environment"];
    let told = names.map(|name| answer.headers[format!("x-tidegate-{name}")].to_str().unwrap());
    let name = "Gr%C3%B6%C3%9Fe 100%25%0D%0AX-Evil: 1";
    assert_eq!(told, ["o-1", "k-1", name, "free", "a:read b", "live"]);
    assert_eq!(answer.headers["x-ratelimit-remaining"], "7");

    let (check, metadata) = &seen[0];
    let attributes: Vec<_> = check.attributes.iter().map(|of| (&*of.key, &*of.value)).collect();
    let expected =
        [("method", "PUT"), ("host", "shop.example"), ("path", "/invoices/7"), ("ip", "203.0.113.7")];
    assert_eq!(attributes, expected);
    assert_eq!((&*check.namespace, &*check.required_scopes, check.cost), ("shop", "a:read or b", Some(3)));
    assert_eq!((&*check.api_key, &*check.client_ip), (KEY, "203.0.113.7"));
    assert_eq!(claims(metadata["authorization"].to_str().unwrap())["sub"], json!("tidegate-gateway"));
    assert_eq!(metadata["x-client-ip"], "203.0.113.7");
    assert_eq!(seen.len(), 1, "the proxy is not counted");
}

#[rstest]
#[case::wrong("tk_live_wrong", 401, "key_not_found")]
#[case::revoked("tk_live_revoked", 401, "key_revoked")]
#[case::from_elsewhere("tk_live_elsewhere", 403, "ip_forbidden")]
#[case::of_a_service_that_does_not_believe_the_gateway("tk_live_unasked", 503, "service_unavailable")]
#[case::spent("tk_live_spent", 429, "rate_limit_exceeded")]
#[case::of_a_service_that_does_not_know_of_keys("tk_live_ignored", 500, "internal")]
#[tokio::test]
async fn a_denial_is_told_by_its_status_and_never_names_the_key(
    #[case] key: &str,
    #[case] status: u16,
    #[case] error: &str,
) {
    let Asked { answer, .. } = asked(LOCAL, by_nginx(key), "").await;
    assert_eq!((answer.status.as_u16(), &answer.json["error"]), (status, &json!(error)));
    assert_eq!(answer.header("retry-after"), if status == 429 { "42" } else { "" });
    assert!(!format!("{answer:?}").contains(key), "{answer:?}");
    assert!(!answer.headers.contains_key("x-tidegate-key-id"));
}

#[rstest]
#[case::header(&[("x-api-key", KEY)], Some(KEY))]
#[case::bearer(&[("authorization", "Bearer tk_live_right")], Some(KEY))]
#[case::beside_a_token_of_the_backend(&[("authorization", "Bearer a.b.c"), ("x-api-key", KEY)], Some(KEY))]
#[case::nothing(&[], None)]
#[case::empty(&[("x-api-key", " ")], None)]
#[case::password(&[("authorization", "Basic dXNlcjpwdw==")], None)]
#[case::two(&[("x-api-key", KEY), ("x-api-key", KEY)], None)]
#[tokio::test]
async fn the_key_is_that_of_the_original_request(
    #[case] lines: &[(&'static str, &str)],
    #[case] key: Option<&str>,
) {
    let request = request("GET", "/v1/forward-auth", "");
    let request = lines.iter().fold(request, |request, (name, value)| with_header(request, name, value));
    let Asked { answer, seen } = asked(LOCAL, request, "").await;
    let keys: Vec<_> = seen.iter().map(|(check, _)| &*check.api_key).collect();
    assert_eq!(keys, key.into_iter().collect::<Vec<_>>());
    if key.is_none() {
        assert_eq!((answer.status.as_u16(), answer.header("www-authenticate")), (401, "Bearer"));
        assert_eq!(answer.json["error"], json!("unauthenticated"));
    }
}

#[tokio::test]
async fn any_method_will_do() {
    for method in ["POST", "DELETE", "PROPFIND"] {
        let mut request = by_nginx(KEY);
        *request.method_mut() = method.parse().unwrap();
        assert_eq!(asked(LOCAL, request, "").await.answer.status, 200, "{method}");
    }
}

#[rstest]
#[case::below("PUT", "/v1/forward-auth/invoices/7?namespace=other&cost=0", "/invoices/7")]
#[case::root("PROPFIND", "/v1/forward-auth/?page=2", "/")]
#[case::doubled("OPTIONS", "/v1/forward-auth//a%2Fb", "//a%2Fb")]
#[tokio::test]
async fn below_it_the_request_itself_is_the_original_one(
    #[case] method: &str,
    #[case] target: &str,
    #[case] path: &str,
) {
    let told = [
        ("x-api-key", KEY),
        ("x-tidegate-namespace", "shop"),
        ("x-tidegate-required-scopes", "a:read"),
        ("x-tidegate-cost", "3"),
        ("x-forwarded-for", "203.0.113.7"),
    ];
    let mut request = request(method, target, "");
    request.headers_mut().insert("host", HeaderValue::from_static("Shop.example"));
    let request = told.into_iter().fold(request, |request, (name, value)| with_header(request, name, value));
    let cors = "[cors]\norigins = [\"https://console.example.com\"]";
    let Asked { answer, seen } = asked(LOCAL, request, cors).await;
    assert_eq!(answer.status.as_u16(), 200, "{answer:?}");
    let (check, _) = &seen[0];
    let attributes: Vec<_> = check.attributes.iter().map(|of| (&*of.key, &*of.value)).collect();
    let expected = [("method", method), ("host", "shop.example"), ("path", path), ("ip", "203.0.113.7")];
    assert_eq!(attributes, expected);
    assert_eq!((&*check.namespace, &*check.required_scopes, check.cost), ("shop", "a:read", Some(3)));
}

#[rstest]
#[case::of_nginx("/v1/forward-auth/?page=2", &["x-original-uri", "x-original-method"], &[])]
#[case::of_traefik("/v1/forward-auth/a", &["x-forwarded-uri", "x-forwarded-method"], &[])]
#[case::that_tells_nothing("/v1/forward-auth/?required%5Fscopes=admin&cost=2", &[], &["required_scopes", "cost"])]
#[tokio::test]
async fn a_slash_too_many_in_the_settings_of_a_proxy_is_told_and_switches_nothing_off(
    #[case] target: &str,
    #[case] headers: &[&'static str],
    #[case] parameters: &[&str],
) {
    let asking = with_header(request("GET", target, ""), "x-api-key", KEY);
    let asking = headers.iter().fold(asking, |request, name| with_header(request, name, "PUT"));
    let Asked { answer, seen } = asked(LOCAL, asking, "").await;
    let named = answer.json["violations"].as_array().unwrap().iter().map(|of| of["field"].as_str().unwrap());
    let expected: Vec<_> = headers.iter().chain(parameters).copied().collect();
    assert_eq!((answer.status.as_u16(), named.collect::<Vec<_>>()), (400, expected));
    assert!(seen.is_empty(), "{seen:?}");
}

#[tokio::test]
async fn below_it_others_may_not_ask_either_and_are_counted_as_for_it() {
    for path in ["/v1/forward-auth/", "/v1/forward-auth/health/live"] {
        let Asked { answer, seen } = asked(REMOTE, request("GET", path, ""), "").await;
        let routes: Vec<_> = seen.iter().map(|(check, _)| &*check.attributes[1].value).collect();
        assert_eq!(routes, [access::FORWARD_AUTH], "{path}");
        assert_eq!(
            (answer.status.as_u16(), &answer.json["error"]),
            (403, &json!("permission_denied")),
            "{path}"
        );
    }
}

#[tokio::test]
async fn headers_of_the_proxy_that_cannot_be_read_are_named() {
    let wrong = with_header(request("GET", "/v1/forward-auth/a", ""), "x-tidegate-cost", "many");
    let Asked { answer, .. } = asked(LOCAL, wrong, "").await;
    assert_eq!(
        (answer.status.as_u16(), &answer.json["violations"][0]["field"]),
        (400, &json!("x-tidegate-cost"))
    );
}

#[tokio::test]
async fn a_proxy_that_names_nobody_leaves_the_caller_unknown() {
    let mut request = by_nginx(KEY);
    request.headers_mut().remove("x-forwarded-for");
    let Asked { seen, .. } = asked(LOCAL, request, "").await;
    let (check, _) = &seen[0];
    assert_eq!(check.client_ip, "");
    assert!(check.attributes.iter().all(|of| of.key != "ip"), "{check:?}");
}

#[rstest]
#[case::not_listed(REMOTE, TRUSTED, 403, "permission_denied")]
#[case::turned_off(
    LOCAL,
    "[forward_auth]\nenabled = false\ntrusted = [\"127.0.0.0/8\"]\n[anonymous]",
    404,
    "not_found"
)]
#[case::nobody_listed(LOCAL, "[forward_auth]\n[anonymous]", 403, "permission_denied")]
#[tokio::test]
async fn others_may_not_ask_and_are_counted(
    #[case] peer: &str,
    #[case] toml: &str,
    #[case] status: u16,
    #[case] error: &str,
) {
    let Asked { answer, seen } = asked(peer, by_nginx(KEY), toml).await;
    assert_eq!((answer.status.as_u16(), &answer.json["error"]), (status, &json!(error)));
    let counted: Vec<_> = seen.iter().map(|(check, _)| &*check.namespace).collect();
    assert_eq!(counted, ["gateway"]);
}

#[tokio::test]
async fn everything_wrong_with_the_call_of_the_proxy_is_named() {
    let request = request("GET", "/v1/forward-auth?cost=many&scope=a&namespace=a&namespace=b", "");
    let request = with_header(with_header(request, "x-original-uri", "/a"), "x-forwarded-uri", "/b");
    let Asked { answer, seen } = asked(LOCAL, request, "").await;
    let named: Vec<_> = answer.json["violations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|of| of["field"].as_str().unwrap())
        .collect();
    assert_eq!((answer.status.as_u16(), named), (400, vec!["namespace", "cost", "scope", "x-forwarded-uri"]));
    assert!(seen.is_empty());
}

#[tokio::test]
async fn it_works_without_a_keys_service_of_the_gateways_own() {
    let upstream = Upstream::start(decide);
    let edge = fixture::edge(config_with(&upstream.url(), TRUSTED)).await;
    assert_eq!(ask(&edge, LOCAL, by_nginx(KEY)).await.status, 200);
}

#[tokio::test]
async fn no_method_passes_without_a_key_though_cors_is_on() {
    for method in ["OPTIONS", "GET", "DELETE"] {
        let mut request = by_nginx("");
        *request.method_mut() = method.parse().expect("a method");
        request.headers_mut().remove("x-api-key");
        let request = with_header(request, "origin", "https://console.example.com");
        let request = with_header(request, "access-control-request-method", "GET");
        let asked = asked(LOCAL, request, "[cors]\norigins = [\"https://console.example.com\"]").await;
        assert_eq!(asked.answer.status, StatusCode::UNAUTHORIZED, "{method}");
    }
}

/// Ten calls a minute of the gateway's own limit, and keys as above.
fn decide_within_ten(check: &CheckRequest) -> Result<CheckResponse, Status> {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    match &*check.namespace {
        "gateway" if ASKED.fetch_add(1, Ordering::Relaxed) >= 10 => Ok(denied()),
        _ => decide(check),
    }
}

#[tokio::test]
async fn whoever_tries_out_keys_is_limited_by_address_and_good_keys_go_on() {
    let upstream = Upstream::start(decide_within_ten);
    let keys = Keys::start(|_| Ok(Vec::new()));
    let edge = fixture::edge(config_with_keys(&upstream.url(), &keys, TRUSTED)).await;
    let status = async |key: &str, caller: Option<&str>| {
        let mut request = by_nginx(key);
        request.headers_mut().remove("x-forwarded-for");
        let request = match caller {
            Some(caller) => with_header(request, "x-forwarded-for", caller),
            None => request,
        };
        ask(&edge, LOCAL, request).await.status.as_u16()
    };
    let here = Some("203.0.113.7");
    assert_eq!(status(KEY, here).await, 200);
    for n in 0..10 {
        // Of none at all, and of none that there is.
        let key = ["", "tk_live_wrong", "tk_live_revoked"][n % 3];
        assert_eq!(status(key, here).await, 401, "{n}");
    }
    assert_eq!(status("tk_live_wrong", here).await, 429);
    let asked = upstream.seen().len();
    assert_eq!(status("tk_live_another", here).await, 429);
    assert_eq!(upstream.seen().len(), asked + 1, "only its own limit is asked");
    assert_eq!((status(KEY, here).await, status("tk_live_spent", here).await), (200, 429));
    assert_eq!(status("tk_live_wrong", None).await, 401, "nobody is named");
    let gateway: Vec<_> =
        upstream.seen().into_iter().filter(|(check, _)| check.namespace == "gateway").collect();
    assert!(gateway.iter().all(|(check, _)| check.attributes[0].value == "203.0.113.7"), "{gateway:?}");
}

#[rstest]
#[tokio::test]
async fn no_proxy_spends_the_limits_of_our_own_services(#[values("identity", "gateway")] namespace: &str) {
    let target = format!("/v1/forward-auth?namespace={namespace}");
    let request = with_header(request("GET", &target, ""), "x-api-key", KEY);
    let Asked { answer, seen } = asked(LOCAL, request, "").await;
    assert_eq!((answer.status.as_u16(), &answer.json["violations"][0]["field"]), (400, &json!("namespace")));
    assert!(seen.is_empty());
}
