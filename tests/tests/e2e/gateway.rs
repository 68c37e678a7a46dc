//! The REST front: what it adds to the services behind it, and how it bears their restart.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::json;
use tidegate_tests::{
    eventually::eventually,
    http_client::{self, Answer, metric},
    rpc,
    services::{RateLimitSettings, Service},
    test_result::TestResult,
    turn,
};

async fn behind(toml: &str) -> anyhow::Result<(Service, Service)> {
    let ratelimit = Service::ratelimit(&RateLimitSettings::default()).await?;
    let gateway = Service::gateway(&[ratelimit.address()], toml).await?;
    Ok((ratelimit, gateway))
}

async fn check(gateway: &Service, organization: &str) -> anyhow::Result<Answer> {
    let body = json!({"attributes": {"organization": organization}});
    http_client::post(gateway.address(), "/v1/check", &body).await
}

async fn from(gateway: &Service, forwarded: &str, path: &str) -> anyhow::Result<Answer> {
    let headers = [("x-forwarded-for", forwarded)];
    http_client::request(gateway.address(), Method::GET, path, &headers, Bytes::new()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_service_behind_is_survived() -> TestResult {
    let _turn = turn::shared().await;
    let (mut ratelimit, gateway) = behind("").await?;
    assert_eq!(check(&gateway, "acme").await?.status, StatusCode::OK);

    ratelimit.kill()?;
    let down = check(&gateway, "acme").await?;
    assert_eq!(down.status, StatusCode::SERVICE_UNAVAILABLE, "{}", down.text());
    assert_eq!(down.json()["error"], json!("service_unavailable"), "{}", down.text());
    assert!(!down.text().contains("127.0.0.1"), "a 5xx leaks an address: {}", down.text());

    ratelimit.restart().await?;
    let recovered = async || Ok(check(&gateway, "acme").await?.status == StatusCode::OK);
    eventually("the gateway finds the service again", Duration::from_secs(10), recovered).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_share_the_load_and_one_may_die() -> TestResult {
    let _turn = turn::shared().await;
    let mut first = Service::ratelimit(&RateLimitSettings::default()).await?;
    let second = Service::ratelimit(&RateLimitSettings::default()).await?;
    let gateway = Service::gateway(&[first.address(), second.address()], "").await?;
    for number in 0..40 {
        assert_eq!(check(&gateway, &format!("spread-{number}")).await?.status, StatusCode::OK);
    }
    for (name, service) in [("first", &first), ("second", &second)] {
        let page = service.metrics().await?;
        assert!(metric(&page, "rate_limit_requests_total", "") > 0.0, "the {name} replica was never asked");
    }
    first.kill()?;
    for number in 0..40 {
        let answer = check(&gateway, &format!("left-{number}")).await?;
        assert_eq!(answer.status, StatusCode::OK, "check {number}: {}", answer.text());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn forwarding_headers_count_only_from_trusted_proxies() -> TestResult {
    let _turn = turn::shared().await;
    let ask = async |gateway: &Service, forwarded: &'static str| {
        let headers = [("x-forwarded-for", forwarded), ("content-type", "application/json")];
        let body = json!({"attributes": {"organization": "acme"}}).to_string();
        http_client::request(gateway.address(), Method::POST, "/v1/check", &headers, body).await
    };
    // From a peer that is not listed the header opens nothing, and shows that it speaks for another.
    let (_ratelimit, direct) = behind("").await?;
    assert_eq!(check(&direct, "acme").await?.status, StatusCode::OK);
    for forwarded in ["203.0.113.9", "127.0.0.1"] {
        let answer = ask(&direct, forwarded).await?;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{forwarded}: {}", answer.text());
    }

    // Through trusted proxies the caller is the one they name, on this machine only if they all are.
    let (_ratelimit, proxied) = behind("[proxies]\ntrusted = [\"127.0.0.0/8\", \"10.0.0.0/8\"]").await?;
    for (forwarded, status) in [
        ("203.0.113.9", StatusCode::UNAUTHORIZED),
        ("127.0.0.1, 10.0.0.5", StatusCode::UNAUTHORIZED),
        ("127.0.0.1", StatusCode::OK),
    ] {
        let answer = ask(&proxied, forwarded).await?;
        assert_eq!(answer.status, status, "{forwarded}: {}", answer.text());
    }
    assert_eq!(check(&proxied, "acme").await?.status, StatusCode::UNAUTHORIZED, "nobody is named");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn anonymous_callers_have_sixty_a_minute_each_and_health_is_exempt() -> TestResult {
    let _turn = turn::shared().await;
    let toml = "[proxies]\ntrusted = [\"127.0.0.0/8\"]\n[anonymous]\ndeadline = \"2s\"";
    let (_ratelimit, gateway) = behind(toml).await?;
    let mut passed = 0;
    let mut last = from(&gateway, "203.0.113.9", "/nowhere").await?;
    for _ in 0..70 {
        passed += u32::from(last.status == StatusCode::NOT_FOUND);
        last = from(&gateway, "203.0.113.9", "/nowhere").await?;
    }
    assert_eq!(last.status, StatusCode::TOO_MANY_REQUESTS, "{}", last.text());
    assert_eq!(passed, 60);
    assert_eq!(last.json()["violated_policies"], json!(["anonymous/minute"]), "{}", last.text());
    assert!(!last.header("retry-after").is_empty());
    assert_eq!(last.header("x-ratelimit-limit"), "60");

    let other = from(&gateway, "203.0.113.10", "/nowhere").await?;
    assert_eq!(other.status, StatusCode::NOT_FOUND, "another address has a limit of its own");
    for path in ["/health/live", "/health/ready"] {
        assert_eq!(from(&gateway, "203.0.113.9", path).await?.status, StatusCode::OK, "{path}");
    }
    // All addresses of one /64 are one caller.
    for host in 0..60 {
        from(&gateway, &format!("2001:db8:1:2::{host:x}"), "/nowhere").await?;
    }
    let neighbour = from(&gateway, "2001:db8:1:2:ffff::1", "/nowhere").await?;
    assert_eq!(neighbour.status, StatusCode::TOO_MANY_REQUESTS);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_carries_the_security_headers_and_a_request_id() -> TestResult {
    let _turn = turn::shared().await;
    let (_ratelimit, gateway) = behind("").await?;
    for path in ["/health/live", "/openapi.json", "/nowhere", "/v1/check"] {
        let answer = http_client::get(gateway.address(), path).await?;
        let expected = [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("cache-control", "no-store"),
        ];
        for (name, value) in expected {
            assert_eq!(answer.header(name), value, "{name} of {path}");
        }
        for name in ["content-security-policy", "permissions-policy", "x-request-id"] {
            assert!(!answer.header(name).is_empty(), "{name} of {path}");
        }
        assert_eq!(answer.header("server"), "", "{path} tells what serves it");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fit_request_id_is_kept_and_any_other_is_replaced() -> TestResult {
    let _turn = turn::shared().await;
    let (_ratelimit, gateway) = behind("").await?;
    let longest = "a".repeat(128);
    let too_long = "a".repeat(129);
    for (given, kept) in
        [("req-1.A_b", true), (&longest, true), (&too_long, false), ("two words", false), ("<x>", false)]
    {
        let headers = [("x-request-id", given)];
        let answer =
            http_client::request(gateway.address(), Method::GET, "/nowhere", &headers, Bytes::new()).await?;
        let id = answer.header("x-request-id");
        assert_eq!(id == given, kept, "{given:?} became {id:?}");
        assert_eq!(answer.json()["request_id"], json!(id));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn cors_is_off_unless_an_origin_is_configured() -> TestResult {
    let _turn = turn::shared().await;
    let headers = [("origin", "https://console.example.com"), ("access-control-request-method", "POST")];
    for (toml, allowed) in [("", ""), ("[cors]\norigins = [\"https://console.example.com\"]", headers[0].1)] {
        let (_ratelimit, gateway) = behind(toml).await?;
        let answer =
            http_client::request(gateway.address(), Method::OPTIONS, "/v1/check", &headers, Bytes::new())
                .await?;
        assert_eq!(answer.header("access-control-allow-origin"), allowed, "with {toml:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_answers_in_order_and_an_idempotent_retry_is_charged_once() -> TestResult {
    let _turn = turn::shared().await;
    let (ratelimit, gateway) = behind("").await?;
    let checks: Vec<_> = (0..12).map(|_| json!({"attributes": {"organization": "batch"}})).collect();
    let answer = http_client::post(gateway.address(), "/v1/check:batch", &json!({"checks": checks})).await?;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let answers = answer.json();
    let allowed: Vec<_> =
        answers["results"].as_array().into_iter().flatten().map(|r| r["allowed"] == json!(true)).collect();
    assert_eq!(allowed, [&[true; 10][..], &[false; 2]].concat());

    let body = json!({"attributes": {"organization": "retry"}, "idempotency_key": "order-7"});
    for attempt in 0..3 {
        let answer = http_client::post(gateway.address(), "/v1/check", &body).await?.json();
        assert_eq!(
            (&answer["allowed"], &answer["replayed"]),
            (&json!(true), &json!(attempt > 0)),
            "{answer}"
        );
    }
    let mut client = rpc::client(ratelimit.address())?;
    let used = rpc::used(&mut client, &rpc::organization("retry")).await?;
    assert!(used.values().all(|used| *used == 1), "{used:?}");
    Ok(())
}
