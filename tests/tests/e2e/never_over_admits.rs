//! Four processes on one Redis, or one that counts in memory, 64 clients at once: no interval of any window admits more
//! than its limit. Judged from the clients' own log by a checker that knows nothing of the services.

mod cases;
mod in_memory;
mod on_cluster;
mod verdict;

use std::time::Duration;

use anyhow::Context;
use tidegate_tests::{
    checker::Peak,
    load::{self, Call, Load},
    process::Process,
    redis_sentinel::RedisSentinel,
    redis_server::RedisServer,
    rpc,
    services::{RateLimitSettings, Service},
    test_result::TestResult,
    turn,
};

use self::{
    cases::{CASES, Case, ROOMY, SEVERAL_SLOTS, policies},
    verdict::{HEADER, Verdict},
};
use crate::seconds;

const PROCESSES: usize = 4;
const CLIENTS: u32 = 64;

/// Services that count in what `R` holds.
struct Fleet<R> {
    redis: R,
    services: Vec<Service>,
}

impl Fleet<RedisServer> {
    async fn start() -> anyhow::Result<Self> {
        Self::with(policies()).await
    }

    async fn with(policies: String) -> anyhow::Result<Self> {
        let redis = RedisServer::start().await?;
        Self::on(redis.url(), redis, policies).await
    }
}

impl<R> Fleet<R> {
    async fn on(url: String, redis: R, policies: String) -> anyhow::Result<Self> {
        let settings = RateLimitSettings {
            redis_url: Some(url),
            policies: Some(policies),
            // What is admitted is judged here, not how fast: on a loaded machine the default of 10 ms would
            // answer much of the load by failure mode.
            toml: "[store.redis]\ndeadline = \"400ms\"".to_owned(),
        };
        let mut services = Vec::new();
        for _ in 0..PROCESSES {
            services.push(Service::ratelimit(&settings).await?);
        }
        Ok(Self { redis, services })
    }

    fn load(&self, case: &Case) -> Load {
        let addresses = self.services.iter().map(|service| service.address().to_owned()).collect();
        Load {
            clients: CLIENTS,
            duration: seconds::load(),
            // Far more than is admitted, and so little that calls are short: the shorter they are, the more the
            // checker knows for certain.
            pause: Duration::from_millis(20),
            quiet_before: case.quiet_before(),
            ..Load::new(addresses, case.check())
        }
    }

    /// Judges one run and prints its line.
    async fn judge(&self, case: &Case, calls: &[Call]) -> anyhow::Result<Verdict> {
        let verdict = Verdict::of(case, calls)?;
        let mut client = rpc::client(self.services[0].address())?;
        let used = rpc::used(&mut client, &case.check()).await?;
        let charged =
            used.iter().find(|(name, _)| name.ends_with("/charges")).context("charges are counted")?.1;
        println!("{verdict}{charged:>9}");

        assert!(
            verdict.peaks.iter().all(|peak| !peak.exceeded()),
            "{}: over-admitted: {verdict:?}",
            case.namespace
        );
        assert!(verdict.admitted > 0, "{}: nothing was admitted: {verdict:?}", case.namespace);
        assert!(verdict.admitted <= verdict.most, "{}: more than can be: {verdict:?}", case.namespace);
        // A check whose last answer was not an admission may still have been charged by an attempt whose
        // answer was lost; one that was admitted is charged exactly once.
        let range = verdict.admitted..=verdict.admitted + verdict.unknown;
        assert!(range.contains(charged), "{}: {charged} charges outside of {range:?}", case.namespace);
        Ok(verdict)
    }
}

fn title(what: &str) {
    title_of(&format!("{what}: {PROCESSES} processes on one store"), seconds::load());
}

fn title_of(what: &str, each: Duration) {
    println!("\nNever over-admits, {what}, {CLIENTS} clients, {each:?} each");
    println!("{HEADER}");
}

#[tokio::test(flavor = "multi_thread")]
async fn report_never_over_admits_undisturbed() -> TestResult {
    let _turn = turn::alone().await;
    let fleet = Fleet::start().await?;
    title("undisturbed");
    for case in &CASES {
        let calls = load::run(&fleet.load(case)).await?;
        let verdict = fleet.judge(case, &calls).await?;
        // A window that is not whole at either end of a short run costs the most; see the report for long ones.
        assert!(verdict.admitted * 2 > verdict.most, "{}: too little admitted: {verdict:?}", case.namespace);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn report_never_over_admits_on_sentinel() -> TestResult {
    let _turn = turn::alone().await;
    let redis = RedisSentinel::start().await?;
    let fleet = Fleet::on(redis.url(), redis, policies()).await?;
    title("Sentinel, undisturbed");
    for case in CASES.iter().chain([&SEVERAL_SLOTS]) {
        let calls = load::run(&fleet.load(case)).await?;
        fleet.judge(case, &calls).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn report_never_over_admits_with_a_process_killed_and_restarted() -> TestResult {
    let _turn = turn::alone().await;
    let mut fleet = Fleet::start().await?;
    title("one process killed (kill -9) and restarted");
    for case in &CASES {
        let running = tokio::spawn({
            let load = fleet.load(case);
            async move { load::run(&load).await }
        });
        tokio::time::sleep(seconds::load() / 3).await;
        fleet.services[1].kill()?;
        tokio::time::sleep(seconds::load() / 6).await;
        fleet.services[1].restart().await?;
        let calls = running.await??;
        fleet.judge(case, &calls).await?;
    }
    Ok(())
}

/// A replica, then Redis, is frozen for a moment again and again: clients give up waiting and retry at another
/// replica with the same idempotency key, while the first attempt may still be charged.
#[tokio::test(flavor = "multi_thread")]
async fn report_never_over_admits_with_clients_that_retry() -> TestResult {
    let _turn = turn::alone().await;
    let fleet = Fleet::start().await?;
    title("replies lost, retries with idempotency keys");
    for case in CASES.iter().chain([&ROOMY]) {
        let victims = [fleet.services[0].process(), fleet.redis.process()];
        let load = Load { attempts: 4, timeout: Duration::from_millis(60), ..fleet.load(case) };
        let calls = frozen_now_and_then(load, &victims).await?;
        were_retried(case, &calls);
        fleet.judge(case, &calls).await?;
    }
    Ok(())
}

/// Runs the load while one of the processes after the other is frozen, for longer than clients wait.
async fn frozen_now_and_then(load: Load, victims: &[&Process]) -> anyhow::Result<Vec<Call>> {
    let frozen = load.timeout + Duration::from_millis(40);
    let running = tokio::spawn(async move { load::run(&load).await });
    for victim in victims.iter().cycle() {
        if running.is_finished() {
            break;
        }
        freeze(victim, frozen).await?;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    running.await?
}

fn were_retried(case: &Case, calls: &[Call]) {
    let retried = calls.iter().filter(|call| call.attempts > 1 && call.admitted()).count();
    assert!(retried > 0 || case.namespace != ROOMY.namespace, "nothing was retried, so nothing was tested");
}

async fn freeze(process: &Process, time: Duration) -> anyhow::Result<()> {
    process.signal("STOP")?;
    tokio::time::sleep(time).await;
    process.signal("CONT")
}

/// The judge is judged end to end as well: replicas without a common store do over-admit, and it must see it.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_count_apart_are_caught() -> TestResult {
    let _turn = turn::alone().await;
    let settings = RateLimitSettings { policies: Some(policies()), ..RateLimitSettings::default() };
    let apart = [Service::ratelimit(&settings).await?, Service::ratelimit(&settings).await?];
    let case = &CASES[0];
    let addresses = apart.iter().map(|service| service.address().to_owned()).collect();
    let load = Load { clients: 16, ..Load::new(addresses, case.check()) };
    let verdict = Verdict::of(case, &load::run(&load).await?)?;
    assert!(verdict.peaks.iter().any(Peak::exceeded), "two stores went unnoticed: {verdict:?}");
    Ok(())
}

/// A few too many, and a window that ends a little early, are seen under the load of the other tests. What is as
/// short as a call there is not: the table says how many calls lie across the edges.
#[tokio::test(flavor = "multi_thread")]
async fn a_small_excess_is_caught_under_the_same_load() -> TestResult {
    let _turn = turn::alone().await;
    let planted = [
        (0, "limit = 100\nperiod = \"1s\"", "limit = 105\nperiod = \"1s\""),
        (0, "limit = 100\nperiod = \"1s\"", "limit = 100\nperiod = \"900ms\""),
        (1, "limit = 30\nperiod = \"200ms\"", "limit = 32\nperiod = \"200ms\""),
    ];
    title("a small excess planted");
    for (rule, promised, served) in planted {
        let fleet = Fleet::with(policies().replace(promised, served)).await?;
        for case in CASES.iter().filter(|case| case.namespace.starts_with("sliding")) {
            let verdict = Verdict::of(case, &load::run(&fleet.load(case)).await?)?;
            println!("{verdict}");
            assert!(verdict.peaks[rule].exceeded(), "{}: unnoticed: {verdict:?}", case.namespace);
        }
    }
    Ok(())
}
