//! Redis over TLS: who is believed, who is let in, and what the log says of the others.

use tidegate_tests::{
    certificates::{Authority, Identity},
    redis_cluster::RedisCluster,
    redis_sentinel::RedisSentinel,
    redis_server::RedisTls,
};

use super::{
    log::Log,
    outage::{impatient, one, recovers},
    *,
};

/// Redis with a certificate of the authority for the address at which it is asked.
async fn served(authority: &Authority, clients_must: bool) -> RedisServer {
    let identity = authority.sign("redis").expect("signed");
    serving(authority, &identity, clients_must).await
}

async fn serving(authority: &Authority, identity: &Identity, clients_must: bool) -> RedisServer {
    let tls = RedisTls::new(authority, identity, clients_must);
    RedisServer::over(Some(&tls), []).await.expect("redis-server with TLS")
}

fn trusting(url: &str, authority: &Authority) -> RedisStoreConfig {
    RedisStoreConfig { tls_ca: authority.file().display().to_string(), ..config(url) }
}

fn showing(config: RedisStoreConfig, identity: &Identity) -> RedisStoreConfig {
    let (cert, key) = (&identity.certificate_file, &identity.key_file);
    RedisStoreConfig { tls_cert: cert.display().to_string(), tls_key: key.display().to_string(), ..config }
}

/// Nothing is decided, and the log says why.
async fn is_refused(config: &RedisStoreConfig, words: &[&str]) {
    let log = Log::start();
    config.validate().expect("valid");
    let store = open(config);
    assert!(store.decide(&one()).get().await.is_err());
    log.tells(&[&["cannot connect to Redis"], words].concat()).await;
}

/// Why the settings are refused.
fn fault(config: &RedisStoreConfig) -> String {
    match config.validate() {
        Err(report) => report.to_string(),
        Ok(()) => {
            let backend = RedisBackend::new(config, Random::seeded(1), &Metrics::new());
            format!("{:#}", backend.expect_err("refused"))
        }
    }
}

#[tokio::test]
async fn certificate_of_the_authority_is_believed_and_the_connection_is_encrypted() {
    let authority = Authority::new().expect("an authority");
    let server = served(&authority, false).await;
    let store = open(&trusting(&server.tls_url(), &authority));
    assert_eq!(recovers(&store, &one()).await.outcomes[0].remaining, 999);
    // All that it was told came in over the port that speaks nothing but TLS.
    let port = format!("laddr=127.0.0.1:{} ", server.own_port());
    let clients: String = server.command(&["CLIENT", "LIST"]).await.expect("its connections");
    let ours: Vec<_> = clients.lines().filter(|line| line.contains("name=tidegate-ratelimit ")).collect();
    assert!(!ours.is_empty() && ours.iter().all(|line| line.contains(&port)), "{clients}");
}

/// Though the other has the same name.
#[tokio::test]
async fn certificate_of_another_authority_is_refused() {
    let (ours, theirs) = (Authority::new().expect("one"), Authority::new().expect("another"));
    let server = served(&theirs, false).await;
    is_refused(&trusting(&server.tls_url(), &ours), &["signed by no authority in store.redis.tls_ca"]).await;
    // Nor do the authorities of the system know it.
    is_refused(&config(&server.tls_url()), &["signed by no authority"]).await;
}

#[tokio::test]
async fn certificate_for_another_name_is_refused() {
    let authority = Authority::new().expect("an authority");
    let identity = authority.sign_for("redis", &["redis.example.com"]).expect("signed");
    let server = serving(&authority, &identity, false).await;
    let words = ["127.0.0.1", "redis.example.com", "does not name the host that the URL names"];
    is_refused(&trusting(&server.tls_url(), &authority), &words).await;
}

/// Also where checks were answered before it is known why there is no connection.
#[tokio::test]
async fn port_without_tls_is_told() {
    let authority = Authority::new().expect("an authority");
    let server = RedisServer::start().await.expect("redis-server");
    let (url, log) = (server.url().replacen("redis", "rediss", 1), Log::start());
    let store = open(&RedisStoreConfig { tls_ca: trusting(&url, &authority).tls_ca, ..impatient(&url) });
    assert_eq!(store.decide(&one()).get().await, Err(StoreError::Timeout));
    log.tells(&["did not answer within the deadline"]).await;
    log.tells(&["cannot connect to Redis", "is it the port of TLS?"]).await;
}

#[tokio::test]
async fn redis_that_asks_for_a_certificate_is_shown_ours() {
    let (ours, theirs) = (Authority::new().expect("one"), Authority::new().expect("another"));
    let server = served(&ours, true).await;
    let without = trusting(&server.tls_url(), &ours);
    is_refused(&without, &["set store.redis.tls_cert and tls_key"]).await;
    let foreign = showing(without.clone(), &theirs.sign("client").expect("signed"));
    is_refused(&foreign, &["does not know the authority that signed store.redis.tls_cert"]).await;
    let known = showing(without, &ours.sign("client").expect("signed"));
    assert_eq!(recovers(&open(&known), &one()).await.outcomes[0].remaining, 999);
}

#[tokio::test]
async fn sentinels_and_the_master_that_they_name_are_asked_over_tls() {
    let authority = Authority::new().expect("an authority");
    let tls = RedisTls::new(&authority, &authority.sign("redis").expect("signed"), true);
    let mut redis = RedisSentinel::over(Some(&tls), &[], "").await.expect("sentinels with TLS");
    let client = authority.sign("client").expect("signed");
    let store = open(&showing(trusting(&redis.tls_url(), &authority), &client));
    assert_eq!(recovers(&store, &one()).await.outcomes[0].remaining, 999);
    redis.servers[0].kill().expect("killed");
    let give_up = Instant::now() + Duration::from_secs(20);
    while store.decide(&one()).get().await.is_ok() {
        assert!(Instant::now() < give_up, "nobody noticed");
    }
    assert!(recovers(&store, &one()).await.admitted, "decided by the promoted replica");
}

#[tokio::test]
async fn every_node_of_a_cluster_is_asked_over_tls() {
    let authority = Authority::new().expect("an authority");
    let tls = RedisTls::new(&authority, &authority.sign("redis").expect("signed"), true);
    let redis = RedisCluster::over(Some(&tls), &[]).await.expect("a cluster with TLS");
    let client = authority.sign("client").expect("signed");
    let store = open(&showing(trusting(&redis.tls_url(), &authority), &client));
    // Slots of the last and of the first master.
    for key in ["{a}", "{b}"] {
        let check = check(&[cell(key, &[hourly(Algorithm::SlidingWindow, 1_000)])]);
        assert_eq!(recovers(&store, &check).await.outcomes[0].remaining, 999);
    }
}

#[test]
fn files_that_cannot_be_used_are_refused_at_the_start() {
    let authority = Authority::new().expect("an authority");
    let (one, other) = (authority.sign("one").expect("signed"), authority.sign("other").expect("signed"));
    let tls = || trusting("rediss://127.0.0.1:1", &authority);
    let path = |path: &std::path::Path| path.display().to_string();
    let key = path(&one.key_file);
    for (config, words) in [
        (
            RedisStoreConfig { tls_ca: "no/such.pem".to_owned(), ..tls() },
            vec!["store.redis.tls_ca", "no/such.pem"],
        ),
        (RedisStoreConfig { tls_ca: key.clone(), ..tls() }, vec!["store.redis.tls_ca", "certificate"]),
        (
            RedisStoreConfig { tls_key: path(&other.key_file), ..showing(tls(), &one) },
            vec!["do not fit together"],
        ),
        (RedisStoreConfig { tls_cert: key.clone(), ..showing(tls(), &one) }, vec!["tls_cert", "certificate"]),
        (
            RedisStoreConfig { tls_cert: String::new(), ..showing(tls(), &one) },
            vec!["tls_key", "one is missing"],
        ),
        (
            RedisStoreConfig { tls_key: String::new(), ..showing(tls(), &one) },
            vec!["tls_key", "one is missing"],
        ),
        (
            RedisStoreConfig { url: Secret::new("redis://127.0.0.1:1"), ..showing(tls(), &one) },
            vec!["tls_ca: is set, but the URL is one without TLS", "tls_cert: is set", "tls_key: is set"],
        ),
    ] {
        let fault = fault(&config);
        assert!(words.iter().all(|word| fault.contains(word)), "{words:?}: {fault}");
    }
}
