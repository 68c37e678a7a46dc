//! Which limits apply, and who answers when the store is gone.

mod derived;
mod loss;
mod overrides;

use std::time::Duration;

use tidegate_chassis::{
    breaker::BreakerConfig,
    clock::{Clock, Random},
    config::Secret,
    metrics::Metrics,
};

use super::*;
use crate::{
    policies,
    store::{MemoryStoreConfig, RedisBackend, RedisStoreConfig},
};

const POLICIES: &str = r#"
builtin = false

[[policies]]
name = "closed"
namespace = "closed"
key_by = ["user"]
limits = [{ name = "minute", limit = 10, period = "1m" }]

[[policies]]
name = "open"
namespace = "open"
key_by = ["user"]
failure_mode = "open"
limits = [{ name = "minute", limit = 10, period = "1m" }]

[[policies]]
name = "local"
namespace = "local"
key_by = ["user"]
failure_mode = "local"
limits = [{ name = "minute", limit = 10, period = "1m" }]

[[policies]]
name = "all"
namespace = "mixed"
key_by = ["user"]
failure_mode = "local"
limits = [{ name = "minute", limit = 10, period = "1m" }]

[[policies]]
name = "some"
namespace = "mixed"
match = { path = "/closed" }
key_by = []
limits = [{ name = "minute", limit = 10, period = "1m" }]

[[policies]]
name = "pairs"
namespace = "pairs"
key_by = ["user", "path"]
limits = [{ name = "minute", limit = 10, period = "1m" }]

[[policies]]
name = "trial"
namespace = "shadow"
enforcement = "shadow"
key_by = ["user"]
limits = [{ name = "minute", limit = 2, period = "1m" }]
"#;

pub(super) fn memory() -> Arc<MemoryStore> {
    let config = MemoryStoreConfig { max_bytes: 16 << 20 };
    Arc::new(MemoryStore::new(&config, Clock::system(), &Random::seeded(1), &Metrics::new()))
}

fn limiter(counters: Counters, replicas: u32) -> Limiter {
    limiter_by(POLICIES, counters, replicas)
}

/// A limiter by the policies of a text.
pub(super) fn limiter_by(text: &str, counters: Counters, replicas: u32) -> Limiter {
    let policies = policies::parse(text, "test", replicas).expect("valid policies");
    let settings = LimiterSettings { enabled: true, idempotency_ttl_us: 60_000_000 };
    Limiter::new(
        Arc::new(ArcSwap::from_pointee(policies)),
        counters,
        Clock::system(),
        Random::seeded(1),
        settings,
    )
}

/// A limiter whose Redis does not exist: nothing listens on the discard port of the loopback.
fn without_redis(replicas: u32) -> Limiter {
    without_redis_by(POLICIES, replicas)
}

/// The same, by the policies of a text.
pub(super) fn without_redis_by(text: &str, replicas: u32) -> Limiter {
    let second = Duration::from_secs(1);
    let config = RedisStoreConfig {
        url: Secret::new("redis://127.0.0.1:9"),
        tls_ca: String::new(),
        tls_cert: String::new(),
        tls_key: String::new(),
        deadline: second.into(),
        connect_timeout: second.into(),
        max_batch: 128,
        calls_in_flight: 2,
        denied_keys: 1_000,
        breaker: BreakerConfig { failures: 1, successes: 1, open_for: second.into() },
    };
    let backend = RedisBackend::new(&config, Random::seeded(1), &Metrics::new()).expect("valid settings");
    limiter_by(text, Counters::Shared { store: Arc::new(backend.open()), local: memory() }, replicas)
}

fn question<'a>(
    namespace: &'a str,
    attributes: &'a [(&'static str, String)],
) -> Question<'a, [(&'static str, String)]> {
    Question::new(namespace, attributes)
}

fn user() -> [(&'static str, String); 1] {
    [("user", "ada".to_owned())]
}

/// Allowed, why, and retry after in µs.
async fn answer<'a>(
    limiter: &Limiter,
    question: Question<'a, [(&'static str, String)]>,
) -> (bool, Reason, u64) {
    let policies = limiter.policies();
    let verdict = limiter.check(&policies, question).await.expect("answered");
    assert!(verdict.degraded);
    assert_eq!(verdict.binding.is_some(), !verdict.limits.is_empty());
    (verdict.allowed, verdict.reason, verdict.retry_after_us)
}

#[tokio::test]
async fn closed_policy_denies_without_its_store() {
    let limiter = without_redis(1);
    let (allowed, reason, retry) = answer(&limiter, question("closed", &user())).await;
    assert_eq!((allowed, reason, retry), (false, Reason::StoreUnavailable, 1_000_000));
}

#[tokio::test]
async fn open_policy_admits_without_its_store() {
    let limiter = without_redis(1);
    for _ in 0..20 {
        assert_eq!(answer(&limiter, question("open", &user())).await, (true, Reason::Ok, 0));
    }
}

#[tokio::test]
async fn local_policy_admits_the_share_of_the_replica() {
    let limiter = without_redis(4);
    for _ in 0..2 {
        assert_eq!(answer(&limiter, question("local", &user())).await, (true, Reason::Ok, 0));
    }
    let (allowed, reason, retry) = answer(&limiter, question("local", &user())).await;
    assert_eq!((allowed, reason), (false, Reason::RateLimited));
    assert!(retry > 1_000_000, "{retry}");
}

#[tokio::test]
async fn cost_above_the_share_is_denied_and_charges_nothing() {
    let limiter = without_redis(4);
    let attributes = user();
    let dear = Question { cost: 3, ..question("local", &attributes) };
    assert_eq!(answer(&limiter, dear).await, (false, Reason::StoreUnavailable, 1_000_000));
    let fitting = Question { cost: 2, ..question("local", &attributes) };
    assert_eq!(answer(&limiter, fitting).await, (true, Reason::Ok, 0));
}

#[tokio::test]
async fn full_memory_store_is_no_reason_to_count_in_itself() {
    let full = MemoryStoreConfig { max_bytes: 1 << 20 };
    let store = Arc::new(MemoryStore::new(&full, Clock::system(), &Random::seeded(1), &Metrics::new()));
    let policies =
        Arc::new(ArcSwap::from_pointee(policies::parse(POLICIES, "test", 1).expect("valid policies")));
    let settings = LimiterSettings { enabled: true, idempotency_ttl_us: 1 };
    let limiter =
        Limiter::new(policies, Counters::Memory(store), Clock::system(), Random::seeded(1), settings);
    let policies = limiter.policies();
    for n in 0..100_000 {
        let attributes = [("user", n.to_string())];
        let verdict = limiter.check(&policies, question("local", &attributes)).await.expect("answered");
        if verdict.degraded {
            assert_eq!((verdict.allowed, verdict.reason), (false, Reason::StoreUnavailable));
            return;
        }
    }
    panic!("the store was never full");
}

#[tokio::test]
async fn share_below_one_token_admits_nothing() {
    let limiter = without_redis(11);
    assert_eq!(
        answer(&limiter, question("local", &user())).await,
        (false, Reason::StoreUnavailable, 1_000_000)
    );
}

#[tokio::test]
async fn one_closed_policy_denies_and_the_local_one_is_not_charged() {
    let limiter = without_redis(1);
    let both = [("user", "ada".to_owned()), ("path", "/closed".to_owned())];
    for _ in 0..3 {
        let denied = answer(&limiter, question("mixed", &both)).await;
        assert_eq!((denied.0, denied.1), (false, Reason::StoreUnavailable));
    }
    let policies = limiter.policies();
    let attributes = user();
    let verdict = limiter.check(&policies, question("mixed", &attributes)).await.expect("answered");
    assert_eq!(verdict.limits[0].outcome.remaining, 9);
}

#[tokio::test]
async fn limits_keep_the_order_of_policies_without_the_store() {
    let limiter = without_redis(1);
    let policies = limiter.policies();
    let both = [("user", "ada".to_owned()), ("path", "/closed".to_owned())];
    let verdict = limiter.check(&policies, question("mixed", &both)).await.expect("answered");
    let names: Vec<_> = verdict.limits.iter().map(|limit| &*limit.limit.full_name).collect();
    assert_eq!(names, ["all/minute", "some/minute"]);
}

#[tokio::test]
async fn local_retry_is_free_and_a_reused_key_is_an_error() {
    let limiter = without_redis(1);
    let policies = limiter.policies();
    let attributes = user();
    let keyed = |cost| Question { idempotency_key: "once", cost, ..question("local", &attributes) };
    for replayed in [false, true, true] {
        let verdict = limiter.check(&policies, keyed(1)).await.expect("answered");
        assert_eq!(
            (verdict.allowed, verdict.replayed, verdict.limits[0].outcome.remaining),
            (true, replayed, 9)
        );
    }
    assert!(matches!(limiter.check(&policies, keyed(2)).await, Err(CheckError::IdempotencyKeyReused)));
}

#[tokio::test]
async fn peek_and_reset_do_not_guess_without_the_store() {
    let limiter = without_redis(1);
    let policies = limiter.policies();
    let attributes = user();
    assert!(matches!(
        limiter.peek(&policies, question("local", &attributes), &[]).await,
        Err(CheckError::Store(_))
    ));
    let reset = limiter.reset(&policies, question("local", &attributes), None, &[]).await;
    assert!(matches!(reset, Err(CheckError::Store(_))));
}

#[tokio::test]
async fn shadow_policy_never_denies_nor_fails_a_check() {
    for (limiter, degraded) in [(limiter(Counters::Memory(memory()), 1), false), (without_redis(1), true)] {
        let policies = limiter.policies();
        let attributes = user();
        for cost in [1, 2, 3, 1_000] {
            let check = Question { cost, ..question("shadow", &attributes) };
            let verdict = limiter.check(&policies, check).await.expect("decided");
            assert!(verdict.allowed && verdict.degraded == degraded, "{verdict:?}");
            assert!(degraded || verdict.limits[0].outcome.exceeded() == (cost > 1), "{verdict:?}");
        }
    }
}

#[tokio::test]
async fn cost_above_capacity_is_an_error_that_names_the_limit() {
    let limiter = limiter(Counters::Memory(memory()), 1);
    let policies = limiter.policies();
    let attributes = user();
    let error = limiter
        .check(&policies, Question { cost: 11, ..question("closed", &attributes) })
        .await
        .expect_err("refused");
    assert!(error.to_string().contains("closed/minute, 10 tokens"), "{error}");
}

#[tokio::test]
async fn order_of_attributes_does_not_matter_to_a_retry() {
    let limiter = limiter(Counters::Memory(memory()), 1);
    let policies = limiter.policies();
    let (ab, ba) = (
        [("user", "ada".to_owned()), ("b", "2".to_owned())],
        [("b", "2".to_owned()), ("user", "ada".to_owned())],
    );
    for (attributes, replayed) in [(&ab, false), (&ba, true)] {
        let check = Question { idempotency_key: "once", ..question("closed", &attributes[..]) };
        assert_eq!(limiter.check(&policies, check).await.expect("decided").replayed, replayed);
    }
}

#[tokio::test]
async fn switched_off_it_admits_everything_even_unknown_namespaces() {
    let settings = LimiterSettings { enabled: false, idempotency_ttl_us: 1 };
    let policies = Arc::new(ArcSwap::from_pointee(policies::builtin(1)));
    let limiter =
        Limiter::new(policies, Counters::Memory(memory()), Clock::system(), Random::seeded(1), settings);
    let policies = limiter.policies();
    let verdict = limiter.check(&policies, question("no such namespace", &user())).await.expect("decided");
    assert!(verdict.allowed && verdict.limits.is_empty());
}

#[tokio::test]
async fn check_peek_and_reset_mean_the_same_subject() {
    for limiter in [
        limiter(Counters::Memory(memory()), 1),
        limiter(Counters::Shared { store: memory(), local: memory() }, 1),
    ] {
        let policies = limiter.policies();
        let pair = |user: &str, path: &str| [("user", user.to_owned()), ("path", path.to_owned())];
        let subjects = [pair("ab", "c"), pair("a", "bc"), pair("abc", "d")];
        let left = async |subject: &[(&'static str, String)]| {
            let verdict = limiter.peek(&policies, question("pairs", subject), &[]).await.expect("answered");
            verdict.limits[0].outcome.remaining
        };
        for (charges, subject) in (1_u64..).zip(&subjects) {
            for _ in 0..charges {
                let verdict = limiter.check(&policies, question("pairs", subject)).await.expect("answered");
                assert!(verdict.allowed && !verdict.degraded);
            }
            assert_eq!(left(subject).await, 10 - charges);
        }
        limiter.reset(&policies, question("pairs", &subjects[1]), None, &[]).await.expect("answered");
        assert_eq!(
            (left(&subjects[0]).await, left(&subjects[1]).await, left(&subjects[2]).await),
            (9, 10, 7)
        );
    }
}
