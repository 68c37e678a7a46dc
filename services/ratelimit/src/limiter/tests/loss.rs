//! Policies that are strict about losses, and a Redis that forgets.

use tidegate_tests::{eventually::eventually, redis_server::RedisServer};

use super::*;

const STRICT: &str = r#"
builtin = false

[defaults]
on_data_loss = "strict"

[[policies]]
name = "closed"
namespace = "closed"
key_by = ["user"]
limits = [{ name = "hour", limit = 9, period = "1h" }]

[[policies]]
name = "accept"
namespace = "accept"
key_by = ["user"]
on_data_loss = "accept"
limits = [{ name = "hour", limit = 9, period = "1h" }]
"#;

fn limiter_on(server: &RedisServer) -> Limiter {
    let second = Duration::from_secs(1);
    let config = RedisStoreConfig {
        url: Secret::new(server.url()),
        tls_ca: String::new(),
        tls_cert: String::new(),
        tls_key: String::new(),
        deadline: second.into(),
        connect_timeout: second.into(),
        max_batch: 128,
        calls_in_flight: 2,
        denied_keys: 1_000,
        breaker: BreakerConfig { failures: 8, successes: 1, open_for: (second / 10).into() },
    };
    let backend = RedisBackend::new(&config, Random::seeded(1), &Metrics::new()).expect("valid settings");
    limiter_by(STRICT, Counters::Shared { store: Arc::new(backend.open()), local: memory() }, 4)
}

/// Whether it was admitted, whether by failure mode, and why.
async fn charge(limiter: &Limiter, namespace: &str) -> (bool, bool, Reason) {
    let attributes = [("user", "ann".to_owned())];
    let policies = limiter.policies();
    let verdict = limiter.check(&policies, question(namespace, &attributes)).await.expect("decided");
    (verdict.allowed, verdict.degraded, verdict.reason)
}

async fn declare_complete(server: &RedisServer) {
    let info: String = server.command(&["INFO", "replication"]).await.expect("told");
    let id = info.lines().find_map(|line| line.strip_prefix("master_replid:")).expect("an id").trim();
    let key = format!("tg2:{{14}}complete:{id}");
    server.command::<String>(&["SET", &key, "0"]).await.expect("set");
}

#[tokio::test]
async fn strict_policies_do_not_trust_a_redis_that_has_forgotten() {
    let mut server = RedisServer::start().await.expect("redis-server");
    declare_complete(&server).await;
    let limiter = limiter_on(&server);
    for namespace in ["closed", "accept"] {
        assert_eq!(charge(&limiter, namespace).await, (true, false, Reason::Ok), "{namespace}");
    }
    server.restart().await.expect("restarted");
    eventually("Redis decides again", Duration::from_secs(20), async || {
        Ok(charge(&limiter, "accept").await == (true, false, Reason::Ok))
    })
    .await
    .expect("in time");
    for _ in 0..2 {
        assert_eq!(charge(&limiter, "closed").await, (false, true, Reason::StoreUnavailable));
    }

    declare_complete(&server).await;
    let limiter = limiter_on(&server);
    let attributes = [("user", "ann".to_owned())];
    let policies = limiter.policies();
    let verdict = limiter.peek(&policies, question("closed", &attributes), &[]).await.expect("decided");
    assert!(!verdict.degraded);
    assert_eq!(verdict.limits[0].outcome.remaining, 9, "what was denied was not charged");
}
