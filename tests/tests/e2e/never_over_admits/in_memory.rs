//! One process that counts in memory. If it is killed its counts are gone, as the reference says, so that is not tried here.

use std::time::Duration;

use tidegate_tests::{
    load::{self, Load},
    services::{RateLimitSettings, Service},
    test_result::TestResult,
    turn,
};

use super::{
    Fleet,
    cases::{CASES, ROOMY, SEVERAL_SLOTS, policies},
    frozen_now_and_then, title_of, were_retried,
};
use crate::seconds;

impl Fleet<()> {
    async fn in_memory() -> anyhow::Result<Self> {
        let settings = RateLimitSettings { policies: Some(policies()), ..RateLimitSettings::default() };
        Ok(Self { redis: (), services: vec![Service::ratelimit(&settings).await?] })
    }
}

/// There is no other process to wait for.
fn length() -> Duration {
    seconds::load() * 2 / 3
}

#[tokio::test(flavor = "multi_thread")]
async fn report_never_over_admits_in_memory() -> TestResult {
    let _turn = turn::alone().await;
    let fleet = Fleet::in_memory().await?;
    title_of("undisturbed: one process, counters in memory", length());
    for case in CASES.iter().chain([&SEVERAL_SLOTS]) {
        let load = Load { duration: length(), ..fleet.load(case) };
        let calls = load::run(&load).await?;
        let verdict = fleet.judge(case, &calls).await?;
        assert_eq!(verdict.unknown, 0, "{}: calls without a decision: {verdict:?}", case.namespace);
        assert!(verdict.admitted * 2 > verdict.most, "{}: too little admitted: {verdict:?}", case.namespace);
    }
    fleet.services[0].assert_no_panic().await?;
    Ok(())
}

/// The process is frozen for a moment again and again: clients give up waiting and send the check again with the same
/// idempotency key, while the first attempt lies in its socket and is decided as well.
#[tokio::test(flavor = "multi_thread")]
async fn report_never_over_admits_in_memory_with_clients_that_retry() -> TestResult {
    let _turn = turn::alone().await;
    let fleet = Fleet::in_memory().await?;
    title_of("replies late, retries with idempotency keys: one process, counters in memory", length());
    for case in CASES.iter().chain([&ROOMY]) {
        // One process for all of them: in a debug build it takes longer than four.
        let timeout = Duration::from_millis(250);
        let load = Load { attempts: 4, timeout, duration: length(), ..fleet.load(case) };
        let calls = frozen_now_and_then(load, &[fleet.services[0].process()]).await?;
        were_retried(case, &calls);
        fleet.judge(case, &calls).await?;
    }
    fleet.services[0].assert_no_panic().await?;
    Ok(())
}
