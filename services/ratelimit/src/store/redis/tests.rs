//! The store against a real `redis-server`: its contract, and what becomes of it when Redis does not behave.

mod access;
mod cluster;
mod denied;
mod denied_in_cluster;
mod history;
mod leases;
mod log;
mod lost;
mod outage;
mod script_equals_domain;
mod sentinel;
mod spread;
mod tls;

use futures_util::future::join_all;
use smallvec::smallvec;
use tidegate_tests::redis_server::RedisServer;

use super::*;
use crate::{
    domain::{Algorithm, CellCheck, Idempotency},
    store::conformance::{ALGORITHMS, cell, check, counter_store_conformance, hourly},
};

/// Patient, since the machine that runs the tests may be busy.
pub(crate) fn config(url: &str) -> RedisStoreConfig {
    RedisStoreConfig {
        url: Secret::new(url),
        tls_ca: String::new(),
        tls_cert: String::new(),
        tls_key: String::new(),
        deadline: Duration::from_secs(10).into(),
        connect_timeout: Duration::from_secs(10).into(),
        max_batch: 128,
        calls_in_flight: 2,
        denied_keys: 1_000,
        breaker: BreakerConfig { failures: 8, successes: 3, open_for: Duration::from_millis(200).into() },
    }
}

fn open(config: &RedisStoreConfig) -> RedisStore {
    RedisBackend::new(config, Random::seeded(1), &Metrics::new()).expect("valid settings").open()
}

async fn started() -> (RedisStore, RedisServer) {
    let server = RedisServer::start().await.expect("redis-server");
    (open(&config(&server.url())), server)
}

counter_store_conformance!(started().await);

#[tokio::test]
async fn flushed_script_is_loaded_again() {
    let (store, server) = started().await;
    let check = check(&[cell("flushed", &[hourly(Algorithm::SlidingWindow, 3)])]);
    assert!(store.decide(&check).get().await.expect("decided").admitted);
    server.command::<String>(&["SCRIPT", "FLUSH"]).await.expect("flushed");
    let decision = store.decide(&check).get().await.expect("decided after the flush");
    assert_eq!(decision.outcomes[0].remaining, 1, "charged once, not twice");

    let refund =
        CellRefund { key: check.cells[0].key.clone(), layout: Arc::clone(check.cells[0].layout), tokens: 1 };
    // By a script that Redis does not know, and then by one that it does.
    for _ in 0..2 {
        store.refund(std::slice::from_ref(&refund)).get().await.expect("given back");
    }
    let decision = store.decide(&check).get().await.expect("decided");
    assert_eq!(decision.outcomes[0].remaining, 2, "both were given back, once each");
}

#[tokio::test]
async fn checks_in_flight_travel_together() {
    let (store, server) = started().await;
    let cells: Vec<_> =
        (0..500).map(|n| cell(&format!("k{n}"), &[hourly(Algorithm::TokenBucket, 9)])).collect();
    let checks: Vec<_> = cells.iter().map(|cell| check(std::slice::from_ref(cell))).collect();
    store.decide(&checks[0]).get().await.expect("connected");
    let before = evalsha_calls(&server).await;
    let decisions = join_all(checks.iter().map(|check| store.decide(check).get())).await;
    assert!(decisions.into_iter().all(|decision| decision.expect("decided").admitted));
    let calls = evalsha_calls(&server).await - before;
    assert!((4..=10).contains(&calls), "500 checks of at most 128 a call took {calls} calls");
}

async fn evalsha_calls(server: &RedisServer) -> u64 {
    let stats: String = server.command(&["INFO", "commandstats"]).await.expect("stats");
    let line = stats.lines().find(|line| line.starts_with("cmdstat_evalsha:")).expect("called");
    line.split(['=', ',']).nth(1).and_then(|calls| calls.parse().ok()).expect("a number")
}

#[tokio::test]
async fn key_that_holds_something_else_fails_its_own_check_only() {
    let (store, server) = started().await;
    server.command::<u64>(&["LPUSH", "a list", "x"]).await.expect("pushed");
    server.command::<String>(&["SET", "a text", "not a counter"]).await.expect("set");
    let rules = [hourly(Algorithm::SlidingWindow, 5)];
    let good = cell("good", &rules);
    let checks = [
        check(&[cell("a list", &rules)]),
        check(std::slice::from_ref(&good)),
        check(&[good.clone(), cell("a text", &rules)]),
        check(std::slice::from_ref(&good)),
    ];
    let answers = join_all(checks.iter().map(|check| store.decide(check).get())).await;
    assert_eq!(answers[0], Err(StoreError::Protocol));
    assert_eq!(answers[1].as_ref().expect("decided").outcomes[0].remaining, 4);
    assert_eq!(answers[2], Err(StoreError::Protocol));
    assert_eq!(
        answers[3].as_ref().expect("decided").outcomes[0].remaining,
        3,
        "the failed check charged nothing"
    );
    let list: u64 = server.command(&["LLEN", "a list"]).await.expect("still a list");
    assert_eq!(list, 1);
}

#[tokio::test]
async fn full_redis_refuses_and_charges_nothing() {
    let (store, server) = started().await;
    let cells = [
        cell("before", &[hourly(Algorithm::SlidingLog, 5)]),
        cell("new", &[hourly(Algorithm::SlidingWindow, 5)]),
    ];
    assert!(store.decide(&check(&cells[..1])).get().await.expect("decided").admitted);
    server.command::<String>(&["CONFIG", "SET", "maxmemory", "1"]).await.expect("set");
    let idempotency = Idempotency { key: smallvec![b'r'], digest: 1, ttl_us: 1_000_000 };
    let full = Check { idempotency: Some(idempotency), ..check(&cells) };
    assert_eq!(store.decide(&full).get().await, Err(StoreError::Full));
    server.command::<String>(&["CONFIG", "SET", "maxmemory", "0"]).await.expect("set");
    let decision = store.decide(&full).get().await.expect("decided");
    assert!(decision.admitted && !decision.replayed);
    assert_eq!(decision.outcomes.iter().map(|outcome| outcome.remaining).collect::<Vec<_>>(), [3, 4]);
}

#[tokio::test]
async fn metrics_tell_whether_redis_may_evict_counters() {
    let (_, server) = started().await;
    for (policy, noeviction) in [("noeviction", 1), ("allkeys-lru", 0)] {
        server.command::<String>(&["CONFIG", "SET", "maxmemory-policy", policy]).await.expect("set");
        let metrics = Metrics::new();
        let store =
            RedisBackend::new(&config(&server.url()), Random::seeded(1), &metrics).expect("valid").open();
        store
            .decide(&check(&[cell("k", &[hourly(Algorithm::TokenBucket, 9)])]))
            .get()
            .await
            .expect("connected");
        let text = metrics.encode();
        assert!(text.contains(&format!("redis_noeviction {noeviction}\n")), "{policy}: {text}");
        assert!(
            text.contains("redis_connections 1\n") && text.contains("breaker_state{state=\"closed\"} 1\n"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn every_key_expires_when_it_no_longer_counts() {
    let (store, server) = started().await;
    for algorithm in ALGORITHMS {
        let cells = [cell(algorithm.as_str(), &[hourly(algorithm, 5)])];
        let idempotency = Idempotency {
            key: format!("record-{}", algorithm.as_str()).as_bytes().into(),
            digest: 1,
            ttl_us: 5_000_000,
        };
        let check = Check { idempotency: Some(idempotency), ..check(&cells) };
        let decision = store.decide(&check).get().await.expect("decided");
        let idle_after_ms = i64::try_from(decision.outcomes[0].reset_after_us / 1_000).expect("fits");
        let ttl: i64 = server.command(&["PTTL", algorithm.as_str()]).await.expect("ttl");
        // Some of it may have passed since; no key may live shorter than it counts.
        assert!(
            (idle_after_ms - 2_000..=idle_after_ms + 3).contains(&ttl),
            "{algorithm:?}: {ttl} of {idle_after_ms}"
        );
    }
    let mut keys: Vec<String> = server.command(&["KEYS", "*"]).await.expect("keys");
    keys.retain(|key| key != "tg2:probe");
    assert_eq!(keys.len(), 9, "among them the record of since when nothing was lost: {keys:?}");
    for key in keys {
        let ttl: i64 = server.command(&["PTTL", &key]).await.expect("ttl");
        assert!(ttl > 0, "{key} never expires");
        assert!(!key.starts_with("record") || ttl <= 5_000, "{key}: {ttl}");
    }
}

#[tokio::test]
async fn memory_of_a_window_is_constant_and_small() {
    let (store, server) = started().await;
    let windows = [60, 3_600, 86_400].map(|seconds| {
        let period = crate::domain::Period::Micros(seconds * 1_000_000);
        let spec = crate::domain::LimitSpec {
            name: "w".into(),
            algorithm: Algorithm::SlidingWindow,
            limit: 1_000_000,
            period,
            burst: None,
        };
        crate::domain::Limit::new(spec).expect("valid").rule
    });
    let cell = CellCheck {
        cost: 7_000,
        ..cell("tg2:12:{organization}:7:default12:organization0123456789abcdef", &windows)
    };
    for _ in 0..100 {
        assert!(store.decide(&check(std::slice::from_ref(&cell))).get().await.expect("decided").admitted);
    }
    let key = std::str::from_utf8(&cell.key).expect("text");
    let bytes: u64 = server.command(&["MEMORY", "USAGE", key]).await.expect("usage");
    assert!(bytes / 3 <= 600, "{bytes} bytes for three windows");
}
