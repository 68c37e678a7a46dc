//! Limits by attributes that the service derives, and requests that nothing limits.

use super::*;

const POLICIES: &str = r#"
builtin = false

[namespaces.web]
exempt = [{ path = ["/health", "/metrics/*"] }, { method = "OPTIONS" }]
derive = [
    { attribute = "client_ip", address = { peer = "peer", forwarded_for = "x-forwarded-for", trusted = ["10.0.0.0/8"] } },
    { attribute = "api_key", hash_of = "api_key" },
    { attribute = "caller", first_of = ["api_key", "client_ip"] },
    { attribute = "endpoint", route = { templates = ["/v1/users/{id}", "POST /v1/users"] } },
]

[[policies]]
name = "caller"
namespace = "web"
key_by = ["caller"]
limits = [{ name = "minute", limit = 2, period = "1m" }]

[[policies]]
name = "endpoint"
namespace = "web"
key_by = ["endpoint"]
limits = [{ name = "minute", limit = 3, period = "1m" }]
"#;

fn web() -> Limiter {
    limiter_by(POLICIES, Counters::Memory(memory()), 1)
}

fn question<'a>(attributes: &'a [(&'static str, &'a str)]) -> Question<'a, [(&'static str, &'a str)]> {
    Question::new("web", attributes)
}

/// Names of the limits that the check met with what is left of each, and whether it was allowed.
async fn check(limiter: &Limiter, attributes: &[(&'static str, &str)]) -> (bool, Vec<(String, u64)>) {
    let policies = limiter.policies();
    let verdict = limiter.check(&policies, question(attributes)).await.expect("decided");
    let limits = verdict.limits.iter();
    (verdict.allowed, limits.map(|l| (l.limit.full_name.to_string(), l.outcome.remaining)).collect())
}

fn left(caller: u64) -> (bool, Vec<(String, u64)>) {
    (true, vec![("caller/minute".to_owned(), caller)])
}

#[tokio::test]
async fn a_subscriber_is_one_caller_whichever_of_its_addresses_it_uses() {
    let limiter = web();
    assert_eq!(check(&limiter, &[("peer", "2001:db8:1:2::7")]).await, left(1));
    assert_eq!(check(&limiter, &[("peer", "2001:db8:1:2:ffff::1")]).await, left(0));
    assert!(!check(&limiter, &[("peer", "2001:db8:1:2::8")]).await.0);
    assert_eq!(check(&limiter, &[("peer", "2001:db8:1:3::7")]).await, left(1));
}

#[tokio::test]
async fn nobody_is_another_caller_by_addresses_that_it_writes_itself() {
    let limiter = web();
    for spoofed in ["1.1.1.1", "2.2.2.2"] {
        let attributes = [
            ("peer", "192.0.2.1"),
            ("x-forwarded-for", spoofed),
            ("client_ip", spoofed),
            ("caller", spoofed),
        ];
        assert!(check(&limiter, &attributes).await.0);
    }
    assert!(!check(&limiter, &[("peer", "192.0.2.1"), ("x-forwarded-for", "3.3.3.3")]).await.0);
    let behind_a_proxy = [("peer", "10.0.0.1"), ("x-forwarded-for", "3.3.3.3, 192.0.2.1")];
    assert!(!check(&limiter, &behind_a_proxy).await.0, "the same caller through a trusted proxy");
}

#[tokio::test]
async fn a_caller_without_an_api_key_is_counted_by_its_address() {
    let limiter = web();
    for remaining in [1, 0] {
        assert_eq!(check(&limiter, &[("peer", "192.0.2.1"), ("api_key", "k1")]).await, left(remaining));
    }
    let elsewhere = [("peer", "192.0.2.99"), ("api_key", "k1")];
    assert!(!check(&limiter, &elsewhere).await.0, "a key is the same caller everywhere");
    assert_eq!(check(&limiter, &[("peer", "192.0.2.1"), ("api_key", "k2")]).await, left(1));
    assert_eq!(check(&limiter, &[("peer", "192.0.2.1")]).await, left(1));
}

#[tokio::test]
async fn requests_of_one_template_share_a_limit_and_so_do_all_unknown_ones() {
    let limiter = web();
    let templates = ["/v1/users/1", "/v1/users/2?x=1", "/v1/users/3"];
    for path in templates {
        assert!(check(&limiter, &[("path", path)]).await.0);
    }
    assert!(!check(&limiter, &[("path", "/v1/users/4")]).await.0);
    for path in ["/nowhere", "/v1/users", "/v1/users/1/keys"] {
        assert!(check(&limiter, &[("path", path)]).await.0);
    }
    assert!(!check(&limiter, &[("path", "/elsewhere")]).await.0);
    assert!(check(&limiter, &[("path", "/v1/users"), ("method", "POST")]).await.0);
}

#[tokio::test]
async fn the_caller_is_found_however_long_the_header_is_that_it_wrote() {
    let limiter = web();
    let written = "6.6.6.6, ".repeat(1_000);
    for remaining in [1, 0] {
        let header = format!("{written}192.0.2.1");
        assert_eq!(
            check(&limiter, &[("peer", "10.0.0.1"), ("x-forwarded-for", &header)]).await,
            left(remaining)
        );
    }
    assert!(!check(&limiter, &[("peer", "192.0.2.1")]).await.0);
}

#[tokio::test]
async fn what_is_exempt_meets_no_limit() {
    let limiter = web();
    for _ in 0..5 {
        for exempt in [("path", "/health"), ("path", "/metrics/x"), ("method", "OPTIONS")] {
            assert_eq!(check(&limiter, &[("peer", "192.0.2.1"), exempt]).await, (true, vec![]));
        }
    }
    assert_eq!(check(&limiter, &[("peer", "192.0.2.1")]).await, left(1), "none of them was counted");
    for path in ["/metrics/../v1/orders", "/metrics/%2e%2e/v1/orders", "/metrics/..%2fv1/orders"] {
        let (_, limits) = check(&limiter, &[("peer", "192.0.2.7"), ("path", path)]).await;
        assert!(!limits.is_empty(), "{path} is not exempt");
    }
    let (_, limits) = check(&limiter, &[("peer", "192.0.2.1"), ("path", "//health/")]).await;
    assert!(limits.is_empty(), "that is /health");
}

#[tokio::test]
async fn reset_finds_the_subject_by_what_is_derived() {
    let limiter = web();
    let attributes = [("peer", "192.0.2.1"), ("api_key", "k1")];
    for _ in 0..2 {
        assert!(check(&limiter, &attributes).await.0);
    }
    assert!(!check(&limiter, &attributes).await.0);
    let policies = limiter.policies();
    let cleared = limiter.reset(&policies, question(&attributes), None, &[]).await.expect("cleared");
    assert_eq!(cleared.len(), 1);
    assert!(check(&limiter, &attributes).await.0);
}

#[tokio::test]
async fn a_retry_is_known_by_what_the_caller_gave() {
    let limiter = web();
    let policies = limiter.policies();
    let check = async |attributes: &[(&str, &str)]| {
        let question = Question { idempotency_key: "once", ..Question::new("web", attributes) };
        limiter.check(&policies, question).await.map(|verdict| verdict.replayed)
    };
    let attributes = [("peer", "192.0.2.1"), ("api_key", "k1")];
    assert!(!check(&attributes).await.expect("decided"));
    assert!(check(&attributes).await.expect("decided"));
    let reused = check(&[("peer", "192.0.2.2"), ("api_key", "k1")]).await;
    assert!(matches!(reused, Err(CheckError::IdempotencyKeyReused)));
}
