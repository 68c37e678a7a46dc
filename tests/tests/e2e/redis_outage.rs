//! Redis dies under load: nobody waits beyond the deadline, each failure mode does what it says, and all is
//! well again without a restart.

use std::time::Duration;

use tidegate_proto::ratelimit::v1::Code;
use tidegate_tests::{
    checker::Rule,
    eventually::eventually,
    http_client::metric,
    load::{self, Call, Load, Outcome},
    redis_server::RedisServer,
    rpc,
    services::{RateLimitSettings, Service},
    test_result::TestResult,
    turn, wall,
};
use tokio::time::{Instant, sleep, sleep_until};

use crate::seconds;

/// The deadline that every call carries.
const DEADLINE: Duration = Duration::from_secs(1);
/// How long the service waits for Redis: longer than the default of 10 ms, lest a machine that has other things to do
/// pass for an outage.
const STORE_DEADLINE: &str = "100ms";
/// What half of the calls must keep to, which shows that nobody waits for a Redis that is gone.
const MEDIAN: Duration = Duration::from_millis(50);
/// How long after Redis is back answers must come from it again.
const RECOVERY: Duration = Duration::from_secs(3);
const MODES: [&str; 3] = ["closed", "open", "local"];
const LIMIT: u64 = 50;

fn policies() -> String {
    let policy = |mode: &str| {
        format!(
            "[[policies]]\nname = \"{mode}\"\nnamespace = \"{mode}\"\nkey_by = [\"organization\"]\n\
             failure_mode = \"{mode}\"\n[[policies.limits]]\nname = \"second\"\nlimit = {LIMIT}\nperiod = \"1s\"\n"
        )
    };
    MODES.map(policy).join("\n")
}

async fn service(redis: &RedisServer) -> anyhow::Result<Service> {
    Service::ratelimit(&RateLimitSettings {
        redis_url: Some(redis.url()),
        policies: Some(policies()),
        // Two replicas share the limits, so `local` grants half of them.
        toml: format!("[policies]\nreplicas = 2\n[store.redis]\ndeadline = \"{STORE_DEADLINE}\""),
    })
    .await
}

fn load(service: &Service, mode: &str, duration: Duration) -> Load {
    let check = rpc::check(mode, &[("organization", "acme")]);
    Load {
        clients: 6,
        duration,
        pause: Duration::from_millis(15),
        timeout: DEADLINE,
        ..Load::new(vec![service.address().to_owned()], check)
    }
}

fn within(calls: &[Call], from_us: u64, to_us: u64) -> Vec<Call> {
    calls.iter().filter(|call| call.sent_us >= from_us && call.received_us < to_us).cloned().collect()
}

fn count(calls: &[Call], what: impl Fn(&Outcome) -> bool) -> usize {
    calls.iter().filter(|call| what(&call.outcome)).count()
}

fn degraded(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Decided { degraded: true, .. })
}

fn failed(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Failed(_))
}

/// The time within which `share` of 1,000 calls were answered.
fn took(calls: &[Call], share: usize) -> Duration {
    let mut took: Vec<_> = calls.iter().map(Call::took).collect();
    took.sort_unstable();
    took.get((took.len() * share / 1000).min(took.len().saturating_sub(1))).copied().unwrap_or_default()
}

fn print(mode: &str, phase: &str, calls: &[Call]) {
    let ms = |share| took(calls, share).as_secs_f64() * 1e3;
    println!(
        "{mode:<8} {phase:<9} {:>6} {:>8} {:>8} {:>6} {:>8.1} {:>8.1} {:>8.1}",
        calls.len(),
        calls.iter().filter(|call| call.admitted()).count(),
        count(calls, degraded),
        count(calls, failed),
        ms(500),
        ms(990),
        ms(1000)
    );
}

/// Ways for Redis to be gone.
#[derive(Clone, Copy, Debug)]
enum Outage {
    /// `kill -9`: connections are refused.
    Killed,
    /// SIGSTOP: connections stand, and nothing ever comes back.
    Stalled,
}

impl Outage {
    fn begin(self, redis: &mut RedisServer) -> anyhow::Result<()> {
        match self {
            Self::Killed => redis.kill(),
            Self::Stalled => redis.process().signal("STOP"),
        }
    }

    async fn end(self, redis: &mut RedisServer) -> anyhow::Result<()> {
        match self {
            Self::Killed => redis.restart().await,
            Self::Stalled => redis.process().signal("CONT"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn report_redis_killed_under_load() -> TestResult {
    outage(Outage::Killed).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn report_redis_stalled_under_load() -> TestResult {
    outage(Outage::Stalled).await?;
    Ok(())
}

async fn outage(outage: Outage) -> anyhow::Result<()> {
    let _turn = turn::alone().await;
    let mut redis = RedisServer::start().await?;
    let service = service(&redis).await?;
    let process = service.process().id();
    let before = Duration::from_secs(1);
    let after = RECOVERY + Duration::from_secs(1);
    let running = MODES.map(|mode| {
        let load = load(&service, mode, before + seconds::outage() + after);
        tokio::spawn(async move { load::run(&load).await })
    });

    sleep(before).await;
    outage.begin(&mut redis)?;
    let gone_us = wall::now_us();
    let gone = Instant::now();
    eventually("the breaker opens", seconds::outage() / 2, || breaker_is(&service, "open")).await?;
    sleep_until(gone + seconds::outage()).await;
    let back_us = wall::now_us();
    outage.end(&mut redis).await?;
    let recovered_us = wall::now_us() + wall::micros(RECOVERY);

    println!(
        "\nRedis {outage:?} for {:?} under load; calls carry a deadline of {DEADLINE:?}",
        seconds::outage()
    );
    println!("mode     phase      calls admitted degraded failed   p50 ms   p99 ms  p100 ms");
    for (mode, running) in MODES.into_iter().zip(running) {
        let calls = running.await??;
        // Calls that were under way when Redis went may go either way.
        let out = within(&calls, gone_us + 100_000, back_us);
        let after = within(&calls, recovered_us, u64::MAX);
        print(mode, "before", &within(&calls, 0, gone_us));
        print(mode, "outage", &out);
        print(mode, "after", &after);

        let failures: Vec<_> = calls.iter().filter(|call| failed(&call.outcome)).collect();
        let (late, first) = (failures.len(), failures.first());
        assert_eq!(late, 0, "{mode}: not answered within the deadline, as {first:?}");
        assert!(!out.is_empty() && count(&out, degraded) == out.len(), "{mode}: every answer says degraded");
        let median = took(&out, 500);
        assert!(median <= MEDIAN, "{mode}: half of the calls took {median:?} or more: they wait for Redis");
        as_the_mode_says(mode, &out);
        let own = after.len() - count(&after, degraded);
        assert!(own * 2 > after.len(), "{mode}: {own} of {} answers come from Redis again", after.len());
    }
    assert_eq!(service.process().id(), process, "no restart");
    assert!(breaker_is(&service, "closed").await?, "the breaker stays open\n{}", service.metrics().await?);
    service.assert_no_panic().await
}

async fn breaker_is(service: &Service, state: &str) -> anyhow::Result<bool> {
    let page = service.metrics().await?;
    Ok(metric(&page, "tidegate_ratelimit_redis_breaker_state", &format!("state=\"{state}\"")) == 1.0)
}

fn as_the_mode_says(mode: &str, out: &[Call]) {
    let admitted = out.iter().filter(|call| call.admitted()).count();
    match mode {
        "closed" => {
            let refused = |o: &Outcome| {
                matches!(o, Outcome::Decided { allowed: false, code: Code::StoreUnavailable, .. })
            };
            assert_eq!(count(out, refused), out.len(), "closed admits nothing and says why");
        }
        "open" => assert_eq!(admitted, out.len(), "open admits everything"),
        _ => {
            let share = Rule::Rolling { limit: LIMIT / 2, period_us: 1_000_000 };
            let worst = share.worst(&load::admissions(out)).expect("local admits its share");
            assert!(!worst.exceeded(), "local admits more than this replica's share: {worst:?}");
            assert!(admitted < out.len(), "local still limits");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn script_flush_under_load_is_not_noticed() -> TestResult {
    let _turn = turn::alone().await;
    let redis = RedisServer::start().await?;
    let service = service(&redis).await?;
    let load = load(&service, "closed", Duration::from_secs(2));
    let running = tokio::spawn(async move { load::run(&load).await });
    for _ in 0..8 {
        sleep(Duration::from_millis(200)).await;
        redis.command::<String>(&["SCRIPT", "FLUSH", "SYNC"]).await?;
    }
    let calls = running.await??;
    assert_eq!(count(&calls, failed), 0);
    let lost = count(&calls, degraded);
    assert!(lost * 20 <= calls.len(), "{lost} of {} answers are degraded", calls.len());
    let worst = Rule::Rolling { limit: LIMIT, period_us: 1_000_000 }.worst(&load::admissions(&calls));
    assert!(worst.is_some_and(|worst| !worst.exceeded()), "{worst:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quick_restart_of_redis_is_survived() -> TestResult {
    let _turn = turn::alone().await;
    let mut redis = RedisServer::start().await?;
    let service = service(&redis).await?;
    let mut client = rpc::client(service.address())?;
    let check = rpc::check("closed", &[("organization", "restart")]);
    assert!(client.check(check.clone()).await?.into_inner().allowed);
    redis.restart().await?;
    eventually("checks are decided by Redis again", RECOVERY, async || {
        let answer = client.check(check.clone()).await?.into_inner();
        Ok(answer.allowed && !answer.degraded)
    })
    .await?;
    Ok(())
}
