//! Users that may do what the reference says and no more, on every topology.

use tidegate_tests::{
    redis_cluster::{MASTERS, RedisCluster},
    redis_sentinel::RedisSentinel,
};

use super::{
    outage::{impatient, recovers},
    *,
};
use crate::key::slot;

/// As in docs/reference/redis.md.
const RIGHTS: &str = "on >pw ~tg2:* +evalsha +eval +script|load +get +set +setrange +del +pttl +pexpire +time +role +info \
                      +cluster|slots +client|setname +client|tracking +client|caching +exists +config|get +hello +ping \
                      +select +asking";

/// At sentinels, as there.
const SENTINEL_RIGHTS: &str =
    "on >pw &+switch-master +sentinel|master +subscribe +client|setname +hello +ping";

async fn create_user(server: &RedisServer) {
    let words: Vec<_> = ["ACL", "SETUSER", "tidegate"].into_iter().chain(RIGHTS.split_whitespace()).collect();
    server.command::<String>(&words).await.expect("a user");
}

fn own() -> Check<'static> {
    check(&[cell("tg2:{14}:1:a", &ALGORITHMS.map(|algorithm| hourly(algorithm, 1_000)))])
}

fn as_user(url: &str) -> String {
    url.replacen("://", "://tidegate:pw@", 1)
}

/// Decides, gives back and clears as the user, whose connections go by our name on some server.
async fn serves_the_user(url: &str, servers: &[RedisServer]) {
    let store = open(&config(&as_user(url)));
    assert_eq!(recovers(&store, &own()).await.outcomes[0].remaining, 999);
    let (key, layout) = (own().cells[0].key.clone(), Arc::clone(own().cells[0].layout));
    let refund = CellRefund { key: key.clone(), layout: Arc::clone(&layout), tokens: 1 };
    store.refund(&[refund]).get().await.expect("given back");
    store
        .reset(&[CellReset { key: key.clone(), layout: Arc::clone(&layout), rule: Some(0) }])
        .get()
        .await
        .expect("cleared");
    store.reset(&[CellReset { key, layout, rule: None }]).get().await.expect("cleared");
    let mut named = false;
    for server in servers {
        let clients: String = server.command(&["CLIENT", "LIST"]).await.expect("its connections");
        named |= clients.contains("name=tidegate-ratelimit") && clients.contains("user=tidegate");
    }
    assert!(named, "a connection has our name and our user");
}

#[tokio::test]
async fn user_with_the_documented_rights_is_enough_for_one_server() {
    let server = RedisServer::start().await.expect("redis-server");
    create_user(&server).await;
    let servers = [server];
    serves_the_user(&servers[0].url(), &servers).await;
    serves_the_user(&format!("{}/1", servers[0].url()), &servers).await;
}

#[tokio::test]
async fn user_with_the_documented_rights_is_enough_behind_sentinels() {
    let user = format!("user tidegate {SENTINEL_RIGHTS}");
    let redis = RedisSentinel::with(&[], &user).await.expect("sentinels");
    for server in &redis.servers {
        create_user(server).await;
    }
    let url = format!("{}?sentinel_user=tidegate&sentinel_password=pw", redis.url());
    serves_the_user(&url, &redis.servers).await;
}

#[tokio::test]
async fn user_with_the_documented_rights_is_enough_in_a_cluster() {
    let redis = RedisCluster::start().await.expect("a cluster");
    for server in &redis.nodes {
        create_user(server).await;
    }
    serves_the_user(&redis.url(), &redis.nodes).await;
    // The slot moves, and a new key is counted where it is going.
    let slot = slot(b"14");
    let owner = redis.owner(0, slot).await.expect("an owner");
    redis.begin_move(slot, owner, (owner + 1) % MASTERS).await.expect("begun");
    let store = open(&config(&as_user(&redis.url())));
    let new = check(&[cell("tg2:{14}:3:new", &[hourly(Algorithm::SlidingWindow, 1_000)])]);
    assert_eq!(recovers(&store, &new).await.outcomes[0].remaining, 999);
    assert_eq!(store.decide(&new).get().await.expect("decided").outcomes[0].remaining, 998);
}

#[tokio::test]
async fn user_that_was_taken_away_is_served_again_when_it_is_back() {
    let server = RedisServer::start().await.expect("redis-server");
    let store = open(&impatient(&as_user(&server.url())));
    assert!(store.decide(&own()).get().await.is_err(), "there is no such user");
    create_user(&server).await;
    assert!(recovers(&store, &own()).await.admitted);
    server.command::<u64>(&["ACL", "DELUSER", "tidegate"]).await.expect("taken away");
    let give_up = Instant::now() + Duration::from_secs(20);
    while store.decide(&own()).get().await.is_ok() {
        assert!(Instant::now() < give_up, "nobody noticed");
    }
    create_user(&server).await;
    assert!(recovers(&store, &own()).await.admitted);
}
