//! Leases from taking to their end, by their ids alone.

use super::*;
use crate::limiter::{
    Reason,
    tests::{limiter_by, memory, without_redis_by},
};

const POLICIES: &str = r#"
builtin = false

[defaults]
failure_mode = "local"

[[plans]]
name = "boundless"
unlimited = true

[[policies]]
name = "jobs"
namespace = "jobs"
key_by = ["user"]
limits = [
    { name = "minute", limit = 100, period = "1m" },
    { name = "running", algorithm = "concurrency", limit = 4, lease = "30s" },
]

[[policies]]
name = "all"
namespace = "jobs"
match = { path = "/slow" }
key_by = []
limits = [{ name = "slow", algorithm = "concurrency", limit = 2, lease = "10s" }]

[[policies]]
name = "trial"
namespace = "jobs"
enforcement = "shadow"
key_by = ["user"]
limits = [{ name = "short", algorithm = "concurrency", limit = 2, lease = "1s" }]

[[policies]]
name = "rates"
namespace = "rates"
key_by = ["user"]
limits = [{ name = "minute", limit = 100, period = "1m" }]

[[policies]]
name = "plans"
namespace = "plans"
key_by = ["user"]
plan = "boundless"

[[policies]]
name = "open"
namespace = "open"
failure_mode = "open"
key_by = []
limits = [{ name = "running", algorithm = "concurrency", limit = 4, lease = "30s" }]

[[policies]]
name = "long"
namespace = "long"
key_by = ["a", "b", "c", "d", "e", "f", "g", "h"]
limits = [{ name = "running", algorithm = "concurrency", limit = 4, lease = "30s" }]

[[policies]]
name = "longer"
namespace = "long"
key_by = ["h", "g", "f", "e", "d", "c", "b", "a"]
limits = [{ name = "running", algorithm = "concurrency", limit = 4, lease = "30s" }]
"#;

const SECOND_US: u64 = 1_000_000;

fn in_memory() -> Limiter {
    limiter_by(POLICIES, Counters::Memory(memory()), 1)
}

fn question<'a>(
    namespace: &'a str,
    attributes: &'a [(&'a str, &'a str)],
) -> Question<'a, [(&'a str, &'a str)]> {
    Question::new(namespace, attributes)
}

/// Takes a lease: whether it was admitted, and the lease.
async fn acquire(
    limiter: &Limiter,
    question: Question<'_, [(&str, &str)]>,
    ttl_us: Option<u64>,
) -> Result<(bool, Option<LeaseGrant>), CheckError> {
    let policies = limiter.policies();
    let verdict = limiter.acquire(&policies, question, ttl_us).await?;
    Ok((verdict.allowed, verdict.lease.map(|lease| *lease)))
}

async fn taken(limiter: &Limiter, attributes: &[(&str, &str)], ttl_us: Option<u64>) -> LeaseGrant {
    let (allowed, lease) = acquire(limiter, question("jobs", attributes), ttl_us).await.expect("decided");
    assert!(allowed);
    lease.expect("a concurrency limit applies")
}

fn token(grant: &LeaseGrant) -> LeaseToken {
    LeaseToken::read(&grant.id).expect("as it was written")
}

#[tokio::test]
async fn a_lease_is_known_by_its_id_alone() {
    let limiter = in_memory();
    let user = [("user", "ada")];
    let mut leases = Vec::new();
    for _ in 0..4 {
        leases.push(taken(&limiter, &user, None).await);
    }
    assert_eq!(leases[0].expires_after_us, 30 * SECOND_US, "what is in shadow has no say");
    let policies = limiter.policies();
    let denied = limiter.acquire(&policies, question("jobs", &user), None).await.expect("decided");
    assert!(!denied.allowed && denied.lease.is_none());
    assert_eq!(denied.reason, Reason::ConcurrencyExceeded);
    assert_eq!(&*denied.limits[denied.binding.expect("one binds")].limit.full_name, "jobs/running");
    assert!((1..=30 * SECOND_US).contains(&denied.retry_after_us));
    let renewed = limiter.renew(&token(&leases[1]), Some(5 * SECOND_US)).await.expect("held");
    assert_eq!(renewed, LeaseGrant { id: leases[1].id.clone(), expires_after_us: 5 * SECOND_US });
    let renewed = limiter.renew(&token(&leases[1]), Some(500 * SECOND_US)).await.expect("held");
    assert_eq!(renewed.expires_after_us, 30 * SECOND_US, "no longer than the limit allows");
    assert!(limiter.release(&token(&leases[1])).await.expect("told"));
    assert!(!limiter.release(&token(&leases[1])).await.expect("told"));
    assert!(matches!(limiter.renew(&token(&leases[1]), None).await, Err(CheckError::LeaseNotFound)));
    taken(&limiter, &user, None).await;
}

#[tokio::test]
async fn the_shortest_enforced_limit_and_who_asks_say_how_long() {
    let limiter = in_memory();
    let slow = [("user", "ada"), ("path", "/slow")];
    assert_eq!(taken(&limiter, &slow, None).await.expires_after_us, 10 * SECOND_US);
    let short = taken(&limiter, &slow, Some(2 * SECOND_US)).await;
    assert_eq!(short.expires_after_us, 2 * SECOND_US);
    let (allowed, _) = acquire(&limiter, question("jobs", &slow), None).await.expect("decided");
    assert!(!allowed, "two are held of two");
    let other = [("user", "bob"), ("path", "/slow")];
    assert!(!acquire(&limiter, question("jobs", &other), None).await.expect("decided").0);
    assert!(limiter.release(&token(&short)).await.expect("told"));
    let last = taken(&limiter, &other, Some(60 * SECOND_US)).await;
    assert_eq!(last.expires_after_us, 10 * SECOND_US);
}

#[tokio::test]
async fn a_check_takes_a_lease_and_one_that_looks_takes_none() {
    let limiter = in_memory();
    let user = [("user", "ada")];
    let policies = limiter.policies();
    let looked = limiter.peek(&policies, question("jobs", &user), &[]).await.expect("decided");
    let dry = limiter.check(&policies, Question { dry_run: true, ..question("jobs", &user) }).await;
    let dry = dry.expect("decided");
    assert!(looked.lease.is_none() && dry.lease.is_none());
    let verdict = limiter.check(&policies, question("jobs", &user)).await.expect("decided");
    assert_eq!(verdict.limits[1].outcome.remaining, 3, "neither holds a place");
    let lease = verdict.lease.expect("taken");
    assert!(limiter.release(&token(&lease)).await.expect("told"));
    let rates = limiter.check(&policies, question("rates", &user)).await.expect("decided");
    assert!(rates.allowed && rates.lease.is_none());
}

#[tokio::test]
async fn a_lease_is_asked_for_where_leases_are_counted() {
    let limiter = in_memory();
    let user = [("user", "ada")];
    for namespace in ["rates", "jobs"] {
        let attributes = if namespace == "jobs" { &[] } else { &user[..] };
        let error = acquire(&limiter, question(namespace, attributes), None).await;
        assert!(matches!(error, Err(CheckError::NoConcurrencyLimit)), "{namespace}: {error:?}");
    }
    let boundless = acquire(&limiter, question("plans", &user), None).await.expect("decided");
    assert_eq!(boundless, (true, None), "whoever is unlimited needs none");
    let value = "x".repeat(512);
    let long = ["a", "b", "c", "d", "e", "f", "g", "h"].map(|name| (name, &*value));
    let error = acquire(&limiter, question("long", &long), None).await;
    assert!(matches!(error, Err(CheckError::LeaseTooLong(8_192..))), "{error:?}");
}

#[tokio::test]
async fn a_retry_is_answered_the_same_lease_or_that_it_has_ended() {
    let limiter = in_memory();
    let asked = || Question { idempotency_key: "job-1", ..question("jobs", &[("user", "ada")]) };
    let (_, first) = acquire(&limiter, asked(), None).await.expect("decided");
    let (_, again) = acquire(&limiter, asked(), None).await.expect("decided");
    let (first, again) = (first.expect("taken"), again.expect("still held"));
    assert_eq!(token(&first).cells, token(&again).cells, "the same cells, the same id");
    assert!(again.expires_after_us <= first.expires_after_us);
    assert!(limiter.release(&token(&again)).await.expect("told"));
    assert!(matches!(acquire(&limiter, asked(), None).await, Err(CheckError::LeaseNotFound)));
    let policies = limiter.policies();
    let check = limiter.check(&policies, asked()).await.expect("decided");
    assert!(check.allowed && check.replayed && check.lease.is_none(), "{check:?}");
}

#[tokio::test]
async fn without_the_store_a_lease_is_that_of_one_replica() {
    let limiter = without_redis_by(POLICIES, 2);
    let user = [("user", "ada")];
    let lease = taken(&limiter, &user, None).await;
    taken(&limiter, &user, None).await;
    assert!(
        !acquire(&limiter, question("jobs", &user), None).await.expect("decided").0,
        "two are half of four"
    );
    assert!(token(&lease).is_local);
    assert_eq!(limiter.renew(&token(&lease), None).await.expect("held").id, lease.id);
    assert!(limiter.release(&token(&lease)).await.expect("told"));
    taken(&limiter, &user, None).await;
    let open = acquire(&limiter, question("open", &user), None).await.expect("decided");
    assert_eq!(open, (true, None), "nothing is known of it");
    // One that the store gave cannot be told of: it is not said to have ended.
    let stored = LeaseToken { is_local: false, ..token(&lease) };
    assert!(matches!(limiter.renew(&stored, None).await, Err(CheckError::Store(_))));
    assert!(matches!(limiter.release(&stored).await, Err(CheckError::Store(_))));
}
