//! Four processes on one Redis, 64 clients at once: no interval of any window admits more
//! than its limit. Judged from the clients' own log by a checker that knows nothing of the services.

use std::{fmt, time::Duration};

use anyhow::Context;
use tidegate_proto::ratelimit::v1::CheckRequest;
use tidegate_tests::{
    checker::{Peak, Rule},
    load::{self, Call, Load},
    process::Process,
    redis_server::RedisServer,
    rpc,
    services::{RateLimitSettings, Service},
    test_result::TestResult,
    turn,
};

use crate::seconds;

const PROCESSES: usize = 4;
const CLIENTS: u32 = 64;
const MS: u64 = 1_000;

/// A namespace of the policy file below, and what its limits promise.
struct Case {
    namespace: &'static str,
    rules: &'static [Rule],
}

impl Case {
    fn check(&self) -> CheckRequest {
        rpc::check(self.namespace, &[("organization", "acme")])
    }

    /// All admissions of a fixed window come at its start, just when calls lie across it: unless clients keep
    /// quiet there, an excess as large as their number would go unseen.
    fn quiet_before(&self) -> Option<Duration> {
        let aligned = self.rules.iter().filter_map(|rule| match rule {
            Rule::Aligned { period_us, .. } => Some(Duration::from_micros(*period_us)),
            Rule::Rolling { .. } | Rule::Bucket { .. } => None,
        });
        aligned.min()
    }
}

const CASES: [Case; 5] = [
    Case {
        namespace: "sliding_window",
        rules: &[
            Rule::Rolling { limit: 100, period_us: 1_000 * MS },
            Rule::Rolling { limit: 30, period_us: 200 * MS },
        ],
    },
    Case {
        namespace: "sliding_log",
        rules: &[
            Rule::Rolling { limit: 100, period_us: 1_000 * MS },
            Rule::Rolling { limit: 30, period_us: 200 * MS },
        ],
    },
    Case {
        namespace: "token_bucket",
        rules: &[
            Rule::Bucket { limit: 100, period_us: 1_000 * MS, burst: 40 },
            Rule::Bucket { limit: 30, period_us: 250 * MS, burst: 10 },
        ],
    },
    Case {
        namespace: "fixed_window",
        rules: &[
            Rule::Aligned { limit: 100, period_us: 1_000 * MS },
            Rule::Aligned { limit: 30, period_us: 200 * MS },
        ],
    },
    Case {
        namespace: "mixed",
        rules: &[
            Rule::Rolling { limit: 100, period_us: 1_000 * MS },
            Rule::Rolling { limit: 60, period_us: 500 * MS },
            Rule::Bucket { limit: 110, period_us: 1_000 * MS, burst: 50 },
            Rule::Aligned { limit: 90, period_us: 1_000 * MS },
        ],
    },
];

/// Room for every check: each is admitted, so that a second charge for a retried one shows in the count of charges,
/// which denials would blur.
const ROOMY: Case =
    Case { namespace: "roomy", rules: &[Rule::Rolling { limit: 1_000_000, period_us: 3_600_000 * MS }] };

/// Beside the limits under test each namespace has one that is never reached: it counts charges.
fn policies() -> String {
    let mut text = String::from("[defaults]\nfailure_mode = \"closed\"\n");
    let mut policy = |namespace: &str, name: &str, limits: &[(&str, &str)]| {
        text.push_str(&format!(
            "\n[[policies]]\nname = \"{name}\"\nnamespace = \"{namespace}\"\nkey_by = [\"organization\"]\n"
        ));
        for (limit, body) in limits {
            text.push_str(&format!("[[policies.limits]]\nname = \"{limit}\"\n{body}\n"));
        }
    };
    let charges = ("charges", "algorithm = \"sliding_window\"\nlimit = 1_000_000\nperiod = \"1h\"");
    for algorithm in ["sliding_window", "sliding_log", "fixed_window"] {
        let long = format!("algorithm = \"{algorithm}\"\nlimit = 100\nperiod = \"1s\"");
        let short = format!("algorithm = \"{algorithm}\"\nlimit = 30\nperiod = \"200ms\"");
        policy(algorithm, algorithm, &[("long", &long), ("short", &short), charges]);
    }
    let bucket = |limit: u32, period: &str, burst: u32| {
        format!("algorithm = \"token_bucket\"\nlimit = {limit}\nperiod = \"{period}\"\nburst = {burst}")
    };
    let (long, short) = (bucket(100, "1s", 40), bucket(30, "250ms", 10));
    policy("token_bucket", "token_bucket", &[("long", &long), ("short", &short), charges]);
    let window = "algorithm = \"sliding_window\"\nlimit = 100\nperiod = \"1s\"";
    let log = "algorithm = \"sliding_log\"\nlimit = 60\nperiod = \"500ms\"";
    let fixed = "algorithm = \"fixed_window\"\nlimit = 90\nperiod = \"1s\"";
    policy("mixed", "a", &[("window", window), ("log", log)]);
    policy("mixed", "b", &[("bucket", &bucket(110, "1s", 50))]);
    policy("mixed", "c", &[("fixed", fixed), charges]);
    policy("roomy", "roomy", &[charges]);
    text
}

struct Fleet {
    redis: RedisServer,
    services: Vec<Service>,
}

impl Fleet {
    async fn start() -> anyhow::Result<Self> {
        let redis = RedisServer::start().await?;
        let settings = RateLimitSettings {
            redis_url: Some(redis.url()),
            policies: Some(policies()),
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

#[derive(Debug)]
struct Verdict {
    namespace: &'static str,
    checks: usize,
    retried: usize,
    admitted: u64,
    unknown: u64,
    most: u64,
    peaks: Vec<Peak>,
}

impl Verdict {
    fn of(case: &Case, calls: &[Call]) -> anyhow::Result<Self> {
        let log = load::admissions(calls);
        let from = calls.iter().map(|call| call.sent_us).min().context("there were calls")?;
        let to = calls.iter().map(|call| call.received_us).max().context("there were calls")?;
        let uncertain = |call: &&Call| !call.admitted() && (call.unknown() || call.attempts > 1);
        Ok(Self {
            namespace: case.namespace,
            checks: calls.len(),
            retried: calls.iter().filter(|call| call.attempts > 1).count(),
            admitted: log.len() as u64,
            unknown: calls.iter().filter(uncertain).count() as u64,
            most: case.rules.iter().map(|rule| rule.most(from, to)).min().unwrap_or_default(),
            peaks: case.rules.iter().filter_map(|rule| rule.worst(&log)).collect(),
        })
    }
}

const HEADER: &str = "namespace        checks  retried unknown admitted    most  under  busiest intervals (admitted/allowed)   charged";

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peaks: Vec<_> = self.peaks.iter().map(|p| format!("{}/{}", p.admitted, p.allowed)).collect();
        #[expect(clippy::cast_precision_loss, reason = "a percentage for people")]
        let under = 100.0 - 100.0 * self.admitted as f64 / self.most as f64;
        write!(
            f,
            "{:<15} {:>7} {:>8} {:>7} {:>8} {:>7} {under:>5.1}%  {:<38}",
            self.namespace,
            self.checks,
            self.retried,
            self.unknown,
            self.admitted,
            self.most,
            peaks.join(" ")
        )
    }
}

fn title(what: &str) {
    println!(
        "\nNever over-admits, {what}: {PROCESSES} processes, one Redis, {CLIENTS} clients, {:?} each",
        seconds::load()
    );
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
        let load = Load { attempts: 4, timeout: Duration::from_millis(60), ..fleet.load(case) };
        let running = tokio::spawn(async move { load::run(&load).await });
        let victims = [fleet.services[0].process(), fleet.redis.process()];
        for turn in 0.. {
            if running.is_finished() {
                break;
            }
            freeze(victims[turn % 2], Duration::from_millis(100)).await?;
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        let calls = running.await??;
        let retried = calls.iter().filter(|call| call.attempts > 1 && call.admitted()).count();
        assert!(
            retried > 0 || case.namespace != ROOMY.namespace,
            "nothing was retried, so nothing was tested"
        );
        fleet.judge(case, &calls).await?;
    }
    Ok(())
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
