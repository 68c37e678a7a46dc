//! The master dies, or falls silent, under load: nobody waits beyond the deadline, a replica takes over, and policies that are
//! strict about losses admit none too many.

mod strict;

use std::time::Duration;

use anyhow::Context;
use tidegate_tests::{
    checker::Rule,
    eventually::eventually,
    load::{self, Call, Load, Outcome},
    redis_cluster::{MASTERS, RedisCluster},
    redis_sentinel::RedisSentinel,
    redis_server::RedisServer,
    rpc,
    services::{RateLimitSettings, Service},
    test_result::TestResult,
    turn, wall,
};
use tokio::time::sleep;

use crate::seconds;

const LIMIT: u64 = 60;
const PERIOD: Duration = Duration::from_secs(3);

/// What load there is before the master goes, at least a whole window.
const BEFORE: Duration = Duration::from_secs(4);
/// How long a failover may take.
const TAKES: Duration = Duration::from_secs(5);
/// How long from the failover on a strict policy distrusts Redis: a window, the ten seconds of a partition, and a bit.
const DISTRUST: Duration = Duration::from_secs(15);

/// Name, failure mode, what is done after a loss.
const POLICIES: [(&str, &str, &str); 3] =
    [("accept", "closed", "accept"), ("local", "local", "accept"), ("strict", "closed", "strict")];

fn policies() -> String {
    let policy = |(name, mode, loss): (&str, &str, &str)| {
        format!(
            "[[policies]]\nname = \"{name}\"\nnamespace = \"{name}\"\nkey_by = [\"organization\"]\n\
             failure_mode = \"{mode}\"\non_data_loss = \"{loss}\"\n\
             [[policies.limits]]\nname = \"window\"\nlimit = {LIMIT}\nperiod = \"3s\"\n"
        )
    };
    POLICIES.map(policy).join("\n")
}

/// How the master goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// `kill -9`.
    Killed,
    /// SIGSTOP, as if the network had been cut, and SIGCONT when another has taken over.
    Silent,
}

async fn fails_over(name: &str, url: String, masters: &mut [RedisServer], how: How) -> TestResult {
    nothing_is_lost_yet(masters).await?;
    let service = Service::ratelimit(&RateLimitSettings {
        redis_url: Some(url),
        policies: Some(policies()),
        // Longer than the default, lest a busy machine pass for an outage.
        toml: "[policies]\nreplicas = 2\n[store.redis]\ndeadline = \"100ms\"".to_owned(),
    })
    .await?;
    let check = |policy: &str| rpc::check(policy, &[("organization", "acme")]);
    let mut client = rpc::client(service.address())?;
    let after = TAKES + seconds::outage();
    eventually("strict policies trust Redis", Duration::from_secs(30), async || {
        let mut trusted = true;
        for (policy, ..) in POLICIES {
            trusted &= !client.check(check(policy)).await?.into_inner().degraded;
        }
        Ok(trusted)
    })
    .await?;
    let mut owner = 0;
    for (index, master) in masters.iter().enumerate() {
        if !master.command::<Vec<String>>(&["KEYS", "tg2:*acme*"]).await?.is_empty() {
            owner = index;
        }
    }
    let running = POLICIES.map(|(policy, ..)| {
        let load = Load {
            clients: 6,
            duration: BEFORE + after,
            pause: Duration::from_millis(10),
            timeout: Duration::from_secs(1),
            ..Load::new(vec![service.address().to_owned()], check(policy))
        };
        tokio::spawn(async move { load::run(&load).await })
    });
    sleep(BEFORE).await;
    let gone_us = wall::now_us();
    match how {
        How::Killed => masters[owner].kill()?,
        How::Silent => {
            masters[owner].process().signal("STOP")?;
            sleep(TAKES).await;
            masters[owner].process().signal("CONT")?;
        }
    }

    println!(
        "\nFailover, {name}: the master is {how:?} under load; limit {LIMIT} in {PERIOD:?}, deadline of Redis 100 ms"
    );
    println!("policy        calls admitted failed  longest call  Redis decides again  admitted/allowed");
    for ((policy, ..), running) in POLICIES.into_iter().zip(running) {
        let calls = running.await??;
        let failed = calls.iter().filter(|call| matches!(call.outcome, Outcome::Failed(_))).count();
        let admissions = load::admissions(&calls);
        let worst = Rule::Rolling { limit: LIMIT, period_us: wall::micros(PERIOD) }.worst(&admissions);
        let worst = worst.expect("something was admitted");
        let again = decided_again(&calls, gone_us);
        println!(
            "{policy:<13} {:>5} {:>8} {failed:>6}  {:>9.0} ms  {:>18}  {:>8}/{}",
            calls.len(),
            admissions.len(),
            calls.iter().map(Call::took).max().unwrap_or_default().as_secs_f64() * 1e3,
            again.map_or_else(|| "later".to_owned(), |again| format!("{:.1} s", again.as_secs_f64())),
            worst.admitted,
            worst.allowed,
        );
        assert_eq!(failed, 0, "{policy}: calls without an answer");
        let may_distrust = policy == "strict" && after < TAKES + DISTRUST;
        assert!(
            again.is_some() || may_distrust,
            "{policy}: Redis never decided again\n{}",
            service.process().tail()
        );
        match policy {
            "strict" => assert!(!worst.exceeded(), "{policy}: over-admitted: {worst:?}"),
            // Once by each of who counted: the old master, and the new one that has lost it, or the share of the replica.
            "accept" => assert!(worst.admitted <= 2 * LIMIT, "{policy}: over twice the limit: {worst:?}"),
            _ => assert!(worst.admitted <= 3 * LIMIT, "{policy}: over three times the limit: {worst:?}"),
        }
    }
    service.assert_no_panic().await?;
    Ok(())
}

/// A new Redis cannot be told from one that has forgotten, unless it says so: by a tag of each third of the slots.
async fn nothing_is_lost_yet(masters: &[RedisServer]) -> anyhow::Result<()> {
    for (master, tag) in masters.iter().zip([14, 73, 62]) {
        let info: String = master.command(&["INFO", "replication"]).await?;
        let id = info.lines().find_map(|line| line.strip_prefix("master_replid:")).context("it has an id")?;
        master.command::<String>(&["SET", &format!("tg2:{{{tag}}}complete:{}", id.trim()), "0"]).await?;
    }
    Ok(())
}

/// How long after the master went the last answer by failure mode was given, if there were others after it.
fn decided_again(calls: &[Call], gone_us: u64) -> Option<Duration> {
    let is_degraded = |call: &&Call| matches!(call.outcome, Outcome::Decided { degraded: true, .. });
    let last = calls.iter().filter(is_degraded).map(|call| call.received_us).max()?;
    let later = calls.iter().any(|call| call.sent_us > last);
    later.then(|| Duration::from_micros(last.saturating_sub(gone_us)))
}

#[tokio::test(flavor = "multi_thread")]
async fn report_sentinel_master_killed_under_load() -> TestResult {
    let _turn = turn::alone().await;
    let mut redis = RedisSentinel::start().await?;
    fails_over("Sentinel", redis.url(), &mut redis.servers[..1], How::Killed).await
}

#[tokio::test(flavor = "multi_thread")]
async fn report_sentinel_master_silent_under_load() -> TestResult {
    let _turn = turn::alone().await;
    let mut redis = RedisSentinel::start().await?;
    fails_over("Sentinel", redis.url(), &mut redis.servers[..1], How::Silent).await
}

#[tokio::test(flavor = "multi_thread")]
async fn report_cluster_master_killed_under_load() -> TestResult {
    let _turn = turn::alone().await;
    let mut redis = RedisCluster::start().await?;
    fails_over("Cluster", redis.url(), &mut redis.nodes[..MASTERS], How::Killed).await
}

#[tokio::test(flavor = "multi_thread")]
async fn report_cluster_master_silent_under_load() -> TestResult {
    let _turn = turn::alone().await;
    let mut redis = RedisCluster::start().await?;
    fails_over("Cluster", redis.url(), &mut redis.nodes[..MASTERS], How::Silent).await
}
