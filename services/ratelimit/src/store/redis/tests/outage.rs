//! Redis that is gone, stalled, or not there yet.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::sleep,
};

use super::*;

/// As in production, where nobody may wait.
pub(super) fn impatient(url: &str) -> RedisStoreConfig {
    RedisStoreConfig {
        deadline: Duration::from_millis(50).into(),
        connect_timeout: Duration::from_millis(500).into(),
        ..config(url)
    }
}

/// Decides until it succeeds; fails if it does not within 20 s.
pub(super) async fn recovers(store: &RedisStore, check: &Check<'_>) -> Decision {
    let give_up = Instant::now() + Duration::from_secs(20);
    loop {
        match store.decide(check).get().await {
            Ok(decision) => return decision,
            Err(error) => assert!(Instant::now() < give_up, "still {error:?}"),
        }
        sleep(Duration::from_millis(20)).await;
    }
}

pub(super) fn one() -> Check<'static> {
    check(&[cell("one", &[hourly(Algorithm::SlidingWindow, 1_000)])])
}

#[tokio::test]
async fn restart_of_redis_is_survived() {
    let (_, mut server) = started().await;
    let store = open(&impatient(&server.url()));
    recovers(&store, &one()).await;
    server.kill().expect("killed");
    let give_up = Instant::now() + Duration::from_secs(20);
    while store.decide(&one()).get().await.is_ok() {
        assert!(Instant::now() < give_up, "nobody noticed");
        sleep(Duration::from_millis(1)).await;
    }
    for _ in 0..50 {
        let asked = Instant::now();
        assert!(store.decide(&one()).get().await.is_err());
        assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    }
    server.restart().await.expect("restarted");
    assert_eq!(recovers(&store, &one()).await.outcomes[0].remaining, 999, "Redis had forgotten all");
}

#[tokio::test]
async fn redis_that_comes_late_is_found() {
    let (_, mut server) = started().await;
    server.kill().expect("killed");
    let store = open(&impatient(&server.url()));
    let reset = [CellReset {
        key: one().cells[0].key.clone(),
        layout: Arc::clone(one().cells[0].layout),
        rule: None,
    }];
    assert!(store.decide(&one()).get().await.is_err());
    assert!(store.reset(&reset).get().await.is_err());
    server.restart().await.expect("restarted");
    assert!(recovers(&store, &one()).await.admitted);
    store.reset(&reset).get().await.expect("reset");
}

#[tokio::test]
async fn stalled_redis_costs_a_few_deadlines_and_then_nothing() {
    let (_, server) = started().await;
    let store = open(&impatient(&server.url()));
    recovers(&store, &one()).await;
    server.process().signal("STOP").expect("stopped");
    let mut answers = Vec::new();
    while answers.last() != Some(&Err(StoreError::BreakerOpen)) {
        let asked = Instant::now();
        answers.push(store.decide(&one()).get().await);
        assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
        assert!(answers.len() < 50, "the breaker never opened: {answers:?}");
    }
    // The check that went out before the stall may be among them.
    assert!(answers.contains(&Err(StoreError::Timeout)), "{answers:?}");
    assert!(answers.len() >= 8, "opened after {}", answers.len());
    server.process().signal("CONT").expect("continued");
    assert!(recovers(&store, &one()).await.admitted);
}

#[tokio::test]
async fn check_that_was_never_sent_is_never_charged() {
    let (_, server) = started().await;
    let config = RedisStoreConfig { max_batch: 1, calls_in_flight: 1, ..impatient(&server.url()) };
    let store = open(&config);
    let warm = check(&[cell("warm", &[hourly(Algorithm::SlidingWindow, 1_000)])]);
    recovers(&store, &warm).await;
    server.process().signal("STOP").expect("stopped");
    let checks = [one(), one(), one(), one()];
    let answers = join_all(checks.iter().map(|check| store.decide(check).get())).await;
    assert!(answers.iter().all(|answer| *answer == Err(StoreError::Timeout)), "{answers:?}");
    server.process().signal("CONT").expect("continued");
    recovers(&store, &warm).await;
    let look = Check { charge: false, ..one() };
    assert_eq!(recovers(&store, &look).await.outcomes[0].remaining, 999, "one was sent, three were not");
}

#[tokio::test]
async fn url_is_not_shown_when_it_is_refused() {
    let mut config = config("http://user:secret@example.com");
    assert!(config.validate().is_err());
    let error = RedisBackend::new(&config, Random::seeded(1), &Metrics::new()).expect_err("refused");
    assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    config.url = Secret::new("rediss://user:secret@example.com:6380/2");
    config.validate().expect("TLS is fine");
}

#[tokio::test]
async fn redis_that_takes_no_writes_is_left_alone_until_it_does() {
    let (_, server) = started().await;
    let store = open(&impatient(&server.url()));
    recovers(&store, &one()).await;
    let connections = async || -> u64 {
        let stats: String = server.command(&["INFO", "stats"]).await.expect("stats");
        let line =
            stats.lines().find(|line| line.starts_with("total_connections_received:")).expect("counted");
        line.rsplit(':').next().and_then(|count| count.trim().parse().ok()).expect("a number")
    };
    server.command::<String>(&["REPLICAOF", "127.0.0.1", "9"]).await.expect("a replica of nobody");
    let before = connections().await;
    let until = Instant::now() + Duration::from_secs(2);
    while Instant::now() < until {
        assert!(store.decide(&one()).get().await.is_err(), "a replica decides nothing");
        sleep(Duration::from_millis(1)).await;
    }
    let made = connections().await - before;
    assert!(made < 12, "{made} connections in two seconds");
    server.command::<String>(&["REPLICAOF", "NO", "ONE"]).await.expect("a master again");
    assert!(recovers(&store, &one()).await.admitted);
}

#[tokio::test]
async fn check_that_is_given_up_before_it_was_sent_is_never_charged() {
    let (store, _server) = started().await;
    let look = Check { charge: false, ..one() };
    let check = one();
    drop(store.decide(&check).get());
    assert_eq!(store.decide(&look).get().await.expect("decided").outcomes[0].remaining, 1_000);
    drop(store.decide(&check).get());
    assert_eq!(recovers(&store, &look).await.outcomes[0].remaining, 1_000);
}

/// A relay before `server`: connections whose number, from 0, is below the shared one fall silent, as over
/// a network that has forgotten them.
async fn relay(server: &RedisServer) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("redis://{}", listener.local_addr().expect("bound"));
    let redis = server.url().trim_start_matches("redis://").to_owned();
    let silent = Arc::new(AtomicUsize::new(0));
    let shared = Arc::clone(&silent);
    tokio::spawn(async move {
        for number in 0.. {
            let (client, _) = listener.accept().await.expect("accepted");
            let server = TcpStream::connect(&redis).await.expect("redis-server");
            let ((client_reads, client_writes), (server_reads, server_writes)) =
                (client.into_split(), server.into_split());
            tokio::spawn(pass_on(client_reads, server_writes, number, Arc::clone(&shared)));
            tokio::spawn(pass_on(server_reads, client_writes, number, Arc::clone(&shared)));
        }
    });
    (url, silent)
}

async fn pass_on(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, number: usize, silent: Arc<AtomicUsize>) {
    let mut bytes = [0; 4_096];
    while let Ok(length @ 1..) = from.read(&mut bytes).await {
        if number < silent.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        if to.write_all(&bytes[..length]).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn silent_connection_is_replaced_though_another_worker_is_well() {
    let (_, server) = started().await;
    let (url, silent) = relay(&server).await;
    // So many failures that the breaker stays out of it: the healthy worker would reset it anyway.
    let breaker = BreakerConfig { failures: 1_000_000, ..config(&url).breaker };
    let config = RedisStoreConfig { breaker, ..impatient(&url) };
    let backend = RedisBackend::new(&config, Random::seeded(1), &Metrics::new()).expect("valid settings");
    let store = backend.open();
    recovers(&store, &one()).await;
    silent.store(1, Ordering::Relaxed);
    let well = backend.open();
    recovers(&well, &one()).await;
    assert!(store.decide(&one()).get().await.is_err(), "its connection is silent");
    recovers(&store, &one()).await;
}
