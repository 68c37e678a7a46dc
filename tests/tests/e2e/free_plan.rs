//! The FREE plan, 10 a minute and 100 an hour: twelve checks, ten pass, and the two denials spend
//! nothing in any window. The same from every client.

use std::{collections::BTreeMap, process::Command};

use anyhow::Context;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use tidegate_proto::ratelimit::v1::Code;
use tidegate_tests::{
    http_client::{self, Answer},
    redis_server::RedisServer,
    rpc,
    services::{RateLimitSettings, Service},
    test_result::TestResult,
    tools, turn,
};

/// The longest that a used-up minute takes to have room again: a sliding window keeps its oldest sub-window, a
/// thirtieth of it, in full until all of that has passed.
const A_MINUTE_MS: u64 = 62_000;

const TEN_IN_EVERY_WINDOW: [(&str, u64); 3] = [("free/day", 10), ("free/hour", 10), ("free/minute", 10)];

fn ten_in_every_window() -> BTreeMap<String, u64> {
    TEN_IN_EVERY_WINDOW.iter().map(|(name, used)| ((*name).to_owned(), *used)).collect()
}

async fn services() -> anyhow::Result<(RedisServer, Service)> {
    let redis = RedisServer::start().await?;
    // A debug build on a busy machine: the outcome is tested here, not the speed.
    let toml = "[store.redis]\ndeadline = \"2s\"".to_owned();
    let settings = RateLimitSettings { redis_url: Some(redis.url()), toml, ..RateLimitSettings::default() };
    let ratelimit = Service::ratelimit(&settings).await?;
    Ok((redis, ratelimit))
}

#[tokio::test(flavor = "multi_thread")]
async fn rest_answers_ten_times_200_then_429_with_all_headers() -> TestResult {
    let _turn = turn::shared().await;
    let (_redis, ratelimit) = services().await?;
    let gateway = Service::gateway(&[ratelimit.address()], "").await?;
    let mut answers = Vec::new();
    for _ in 0..12 {
        let body = json!({"attributes": {"organization": "acme"}});
        answers.push(http_client::post(gateway.address(), "/v1/check?enforce=true", &body).await?);
    }

    let statuses: Vec<_> = answers.iter().map(|answer| answer.status.as_u16()).collect();
    assert_eq!(statuses, [&[200; 10][..], &[429; 2]].concat(), "{}", answers[0].text());
    for (number, answer) in answers.iter().enumerate() {
        common_headers(answer);
        let left = 9_usize.saturating_sub(number).to_string();
        assert_eq!(answer.header("x-ratelimit-remaining"), left, "answer {number}");
    }
    let allowed = answers[0].json();
    assert_eq!((&allowed["allowed"], &allowed["code"]), (&json!(true), &json!("ok")), "{allowed}");
    assert_eq!(allowed["limits"].as_array().map(Vec::len), Some(3), "{allowed}");
    answers[10..].iter().try_for_each(denied)?;

    let mut client = rpc::client(ratelimit.address())?;
    let check = rpc::organization("acme");
    assert_eq!(rpc::used(&mut client, &check).await?, ten_in_every_window());
    let peeked = client.peek(rpc::peek(&check)).await?.into_inner().result.context("Peek has a result")?;
    assert!(!peeked.allowed, "{peeked:?}");
    assert_eq!(rpc::used(&mut client, &check).await?, ten_in_every_window(), "Peek charged");
    Ok(())
}

fn common_headers(answer: &Answer) {
    assert_eq!(answer.header("x-ratelimit-limit"), "10");
    let reset: u64 = answer.header("x-ratelimit-reset").parse().expect("Unix seconds");
    let now = tidegate_tests::wall::now_us() / 1_000_000;
    assert!((now..=now + A_MINUTE_MS / 1000 + 1).contains(&reset), "reset {reset}, now {now}");
    let policy = answer.header("ratelimit-policy");
    for limit in ["\"free/minute\";q=10;w=60", "\"free/hour\";q=100;w=3600", "\"free/day\";q=1000;w=86400"] {
        assert!(policy.contains(limit), "RateLimit-Policy: {policy}");
    }
    let state = answer.header("ratelimit");
    assert!(state.starts_with("\"free/minute\";r=") && state.contains(";t="), "RateLimit: {state}");
    assert!(!answer.header("x-request-id").is_empty());
}

fn denied(answer: &Answer) -> anyhow::Result<()> {
    assert_eq!(answer.header("content-type"), "application/problem+json");
    let wait: u64 = answer.header("retry-after").parse().context("Retry-After in seconds")?;
    assert!((1..=A_MINUTE_MS / 1000).contains(&wait), "Retry-After: {wait}");
    let problem = answer.json();
    let expected = [
        ("type", json!("https://iana.org/assignments/http-problem-types#quota-exceeded")),
        ("title", json!("Too Many Requests")),
        ("status", json!(429)),
        ("detail", json!("Rate limit exceeded: 10 requests per minute")),
        ("error", json!("rate_limit_exceeded")),
        ("retry_after", json!(wait)),
        ("limit", json!(10)),
        ("remaining", json!(0)),
        ("violated_policies", json!(["free/minute"])),
        ("request_id", json!(answer.header("x-request-id"))),
    ];
    for (field, value) in expected {
        assert_eq!(problem[field], value, "{field} of {problem}");
    }
    assert!(problem["reset"].is_u64(), "{problem}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denial_is_an_answer_with_200_unless_enforced() -> TestResult {
    let _turn = turn::shared().await;
    let ratelimit = Service::ratelimit(&RateLimitSettings::default()).await?;
    let gateway = Service::gateway(&[ratelimit.address()], "").await?;
    let mut last = Value::Null;
    for _ in 0..11 {
        let body = json!({"attributes": {"organization": "acme"}});
        let answer = http_client::post(gateway.address(), "/v1/check", &body).await?;
        assert_eq!(answer.status, StatusCode::OK);
        last = answer.json();
    }
    assert_eq!((&last["allowed"], &last["code"]), (&json!(false), &json!("rate_limited")), "{last}");
    assert_eq!(last["binding_limit"], json!("free/minute"), "{last}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_from_rust_admits_ten_of_twelve() -> TestResult {
    let _turn = turn::shared().await;
    let (_redis, ratelimit) = services().await?;
    let mut client = rpc::client(ratelimit.address())?;
    let check = rpc::organization("acme");
    for number in 0..12 {
        let answer = client.check(check.clone()).await?.into_inner();
        assert_eq!(answer.allowed, number < 10, "check {number}: {answer:?}");
        assert_eq!(answer.retry_after_ms > 0, number >= 10, "check {number}: {answer:?}");
        let code = if number < 10 { Code::Ok } else { Code::RateLimited };
        assert_eq!(answer.code(), code);
        assert_eq!(answer.decision_id.len(), 16);
        let binding = &answer.limits[answer.binding_limit.context("a limit binds")? as usize];
        assert_eq!((binding.name.as_str(), binding.exceeded), ("free/minute", number >= 10));
    }
    assert_eq!(rpc::used(&mut client, &check).await?, ten_in_every_window());
    Ok(())
}

/// What the client programs of other languages print.
#[derive(Deserialize)]
struct Report {
    allowed: Vec<bool>,
    retry_after_ms: Vec<u64>,
    used: BTreeMap<String, u64>,
    zero_cost: String,
}

fn judge(report: &str) -> anyhow::Result<()> {
    let report: Report = serde_json::from_str(report).with_context(|| format!("not a report: {report}"))?;
    assert_eq!(report.allowed, [&[true; 10][..], &[false; 2]].concat());
    let waits = &report.retry_after_ms[10..];
    assert!(waits.iter().all(|ms| (1..=A_MINUTE_MS).contains(ms)), "{waits:?}");
    assert_eq!(report.used, ten_in_every_window());
    let refused = report.zero_cost.replace('_', "").to_lowercase();
    assert_eq!(refused, "invalidargument", "the code of a check of cost 0");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_from_python_admits_ten_of_twelve() -> TestResult {
    let _turn = turn::shared().await;
    let (_redis, ratelimit) = services().await?;
    let python = tools::python()?;
    let stubs = tempfile::tempdir()?;
    let proto = tools::workspace().join("proto");
    let generate = ["-m", "grpc_tools.protoc", "-I"];
    tools::run(
        Command::new(&python)
            .args(generate)
            .arg(&proto)
            .arg(format!("--python_out={}", stubs.path().display()))
            .arg(format!("--grpc_python_out={}", stubs.path().display()))
            .args(tools::PROTOS),
    )?;
    let program = tools::workspace().join("tests/clients/python/client.py");
    let printed = tools::output(Command::new(&python).env("PYTHONPATH", stubs.path()).arg(program).args([
        ratelimit.address(),
        "acme",
        "12",
    ]))?;
    judge(&printed)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_from_go_admits_ten_of_twelve() -> TestResult {
    let _turn = turn::shared().await;
    let (_redis, ratelimit) = services().await?;
    let client = tools::go()?.join("client");
    let printed = tools::output(Command::new(client).args([ratelimit.address(), "acme", "12"]))?;
    judge(&printed)?;
    Ok(())
}
