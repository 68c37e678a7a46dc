//! Malformed calls over REST.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use tidegate_tests::{
    http_client::{self, Answer},
    services::Service,
    test_result::TestResult,
    turn,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{VICTIM, ratelimit, unharmed};

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];

fn assert_problem(what: &str, answer: &Answer, status: u16, error: &str, fields: &[&str]) {
    let problem = answer.json();
    let what = format!("{what}: {} {}", answer.status, answer.text());
    assert_eq!(answer.status.as_u16(), status, "{what}");
    assert_eq!(answer.header("content-type"), "application/problem+json", "{what}");
    assert_eq!(problem["status"], json!(status), "{what}");
    assert_eq!(problem["error"], json!(error), "{what}");
    for word in ["type", "title", "detail", "request_id"] {
        assert!(problem[word].as_str().is_some_and(|text| !text.is_empty()), "no {word}, {what}");
    }
    let mut named: Vec<_> = problem["violations"].as_array().into_iter().flatten().map(field).collect();
    let mut expected = fields.to_vec();
    named.sort_unstable();
    expected.sort_unstable();
    assert_eq!(named, expected, "{what}");
}

fn field(violation: &Value) -> &str {
    assert!(violation["description"].as_str().is_some_and(|text| !text.is_empty()), "{violation}");
    violation["field"].as_str().unwrap_or_default()
}

/// A check of the victim with `more` merged in.
fn with(more: Value) -> String {
    let mut body = json!({"attributes": {"organization": VICTIM}});
    if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
        body.extend(more);
    }
    body.to_string()
}

fn attributes(count: usize) -> String {
    let entries: serde_json::Map<_, _> = (0..count).map(|i| (format!("a{i}"), json!("x"))).collect();
    with(json!({"attributes": entries}))
}

fn wrong_fields() -> Vec<(&'static str, String, Vec<&'static str>)> {
    vec![
        ("a negative cost", with(json!({"cost": -1})), vec!["cost"]),
        ("cost 0", with(json!({"cost": 0})), vec!["cost"]),
        ("half a token", with(json!({"cost": 1.5})), vec!["cost"]),
        ("a cost of 1e30", with(json!({"cost": 1e30})), vec!["cost"]),
        ("cost as text", with(json!({"cost": "1"})), vec!["cost"]),
        ("cost NaN as text", with(json!({"cost": "NaN"})), vec!["cost"]),
        ("cost as a list", with(json!({"cost": [1]})), vec!["cost"]),
        ("a cost of 2^64", with(json!({"cost": 1})).replace(":1", ":18446744073709551616"), vec!["cost"]),
        ("attributes as a list", with(json!({"attributes": []})), vec!["attributes"]),
        (
            "a number as attribute",
            with(json!({"attributes": {"organization": 5}})),
            vec!["attributes[organization]"],
        ),
        (
            "null as attribute",
            with(json!({"attributes": {"organization": null}})),
            vec!["attributes[organization]"],
        ),
        ("an attribute without a name", with(json!({"attributes": {"": "x"}})), vec!["attributes[]"]),
        ("10,000 attributes", attributes(10_000), vec!["attributes"]),
        ("a namespace with a blank", with(json!({"namespace": "a b"})), vec!["namespace"]),
        ("a number as namespace", with(json!({"namespace": 1})), vec!["namespace"]),
        ("a misspelt field", with(json!({"namspace": "x"})), vec!["namspace"]),
        ("a number as dry_run", with(json!({"dry_run": 1})), vec!["dry_run"]),
        ("an idempotency key with a NUL", with(json!({"idempotency_key": "\u{0}"})), vec!["idempotency_key"]),
        ("a list for a check", "[]".to_owned(), vec!["body"]),
        ("null for a check", "null".to_owned(), vec!["body"]),
        (
            "four faults at once",
            with(json!({"cost": 0, "namespace": "!", "idempotency_key": "é", "x": 1})),
            vec!["cost", "idempotency_key", "namespace", "x"],
        ),
    ]
}

async fn services() -> anyhow::Result<(Service, Service)> {
    let ratelimit = ratelimit().await?;
    let gateway = Service::gateway(&[ratelimit.address()], "[upstreams]\ndeadline = \"5s\"").await?;
    Ok((ratelimit, gateway))
}

async fn post(
    gateway: &Service,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> anyhow::Result<Answer> {
    http_client::request(gateway.address(), Method::POST, path, headers, body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_fields_are_all_named() -> TestResult {
    let _turn = turn::shared().await;
    let (ratelimit, gateway) = services().await?;
    for (what, body, fields) in wrong_fields() {
        let answer = post(&gateway, "/v1/check", JSON, body.clone()).await?;
        assert_problem(what, &answer, 400, "invalid_argument", &fields);
        if body.starts_with('{') {
            // Beside a good check that must not be charged.
            let batch = format!("{{\"checks\":[{},{body}]}}", with(json!({})));
            let fields: Vec<_> = fields.iter().map(|field| format!("checks[1].{field}")).collect();
            let fields: Vec<_> = fields.iter().map(String::as_str).collect();
            let answer = post(&gateway, "/v1/check:batch", JSON, batch).await?;
            assert_problem(what, &answer, 400, "invalid_argument", &fields);
        }
    }
    gateway.assert_no_panic().await?;
    unharmed(&ratelimit).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_service_refuses_keeps_its_reason() -> TestResult {
    let _turn = turn::shared().await;
    let (ratelimit, gateway) = services().await?;
    let cases = [
        ("an unknown namespace", with(json!({"namespace": "nowhere"})), 404, "not_found", "namespace"),
        ("a cost above capacity", with(json!({"cost": 11})), 400, "cost_above_capacity", "cost"),
        (
            "an unknown plan",
            with(json!({"attributes": {"organization": VICTIM, "plan": "platinum"}})),
            400,
            "unknown_plan",
            "attributes[plan]",
        ),
    ];
    for (what, body, status, error, field) in cases {
        let answer = post(&gateway, "/v1/check", JSON, body).await?;
        assert_problem(what, &answer, status, error, &[field]);
    }
    gateway.assert_no_panic().await?;
    unharmed(&ratelimit).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_not_json_are_told_apart() -> TestResult {
    let _turn = turn::shared().await;
    let (ratelimit, gateway) = services().await?;
    let deep = "[".repeat(100_000);
    let text = &[("content-type", "text/plain")][..];
    let cases = [
        ("no body", JSON, Vec::new(), 400, "invalid_json"),
        ("half a body", JSON, b"{\"cost\":".to_vec(), 400, "invalid_json"),
        ("NaN, which JSON has not", JSON, b"{\"cost\":NaN}".to_vec(), 400, "invalid_json"),
        ("two bodies", JSON, b"{}{}".to_vec(), 400, "invalid_json"),
        ("100,000 brackets", JSON, deep.into_bytes(), 400, "invalid_json"),
        ("invalid UTF-8", JSON, b"{\"namespace\":\"\xff\"}".to_vec(), 400, "invalid_json"),
        ("text", text, b"{}".to_vec(), 415, "unsupported_media_type"),
        ("no content type", &[], b"{}".to_vec(), 415, "unsupported_media_type"),
    ];
    for (what, headers, body, status, error) in cases {
        let answer = post(&gateway, "/v1/check", headers, body).await?;
        assert_problem(what, &answer, status, error, &[]);
    }
    // By hand, since it is answered before the body is read: a client that writes meanwhile may find the connection closed.
    let mut stream = TcpStream::connect(gateway.address()).await?;
    let head = format!(
        "POST /v1/check HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        gateway.address(),
        (1 << 20) + 1
    );
    stream.write_all(head.as_bytes()).await?;
    let mut answer = String::new();
    timeout(Duration::from_secs(20), stream.read_to_string(&mut answer)).await??;
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("\"body_too_large\""), "{answer}");
    gateway.assert_no_panic().await?;
    unharmed(&ratelimit).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_places_and_parameters_are_told() -> TestResult {
    let _turn = turn::shared().await;
    let (ratelimit, gateway) = services().await?;
    let body = with(json!({}));
    for query in ["enforce=maybe", "enforce=true&enforce=false"] {
        let answer = post(&gateway, &format!("/v1/check?{query}"), JSON, body.clone()).await?;
        assert_problem(query, &answer, 400, "invalid_argument", &["enforce"]);
    }
    let answer = post(&gateway, "/v1/check?enforse=true", JSON, body.clone()).await?;
    assert_problem("a misspelt parameter", &answer, 400, "invalid_argument", &["enforse"]);
    for count in [0, 101] {
        let checks = vec![json!({}); count];
        let answer = post(&gateway, "/v1/check:batch", JSON, json!({"checks": checks}).to_string()).await?;
        assert_problem("a batch of a wrong size", &answer, 400, "invalid_argument", &["checks"]);
    }
    let answer = post(&gateway, "/v1/chek", JSON, body.clone()).await?;
    assert_problem("an unknown path", &answer, 404, "not_found", &[]);
    let answer = http_client::get(gateway.address(), "/v1/check").await?;
    assert_problem("GET of a check", &answer, 405, "method_not_allowed", &[]);
    assert_eq!(answer.header("allow"), "POST");

    let key = [("content-type", "application/json"), ("idempotency-key", &*"k".repeat(129))];
    let answer = post(&gateway, "/v1/check", &key, body.clone()).await?;
    assert_problem("a long Idempotency-Key", &answer, 400, "invalid_argument", &["Idempotency-Key"]);
    let wide = [("content-type", "application/json"), ("x-wide", &*"v".repeat(40_000))];
    let answer = post(&gateway, "/v1/check", &wide, body.clone()).await?;
    assert_problem("headers of 40 KB", &answer, 431, "headers_too_large", &[]);
    let long = format!("/v1/check?{}", "q".repeat(9_000));
    let answer = post(&gateway, &long, JSON, body).await?;
    assert_problem("a target of 9 KB", &answer, 414, "uri_too_long", &[]);

    for noise in [&b"\x00\x01\x02\r\n\r\n"[..], b"POST /v1/check HTTP/1.1\r\nContent-Length: -5\r\n\r\n"] {
        let (answer, closed) = http_client::raw(gateway.address(), noise, Duration::from_secs(5)).await?;
        let answer = String::from_utf8_lossy(&answer);
        assert!(closed && answer.starts_with("HTTP/1.1 400 "), "{noise:?}: {closed} {answer}");
    }
    gateway.assert_no_panic().await?;
    unharmed(&ratelimit).await?;
    Ok(())
}
