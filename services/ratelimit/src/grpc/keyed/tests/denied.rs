//! Dead keys cost the counter store nothing, and come back to life within a bound.

use std::time::Duration;

use super::*;
use crate::{domain::Fence, store::CounterStore};

/// What asking this counts itself.
const OWN: [&str; 5] = ["info", "hello", "client|setinfo", "select", "auth"];

/// Commands that Redis has run so far, those of scripts included.
async fn commands(redis: &RedisServer) -> u64 {
    let stats: String = redis.command(&["INFO", "commandstats"]).await.unwrap();
    let calls = stats.lines().filter_map(|line| {
        let (name, calls) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        calls.split(',').next()?.parse::<u64>().ok().filter(|_| !OWN.contains(&name))
    });
    calls.sum()
}

fn backend_of(redis: &RedisServer) -> RedisBackend {
    let config = crate::store::redis_config(&redis.url());
    RedisBackend::new(&config, Random::system(), &Metrics::new()).unwrap()
}

/// Keys that are dead, each in its way.
fn dead() -> Vec<(Code, keys_pb::ResolvedKey)> {
    let of = |number: u64, change: fn(&mut keys_pb::ResolvedKey)| {
        let mut key = resolved(number, 7 + number);
        change(&mut key);
        key
    };
    vec![
        (Code::KeyRevoked, of(1, |key| key.key.as_mut().unwrap().revoked_at_ms = 1)),
        (Code::KeyExpired, of(2, |key| key.key.as_mut().unwrap().expires_at_ms = 1)),
        (Code::KeyDisabled, of(3, |key| key.disabled = true)),
        (
            Code::OrganizationSuspended,
            of(4, |key| {
                let of = key.organization.as_mut().unwrap();
                of.set_status(keys_pb::OrganizationStatus::Suspended);
            }),
        ),
        (
            Code::IpForbidden,
            of(5, |key| key.key.as_mut().unwrap().allowed_cidrs = vec!["10.0.0.0/8".to_owned()]),
        ),
        (Code::ScopeMissing, of(6, |key| key.key.as_mut().unwrap().scopes.clear())),
    ]
}

#[tokio::test]
async fn checks_by_dead_keys_send_redis_nothing_while_the_feed_is_heard() {
    let server = KeysServer::start().await;
    let redis = RedisServer::start().await.unwrap();
    let backend = backend_of(&redis);
    let counters = |local| Counters::Shared { store: Arc::new(backend.open()), local };
    let (keys, _guard) = fed(&server.config(), Clock::system()).await;
    let api = api_with_keys(counters, Some(keys));
    let of = |number: u64| pb::CheckRequest {
        client_ip: "203.0.113.7".to_owned(),
        required_scopes: "invoices:read".to_owned(),
        ..by_key(&value(number))
    };
    let dead = dead();
    for (number, (_, key)) in dead.iter().enumerate() {
        server.set(&value(number as u64), key.clone());
    }
    for (number, _) in dead.iter().enumerate() {
        check(&api, &of(number as u64)).await;
    }
    let (before, lookups) = (commands(&redis).await, server.lookups());
    for (number, (code, _)) in dead.iter().enumerate() {
        for _ in 0..200 {
            assert_eq!(check(&api, &of(number as u64)).await.code(), *code);
        }
    }
    assert_eq!(commands(&redis).await - before, 0);
    assert_eq!(server.lookups(), lookups);
}

#[tokio::test]
async fn without_the_feed_a_dead_key_asks_redis_once_a_second_and_is_denied_no_longer_than_that() {
    let server = KeysServer::start().await;
    let redis = RedisServer::start().await.unwrap();
    let backend =
        RedisBackend::new(&crate::store::redis_config(&redis.url()), Random::system(), &Metrics::new());
    let backend = backend.unwrap();
    let counters = |local| Counters::Shared { store: Arc::new(backend.open()), local };
    let (clock, time) = Clock::manual(1_800_000_000_000_000);
    let (keys, _guard) = fed(&server.config(), clock).await;
    let api = api_with_keys(counters, Some(keys));
    server.set(&value(1), resolved(1, 7));
    server.change(&value(1), |key| key.disabled = true);
    server.state.is_silent.store(true, Ordering::SeqCst);
    // What was said before has long been heard when the feed is silent for the second time.
    let is_silent = async || (server.state.unsaid.load(Ordering::SeqCst) >= 2).then_some(());
    eventually("the feed is silent", is_silent).await;
    assert_eq!(check(&api, &by_key(&value(1))).await.code(), Code::KeyDisabled);
    time.advance(Duration::from_millis(3_100));
    let before = commands(&redis).await;
    for _ in 0..100 {
        assert_eq!(check(&api, &by_key(&value(1))).await.code(), Code::KeyDisabled);
    }
    let sent = commands(&redis).await - before;
    assert!((1..=5).contains(&sent), "of a hundred checks one asked: {sent} commands");
    // It is switched on, and another replica was told.
    server.change(&value(1), |key| {
        key.disabled = false;
        key.generation = 2;
    });
    let fence = Fence { organization: Uuid::from_u128(7), generation: 2 };
    assert!(backend.open().fence(fence).get().await.unwrap());
    assert_eq!(check(&api, &by_key(&value(1))).await.code(), Code::KeyDisabled, "asked a moment ago");
    time.advance(Duration::from_secs(1));
    assert!(check(&api, &by_key(&value(1))).await.allowed);
}
