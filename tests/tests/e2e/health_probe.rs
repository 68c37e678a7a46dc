//! What the machinery around a service sees: the real `grpc-health-probe` and `grpcurl`.

use std::{
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use anyhow::Context;
use tidegate_proto::ratelimit::v1::{CheckStreamRequest, check_stream_response::Outcome};
use tidegate_tests::{
    certificates::Authority,
    eventually::eventually,
    http_client::{self, metric},
    redis_server::RedisServer,
    rpc,
    services::{RateLimitSettings, Service},
    test_result::TestResult,
    tools, turn,
    up::Up,
};
use tokio::{net::TcpStream, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;

/// Long enough to look, on a busy machine, at a service that is leaving.
const LAME_DUCK: Duration = Duration::from_secs(12);

async fn service() -> anyhow::Result<Service> {
    let toml = format!("[server]\nlame_duck = \"{}s\"", LAME_DUCK.as_secs());
    Service::ratelimit(&RateLimitSettings { toml, ..RateLimitSettings::default() }).await
}

fn probe(bin: &Path, address: &str, service: &str, more: &[&str]) -> anyhow::Result<Output> {
    let mut probe = Command::new(bin.join("grpc-health-probe"));
    probe.arg(format!("-addr={address}")).arg(format!("-service={service}"));
    probe.args(["-connect-timeout=5s", "-rpc-timeout=5s"]).args(more);
    Ok(probe.output()?)
}

fn text(output: &Output) -> String {
    [output.stdout.as_slice(), &output.stderr].iter().map(|part| String::from_utf8_lossy(part)).collect()
}

/// SERVING for the server as a whole and for each service; an error for what is not there.
fn assert_serving(bin: &Path, address: &str, more: &[&str]) -> anyhow::Result<()> {
    for name in ["", rpc::RATELIMIT] {
        let seen = probe(bin, address, name, more)?;
        assert!(seen.status.success(), "{name}: {}", text(&seen));
        assert!(text(&seen).contains("status: SERVING"), "{name}: {}", text(&seen));
    }
    let unknown = probe(bin, address, "no.such.Service", more)?;
    assert!(!unknown.status.success(), "{}", text(&unknown));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_probe_says_serving_on_the_port_of_a_process_of_its_own() -> TestResult {
    let _turn = turn::shared().await;
    let ratelimit = service().await?;
    assert_serving(&tools::go()?, ratelimit.address(), &[])?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_probe_says_serving_on_the_port_of_up() -> TestResult {
    let _turn = turn::shared().await;
    let up = Up::start().await?;
    assert_serving(&tools::go()?, up.address("/grpc/ratelimit"), &[])?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_probe_says_serving_over_mutual_tls() -> TestResult {
    let _turn = turn::shared().await;
    let authority = Authority::new()?;
    let (server, client) = (authority.sign("server")?, authority.sign("probe")?);
    let toml = authority.server_settings(&server);
    let ratelimit = Service::ratelimit(&RateLimitSettings { toml, ..RateLimitSettings::default() }).await?;
    let more = [
        "-tls".to_owned(),
        format!("-tls-ca-cert={}", authority.file().display()),
        format!("-tls-client-cert={}", client.certificate_file.display()),
        format!("-tls-client-key={}", client.key_file.display()),
        "-tls-server-name=localhost".to_owned(),
    ];
    assert_serving(&tools::go()?, ratelimit.address(), &more.each_ref().map(String::as_str))?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_says_not_serving_finishes_what_is_in_flight_and_exits_0() -> TestResult {
    let _turn = turn::shared().await;
    let bin = tools::go()?;
    let mut ratelimit = service().await?;
    let mut client = rpc::client(ratelimit.address())?;
    let (checks, stream) = mpsc::channel(4);
    let mut answers = client.check_stream(ReceiverStream::new(stream)).await?.into_inner();
    let check = |id| CheckStreamRequest { id, check: Some(rpc::organization("stream")) };
    checks.send(check(1)).await?;
    answers.message().await?.context("the stream answers")?;

    ratelimit.terminate()?;
    eventually("the probe says NOT_SERVING", LAME_DUCK / 3, async || {
        let seen = probe(&bin, ratelimit.address(), rpc::RATELIMIT, &[])?;
        Ok(!seen.status.success() && text(&seen).contains("\"NOT_SERVING\""))
    })
    .await?;
    let ready = http_client::get(ratelimit.ops(), "/ready").await?;
    assert_eq!(ready.status, http::StatusCode::SERVICE_UNAVAILABLE);
    let live = http_client::get(ratelimit.ops(), "/live").await?;
    assert_eq!(live.status, http::StatusCode::OK, "a leaving process is not a dead one");

    // Still in flight: the open stream, and unary calls by clients that have not turned away yet.
    assert!(client.check(rpc::organization("unary")).await?.into_inner().allowed);
    checks.send(check(2)).await?;
    let answer = answers.message().await?.context("the stream still answers")?;
    assert_eq!(answer.id, 2);
    assert!(matches!(answer.outcome, Some(Outcome::Result(result)) if result.allowed));
    drop(checks);
    assert!(answers.message().await?.is_none(), "the stream ends in order");

    let status = ratelimit.ended(LAME_DUCK + Duration::from_secs(15)).await?;
    assert_eq!(status.code(), Some(0), "{}", ratelimit.process().tail());
    Ok(())
}

/// Redis holds the answer back until the service has stopped accepting: the call is answered all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_redis_keeps_waiting_is_answered_before_the_process_ends() -> TestResult {
    let _turn = turn::shared().await;
    let redis = RedisServer::start().await?;
    let toml = "[store.redis]\ndeadline = \"10s\"".to_owned();
    let settings = RateLimitSettings { redis_url: Some(redis.url()), toml, ..RateLimitSettings::default() };
    let mut ratelimit = Service::ratelimit(&settings).await?;
    let mut client = rpc::client(ratelimit.address())?;
    client.check(rpc::organization("warm")).await?;

    redis.process().signal("STOP")?;
    let call = tokio::spawn(async move { client.check(rpc::organization("waiting")).await });
    let in_flight = async || Ok(metric(&ratelimit.metrics().await?, "rpc_server_calls_in_flight", "") >= 1.0);
    eventually("the call is in flight", Duration::from_secs(5), in_flight).await?;
    ratelimit.terminate()?;
    let closed = async || Ok(TcpStream::connect(ratelimit.address()).await.is_err());
    eventually("nothing new is accepted", Duration::from_secs(5), closed).await?;
    assert!(!call.is_finished(), "answered without Redis");

    redis.process().signal("CONT")?;
    let answer = call.await??.into_inner();
    assert!(answer.allowed && !answer.degraded, "{answer:?}");
    let status = ratelimit.ended(Duration::from_secs(15)).await?;
    assert_eq!(status.code(), Some(0), "{}", ratelimit.process().tail());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_never_finishes_does_not_keep_the_process() -> TestResult {
    let _turn = turn::shared().await;
    let toml = "[server]\nlame_duck = \"100ms\"\ndrain_timeout = \"1s\"".to_owned();
    let mut ratelimit =
        Service::ratelimit(&RateLimitSettings { toml, ..RateLimitSettings::default() }).await?;
    let mut client = rpc::client(ratelimit.address())?;
    let (checks, stream) = mpsc::channel(4);
    let mut answers = client.check_stream(ReceiverStream::new(stream)).await?.into_inner();
    checks.send(CheckStreamRequest { id: 1, check: Some(rpc::organization("silent")) }).await?;
    answers.message().await?.context("the stream answers")?;

    ratelimit.terminate()?;
    let status = ratelimit.ended(Duration::from_secs(10)).await?;
    assert_eq!(status.code(), Some(0), "{}", ratelimit.process().tail());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn grpcurl_lists_and_describes_by_reflection() -> TestResult {
    let _turn = turn::shared().await;
    let grpcurl = tools::go()?.join("grpcurl");
    let ratelimit = service().await?;
    let ask = |args: &[&str]| {
        tools::output(Command::new(&grpcurl).arg("-plaintext").arg(ratelimit.address()).args(args))
    };
    let listed = ask(&["list"])?;
    for name in [rpc::RATELIMIT, "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"] {
        assert!(listed.lines().any(|line| line == name), "{name} is not in\n{listed}");
    }
    let described = ask(&["describe", rpc::RATELIMIT])?;
    for method in ["Check", "CheckBatch", "CheckStream", "Peek", "Reset", "GetUsage"] {
        assert!(described.contains(&format!("rpc {method} (")), "{method} is not in\n{described}");
    }
    let call = tools::output(
        Command::new(&grpcurl)
            .args(["-plaintext", "-d", "{\"attributes\": {\"organization\": \"grpcurl\"}}"])
            .arg(ratelimit.address())
            .arg(format!("{}/Check", rpc::RATELIMIT)),
    )?;
    assert!(call.contains("\"allowed\": true"), "{call}");
    Ok(())
}
