//! Keys that lie on several nodes, move between them, and lose their node.

use tidegate_tests::{
    eventually::eventually,
    redis_cluster::{MASTERS, RedisCluster},
};

use super::{
    log::Log,
    outage::{impatient, recovers},
    *,
};
use crate::key::slot;

counter_store_conformance!(
    in_turn every_promise_is_kept_in_a_cluster,
    RedisCluster::start().await.expect("a cluster"),
    cluster => {
        for master in &cluster.nodes[..MASTERS] {
            master.command::<String>(&["FLUSHALL"]).await.expect("emptied");
        }
        open(&config(&cluster.url()))
    }
);

/// A check of a cell on each master, by what the slots are at first.
pub(super) fn one_on_each(limit: u64) -> [Check<'static>; MASTERS] {
    std::array::from_fn(|master| {
        let is_there = |n: &u32| usize::from(slot(format!("k{n}").as_bytes())) * MASTERS / 16_384 == master;
        let n = (0..).find(is_there).expect("slots are spread");
        check(&[cell(&format!("k{n}"), &[hourly(Algorithm::SlidingWindow, limit)])])
    })
}

#[tokio::test]
async fn each_key_is_counted_on_its_node() {
    let redis = RedisCluster::start().await.expect("a cluster");
    let store = open(&config(&redis.url()));
    for (master, check) in one_on_each(1_000).iter().enumerate() {
        assert_eq!(recovers(&store, check).await.outcomes[0].remaining, 999);
        let key = std::str::from_utf8(&check.cells[0].key).expect("text");
        assert_eq!(redis.nodes[master].command::<u64>(&["EXISTS", key]).await.expect("asked"), 1);
        let reset = [CellReset {
            key: check.cells[0].key.clone(),
            layout: Arc::clone(check.cells[0].layout),
            rule: None,
        }];
        store.reset(&reset).get().await.expect("reset");
        assert_eq!(redis.nodes[master].command::<u64>(&["EXISTS", key]).await.expect("asked"), 0);
    }
}

#[tokio::test]
async fn checks_of_one_slot_travel_together() {
    let redis = RedisCluster::start().await.expect("a cluster");
    let store = open(&config(&redis.url()));
    let cells: Vec<_> =
        (0..500).map(|n| cell(&format!("{{tag}}{n}"), &[hourly(Algorithm::TokenBucket, 9)])).collect();
    let checks: Vec<_> = cells.iter().map(|cell| check(std::slice::from_ref(cell))).collect();
    recovers(&store, &checks[0]).await;
    let owner = redis.owner(0, slot(b"tag")).await.expect("an owner");
    let before = evalsha_calls(&redis.nodes[owner]).await;
    let decisions = join_all(checks.iter().map(|check| store.decide(check).get())).await;
    assert!(decisions.into_iter().all(|decision| decision.expect("decided").admitted));
    let calls = evalsha_calls(&redis.nodes[owner]).await - before;
    assert!((4..=10).contains(&calls), "500 checks of at most 128 a call took {calls} calls");
}

#[tokio::test]
async fn master_that_is_dead_fails_only_its_own_checks_until_its_replica_has_taken_over() {
    let mut redis = RedisCluster::start().await.expect("a cluster");
    let store = open(&impatient(&redis.url()));
    let checks = one_on_each(1_000);
    for check in &checks {
        recovers(&store, check).await;
    }
    redis.nodes[0].kill().expect("killed");
    let give_up = Instant::now() + Duration::from_secs(20);
    let (mut failed, mut failed_elsewhere) = (0_u32, 0_u32);
    let mut in_a_row = 0;
    while in_a_row < 20 {
        assert!(Instant::now() < give_up, "no replica took over: {failed} failed");
        let answers = join_all(checks.iter().map(|check| store.decide(check).get())).await;
        failed_elsewhere +=
            u32::try_from(answers[1..].iter().filter(|answer| answer.is_err()).count()).expect("few");
        if answers[0].is_ok() {
            in_a_row += 1;
        } else {
            (failed, in_a_row) = (failed + 1, 0);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(failed > 0, "the master was gone");
    assert!(
        failed_elsewhere * 20 < failed,
        "{failed_elsewhere} failed on the masters that were well, {failed} on the dead one"
    );
}

#[tokio::test]
async fn node_that_has_left_the_cluster_is_not_believed() {
    let redis = RedisCluster::start().await.expect("a cluster");
    // A replica, so that nothing is lost with it, and the only one that is asked at first.
    let leaves = &redis.nodes[MASTERS];
    let store = open(&config(&leaves.url().replacen("redis", "redis-cluster", 1)));
    let checks = one_on_each(1_000);
    for check in &checks {
        recovers(&store, check).await;
    }
    leaves.command::<()>(&["CLUSTER", "RESET", "SOFT"]).await.expect("reset");
    let slots: Vec<redis::Value> = leaves.command(&["CLUSTER", "SLOTS"]).await.expect("told");
    assert!(slots.is_empty(), "it knows no slots any more");
    // Also by those that begin with it: whichever of two is asked first, in one of these it is.
    let (left, well) = (leaves.port(), redis.nodes[0].port());
    for (first, second) in [(left, well), (well, left)] {
        let url = format!("redis-cluster://127.0.0.1:{first},127.0.0.1:{second}");
        recovers(&open(&config(&url)), &checks[0]).await;
    }
    // The map is asked for each second.
    let until = Instant::now() + Duration::from_millis(2_500);
    while Instant::now() < until {
        for check in &checks {
            assert!(store.decide(check).get().await.expect("decided by a node that is well").admitted);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn links_to_a_master_that_has_left_the_cluster_end() {
    let mut redis = RedisCluster::start().await.expect("a cluster");
    let (metrics, log) = (Metrics::new(), Log::start());
    let backend = RedisBackend::new(&impatient(&redis.url()), Random::seeded(1), &metrics).expect("valid");
    let store = backend.open();
    let checks = one_on_each(1_000);
    for check in &checks {
        recovers(&store, check).await;
    }
    redis.leave(0).await.expect("the others have forgotten it");
    let links = || {
        let page = metrics.encode();
        let count = |line: &str| page.lines().any(|known| known.ends_with(line));
        count("redis_connections 3") && count("breaker_state{state=\"closed\"} 3")
    };
    eventually("nobody of us is connected to it", Duration::from_secs(20), async || {
        for check in &checks {
            store.decide(check).get().await.ok();
        }
        let clients: String = redis.nodes[0].command(&["CLIENT", "LIST"]).await?;
        Ok(!clients.contains("tidegate-ratelimit") && links())
    })
    .await
    .unwrap_or_else(|error| panic!("{error:?}\n{}", metrics.encode()));

    // Now it is gone altogether, though the URL still names it. It is nobody's concern.
    redis.nodes[0].kill().expect("killed");
    let before = log.text().len();
    let until = Instant::now() + Duration::from_millis(2_500);
    while Instant::now() < until {
        for check in &checks {
            assert!(store.decide(check).get().await.expect("decided").admitted);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(&log.text()[before..], "", "the log says nothing");
    assert!(links(), "{}", metrics.encode());
}

#[tokio::test]
async fn slot_that_moves_keeps_its_counts_and_its_checks() {
    keeps_counts_while_a_slot_moves(&[]).await;
}

/// Behind one address for all, as in some managed clusters: nodes name ports only.
#[tokio::test]
async fn slot_that_moves_is_found_though_nodes_name_no_host() {
    keeps_counts_while_a_slot_moves(&["--cluster-preferred-endpoint-type", "unknown-endpoint"]).await;
}

async fn keeps_counts_while_a_slot_moves(settings: &[&str]) {
    let redis = RedisCluster::with(settings).await.expect("a cluster");
    let store = open(&config(&redis.url()));
    let slot = slot(b"tag");
    let owner = redis.owner(0, slot).await.expect("an owner");
    let other = (owner + 1) % MASTERS;
    let rules = [hourly(Algorithm::SlidingWindow, 1_000)];
    let (old, new) = (cell("{tag}old", &rules), cell("{tag}new", &rules));
    let left = async |cell: &CellCheck<'static>| {
        store.decide(&check(std::slice::from_ref(cell))).get().await.expect("decided").outcomes[0].remaining
    };
    assert_eq!(left(&old).await, 999);
    redis.begin_move(slot, owner, other).await.expect("begun");
    // What is there is decided there; what is new already where the slot is going.
    assert_eq!((left(&old).await, left(&new).await), (998, 999));
    redis.move_keys(slot, owner, other, 10).await.expect("moved");
    assert_eq!((left(&old).await, left(&new).await), (997, 998));
    redis.end_move(slot, owner, other).await.expect("ended");
    assert_eq!((left(&old).await, left(&new).await), (996, 997));
}

/// Two keys of one slot, one of which is new: while the slot moves no node takes both.
#[tokio::test]
async fn check_of_several_keys_is_decided_while_their_slot_moves() {
    let redis = RedisCluster::start().await.expect("a cluster");
    let store = open(&config(&redis.url()));
    let slot = slot(b"tag");
    let owner = redis.owner(0, slot).await.expect("an owner");
    let other = (owner + 1) % MASTERS;
    let rules = [hourly(Algorithm::SlidingWindow, 1_000)];
    let (old, new) = (cell("{tag}old", &rules), cell("{tag}new", &rules));
    let remaining = async |idempotency: &str| {
        let idempotency = Idempotency { key: idempotency.as_bytes().into(), digest: 1, ttl_us: 60_000_000 };
        let check = Check { idempotency: Some(idempotency), ..check(&[old.clone(), new.clone()]) };
        let decision = store.decide(&check).get().await.expect("decided");
        (decision.outcomes[0].remaining, decision.outcomes[1].remaining, decision.replayed)
    };
    assert!(store.decide(&check(std::slice::from_ref(&old))).get().await.expect("decided").admitted);
    redis.begin_move(slot, owner, other).await.expect("begun");
    assert_eq!(remaining("{tag}a").await, (998, 999, false));
    assert_eq!(remaining("{tag}a").await, (998, 999, true));
    assert_eq!(remaining("{tag}b").await, (997, 998, false));
    redis.move_keys(slot, owner, other, 10).await.expect("moved");
    redis.end_move(slot, owner, other).await.expect("ended");
    assert_eq!(remaining("{tag}b").await, (997, 998, true));
    assert_eq!(remaining("{tag}c").await, (996, 997, false));
}

/// Also where it does not have the slot in which every other node would be probed.
#[tokio::test]
async fn master_that_takes_no_writes_is_left_alone_until_it_does() {
    let redis = RedisCluster::start().await.expect("a cluster");
    let store = open(&impatient(&redis.url()));
    for (master, check) in one_on_each(1_000).iter().enumerate() {
        let node = &redis.nodes[master];
        recovers(&store, check).await;
        node.command::<()>(&["CONFIG", "SET", "min-replicas-to-write", "9"]).await.expect("more than it has");
        let until = Instant::now() + Duration::from_millis(1_500);
        let mut refused = 0;
        while Instant::now() < until {
            refused += u32::from(store.decide(check).get().await == Err(StoreError::Protocol));
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        assert!((8..16).contains(&refused), "{refused} calls were refused by master {master}");
        node.command::<()>(&["CONFIG", "SET", "min-replicas-to-write", "0"]).await.expect("as before");
        recovers(&store, check).await;
    }
}

#[tokio::test]
async fn cluster_that_comes_late_is_found() {
    let mut redis = RedisCluster::start().await.expect("a cluster");
    let url = redis.url();
    for node in &mut redis.nodes {
        node.process().signal("STOP").expect("stopped");
    }
    let store = open(&impatient(&url));
    let check = &one_on_each(1_000)[0];
    assert!(store.decide(check).get().await.is_err());
    for node in &mut redis.nodes {
        node.process().signal("CONT").expect("continued");
    }
    assert!(recovers(&store, check).await.admitted);
}
