//! The layer before an axum backend.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Router,
    body::Body,
    extract::MatchedPath,
    routing::{get, post},
};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use tidegate_client::{Client, KeyIdentity, layer::ProtectLayer};
use tidegate_tests::{eventually::eventually, services::Service, test_result::TestResult};
use tokio::sync::Notify;
use tower::ServiceExt;

use crate::fixture::{AMPLE, check, patient, service};

const BAD_CHECKSUM: &str = "tk_live_00000000000000000000000000000000000000";

/// Whatever comes, counted by the organization of a header.
fn anonymous(client: Client, namespace: &'static str) -> ProtectLayer {
    ProtectLayer::new(client).anonymous().check(move |request, check| {
        let organization = request.headers.get("organization").and_then(|value| value.to_str().ok());
        check.namespace(namespace).attribute("organization", organization.unwrap_or("nobody"))
    })
}

fn ask(method: Method, path: &str, headers: &[(&str, &str)]) -> Request<Body> {
    let request = Request::builder().method(method).uri(path);
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    request.body(Body::empty()).expect("a request")
}

async fn answer(app: &Router, request: Request<Body>) -> anyhow::Result<Response<Body>> {
    Ok(app.clone().oneshot(request).await?)
}

async fn problem(response: Response<Body>) -> anyhow::Result<Value> {
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    Ok(serde_json::from_slice(&response.into_body().collect().await?.to_bytes())?)
}

async fn protected(service: &Service) -> anyhow::Result<Router> {
    let client = patient(service.address()).build().await?;
    let ok = || async { "fine" };
    Ok(Router::new().route("/v1/validate", post(ok)).layer(anonymous(client, "few")))
}

#[tokio::test]
async fn an_admitted_request_shows_its_limits_and_one_too_many_is_a_429() -> TestResult {
    let service = service().await?;
    let app = protected(&service).await?;
    let headers = [("organization", "acme"), ("x-request-id", "r-1")];
    for remaining in ["2", "1", "0"] {
        let response = answer(&app, ask(Method::POST, "/v1/validate", &headers)).await?;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["x-ratelimit-limit"], "3");
        assert_eq!(response.headers()["x-ratelimit-remaining"], remaining);
        assert_eq!(response.headers()["ratelimit-policy"], r#""few/hour";q=3;w=3600"#);
        assert!(!response.headers().contains_key("retry-after"));
        assert_eq!(response.into_body().collect().await?.to_bytes(), "fine");
    }
    let response = answer(&app, ask(Method::POST, "/v1/validate", &headers)).await?;
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    let retry_after: u64 = response.headers()["retry-after"].to_str()?.parse()?;
    assert!((1..=3600 + 600).contains(&retry_after), "{retry_after}");
    let body = problem(response).await?;
    assert_eq!(body["error"], "rate_limit_exceeded");
    assert_eq!(body["detail"], "Rate limit exceeded: 3 requests per hour");
    assert_eq!(body["retry_after"], retry_after);
    assert_eq!(body["violated_policies"], serde_json::json!(["few/hour"]));
    assert_eq!((&body["instance"], &body["request_id"]), (&"/v1/validate".into(), &"r-1".into()));
    Ok(())
}

#[tokio::test]
async fn a_request_without_a_key_or_with_a_false_one_is_refused_unasked() -> TestResult {
    // Nobody is there to be asked.
    let client = Client::builder("http://127.0.0.1:1").deadline(AMPLE).build().await?;
    let layer = ProtectLayer::new(client).exempt(|request| request.uri.path() == "/health");
    let ok = || async { "fine" };
    let app = Router::new().route("/", get(ok)).route("/health", get(ok)).layer(layer);
    let refused = [
        (&[][..], "unauthenticated"),
        (&[("authorization", "Basic x")], "unauthenticated"),
        (&[("x-api-key", BAD_CHECKSUM)], "key_not_found"),
    ];
    for (headers, error) in refused {
        let response = answer(&app, ask(Method::GET, "/", headers)).await?;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
        assert_eq!(problem(response).await?["error"], error);
    }
    assert_eq!(answer(&app, ask(Method::GET, "/health", &[])).await?.status(), StatusCode::OK);
    let unknown = answer(&app, ask(Method::GET, "/", &[("x-api-key", "a-key-of-old")])).await?;
    assert_eq!(unknown.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(unknown.headers()["retry-after"], "1");
    assert_eq!(problem(unknown).await?["error"], "store_unavailable");
    Ok(())
}

#[tokio::test]
async fn scopes_cannot_be_had_without_a_key() -> TestResult {
    let service = service().await?;
    let client = patient(service.address()).build().await?;
    let layer = anonymous(client, "many")
        .required_scopes(|request| (request.method == Method::POST).then_some("validate:write"));
    let ok = || async { "fine" };
    let app = Router::new().route("/", get(ok).post(ok)).layer(layer);
    assert_eq!(answer(&app, ask(Method::GET, "/", &[])).await?.status(), StatusCode::OK);
    assert_eq!(answer(&app, ask(Method::POST, "/", &[])).await?.status(), StatusCode::UNAUTHORIZED);
    Ok(())
}

#[tokio::test]
async fn a_backend_sees_no_key_but_that_of_the_decision() -> TestResult {
    let service = service().await?;
    let client = patient(service.address()).build().await?;
    let whose = |key: Option<Extension<KeyIdentity>>| async move { key.is_some().to_string() };
    let app = Router::new().route("/", get(whose)).layer(anonymous(client, "many"));
    let response = answer(&app, ask(Method::GET, "/", &[])).await?;
    assert_eq!(response.into_body().collect().await?.to_bytes(), "false");
    Ok(())
}

#[tokio::test]
async fn ids_in_paths_share_the_counter_of_their_template() -> TestResult {
    let service = service().await?;
    let client = patient(service.address()).build().await?;
    let layer = ProtectLayer::new(client).anonymous().check(|request, check| {
        let template = request.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
        check.namespace("few").attribute("organization", template)
    });
    let app = Router::new().route("/orders/{id}", get(|| async {})).layer(layer);
    for (path, status) in [("1", 200), ("2", 200), ("3", 200), ("4", 429)] {
        let response = answer(&app, ask(Method::GET, &format!("/orders/{path}"), &[])).await?;
        assert_eq!(response.status().as_u16(), status, "{path}");
    }
    Ok(())
}

#[tokio::test]
async fn a_place_is_held_until_the_answer_has_been_sent() -> TestResult {
    let service = service().await?;
    let client = patient(service.address()).build().await?;
    let (entered, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (entering, going) = (Arc::clone(&entered), Arc::clone(&go_on));
    let work = move || async move {
        entering.notify_one();
        going.notified().await;
        "done"
    };
    let app = Router::new().route("/", get(work)).layer(anonymous(client.clone(), "jobs"));
    let headers = [("organization", "acme")];
    let first = tokio::spawn(app.clone().oneshot(ask(Method::GET, "/", &headers)));
    entered.notified().await;
    let second = answer(&app, ask(Method::GET, "/", &headers)).await?;
    assert_eq!(second.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(problem(second).await?["detail"], "Too many at once: 1 request at a time");
    go_on.notify_one();
    let response = first.await??;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!client.peek(check("jobs", "acme")).await?.allowed, "the body is still to be sent");
    assert_eq!(response.into_body().collect().await?.to_bytes(), "done");
    let is_free = async || Ok(client.peek(check("jobs", "acme")).await?.allowed);
    eventually("the place is free", AMPLE, is_free).await?;
    Ok(())
}

#[tokio::test]
async fn a_faulty_set_up_is_a_500_that_tells_nothing() -> TestResult {
    let service = service().await?;
    let client = patient(service.address()).build().await?;
    let app = Router::new().route("/", get(|| async {})).layer(anonymous(client, "nowhere"));
    let response = answer(&app, ask(Method::GET, "/", &[])).await?;
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let body = problem(response).await?;
    assert_eq!((&body["error"], body["detail"].to_string().contains("nowhere")), (&"internal".into(), false));
    Ok(())
}
