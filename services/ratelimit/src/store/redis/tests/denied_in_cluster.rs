//! Denials that are remembered of the nodes of a cluster, whose slots move and whose masters change.

use tidegate_tests::redis_cluster::{MASTERS, RedisCluster};

use super::{
    denied::{decide, forgotten, is_remembered, remembered},
    outage::recovers,
    *,
};
use crate::key::slot;

const TAG: &str = "{tag}";

/// A check of a cell in the slot of [`TAG`].
fn own(limit: u64) -> Check<'static> {
    check(&[cell(&format!("{TAG}own"), &[hourly(Algorithm::SlidingWindow, limit)])])
}

fn reset(check: &Check<'_>) -> CellReset {
    let cell = &check.cells[0];
    CellReset { key: cell.key.clone(), layout: Arc::clone(cell.layout), rule: None }
}

/// A cluster, a store and another one as of another replica, and the node that has the slot of [`TAG`].
async fn started() -> (RedisCluster, RedisStore, RedisStore, usize) {
    let redis = RedisCluster::start().await.expect("a cluster");
    let stores = [(); 2].map(|()| open(&config(&redis.url())));
    let owner = redis.owner(0, slot(b"tag")).await.expect("an owner");
    for store in &stores {
        let elsewhere = check(&[cell(&format!("{TAG}other"), &[hourly(Algorithm::FixedWindow, 9)])]);
        recovers(store, &elsewhere).await;
    }
    let [store, other] = stores;
    (redis, store, other, owner)
}

/// Gives back what was counted, by another replica: it is forgotten at once, and admitted.
async fn is_told_of_a_reset(store: &RedisStore, other: &RedisStore, own: &Check<'static>) {
    other.reset(&[reset(own)]).get().await.expect("reset");
    forgotten(store, own).await;
    assert!(decide(store, own).await.admitted, "after a reset");
}

#[tokio::test]
async fn denied_checks_cost_no_master_more_than_a_few_calls() {
    let redis = RedisCluster::start().await.expect("a cluster");
    let store = open(&config(&redis.url()));
    for (master, own) in cluster::one_on_each(3).iter().enumerate() {
        recovers(&store, own).await;
        remembered(&store, own).await;
        let before = evalsha_calls(&redis.nodes[master]).await;
        for _ in 0..1_000 {
            assert!(!decide(&store, own).await.admitted);
        }
        let calls = evalsha_calls(&redis.nodes[master]).await - before;
        assert!(calls <= 5, "{calls} calls for 1,000 denials by master {master}");
    }
}

#[tokio::test]
async fn writes_of_other_replicas_are_told_by_the_node_that_has_the_slot() {
    let (redis, store, other, owner) = started().await;
    let own = own(3);
    remembered(&store, &own).await;
    is_told_of_a_reset(&store, &other, &own).await;

    remembered(&store, &own).await;
    let (key, layout) = (own.cells[0].key.clone(), Arc::clone(own.cells[0].layout));
    other.refund(&[CellRefund { key, layout, tokens: 1 }]).get().await.expect("given back");
    forgotten(&store, &own).await;
    assert!(decide(&store, &own).await.admitted, "after a refund");

    remembered(&store, &own).await;
    let raised = self::own(5);
    assert!(!is_remembered(&store, &raised), "other limits may have room");
    assert!(decide(&store, &raised).await.admitted);

    remembered(&store, &own).await;
    redis.nodes[owner].command::<String>(&["FLUSHALL"]).await.expect("flushed");
    forgotten(&store, &own).await;
    assert!(decide(&store, &own).await.admitted, "after a flush");
}

#[tokio::test]
async fn denial_is_forgotten_with_the_key_that_moves_and_remembered_of_its_new_owner() {
    let (redis, store, other, owner) = started().await;
    let (own, slot, to) = (own(3), slot(b"tag"), (owner + 1) % MASTERS);
    remembered(&store, &own).await;
    redis.begin_move(slot, owner, to).await.expect("begun");
    assert!(!decide(&store, &own).await.admitted, "the key is still there");
    while redis.move_keys(slot, owner, to, 100).await.expect("moved") > 0 {}
    forgotten(&store, &own).await;
    // Who follows where the slot is moving to has registered nothing there.
    for _ in 0..20 {
        assert!(!decide(&store, &own).await.admitted && !is_remembered(&store, &own));
    }
    redis.end_move(slot, owner, to).await.expect("ended");
    remembered(&store, &own).await;
    is_told_of_a_reset(&store, &other, &own).await;

    // And back again, to the node that had told of it before.
    remembered(&store, &own).await;
    redis.move_slot(slot, to, owner).await.expect("moved");
    forgotten(&store, &own).await;
    remembered(&store, &own).await;
    is_told_of_a_reset(&store, &other, &own).await;
}

#[tokio::test]
async fn denial_is_forgotten_with_its_master_and_remembered_of_the_replica_that_takes_over() {
    let (mut redis, store, other, owner) = started().await;
    let own = own(3);
    remembered(&store, &own).await;
    redis.nodes[owner].kill().expect("killed");
    forgotten(&store, &own).await;
    for store in [&store, &other] {
        recovers(store, &own).await;
    }
    remembered(&store, &own).await;
    is_told_of_a_reset(&store, &other, &own).await;
}

#[tokio::test]
async fn denial_is_forgotten_though_the_master_has_become_a_replica_and_lives_on() {
    let (redis, store, other, owner) = started().await;
    let (own, replica) = (own(3), owner + MASTERS);
    remembered(&store, &own).await;
    redis.nodes[replica].command::<String>(&["CLUSTER", "FAILOVER"]).await.expect("asked for");
    let give_up = Instant::now() + Duration::from_secs(20);
    while redis.owner(replica, slot(b"tag")).await.expect("an owner") != replica {
        assert!(Instant::now() < give_up, "the replica did not take over");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    is_told_of_a_reset(&store, &other, &own).await;
    remembered(&store, &own).await;
    is_told_of_a_reset(&store, &other, &own).await;
}

#[tokio::test]
async fn check_of_several_slots_is_asked_for_each_time() {
    let (_redis, store, _other, _) = started().await;
    let rules = [hourly(Algorithm::TokenBucket, 2)];
    let apart = check(&[cell("{tag}a", &rules), cell("{another tag}b", &rules)]);
    while decide(&store, &apart).await.admitted {}
    for _ in 0..20 {
        assert!(!is_remembered(&store, &apart));
        assert!(!decide(&store, &apart).await.admitted);
    }
}
