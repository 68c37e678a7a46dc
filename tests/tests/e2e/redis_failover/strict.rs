//! A policy that is strict about losses, after a failover: it denies for as long as its window looks back on what may be lost, and then it
//! admits again.

use std::time::Duration;

use anyhow::Context;
use tidegate_proto::ratelimit::v1::Code;
use tidegate_tests::{
    checker::Rule,
    eventually::eventually,
    load::{self, Call, Load, Outcome},
    redis_sentinel::RedisSentinel,
    rpc,
    services::{RateLimitSettings, Service},
    test_result::TestResult,
    turn, wall,
};
use tokio::time::sleep;

use super::{TAKES, nothing_is_lost_yet};
use crate::seconds;

const LIMIT: u64 = 40;

/// Within which an old master may still have counted, as docs/reference/redis.md says.
const PARTITION: Duration = Duration::from_secs(10);

/// A busy machine needs some of it.
const SLACK: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn report_strict_policy_admits_again_after_its_hold() -> TestResult {
    let _turn = turn::alone().await;
    let window = seconds::outage().saturating_sub(Duration::from_secs(3)).max(Duration::from_secs(1));
    let hold = window + PARTITION;
    let mut redis = RedisSentinel::start().await?;
    nothing_is_lost_yet(&redis.servers[..1]).await?;
    let service = Service::ratelimit(&RateLimitSettings {
        redis_url: Some(redis.url()),
        policies: Some(format!(
            "[[policies]]\nname = \"strict\"\nnamespace = \"strict\"\nkey_by = [\"organization\"]\n\
             failure_mode = \"closed\"\non_data_loss = \"strict\"\n\
             [[policies.limits]]\nname = \"window\"\nlimit = {LIMIT}\nperiod = \"{}ms\"\n",
            window.as_millis()
        )),
        toml: "[store.redis]\ndeadline = \"100ms\"".to_owned(),
    })
    .await?;
    let check = rpc::check("strict", &[("organization", "acme")]);
    let mut client = rpc::client(service.address())?;
    eventually("the policy trusts Redis", Duration::from_secs(30), async || {
        Ok(!client.check(check.clone()).await?.into_inner().degraded)
    })
    .await?;
    let load = Load {
        duration: window + TAKES + hold + SLACK,
        pause: Duration::from_millis(20),
        timeout: Duration::from_secs(5),
        ..Load::new(vec![service.address().to_owned()], check)
    };
    let running = tokio::spawn(async move { load::run(&load).await });
    sleep(window).await;
    redis.servers[0].kill()?;
    let gone_us = wall::now_us();
    eventually("a replica is promoted", TAKES + SLACK, async || {
        // While they vote they do not agree.
        Ok(redis.master().await.is_ok_and(|master| master != 0))
    })
    .await?;
    let promoted_us = wall::now_us();
    let calls = running.await??;

    let sent_after: Vec<&Call> = calls.iter().filter(|call| call.sent_us > gone_us).collect();
    let by_redis = |call: &&&Call| matches!(call.outcome, Outcome::Decided { degraded: false, .. });
    let again_us = sent_after.iter().filter(by_redis).map(|call| call.received_us).min();
    let again_us = again_us.with_context(|| format!("never again\n{}", service.process().tail()))?;
    let again = Duration::from_micros(again_us - gone_us);
    let promoted = Duration::from_micros(promoted_us - gone_us);
    let (held, after): (Vec<&Call>, Vec<&Call>) =
        sent_after.iter().partition(|call| call.received_us < again_us);
    let is_denial = |call: &&Call| {
        matches!(call.outcome, Outcome::Decided { allowed: false, code: Code::StoreUnavailable, .. })
    };
    let admitted = after.iter().filter(|call| call.admitted()).count();
    let rule = Rule::Rolling { limit: LIMIT, period_us: wall::micros(window) };
    let worst = rule.worst(&load::admissions(&calls)).context("something was admitted")?;
    println!("\nStrict policy, Sentinel, the master is killed under load; limit {LIMIT} in {window:?}");
    println!("promoted after   held for  at least  denied meanwhile  admitted since  admitted/allowed");
    println!(
        "{:>12.1} s  {:>7.1} s  {:>6.1} s  {:>16}  {admitted:>14}  {:>8}/{}",
        promoted.as_secs_f64(),
        again.as_secs_f64(),
        hold.as_secs_f64(),
        held.len(),
        worst.admitted,
        worst.allowed
    );
    let odd = held.iter().find(|call| !is_denial(call));
    assert!(odd.is_none(), "while it held not only denials that say why: {odd:?}");
    assert!(hold <= again && again < promoted + hold + SLACK, "held for {again:?} instead of {hold:?}");
    assert!(admitted > 0, "nothing was admitted again");
    assert!(!worst.exceeded(), "over-admitted: {worst:?}");
    service.assert_no_panic().await?;
    Ok(())
}
