//! How long Envoy waits for a decision while requests keep coming, and how often longer than its deadline.

use std::{fmt, time::Duration};

use anyhow::{Context, ensure};
use bytes::Bytes;
use http::{Request, header::HOST};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tidegate_tests::{
    envoy::{Envoy, EnvoySettings},
    http_client,
    redis_server::RedisServer,
    services::{RateLimitSettings, Service},
    test_result::TestResult,
    turn,
};
use tokio::{net::TcpStream, time};

use super::header;
use crate::seconds;

/// Requests a second, on all connections together.
const RATE: u32 = 1_000;
const CONNECTIONS: u32 = 16;
/// The deadline that Envoy gives a rate-limit service if nothing else is said.
const DEADLINE: Duration = Duration::from_millis(20);

/// As many keys as there are connections, half of which are soon over their limit.
const POLICIES: &str = r#"
builtin = false

[[policies]]
name = "users"
namespace = "edge"
descriptor = [{ key = "user" }]
limits = [{ name = "day", limit = 1_000_000_000, period = "1d" }]

[[policies]]
name = "guests"
namespace = "edge"
descriptor = [{ key = "user", value = "guest-*" }]
limits = [{ name = "day", limit = 10, period = "1d" }]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn report_envoys_deadline_with_counters_in_memory() -> TestResult {
    let _turn = turn::alone().await;
    report("memory", None).await
}

#[tokio::test(flavor = "multi_thread")]
async fn report_envoys_deadline_with_counters_in_redis() -> TestResult {
    let _turn = turn::alone().await;
    let redis = RedisServer::start().await?;
    report("Redis", Some(redis.url())).await
}

async fn report(store: &str, redis_url: Option<String>) -> TestResult {
    let policies = Some(POLICIES.to_owned());
    let service =
        Service::ratelimit(&RateLimitSettings { policies, redis_url, ..RateLimitSettings::default() })
            .await?;
    let settings = EnvoySettings { timeout: DEADLINE, failure_mode_deny: false };
    let rate_limits = json!([{ "actions": [header("x-user", "user")] }]);
    let envoy = Envoy::start_with(&service, &rate_limits, &settings).await?;
    let sent = load(&envoy, seconds::load()).await?;
    let seen = Seen::by(&envoy, sent).await?;
    println!("{HEADER}\n{store:<8}{seen}");
    // Every request was put to the service, and either decided or counted as an error.
    assert!(seen.ok + seen.over_limit + seen.error == sent, "{sent} requests are not all accounted for");
    assert!(seen.ok > 0 && seen.over_limit > 0, "both kinds of answers came");
    assert!(seen.error == seen.let_through, "what was not decided was let through");
    // A debug build on a busy machine promises nothing.
    if std::env::var_os("TIDEGATE_BIN_DIR").is_some() {
        assert!(seen.p999_ms < 20.0, "p99.9 is {} ms", seen.p999_ms);
    }
    service.assert_no_panic().await?;
    Ok(())
}

/// Sends requests at [`RATE`] for that long; how many. One that is late is sent at once, so that none is left out.
async fn load(envoy: &Envoy, length: Duration) -> anyhow::Result<u64> {
    let pause = Duration::from_secs(1) * CONNECTIONS / RATE;
    let each = u64::try_from(length.as_nanos() / pause.as_nanos())?;
    let clients = (0..CONNECTIONS).map(|client| {
        let address = envoy.address().to_owned();
        tokio::spawn(async move {
            let stream = TcpStream::connect(&address).await?;
            stream.set_nodelay(true)?;
            let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
            let driver = tokio::spawn(connection);
            let user = if client % 2 == 0 { format!("user-{client}") } else { format!("guest-{client}") };
            time::sleep(pause * client / CONNECTIONS).await;
            let mut ticks = time::interval(pause);
            for _ in 0..each {
                ticks.tick().await;
                let request = Request::get("/").header(HOST, &address).header("x-user", &user);
                let answer = sender.send_request(request.body(Empty::<Bytes>::new())?).await?;
                let status = answer.status().as_u16();
                ensure!([200, 429].contains(&status), "{user} is answered {status}");
                answer.into_body().collect().await?;
            }
            driver.abort();
            Ok(each)
        })
    });
    let mut sent = 0;
    for client in clients.collect::<Vec<_>>() {
        sent += client.await??;
    }
    Ok(sent)
}

/// What Envoy counted.
struct Seen {
    sent: u64,
    ok: u64,
    over_limit: u64,
    error: u64,
    let_through: u64,
    timeouts: u64,
    p50_ms: f64,
    p99_ms: f64,
    p999_ms: f64,
}

const HEADER: &str = "counters     requests         ok  over limit   error  let through  timeouts  p50 ms  p99 ms  p99.9 ms   (Envoy waits 20 ms)";

impl Seen {
    async fn by(envoy: &Envoy, sent: u64) -> anyhow::Result<Self> {
        // Histograms are put together every five seconds.
        time::sleep(Duration::from_secs(6)).await;
        let page = http_client::get(envoy.admin(), "/stats?format=json").await?.json();
        let stats = page["stats"].as_array().context("no stats")?;
        // What was never counted is not there.
        let count = |name: &str| {
            let named = |stat: &&Value| stat["name"] == name;
            stats.iter().find(named).and_then(|stat| stat["value"].as_u64()).unwrap_or_default()
        };
        let histograms = stats.iter().find_map(|stat| stat.get("histograms")).context("no histograms")?;
        let quantiles = histograms["supported_quantiles"].as_array().context("no quantiles")?;
        let waits = histograms["computed_quantiles"].as_array().context("no histograms")?;
        let waits = waits.iter().find(|histogram| histogram["name"] == "cluster.ratelimit.upstream_rq_time");
        let waits = waits.context("no times of the rate-limit service")?;
        let quantile = |percent: f64| {
            let place = quantiles.iter().position(|quantile| quantile.as_f64() == Some(percent));
            place
                .and_then(|place| waits["values"][place]["cumulative"].as_f64())
                .with_context(|| format!("no {percent} %: {waits}"))
        };
        Ok(Self {
            sent,
            ok: count("cluster.upstream.ratelimit.ok"),
            over_limit: count("cluster.upstream.ratelimit.over_limit"),
            error: count("cluster.upstream.ratelimit.error"),
            let_through: count("cluster.upstream.ratelimit.failure_mode_allowed"),
            timeouts: count("cluster.ratelimit.upstream_rq_timeout"),
            p50_ms: quantile(50.0)?,
            p99_ms: quantile(99.0)?,
            p999_ms: quantile(99.9)?,
        })
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sent, ok, over_limit, error, let_through, timeouts, p50_ms, p99_ms, p999_ms } = self;
        write!(
            f,
            "{sent:>13} {ok:>10} {over_limit:>11} {error:>7} {let_through:>12} {timeouts:>9} {p50_ms:>7.1} {p99_ms:>7.1} {p999_ms:>9.1}"
        )
    }
}
