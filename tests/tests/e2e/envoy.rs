//! A real Envoy in front, the rate-limit service behind it.

mod deadline;

use http::{Method, StatusCode};
use serde_json::{Value, json};
use tidegate_tests::{
    envoy::Envoy,
    http_client::{self, Answer},
    redis_server::RedisServer,
    services::{RateLimitSettings, Service},
    test_result::TestResult,
    turn,
};

const POLICIES: &str = r#"
builtin = false

[[policies]]
name = "users"
namespace = "edge"
descriptor = [{ key = "user" }]
limits = [{ name = "hour", limit = 5, period = "1h" }]

[[policies]]
name = "vip"
namespace = "edge"
descriptor = [{ key = "user", value = "vip-*" }]
limits = [{ name = "hour", limit = 7, period = "1h" }]

[[policies]]
name = "banned"
namespace = "edge"
descriptor = [{ key = "user", value = "mallory" }]
limits = [{ name = "hour", limit = 1, period = "1h" }]

[[policies]]
name = "uploads"
namespace = "edge"
descriptor = [{ key = "generic_key", value = "upload" }, { key = "path", value = "/files/*" }]
limits = [{ name = "day", algorithm = "fixed_window", limit = 10, period = "1d" }]
"#;

/// A header of the request as an entry of the descriptor.
fn header(name: &str, key: &str) -> Value {
    json!({ "request_headers": { "header_name": name, "descriptor_key": key } })
}

async fn get(envoy: &Envoy, path: &str, user: &str) -> anyhow::Result<Answer> {
    http_client::request(envoy.address(), Method::GET, path, &[("x-user", user)], "").await
}

async fn service(redis_url: Option<String>) -> anyhow::Result<Service> {
    let policies = Some(POLICIES.to_owned());
    Service::ratelimit(&RateLimitSettings { policies, redis_url, ..RateLimitSettings::default() }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_lets_through_until_the_limit_and_then_says_429() -> TestResult {
    let _turn = turn::shared().await;
    let service = service(None).await?;
    let envoy = Envoy::start(&service, &json!([{ "actions": [header("x-user", "user")] }])).await?;
    for (user, limit) in [("ada", 5), ("vip-eve", 7), ("mallory", 1)] {
        for left in (0..limit).rev() {
            let answer = get(&envoy, "/", user).await?;
            assert_eq!(answer.status, StatusCode::OK, "{user}, {left} left");
            // Limit, and the length of its window in seconds (draft-polli-ratelimit-headers-03).
            let name = answer.header("x-ratelimit-limit").split_once(";name=").unwrap_or_default();
            assert_eq!(name.0, format!("{limit}, {limit};w=3600"));
            assert_eq!(answer.header("x-ratelimit-remaining"), left.to_string());
        }
        for _ in 0..3 {
            let answer = get(&envoy, "/", user).await?;
            assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS, "{user}");
            assert_eq!(answer.header("x-envoy-ratelimited"), "true");
            assert_eq!(answer.header("x-ratelimit-remaining"), "0");
            let wait: u64 = answer.header("retry-after").parse()?;
            assert!((3_500..=3_720).contains(&wait), "{wait} s");
            assert_eq!(answer.header("x-ratelimit-reset"), wait.to_string());
        }
    }
    // Envoy asks nothing for a request without the header.
    let answer = http_client::get(envoy.address(), "/").await?;
    assert_eq!((answer.status, answer.header("x-ratelimit-limit")), (StatusCode::OK, ""));
    service.assert_no_panic().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nested_descriptors_of_one_request_are_charged_together() -> TestResult {
    let _turn = turn::shared().await;
    let redis = RedisServer::start().await?;
    let service = service(Some(redis.url())).await?;
    let upload = json!([
        { "actions": [header("x-user", "user")] },
        {
            "actions": [{ "generic_key": { "descriptor_value": "upload" } }, header(":path", "path")],
            "hits_addend": { "number": 3 },
        },
    ]);
    let envoy = Envoy::start(&service, &upload).await?;
    // Ten uploads of a day at three each; every path is counted by itself.
    for path in ["/files/a", "/files/b"] {
        for user in ["ada", "eve", "joe"] {
            let answer = get(&envoy, path, user).await?;
            assert_eq!(answer.status, StatusCode::OK, "{path}, {user}");
        }
        assert_eq!(get(&envoy, path, "ada").await?.status, StatusCode::TOO_MANY_REQUESTS, "{path}");
    }
    // The denials were not charged to ada: two of five are used. No rule is for this path.
    for left in [2, 1, 0] {
        let answer = get(&envoy, "/other", "ada").await?;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.header("x-ratelimit-remaining"), left.to_string());
    }
    assert_eq!(get(&envoy, "/other", "ada").await?.status, StatusCode::TOO_MANY_REQUESTS);
    service.assert_no_panic().await?;
    Ok(())
}
