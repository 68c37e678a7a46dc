//! Checks of a cluster whose keys lie in several slots: all parts are charged, or none.

use std::{future::poll_fn, task::Poll};

use tidegate_tests::{eventually::eventually, redis_cluster::RedisCluster};

use super::*;
use crate::store::conformance::check;

/// Two limits on two masters; the second has less room.
pub(super) fn unequal(algorithm: Algorithm) -> [CellCheck<'static>; 2] {
    let name = algorithm.as_str();
    // Slots 15495 and 3300, of the last and of the first master.
    [
        cell(&format!("{{a}}wide-{name}"), &[hourly(algorithm, 900)]),
        cell(&format!("{{b}}narrow-{name}"), &[hourly(algorithm, 20)]),
    ]
}

pub(super) async fn left(store: &RedisStore, cells: &[CellCheck<'static>]) -> Vec<u64> {
    let look = Check { charge: false, ..check(cells) };
    let decision = store.decide(&look).get().await.expect("decided");
    decision.outcomes.iter().map(|outcome| outcome.remaining).collect()
}

#[tokio::test]
async fn race_for_the_last_tokens_charges_the_other_slot_for_the_winners_only() {
    let redis = RedisCluster::start().await.expect("a cluster");
    let stores = [open(&config(&redis.url())), open(&config(&redis.url()))];
    for algorithm in ALGORITHMS {
        let cells = unequal(algorithm);
        let one = check(&cells);
        let asked = (0..60).map(|n| stores[n % 2].decide(&one).get());
        let decisions: Vec<_> = join_all(asked).await.into_iter().map(|d| d.expect("decided")).collect();
        let admitted = decisions.iter().filter(|decision| decision.admitted).count();
        assert_eq!(admitted, 20, "{algorithm:?}");
        let left = left(&stores[0], &cells).await;
        // A bucket has refilled meanwhile, and what it has it does not give back as well.
        let lost = if algorithm == Algorithm::TokenBucket { 10 } else { 0 };
        assert!((880 - lost..=880 + lost).contains(&left[0]), "{algorithm:?}: {left:?}");
    }
}

#[tokio::test]
async fn attempts_at_once_with_one_idempotency_key_are_charged_once() {
    let redis = RedisCluster::start().await.expect("a cluster");
    let store = open(&config(&redis.url()));
    let cells = unequal(Algorithm::SlidingWindow);
    let idempotency = Idempotency { key: b"{a}record".as_slice().into(), digest: 1, ttl_us: 60_000_000 };
    let one = Check { idempotency: Some(idempotency.clone()), ..check(&cells) };
    let decisions = join_all((0..15).map(|_| store.decide(&one).get())).await;
    let decisions: Vec<_> = decisions.into_iter().map(|decision| decision.expect("decided")).collect();
    assert!(decisions.iter().all(|decision| decision.admitted));
    assert_eq!(decisions.iter().filter(|decision| !decision.replayed).count(), 1);
    assert_eq!(left(&store, &cells).await, [899, 19]);
    let other = Idempotency { digest: 2, ..idempotency };
    let reused = store.decide(&Check { idempotency: Some(other), ..check(&cells) }).get().await;
    assert!(reused.expect("decided").key_reused);
}

#[tokio::test]
async fn part_that_cannot_be_decided_leaves_the_others_uncharged() {
    let mut redis = RedisCluster::start().await.expect("a cluster");
    let store = open(&outage::impatient(&redis.url()));
    let cells = unequal(Algorithm::SlidingWindow);
    outage::recovers(&store, &check(&cells)).await;
    // That of `{b}`; its replica takes over after a second.
    redis.nodes[0].kill().expect("killed");
    for _ in 0..5 {
        assert!(store.decide(&check(&cells)).get().await.is_err());
    }
    assert_eq!(left(&store, &cells[..1]).await, [899]);
}

/// `{a}` was charged and `{b}` is used up meanwhile when the caller goes away.
#[tokio::test]
async fn caller_that_goes_away_leaves_no_charge_in_a_part() {
    let redis = RedisCluster::start().await.expect("a cluster");
    let store = open(&config(&redis.url()));
    let cells = [
        cell("{a}wide", &[hourly(Algorithm::SlidingWindow, 900)]),
        cell("{b}last", &[hourly(Algorithm::SlidingWindow, 2)]),
    ];
    let both = check(&cells);
    outage::recovers(&store, &both).await;
    let masters = [&redis.nodes[2], &redis.nodes[0]];
    let calls = async || [evalsha_calls(masters[0]).await, evalsha_calls(masters[1]).await];
    let called_since = async |before: [u64; 2]| {
        eventually("both masters were called", Duration::from_secs(20), async || {
            let now = calls().await;
            Ok(now[0] > before[0] && now[1] > before[1])
        })
        .await
        .expect("called");
    };
    let mut asked = Box::pin(store.decide(&both).get());
    let before = calls().await;
    assert!(poll_fn(|context| Poll::Ready(asked.as_mut().poll(context))).await.is_pending());
    called_since(before).await;
    // Both parts have been looked at, and the caller does not know yet.
    assert!(store.decide(&check(&cells[1..])).get().await.expect("decided").admitted, "the last token");
    let before = calls().await;
    assert!(poll_fn(|context| Poll::Ready(asked.as_mut().poll(context))).await.is_pending());
    called_since(before).await;
    drop(asked);
    eventually("the charge is taken back", Duration::from_secs(5), async || {
        Ok(left(&store, &cells).await == [899, 0])
    })
    .await
    .expect("as it was");
}

/// A master that answers looks and takes no charges says so before it has written anything.
#[tokio::test]
async fn charge_that_is_refused_leaves_the_others_uncharged() {
    let redis = RedisCluster::start().await.expect("a cluster");
    let store = open(&config(&redis.url()));
    let cells = unequal(Algorithm::SlidingWindow);
    let both = check(&cells);
    outage::recovers(&store, &both).await;
    // That of `{b}`.
    redis.nodes[0]
        .command::<String>(&["CONFIG", "SET", "min-replicas-to-write", "9"])
        .await
        .expect("more than it has");
    assert!(store.decide(&both).get().await.is_err());
    assert_eq!(left(&store, &cells).await, [899, 19]);
    for record in ["{a}record", "{b}record"] {
        let idempotency = Idempotency { key: record.as_bytes().into(), digest: 1, ttl_us: 60_000_000 };
        let recorded = Check { idempotency: Some(idempotency), ..check(&cells) };
        assert!(store.decide(&recorded).get().await.is_err());
        assert_eq!(left(&store, &cells).await, [899, 19], "{record}");
    }
}
