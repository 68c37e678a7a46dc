//! Since when nothing has been lost, as the store tells it.

use tidegate_tests::{
    redis_cluster::{MASTERS, RedisCluster},
    redis_sentinel::RedisSentinel,
};

use super::{
    outage::{impatient, one, recovers},
    *,
};
use crate::key::{TAGS, slot};

const HOUR_US: u64 = 3_600_000_000;

/// As docs/reference/redis.md says: nothing was counted there before that could have been lost.
pub(crate) async fn declare_complete(server: &RedisServer, tag: u16) {
    let info: String = server.command(&["INFO", "replication"]).await.expect("told");
    let id = info.lines().find_map(|line| line.strip_prefix("master_replid:")).expect("an id").trim();
    let key = format!("tg2:{{{tag}}}complete:{id}");
    server.command::<String>(&["SET", &key, "0"]).await.expect("set");
}

fn complete_for_us(store: &RedisStore) -> u64 {
    store.complete_for_us(&one().cells[0].key)
}

#[tokio::test]
async fn restart_is_a_loss_and_a_declaration_makes_it_good() {
    let (store, mut server) = started().await;
    assert_eq!(complete_for_us(&store), 0, "nothing is known yet");
    recovers(&store, &one()).await;
    assert!(complete_for_us(&store) < HOUR_US, "it may have been another one before");
    declare_complete(&server, TAGS[0]).await;
    let store = open(&impatient(&server.url()));
    recovers(&store, &one()).await;
    assert!(complete_for_us(&store) > HOUR_US);
    server.restart().await.expect("restarted");
    while store.decide(&one()).get().await.is_ok() && complete_for_us(&store) > HOUR_US {
        tokio::task::yield_now().await;
    }
    recovers(&store, &one()).await;
    assert!(complete_for_us(&store) < HOUR_US, "what it had is gone");
}

#[tokio::test]
async fn promotion_is_a_loss_of_which_others_find_the_moment() {
    let mut redis = RedisSentinel::start().await.expect("sentinels");
    declare_complete(&redis.servers[0], TAGS[0]).await;
    let store = open(&impatient(&redis.url()));
    recovers(&store, &one()).await;
    assert!(complete_for_us(&store) > HOUR_US);
    redis.servers[0].kill().expect("killed");
    while store.decide(&one()).get().await.is_ok() {
        tokio::task::yield_now().await;
    }
    recovers(&store, &one()).await;
    let give_up = Instant::now() + Duration::from_secs(20);
    while complete_for_us(&store) < 500_000 {
        assert!(Instant::now() < give_up, "{}", complete_for_us(&store));
        recovers(&store, &one()).await;
    }
    let complete = complete_for_us(&store);
    assert!(complete < HOUR_US, "{complete}");
    let other = open(&config(&redis.url()));
    recovers(&other, &one()).await;
    let found = complete_for_us(&other);
    assert!((complete..complete + 20_000_000).contains(&found), "{found}, where the first knows {complete}");
}

#[tokio::test]
async fn slot_that_moves_is_no_loss() {
    let redis = RedisCluster::start().await.expect("a cluster");
    for (index, node) in redis.nodes[..MASTERS].iter().enumerate() {
        let mut own = TAGS
            .into_iter()
            .filter(|tag| usize::from(slot(tag.to_string().as_bytes())) * MASTERS / 16_384 == index);
        // Not the first, which may be the one that moves.
        declare_complete(node, own.next_back().expect("each has some")).await;
    }
    let store = open(&config(&redis.url()));
    let check = check(&[cell("{14}counted", &[hourly(Algorithm::SlidingWindow, 9)])]);
    let key = &check.cells[0].key;
    recovers(&store, &check).await;
    assert!(store.complete_for_us(key) > HOUR_US);
    redis.move_slot(slot(key), 0, 1).await.expect("moved");
    assert_eq!(recovers(&store, &check).await.outcomes[0].remaining, 7);
    assert!(store.complete_for_us(key) > HOUR_US);
}
