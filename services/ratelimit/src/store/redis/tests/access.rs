//! Users that may do what the reference says and no more, on every topology.

use tidegate_tests::{
    eventually::eventually,
    redis_cluster::{MASTERS, RedisCluster},
    redis_sentinel::RedisSentinel,
};

use super::{
    log::Log,
    outage::{impatient, recovers},
    *,
};
use crate::key::slot;

/// As in docs/reference/redis.md.
const RIGHTS: &str = "+evalsha +eval +script|load +get +set +setrange +del +pttl +pexpire +time +info +client|setname \
                      +client|tracking +client|caching +exists +config|get";

/// For a database of its own, behind sentinels, and in a cluster.
const MORE_RIGHTS: [&str; 3] = ["+select", "+role", "+cluster|slots +asking"];

/// At sentinels, as there.
const SENTINEL_RIGHTS: &str = "on >pw &+switch-master +sentinel|master +subscribe +client|setname";

/// The user, with the rights that everybody needs and these.
async fn create_user(server: &RedisServer, more: &str) {
    grant(server, &[RIGHTS, more].join(" ")).await;
}

async fn grant(server: &RedisServer, rights: &str) {
    let user = ["ACL", "SETUSER", "tidegate", "reset", "on", ">pw", "~tg2:*"];
    let words: Vec<_> = user.into_iter().chain(rights.split_whitespace()).collect();
    server.command::<String>(&words).await.expect("a user");
}

fn own() -> Check<'static> {
    check(&[cell("tg2:{14}:1:a", &ALGORITHMS.map(|algorithm| hourly(algorithm, 1_000)))])
}

fn as_user(url: &str) -> String {
    url.replacen("://", "://tidegate:pw@", 1)
}

/// Decides, gives back and clears as the user, whose connections go by our name on some server. Nothing is missing, also by the log.
async fn serves_the_user(url: &str, servers: &[RedisServer]) {
    let log = Log::start();
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
    assert!(!log.text().contains("WARN"), "{}", log.text());
}

/// Of each right that is missing the log tells, by the name of the command.
async fn each_is_missed(url: &str, servers: &[RedisServer], rights: &str, of: &str) {
    for missing in of.split_whitespace() {
        let rest: Vec<_> = rights.split_whitespace().filter(|right| *right != missing).collect();
        for server in servers {
            grant(server, &rest.join(" ")).await;
        }
        let log = Log::start();
        let store = open(&impatient(&as_user(url)));
        // Whether it is decided depends on the right.
        let _decided_or_not = store.decide(&own()).get().await;
        let command = missing.trim_start_matches('+');
        let (name, of_it) = command.split_once('|').unwrap_or((command, ""));
        let [upper, spaced] = [command.to_uppercase(), format!("{name} {of_it}").to_uppercase()];
        eventually("the log names the command", Duration::from_secs(10), async || {
            let is_named = |line: &str| {
                [command, &upper, &spaced].into_iter().any(|name| line.contains(name.trim_end()))
            };
            Ok(log.text().lines().any(|line| line.contains("WARN") && is_named(line)))
        })
        .await
        .unwrap_or_else(|_| panic!("{missing} is not in\n{}", log.text()));
    }
}

#[tokio::test]
async fn command_that_the_user_may_not_run_is_named() {
    let servers = [RedisServer::start().await.expect("redis-server")];
    each_is_missed(&servers[0].url(), &servers, RIGHTS, RIGHTS).await;
    let own_database = format!("{}/1", servers[0].url());
    each_is_missed(&own_database, &servers, &[RIGHTS, MORE_RIGHTS[0]].join(" "), MORE_RIGHTS[0]).await;
}

#[tokio::test]
async fn command_that_the_user_may_not_run_in_a_cluster_is_named() {
    let redis = RedisCluster::start().await.expect("a cluster");
    each_is_missed(&redis.url(), &redis.nodes, &[RIGHTS, MORE_RIGHTS[2]].join(" "), MORE_RIGHTS[2]).await;
}

#[tokio::test]
async fn command_that_the_user_may_not_run_at_sentinels_and_their_master_is_named() {
    let redis = RedisSentinel::start().await.expect("sentinels");
    let all = [RIGHTS, MORE_RIGHTS[1]].join(" ");
    let url = format!("{}?sentinel_user=tidegate&sentinel_password=pw", redis.url());
    for (missing, words) in [
        ("+sentinel|master", ["cannot connect", "sentinel|master"]),
        ("+subscribe", ["does not tell of new masters", "subscribe"]),
        ("&+switch-master", ["does not tell of new masters", "channel"]),
    ] {
        let rest = SENTINEL_RIGHTS.split_whitespace().filter(|right| *right != missing);
        let user: Vec<_> = ["ACL", "SETUSER", "tidegate", "reset"].into_iter().chain(rest).collect();
        for sentinel in 0..3 {
            redis.command_sentinel::<String>(sentinel, &user).await.expect("a user");
        }
        for server in &redis.servers {
            grant(server, &all).await;
        }
        let log = Log::start();
        let _store = open(&config(&as_user(&url)));
        log.tells(&words).await;
    }
    let user: Vec<_> =
        ["ACL", "SETUSER", "tidegate"].into_iter().chain(SENTINEL_RIGHTS.split_whitespace()).collect();
    for sentinel in 0..3 {
        redis.command_sentinel::<String>(sentinel, &user).await.expect("a user");
    }
    each_is_missed(&url, &redis.servers, &all, MORE_RIGHTS[1]).await;
}

#[tokio::test]
async fn user_with_the_documented_rights_is_enough_for_one_server() {
    let server = RedisServer::start().await.expect("redis-server");
    create_user(&server, "").await;
    let servers = [server];
    serves_the_user(&servers[0].url(), &servers).await;
    create_user(&servers[0], MORE_RIGHTS[0]).await;
    serves_the_user(&format!("{}/1", servers[0].url()), &servers).await;
}

#[tokio::test]
async fn user_with_the_documented_rights_is_enough_behind_sentinels() {
    let user = format!("user tidegate {SENTINEL_RIGHTS}");
    let redis = RedisSentinel::with(&[], &user).await.expect("sentinels");
    for server in &redis.servers {
        create_user(server, MORE_RIGHTS[1]).await;
    }
    let url = format!("{}?sentinel_user=tidegate&sentinel_password=pw", redis.url());
    serves_the_user(&url, &redis.servers).await;
}

#[tokio::test]
async fn user_with_the_documented_rights_is_enough_in_a_cluster() {
    let redis = RedisCluster::start().await.expect("a cluster");
    for server in &redis.nodes {
        create_user(server, MORE_RIGHTS[2]).await;
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
    create_user(&server, "").await;
    assert!(recovers(&store, &own()).await.admitted);
    server.command::<u64>(&["ACL", "DELUSER", "tidegate"]).await.expect("taken away");
    let give_up = Instant::now() + Duration::from_secs(20);
    while store.decide(&own()).get().await.is_ok() {
        assert!(Instant::now() < give_up, "nobody noticed");
    }
    create_user(&server, "").await;
    assert!(recovers(&store, &own()).await.admitted);
}
