use axum::{body::Body, routing::get};
use http::{Method, Request, header::SET_COOKIE};
use rstest::rstest;
use serde_json::json;

use super::*;
use crate::fixture::{self, Answer, LOCAL, NOBODY, REMOTE, ask, request};

async fn edge(toml: &str) -> Edge {
    let off = format!("{toml}\n[anonymous]\nenabled = false");
    fixture::edge(fixture::config_with(NOBODY, &off)).await
}

/// An edge before routes that misbehave.
async fn before(router: Router) -> Edge {
    let app = fixture::app(fixture::config_with(NOBODY, "")).await;
    Edge { router, shared: Arc::clone(&app.shared) }
}

fn with(name: &'static str, value: &str) -> Request<Body> {
    let mut request = request("GET", "/nowhere", "");
    request.headers_mut().insert(name, HeaderValue::from_str(value).unwrap());
    request
}

fn assert_problem(answer: &Answer, status: u16, error: &str) {
    assert_eq!(answer.status.as_u16(), status, "{answer:?}");
    assert_eq!(answer.header("content-type"), "application/problem+json", "{answer:?}");
    assert_eq!(answer.json["status"], json!(status), "{answer:?}");
    assert_eq!(answer.json["error"], json!(error), "{answer:?}");
    assert_eq!(answer.json["request_id"], json!(answer.header("x-request-id")), "{answer:?}");
    for word in ["type", "title", "detail"] {
        assert!(answer.json[word].as_str().is_some_and(|text| !text.is_empty()), "no {word}: {answer:?}");
    }
}

#[tokio::test]
async fn an_answer_has_exactly_these_headers() {
    let answer = ask(&edge("").await, REMOTE, with("x-request-id", "order-7")).await;
    insta::assert_debug_snapshot!(answer.headers);
    insta::assert_json_snapshot!(answer.json);
}

#[rstest]
#[case::unknown_path("GET", "/nowhere", 404, "not_found", "")]
#[case::trailing_slash("GET", "/health/live/", 404, "not_found", "")]
#[case::double_slash("GET", "//health/live", 404, "not_found", "")]
#[case::dot_segments("GET", "/v1/../health/live", 404, "not_found", "")]
#[case::encoded_path("GET", "/health%2flive", 404, "not_found", "")]
#[case::other_verb("POST", "/v1/check:all", 404, "not_found", "")]
#[case::wrong_method("GET", "/v1/check", 405, "method_not_allowed", "POST")]
#[case::wrong_method_of_batch("DELETE", "/v1/check:batch", 405, "method_not_allowed", "POST")]
#[case::wrong_method_of_health("POST", "/health/live", 405, "method_not_allowed", "GET,HEAD")]
#[case::preflight_without_cors("OPTIONS", "/v1/check", 405, "method_not_allowed", "POST")]
#[case::made_up_method("BREW", "/openapi.json", 405, "method_not_allowed", "GET,HEAD")]
#[case::asterisk("OPTIONS", "*", 404, "not_found", "")]
#[case::tunnel("CONNECT", "evil.example:443", 404, "not_found", "")]
#[case::proxy("GET", "http://evil.example/", 404, "not_found", "")]
#[tokio::test]
async fn what_is_not_there_is_a_problem(
    #[case] method: &str,
    #[case] target: &str,
    #[case] status: u16,
    #[case] error: &str,
    #[case] allow: &str,
) {
    let answer = ask(&edge("").await, LOCAL, request(method, target, "")).await;
    assert_problem(&answer, status, error);
    assert_eq!(answer.header("allow"), allow);
}

#[tokio::test]
async fn sizes_are_bounded() {
    let edge = edge("[limits]\nuri_bytes = 256\nheader_bytes = 1024\nheaders = 16").await;
    let long = format!("/v1/check?{}", "q".repeat(300));
    assert_problem(&ask(&edge, LOCAL, request("POST", &long, "{}")).await, 414, "uri_too_long");

    let wide = with("x-wide", &"v".repeat(1024));
    assert_problem(&ask(&edge, LOCAL, wide).await, 431, "headers_too_large");

    let mut many = request("GET", "/health/live", "");
    for _ in 0..16 {
        many.headers_mut().append("x-many", HeaderValue::from_static("v"));
    }
    assert_problem(&ask(&edge, LOCAL, many).await, 431, "headers_too_large");
}

#[tokio::test]
async fn http_1_1_needs_exactly_one_host() {
    let mut none = request("GET", "/health/live", "");
    none.headers_mut().remove("host");
    let answer = ask(&edge("").await, LOCAL, none).await;
    assert_problem(&answer, 400, "invalid_argument");
    assert_eq!(answer.json["violations"], json!([{"field": "Host", "description": "is missing"}]));
}

#[tokio::test]
async fn a_harmless_request_id_comes_back_and_another_is_replaced() {
    let edge = edge("").await;
    assert_eq!(ask(&edge, LOCAL, with("x-request-id", "order-7")).await.header("x-request-id"), "order-7");
    let answer = ask(&edge, LOCAL, with("x-request-id", "<script>")).await;
    assert_problem(&answer, 404, "not_found");
    assert_eq!(answer.header("x-request-id").len(), 36);
}

#[tokio::test]
async fn a_panic_is_a_500_that_tells_nothing_and_the_edge_goes_on() {
    let panics = get(|| async { panic!("the password is hunter2") as () });
    let edge = before(Router::new().route("/panics", panics).route("/fine", get(|| async { "fine" }))).await;
    let answer = ask(&edge, LOCAL, request("GET", "/panics", "")).await;
    assert_problem(&answer, 500, "internal");
    assert!(!answer.json.to_string().contains("hunter2"), "{answer:?}");
    assert_eq!(ask(&edge, LOCAL, request("GET", "/fine", "")).await.status, StatusCode::OK);
}

#[tokio::test]
async fn an_error_of_a_library_loses_its_body_and_keeps_its_headers() {
    let foreign = get(|| async {
        let mut response = (StatusCode::BAD_GATEWAY, "connect 10.0.0.1:5432 refused").into_response();
        for cookie in ["a=1", "b=2"] {
            response.headers_mut().append(SET_COOKIE, HeaderValue::from_static(cookie));
        }
        response
    });
    let answer = ask(&before(Router::new().route("/", foreign)).await, LOCAL, request("GET", "/", "")).await;
    assert_problem(&answer, 502, "internal");
    assert!(!answer.json.to_string().contains("10.0.0.1"), "{answer:?}");
    let cookies: Vec<_> = answer.headers.get_all(SET_COOKIE).iter().collect();
    assert_eq!(cookies, ["a=1", "b=2"]);
    assert_eq!(answer.headers.get_all("content-type").iter().count(), 1);
}

#[tokio::test]
async fn hsts_is_sent_only_to_callers_that_used_tls() {
    let edge = edge("[proxies]\ntrusted = [\"10.0.0.0/8\"]").await;
    let through = |peer| ask(&edge, peer, with("x-forwarded-proto", "https"));
    assert_eq!(through("10.0.0.1:1").await.header("strict-transport-security"), "max-age=31536000");
    assert_eq!(through(REMOTE).await.header("strict-transport-security"), "");
}

#[tokio::test]
async fn cors_is_off_unless_the_origin_is_configured() {
    const OURS: &str = "https://console.example.com";
    let on = edge(&format!("[cors]\norigins = [\"{OURS}\"]")).await;
    let off = edge("").await;
    let preflight = |origin: &str| {
        let mut request = with("origin", origin);
        *request.method_mut() = Method::OPTIONS;
        *request.uri_mut() = Uri::from_static("/v1/check");
        request.headers_mut().insert("access-control-request-method", HeaderValue::from_static("POST"));
        request
    };
    let allowed = |answer: Answer| answer.header("access-control-allow-origin").to_owned();
    assert_eq!(allowed(ask(&off, REMOTE, preflight(OURS)).await), "");
    assert_eq!(allowed(ask(&on, REMOTE, preflight("https://evil.example")).await), "");

    let answer = ask(&on, REMOTE, preflight(OURS)).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.header("access-control-max-age"), "600");
    assert_eq!(allowed(answer), OURS);
    let refused = ask(&on, REMOTE, with("origin", OURS)).await;
    assert_problem(&refused, 404, "not_found");
    assert_eq!(allowed(refused), OURS, "a page may read why it was refused");
}
