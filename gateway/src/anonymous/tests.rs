use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use axum::{
    Router, middleware,
    routing::{get, post},
};
use http::{HeaderValue, StatusCode};
use rstest::rstest;
use serde_json::json;
use tidegate_chassis::{auth::AuthError, error};
use tidegate_proto::ratelimit::v1::CheckResponse;
use tonic::{Code, Status};
use tower::ServiceExt;
use utoipa::openapi::OpenApi;

use super::*;
use crate::{
    access::{FORWARD_AUTH, OPEN, WATCHED},
    edge::Edge,
    fixture::{
        self, Keys, LOCAL, NOBODY, OPERATOR, REMOTE, Upstream, admitted, ask, by_operator, claims,
        config_with, config_with_keys, denied, edge, request, with_header,
    },
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

/// The paths that need credentials.
fn guarded(document: &OpenApi) -> Vec<&str> {
    let paths = document.paths.paths.keys().map(String::as_str);
    let guarded =
        paths.filter(|path| path.starts_with("/v1/") && !OPEN.contains(path) && *path != FORWARD_AUTH);
    let guarded: Vec<_> = guarded.collect();
    assert!(guarded.len() > 30, "{guarded:?}");
    guarded
}

async fn before(upstream: &Upstream) -> Edge {
    edge(config_with(&upstream.url(), PATIENT)).await
}

#[test]
fn the_routes_with_rules_of_their_own_are_routes() {
    let document = routes::all().to_openapi();
    for path in WATCHED.iter().chain(&OPEN).chain(&[FORWARD_AUTH]) {
        assert!(document.paths.paths.contains_key(*path), "{path} is not served");
    }
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
    for path in WATCHED {
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
    for path in guarded(&document) {
        let mut request = request("POST", &path.replace(['{', '}'], ""), "{}");
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

async fn with_keys(upstream: &Upstream) -> (Edge, Keys) {
    let keys = Keys::start(|_| Ok(Vec::new()));
    let edge = edge(config_with_keys(&upstream.url(), &keys, PATIENT)).await;
    (edge, keys)
}

#[rstest]
#[case::elsewhere(REMOTE)]
#[case::on_this_machine(LOCAL)]
#[tokio::test]
async fn with_a_keys_service_every_guarded_call_needs_a_jwt(#[case] peer: &str) {
    let upstream = Upstream::start(admit);
    let (edge, keys) = with_keys(&upstream).await;
    let document = routes::all().to_openapi();
    for path in guarded(&document) {
        for item in ["GET", "POST", "PATCH", "DELETE"] {
            let path = path.replace(['{', '}'], "");
            let shows_nothing = ask(&edge, peer, request(item, &path, "{}")).await;
            let shows_key = with_header(request(item, &path, "{}"), "authorization", "Bearer tk_live_abc");
            let shows_key = ask(&edge, peer, shows_key).await;
            for answer in [shows_nothing, shows_key] {
                assert_eq!(
                    (answer.status.as_u16(), answer.header("www-authenticate")),
                    (401, "Bearer"),
                    "{path}"
                );
                assert_eq!(answer.json["error"], json!("unauthenticated"));
                assert_eq!(answer.header("x-ratelimit-remaining"), "7", "it is not counted: {path}");
            }
        }
    }
    assert!(upstream.seen().iter().all(|(check, _)| check.namespace == NAMESPACE), "a check got through");
    assert!(keys.seen().is_empty(), "{:?}", keys.seen());
}

#[tokio::test]
async fn the_callers_token_is_passed_on_and_the_caller_is_not_counted_by_address() {
    let upstream = Upstream::start(admit);
    let (edge, _keys) = with_keys(&upstream).await;
    let request = with_header(by_operator("POST", "/v1/check", "{}"), "user-agent", "shop/7");
    assert_eq!(ask(&edge, REMOTE, request).await.status, StatusCode::OK);
    let (_, metadata) = upstream.seen().pop().unwrap();
    assert_eq!(upstream.seen().len(), 1);
    assert_eq!(
        (&metadata["authorization"], &metadata["x-client-ip"]),
        (&OPERATOR.parse().unwrap(), &"192.0.2.7".parse().unwrap())
    );
    assert!(metadata["user-agent"].to_str().unwrap().starts_with("shop/7 tidegate-gateway/"), "{metadata:?}");
}

#[tokio::test]
async fn the_gateway_proves_itself_where_it_speaks_for_itself_whatever_the_caller_shows() {
    let upstream = Upstream::start(admit);
    let (edge, keys) = with_keys(&upstream).await;
    let log_in = by_operator("POST", "/v1/auth/login", r#"{"email":"a@b.example","password":"x"}"#);
    assert_eq!(ask(&edge, REMOTE, log_in).await.status, StatusCode::OK);
    let (check, metadata) = upstream.seen().pop().expect("it is counted, whatever it shows");
    assert_eq!(check.namespace, NAMESPACE);
    let call = keys.only();
    let shown = [metadata["authorization"].to_str().unwrap(), call.metadata("authorization")];
    for authorization in shown {
        let claims = claims(authorization);
        assert_eq!((&claims["sub"], &claims["use"]), (&json!("tidegate-gateway"), &json!("internal")));
    }
    assert_eq!(call.metadata("x-client-ip"), "192.0.2.7");
    assert_eq!(call.metadata("x-request-id").len(), 36);
}

#[tokio::test]
async fn without_a_secret_the_gateway_shows_nothing() {
    let keys = Keys::start(|_| Ok(Vec::new()));
    let mut config = config_with_keys(NOBODY, &keys, "[anonymous]\nenabled = false");
    config.auth.internal_secret = fixture::config("").auth.internal_secret;
    let edge = edge(config).await;
    let leave = by_operator("POST", "/v1/auth/logout", r#"{"refresh_token":"x"}"#);
    assert_eq!(ask(&edge, REMOTE, leave).await.status, StatusCode::NO_CONTENT);
    assert_eq!(keys.only().metadata("authorization"), "");
}

#[tokio::test]
async fn without_a_keys_service_calls_about_identity_are_a_503() {
    let upstream = Upstream::start(admit);
    let edge = before(&upstream).await;
    for (peer, request) in [
        (REMOTE, request("POST", "/v1/auth/login", "{}")),
        (REMOTE, request("GET", "/.well-known/jwks.json", "")),
        (LOCAL, request("GET", "/v1/auth/api-keys", "")),
    ] {
        let answer = ask(&edge, peer, request).await;
        assert_eq!((answer.status.as_u16(), &answer.json["error"]), (503, &json!("keys_not_configured")));
    }
}

/// Ten calls a minute without credentials; and no token but one is good.
fn refuse_junk(check: &CheckRequest) -> Result<CheckResponse, Status> {
    static COUNTED: AtomicUsize = AtomicUsize::new(0);
    match &*check.namespace {
        NAMESPACE if COUNTED.fetch_add(1, Ordering::Relaxed) >= 10 => Ok(denied()),
        NAMESPACE | "good" => Ok(admitted(7)),
        _ => Err(AuthError::Invalid("expired").to_status()),
    }
}

#[tokio::test]
async fn tokens_that_no_service_accepts_are_counted_by_address_and_those_accepted_are_not() {
    let upstream = Upstream::start(refuse_junk);
    let (edge, _keys) = with_keys(&upstream).await;
    let status = async |method: &str, path: &str, token: &str, namespace: &str| {
        let body = format!("{{\"namespace\":\"{namespace}\"}}");
        let request =
            with_header(request(method, path, &body), "authorization", &format!("Bearer a.b.{token}"));
        ask(&edge, REMOTE, request).await.status.as_u16()
    };
    assert_eq!(status("POST", "/v1/check", "good", "good").await, 200);
    for n in 0..9 {
        // Whether it gets as far as a service or not.
        let (method, path, expected) =
            [("POST", "/v1/check", 401), ("DELETE", "/v1/check", 405), ("POST", "/v1/check?no", 400)][n % 3];
        assert_eq!(status(method, path, &format!("junk{n}"), "junk").await, expected, "{n}");
    }
    let counted = with_header(request("POST", "/v1/check", "{}"), "authorization", "Bearer a.b.last");
    assert_eq!(ask(&edge, REMOTE, counted).await.header("x-ratelimit-remaining"), "7");
    assert_eq!(status("POST", "/v1/check", "junk10", "junk").await, 429);
    let asked = upstream.seen().len();
    assert_eq!(status("POST", "/v1/check", "junk11", "junk").await, 429);
    assert_eq!(upstream.seen().len(), asked + 1, "it goes no further than the limit");
    assert_eq!(status("POST", "/v1/check", "good", "good").await, 200, "it was accepted before");
}

#[tokio::test]
async fn an_outage_is_not_held_against_the_caller() {
    let gone = |_: &CheckRequest| Err(Status::unavailable("gone"));
    let upstream = Upstream::start(gone);
    let (edge, _keys) = with_keys(&upstream).await;
    assert_eq!(
        ask(&edge, REMOTE, by_operator("POST", "/v1/check", "{}")).await.status,
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert!(upstream.seen().iter().all(|(check, _)| check.namespace != NAMESPACE), "{:?}", upstream.seen());
}

#[tokio::test]
async fn a_wrong_password_says_nothing_of_the_token_that_came_with_it() {
    let upstream = Upstream::start(|check| match &*check.namespace {
        NAMESPACE => Ok(denied()),
        _ => Ok(admitted(7)),
    });
    let keys =
        Keys::start(|_| Err(error::status(Code::Unauthenticated, "CREDENTIALS_INVALID", "not good", None)));
    let edge = edge(config_with_keys(&upstream.url(), &keys, PATIENT)).await;
    let check = async || ask(&edge, REMOTE, by_operator("POST", "/v1/check", "{}")).await.status;
    assert_eq!(check().await, StatusCode::OK);
    let body = r#"{"current_password":"wrong","new_password":"correct horse battery"}"#;
    let answer = ask(&edge, REMOTE, by_operator("POST", "/v1/auth/password", body)).await;
    assert_eq!((answer.status.as_u16(), &answer.json["error"]), (401, &json!("credentials_invalid")));
    assert_eq!(keys.only().method, "ChangePassword");
    assert_eq!(check().await, StatusCode::OK);
    assert!(upstream.seen().iter().all(|(check, _)| check.namespace != NAMESPACE), "{:?}", upstream.seen());
}

/// The answer of a handler of a test, behind the guard.
async fn behind_the_guard(app: &App, path: &str) -> Response {
    let refused_meanwhile = |State(app): State<App>, context: RequestContext| async move {
        context.learn(Some(true));
        app.shared.reputation.refuse(OPERATOR.as_bytes());
        StatusCode::CONFLICT
    };
    let router = Router::new()
        .route("/v1/done", post(|| async { StatusCode::CREATED }))
        .route("/v1/refused-meanwhile", post(refused_meanwhile))
        .route("/v1/untold", post(|| async { StatusCode::CONFLICT }))
        .route("/v1/never", get(std::future::pending::<()>))
        .layer(middleware::from_fn_with_state(app.clone(), guard))
        .with_state(app.clone());
    let method = if path == "/v1/never" { "GET" } else { "POST" };
    let mut request = by_operator(method, path, "");
    let context = RequestContext::new(REMOTE.parse().unwrap(), request.headers(), &app.shared);
    request.extensions_mut().insert(context);
    router.oneshot(request).await.unwrap()
}

#[rstest]
#[case::done("/v1/done", 201)]
#[case::with_a_token_that_was_good_then("/v1/refused-meanwhile", 409)]
#[case::with_a_token_of_which_nothing_is_known("/v1/untold", 429)]
#[tokio::test]
async fn no_denial_takes_the_place_of_what_a_good_token_did(#[case] path: &str, #[case] status: u16) {
    let (upstream, keys) = (Upstream::start(deny), Keys::start(|_| Ok(Vec::new())));
    let app = fixture::app(config_with_keys(&upstream.url(), &keys, PATIENT)).await;
    assert_eq!(behind_the_guard(&app, path).await.status().as_u16(), status);
}

/// Waits until the limit was asked once, by its route.
async fn counted_by(upstream: &Upstream) -> String {
    loop {
        let seen = upstream.seen();
        if let Some((check, _)) = seen.iter().find(|(check, _)| check.namespace == NAMESPACE) {
            return check.attributes[1].value.clone();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn whoever_hangs_up_before_the_answer_is_counted() {
    let (upstream, keys) = (Upstream::start(deny), Keys::start(|_| Ok(Vec::new())));
    let app = fixture::app(config_with_keys(&upstream.url(), &keys, PATIENT)).await;
    let hang_up = async || {
        let call = behind_the_guard(&app, "/v1/never");
        assert!(tokio::time::timeout(Duration::from_millis(20), call).await.is_err());
    };
    app.shared.reputation.accept(OPERATOR.as_bytes());
    hang_up().await;
    assert!(upstream.seen().is_empty(), "its token was accepted lately");
    app.shared.reputation.refuse(OPERATOR.as_bytes());
    hang_up().await;
    let counted = tokio::time::timeout(Duration::from_secs(10), counted_by(&upstream));
    assert_eq!(counted.await.expect("it is counted"), "/v1/never");
}
