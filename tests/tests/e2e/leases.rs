//! Leases of four processes on one Redis: never more are held than the limit, as their holders see it; what nobody
//! releases comes back; and what a process gave outlives it.

use std::time::Duration;

use anyhow::Context;
use tidegate_proto::ratelimit::v1::{
    AcquireLeaseRequest, Lease, ReleaseLeaseRequest, RenewLeaseRequest,
    acquire_lease_request::AttributesEntry,
};
use tidegate_tests::{
    redis_server::RedisServer,
    rpc::{self, Client},
    services::{RateLimitSettings, Service},
    test_result::TestResult,
    turn,
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tonic::Code;

use crate::seconds;

const PROCESSES: usize = 4;
const CLIENTS: usize = 64;
const LIMIT: usize = 10;

const POLICIES: &str = r#"
[[policies]]
name = "jobs"
namespace = "jobs"
key_by = ["organization"]
limits = [{ name = "running", algorithm = "concurrency", limit = 10, lease = "1m" }]
"#;

async fn fleet() -> anyhow::Result<(RedisServer, Vec<Service>)> {
    let redis = RedisServer::start().await?;
    let settings = RateLimitSettings {
        redis_url: Some(redis.url()),
        policies: Some(POLICIES.to_owned()),
        toml: "[store.redis]\ndeadline = \"5s\"".to_owned(),
    };
    let mut services = Vec::new();
    for _ in 0..PROCESSES {
        services.push(Service::ratelimit(&settings).await?);
    }
    Ok((redis, services))
}

async fn acquire(client: &mut Client, ttl_ms: Option<u64>) -> anyhow::Result<Option<Lease>> {
    let organization = AttributesEntry { key: "organization".to_owned(), value: "acme".to_owned() };
    let request = AcquireLeaseRequest {
        namespace: "jobs".to_owned(),
        attributes: vec![organization],
        ttl_ms,
        ..AcquireLeaseRequest::default()
    };
    let answer = client.acquire_lease(request).await?.into_inner().result.context("a result")?;
    anyhow::ensure!(!answer.degraded && answer.allowed == answer.lease.is_some(), "{answer:?}");
    Ok(answer.lease)
}

async fn release(client: &mut Client, lease: &Lease) -> anyhow::Result<bool> {
    let request = ReleaseLeaseRequest { lease_id: lease.id.clone() };
    Ok(client.release_lease(request).await?.into_inner().released)
}

async fn renew(client: &mut Client, lease: &Lease) -> Result<u64, tonic::Status> {
    let request = RenewLeaseRequest { lease_id: lease.id.clone(), ttl_ms: None };
    let renewed = client.renew_lease(request).await?.into_inner().lease;
    Ok(renewed.map_or(0, |lease| lease.expires_after_ms))
}

/// Takes, holds and releases until `end`. Answers from when until when each lease was held: from the answer that gave it, until
/// its release was sent.
async fn hold(
    mut client: Client,
    number: usize,
    end: Instant,
) -> anyhow::Result<(Vec<(Instant, Instant)>, usize)> {
    let (mut held, mut denied) = (Vec::new(), 0);
    let mut pause_us = number as u64;
    while Instant::now() < end {
        // Any sequence does, if no two clients have the same (Knuth's multiplicative constants).
        pause_us = pause_us.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let pause = Duration::from_micros(pause_us >> 50);
        let Some(lease) = acquire(&mut client, None).await? else {
            denied += 1;
            sleep(pause).await;
            continue;
        };
        let from = Instant::now();
        sleep(pause).await;
        held.push((from, Instant::now()));
        anyhow::ensure!(release(&mut client, &lease).await?, "it was held until now");
    }
    Ok((held, denied))
}

/// The most that were held at once.
fn peak(held: &[(Instant, Instant)]) -> usize {
    let mut events: Vec<_> = held.iter().flat_map(|(from, to)| [(*from, 1_i64), (*to, -1)]).collect();
    // What ends when another begins was not held with it.
    events.sort_unstable();
    let mut now = 0;
    let most = events.into_iter().map(|(_, change)| {
        now += change;
        now
    });
    usize::try_from(most.max().unwrap_or_default()).unwrap_or_default()
}

#[tokio::test]
async fn never_more_leases_are_held_than_the_limit() -> TestResult {
    let _turn = turn::shared().await;
    let (_redis, services) = fleet().await?;
    let end = Instant::now() + seconds::load();
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let client = rpc::client(services[number % PROCESSES].address())?;
        clients.spawn(hold(client, number, end));
    }
    let (mut held, mut denied) = (Vec::new(), 0);
    while let Some(ended) = clients.join_next().await {
        let (own, own_denied) = ended??;
        held.extend(own);
        denied += own_denied;
    }
    let peak = peak(&held);
    println!(
        "{} leases by {CLIENTS} clients, {denied} denied, at most {peak} held at once of {LIMIT}",
        held.len()
    );
    assert!(peak <= LIMIT, "{peak} were held at once");
    assert!(
        held.len() > 2 * LIMIT && denied > 0,
        "too little was tried to tell: {} and {denied}",
        held.len()
    );
    let mut client = rpc::client(services[0].address())?;
    for place in 0..LIMIT {
        assert!(acquire(&mut client, None).await?.is_some(), "all places came back, the {place}th too");
    }
    assert!(acquire(&mut client, None).await?.is_none());
    Ok(())
}

#[tokio::test]
async fn what_a_holder_does_not_release_comes_back_when_its_lease_has_expired() -> TestResult {
    let _turn = turn::shared().await;
    let (_redis, services) = fleet().await?;
    let ttl = Duration::from_millis(700);
    let sent = Instant::now();
    let mut holder = rpc::client(services[0].address())?;
    let mut leases = Vec::new();
    for _ in 0..LIMIT {
        leases.push(acquire(&mut holder, Some(700)).await?.context("there is room")?);
    }
    // The holder is gone, as by `kill -9`: nobody releases anything.
    drop(holder);
    let mut other = rpc::client(services[1].address())?;
    let mut back = Vec::new();
    while back.len() < LIMIT {
        match acquire(&mut other, None).await? {
            Some(lease) => {
                assert!(sent.elapsed() >= ttl, "a place was given away before its lease had expired");
                back.push(lease);
            }
            None => sleep(Duration::from_millis(20)).await,
        }
        assert!(sent.elapsed() < Duration::from_secs(60), "{} of {LIMIT} came back", back.len());
    }
    for lease in &leases {
        let status = renew(&mut other, lease).await.expect_err("its place is another's");
        let told = rpc::explain(&status)?;
        assert_eq!((told.code, told.reason.as_str()), (Code::NotFound, "LEASE_NOT_FOUND"));
        assert!(!release(&mut other, lease).await?, "and is not given back by it");
    }
    assert!(acquire(&mut other, None).await?.is_none());
    Ok(())
}

#[tokio::test]
async fn a_lease_outlives_the_process_that_gave_it() -> TestResult {
    let _turn = turn::shared().await;
    let (_redis, mut services) = fleet().await?;
    let lease = {
        let mut client = rpc::client(services[0].address())?;
        acquire(&mut client, None).await?.context("there is room")?
    };
    services[0].kill()?;
    let mut others = [rpc::client(services[1].address())?, rpc::client(services[2].address())?];
    assert_eq!(renew(&mut others[0], &lease).await?, 60_000);
    services[0].restart().await?;
    let mut restarted = rpc::client(services[0].address())?;
    assert_eq!(renew(&mut restarted, &lease).await?, 60_000);
    assert!(release(&mut others[1], &lease).await?);
    assert!(!release(&mut restarted, &lease).await?, "a place is given back once");
    let garbled = RenewLeaseRequest { lease_id: format!("{}x", lease.id), ttl_ms: Some(0) };
    let status = restarted.renew_lease(garbled).await.expect_err("not an id");
    let told = rpc::explain(&status)?;
    assert_eq!((told.code, told.reason.as_str()), (Code::InvalidArgument, "INVALID_REQUEST"));
    assert_eq!(told.fields, ["lease_id", "ttl_ms"]);
    Ok(())
}
