//! A master that changes: the store follows the sentinels.

use tidegate_tests::redis_sentinel::RedisSentinel;

use super::{
    outage::{impatient, one, recovers},
    *,
};

#[tokio::test]
async fn master_is_found_and_its_successor_after_it_was_killed() {
    let mut redis = RedisSentinel::start().await.expect("sentinels");
    let store = open(&impatient(&redis.url()));
    assert_eq!(recovers(&store, &one()).await.outcomes[0].remaining, 999);
    redis.servers[0].kill().expect("killed");
    let give_up = Instant::now() + Duration::from_secs(20);
    while store.decide(&one()).get().await.is_ok() {
        assert!(Instant::now() < give_up, "nobody noticed");
    }
    assert!(recovers(&store, &one()).await.admitted, "decided by the promoted replica");
    assert_ne!(redis.master().await.expect("a master"), 0);
}

#[tokio::test]
async fn promoted_replica_is_found_though_the_old_master_is_well() {
    let redis = RedisSentinel::start().await.expect("sentinels");
    let store = open(&config(&redis.url()));
    assert!(recovers(&store, &one()).await.admitted);
    redis.promote_a_replica().await.expect("a failover");
    let give_up = Instant::now() + Duration::from_secs(20);
    loop {
        let answer = store.decide(&one()).get().await;
        let master = redis.master().await.expect("a master");
        let names: String =
            redis.servers[master].command(&["CLIENT", "LIST"]).await.expect("its connections");
        if master != 0 && names.contains("name=tidegate-ratelimit") && answer.is_ok() {
            return;
        }
        assert!(Instant::now() < give_up, "{answer:?} {names}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn sentinel_that_is_silent_is_passed_over() {
    let redis = RedisSentinel::start().await.expect("sentinels");
    redis.sentinel(0).signal("STOP").expect("stopped");
    let store = open(&impatient(&redis.url()));
    let asked = Instant::now();
    assert!(recovers(&store, &one()).await.admitted);
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
}
