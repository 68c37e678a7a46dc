//! Leases over REST, on a real service behind a real gateway.

use http::StatusCode;
use serde_json::{Value, json};
use tidegate_tests::{
    http_client::{self, Answer},
    services::{RateLimitSettings, Service},
    test_result::TestResult,
    turn,
};

const POLICIES: &str = r#"
[[policies]]
name = "jobs"
namespace = "shop"
key_by = ["organization"]
match = { organization = "*" }
limits = [
    { name = "hour", limit = 1_000, period = "1h" },
    { name = "running", algorithm = "concurrency", limit = 2, lease = "30s" },
]

[[policies]]
name = "calls"
namespace = "shop"
key_by = ["user"]
match = { user = "*" }
limits = [{ name = "hour", limit = 5, period = "1h" }]
"#;

async fn gateway() -> anyhow::Result<(Service, Service)> {
    let settings = RateLimitSettings { policies: Some(POLICIES.to_owned()), ..RateLimitSettings::default() };
    let ratelimit = Service::ratelimit(&settings).await?;
    let gateway = Service::gateway(&[ratelimit.address()], "").await?;
    Ok((ratelimit, gateway))
}

async fn post(gateway: &Service, path: &str, body: Value) -> anyhow::Result<Answer> {
    http_client::post(gateway.address(), path, &body).await
}

async fn acquire(gateway: &Service, more: &Value) -> anyhow::Result<Answer> {
    let mut body = json!({"namespace": "shop", "attributes": {"organization": "acme"}});
    for (name, value) in more.as_object().into_iter().flatten() {
        body[name] = value.clone();
    }
    post(gateway, "/v1/leases", body).await
}

fn id(answer: &Answer) -> Value {
    answer.json()["lease"]["id"].clone()
}

fn problem(answer: &Answer) -> (StatusCode, Value) {
    (answer.status, answer.json()["error"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_taken_renewed_and_released() -> TestResult {
    let _turn = turn::shared().await;
    let (_ratelimit, gateway) = gateway().await?;
    let first = acquire(&gateway, &json!({"ttl_ms": 10_000})).await?;
    assert_eq!(first.status, StatusCode::CREATED, "{}", first.text());
    let told = first.json();
    assert_eq!(told["lease"]["expires_after_ms"], json!(10_000));
    assert_eq!((&told["allowed"], &told["binding_limit"]), (&json!(true), &json!("jobs/running")));
    assert_eq!(told["limits"][1]["remaining"], json!(1));
    assert!(first.header("ratelimit-policy").contains("qu=\"concurrent-requests\""), "{first:?}");
    // A check takes one as well.
    let check = json!({"namespace": "shop", "attributes": {"organization": "acme"}});
    let second = post(&gateway, "/v1/check", check.clone()).await?;
    assert_eq!(second.json()["lease"]["expires_after_ms"], json!(30_000), "{}", second.text());

    let denied = acquire(&gateway, &json!({})).await?;
    assert_eq!(problem(&denied), (StatusCode::TOO_MANY_REQUESTS, json!("concurrency_exceeded")));
    assert_eq!(denied.json()["violated_policies"], json!(["jobs/running"]));
    assert_eq!((denied.header("x-ratelimit-remaining"), denied.header("x-ratelimit-limit")), ("0", "2"));
    let wait: u64 = denied.header("retry-after").parse()?;
    assert!((1..=10).contains(&wait), "the first lease expires after {wait} s");
    let looked = post(&gateway, "/v1/check", check).await?;
    assert_eq!((&looked.json()["code"], looked.json().get("lease")), (&json!("concurrency_exceeded"), None));

    let renewed = post(&gateway, "/v1/leases:renew", json!({"lease_id": id(&first)})).await?;
    assert_eq!(renewed.status, StatusCode::OK, "{}", renewed.text());
    assert_eq!(renewed.json(), json!({"lease": {"id": id(&first), "expires_after_ms": 10_000}}));
    let cut =
        post(&gateway, "/v1/leases:renew", json!({"lease_id": id(&second), "ttl_ms": 86_400_000})).await?;
    assert_eq!(cut.json()["lease"]["expires_after_ms"], json!(30_000), "no more than when it was taken");

    for (lease, released) in [(&first, true), (&first, false), (&second, true)] {
        let answer = post(&gateway, "/v1/leases:release", json!({"lease_id": id(lease)})).await?;
        assert_eq!((answer.status, answer.json()), (StatusCode::OK, json!({"released": released})));
    }
    let ended = post(&gateway, "/v1/leases:renew", json!({"lease_id": id(&first)})).await?;
    assert_eq!(problem(&ended), (StatusCode::NOT_FOUND, json!("lease_not_found")));
    assert_eq!(acquire(&gateway, &json!({"cost": 2})).await?.status, StatusCode::CREATED, "both are free");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_is_answered_the_same_lease_while_it_is_held() -> TestResult {
    let _turn = turn::shared().await;
    let (_ratelimit, gateway) = gateway().await?;
    let key = json!({"idempotency_key": "job-7"});
    let first = acquire(&gateway, &key).await?;
    let again = acquire(&gateway, &key).await?;
    assert_eq!((again.status, &again.json()["replayed"]), (StatusCode::CREATED, &json!(true)));
    assert_eq!(again.json()["limits"][1]["remaining"], json!(1), "one is held, not two");
    let other = acquire(&gateway, &json!({"idempotency_key": "job-7", "cost": 2})).await?;
    assert_eq!(problem(&other), (StatusCode::UNPROCESSABLE_ENTITY, json!("idempotency_key_reused")));
    for (lease, released) in [(&again, true), (&first, false)] {
        let answer = post(&gateway, "/v1/leases:release", json!({"lease_id": id(lease)})).await?;
        assert_eq!(answer.json(), json!({"released": released}), "both ids are of one lease");
    }
    let ended = acquire(&gateway, &key).await?;
    assert_eq!(problem(&ended), (StatusCode::NOT_FOUND, json!("lease_not_found")));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_decided_is_told_as_of_a_check() -> TestResult {
    let _turn = turn::shared().await;
    let (ratelimit, gateway) = gateway().await?;
    let rates_only = json!({"attributes": {"user": "ann"}});
    let missing = acquire(&gateway, &rates_only).await?;
    assert_eq!(problem(&missing), (StatusCode::NOT_FOUND, json!("not_found")), "{}", missing.text());
    let nowhere = acquire(&gateway, &json!({"namespace": "nowhere"})).await?;
    assert_eq!(problem(&nowhere), (StatusCode::NOT_FOUND, json!("not_found")));
    assert_eq!(nowhere.json()["violations"][0]["field"], json!("namespace"));
    let beyond = acquire(&gateway, &json!({"cost": 3})).await?;
    assert_eq!(problem(&beyond), (StatusCode::BAD_REQUEST, json!("cost_above_capacity")));
    // Its characters are those of an id; that it is none, only the service knows.
    let made_up = post(&gateway, "/v1/leases:renew", json!({"lease_id": "made-up"})).await?;
    assert_eq!(problem(&made_up), (StatusCode::BAD_REQUEST, json!("invalid_argument")));
    assert_eq!(made_up.json()["violations"][0]["field"], json!("lease_id"));
    ratelimit.assert_no_panic().await?;
    gateway.assert_no_panic().await?;
    Ok(())
}
