//! Denials that are remembered, and what makes them forgotten: two stores, as of two replicas, on one Redis.

use super::*;
use crate::domain::{Decision, Fence};

pub(super) async fn decide(store: &RedisStore, check: &Check<'_>) -> Decision {
    store.decide(check).get().await.expect("decided")
}

/// Whether a check is answered without asking Redis.
pub(super) fn is_remembered(store: &RedisStore, check: &Check<'_>) -> bool {
    matches!(store.decide(check), Answer::Ready(Ok(decision)) if !decision.admitted)
}

/// Uses a limit up and is denied until that is remembered.
pub(super) async fn remembered(store: &RedisStore, check: &Check<'_>) {
    while decide(store, check).await.admitted {}
    for _ in 0..1_000 {
        if is_remembered(store, check) {
            return;
        }
        assert!(!decide(store, check).await.admitted);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("a denial was never remembered");
}

/// Waits until Redis is asked again; for less than what a denial is remembered for.
pub(super) async fn forgotten(store: &RedisStore, check: &Check<'_>) {
    let asked = async {
        while is_remembered(store, check) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_millis(700), asked).await.expect("told of the write");
}

fn costing(own: &Check<'static>, cost: u64) -> Check<'static> {
    let mut check = own.clone();
    check.cells[0].cost = cost;
    check
}

#[tokio::test]
async fn denied_check_costs_redis_next_to_nothing_and_ages() {
    let (store, server) = started().await;
    for algorithm in ALGORITHMS {
        let own = check(&[cell(&format!("aged {algorithm:?}"), &[hourly(algorithm, 3)])]);
        remembered(&store, &own).await;
        let before = evalsha_calls(&server).await;
        let first = decide(&store, &own).await;
        for _ in 0..1_000 {
            let again = decide(&store, &own).await;
            assert!(!again.admitted && again.outcomes[0].retry_after_us <= first.outcomes[0].retry_after_us);
            assert!(again.outcomes[0].exceeded());
        }
        let calls = evalsha_calls(&server).await - before;
        assert!(calls <= 5, "{calls} calls for 1,000 denials");
    }
}

#[tokio::test]
async fn writes_of_other_replicas_are_told() {
    let (store, server) = started().await;
    let other = open(&config(&server.url()));
    let own = check(&[cell("shared", &[hourly(Algorithm::SlidingWindow, 3)])]);
    let (key, layout) = (own.cells[0].key.clone(), Arc::clone(own.cells[0].layout));

    remembered(&store, &own).await;
    other
        .reset(&[CellReset { key: key.clone(), layout: Arc::clone(&layout), rule: None }])
        .get()
        .await
        .expect("reset");
    forgotten(&store, &own).await;
    assert!(decide(&store, &own).await.admitted, "after a reset");

    remembered(&store, &own).await;
    other.refund(&[CellRefund { key, layout, tokens: 1 }]).get().await.expect("given back");
    forgotten(&store, &own).await;
    assert!(decide(&store, &own).await.admitted, "after a refund");

    remembered(&store, &own).await;
    server.command::<String>(&["FLUSHALL"]).await.expect("flushed");
    forgotten(&store, &own).await;
    assert!(decide(&store, &own).await.admitted, "after a flush");
}

#[tokio::test]
async fn denial_is_about_this_cost_these_limits_and_no_repetition() {
    let (store, _server) = started().await;
    let own = check(&[cell("particular", &[hourly(Algorithm::SlidingLog, 5)])]);
    let dear = costing(&own, 5);
    assert!(decide(&store, &own).await.admitted);
    remembered(&store, &dear).await;
    assert!(!is_remembered(&store, &own), "less may have room");
    assert!(decide(&store, &own).await.admitted);

    remembered(&store, &dear).await;
    let raised = check(&[cell("particular", &[hourly(Algorithm::SlidingLog, 50)])]);
    assert!(!is_remembered(&store, &costing(&raised, 5)), "other limits may have room");
    assert!(decide(&store, &costing(&raised, 5)).await.admitted);

    remembered(&store, &dear).await;
    let idempotency = Idempotency { key: smallvec![b'r'], digest: 1, ttl_us: 1_000_000 };
    assert!(!is_remembered(&store, &Check { idempotency: Some(idempotency), ..dear.clone() }));
}

#[tokio::test]
async fn nothing_is_remembered_without_somebody_to_tell_of_writes() {
    let (store, server) = started().await;
    let own = check(&[cell("lost", &[hourly(Algorithm::TokenBucket, 3)])]);
    remembered(&store, &own).await;
    server.command::<u64>(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await.expect("killed");
    forgotten(&store, &own).await;
    assert!(!decide(&store, &own).await.admitted, "the new connection asks");
    remembered(&store, &own).await;

    // Redis drops interest that it has no room for, and says so.
    server.command::<String>(&["CONFIG", "SET", "tracking-table-max-keys", "1"]).await.expect("set");
    for n in 0..3 {
        remembered(&store, &check(&[cell(&format!("other {n}"), &[hourly(Algorithm::TokenBucket, 1)])]))
            .await;
    }
    forgotten(&store, &own).await;

    let off = open(&RedisStoreConfig { denied_keys: 0, ..config(&server.url()) });
    for _ in 0..20 {
        assert!(!decide(&off, &own).await.admitted && !is_remembered(&off, &own));
    }
}

#[tokio::test]
async fn user_who_may_not_be_told_is_denied_by_redis_each_time() {
    let server = RedisServer::start().await.expect("redis-server");
    server
        .command::<String>(&["ACL", "SETUSER", "old", "on", ">pw", "~*", "+@all", "-client|tracking"])
        .await
        .expect("a user");
    let store = open(&config(&server.url().replacen("://", "://old:pw@", 1)));
    let own = check(&[cell("untold", &[hourly(Algorithm::FixedWindow, 2)])]);
    while decide(&store, &own).await.admitted {}
    for _ in 0..20 {
        assert!(!is_remembered(&store, &own));
        assert!(!decide(&store, &own).await.admitted);
    }
}

/// After a change of plan the next check meets the new limits, on every replica.
#[tokio::test]
async fn denial_is_forgotten_when_the_fence_is_raised() {
    let (store, server) = started().await;
    let other = open(&config(&server.url()));
    let fence = |generation| Fence { organization: uuid::Uuid::from_u128(7), generation };
    let cells = [cell("tg2:{14}:6:fenced", &[hourly(Algorithm::SlidingWindow, 3)])];
    let own = Check { fence: Some(fence(1)), ..check(&cells) };
    remembered(&store, &own).await;
    assert!(!is_remembered(&store, &Check { fence: Some(fence(2)), ..own.clone() }), "by another state");
    assert!(other.fence(fence(2)).get().await.expect("raised"));
    forgotten(&store, &own).await;
    assert!(decide(&store, &own).await.stale);
}
