//! `tidegate lease`: leases from the command line, and commands that run only while one is held.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::Context;
use serde_json::{Value, json};
use tidegate_proto::ratelimit::v1::{ResetRequest, reset_request};
use tidegate_tests::{
    eventually::eventually,
    process::Process,
    redis_server::RedisServer,
    relay::Relay,
    rpc,
    services::{RateLimitSettings, Service},
    test_result::TestResult,
    tools, turn,
};

const POLICIES: &str = r#"
[[plans]]
name = "open"
unlimited = true

[[plans]]
name = "one"
limits = [{ name = "running", algorithm = "concurrency", limit = 1, lease = "30s" }]

[[policies]]
name = "jobs"
namespace = "shop"
key_by = ["organization"]
plan = { attribute = "plan", default = "one" }
"#;

/// How long a command may take that does next to nothing.
const SOON: Duration = Duration::from_secs(20);

async fn service() -> anyhow::Result<Service> {
    let policies = Some(POLICIES.to_owned());
    Service::ratelimit(&RateLimitSettings { policies, ..RateLimitSettings::default() }).await
}

/// `tidegate lease VERB` for one organization, with more arguments.
fn lease(service: &Service, verb: &str, more: &[&str]) -> anyhow::Result<Command> {
    lease_at(service.address(), verb, more)
}

fn lease_at(address: &str, verb: &str, more: &[&str]) -> anyhow::Result<Command> {
    let mut command = Command::new(tools::binary("tidegate")?);
    command.args(["lease", verb, "--addr", address]);
    if verb == "acquire" || verb == "run" {
        command.args(["--namespace", "shop", "-a", "organization=acme"]);
    }
    command.args(more);
    Ok(command)
}

/// Exit code, stdout and stderr of a command that ends by itself.
async fn ended(command: &mut Command) -> anyhow::Result<(i32, String, String)> {
    let mut process = Process::spawn("tidegate lease", command)?;
    let code = process.wait(SOON).await?.code().context("it ended by itself")?;
    Ok((code, process.stdout(), process.stderr()))
}

async fn held(service: &Service) -> anyhow::Result<u64> {
    let mut client = rpc::client(service.address())?;
    let check = rpc::check("shop", &[("organization", "acme")]);
    Ok(rpc::used(&mut client, &check).await?.values().sum())
}

async fn appears(path: &Path) -> anyhow::Result<()> {
    eventually("the command has begun", SOON, async || Ok(path.exists())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_taken_renewed_and_released_by_hand() -> TestResult {
    let _turn = turn::shared().await;
    let service = service().await?;
    let (code, id, told) = ended(&mut lease(&service, "acquire", &["--ttl", "20s"])?).await?;
    assert!(code == 0 && !id.is_empty() && !id.contains(char::is_whitespace), "{code}, {id:?}, {told}");
    assert!(told.contains("expires in 20s"), "{told}");

    let (code, nothing, told) = ended(&mut lease(&service, "acquire", &[])?).await?;
    assert_eq!((code, &*nothing), (1, ""), "{told}");
    assert!(told.contains("concurrency_exceeded") && told.contains("one/running"), "{told}");
    let (code, answer, _) = ended(&mut lease(&service, "acquire", &["--json"])?).await?;
    let answer: Value = serde_json::from_str(&answer)?;
    assert_eq!((code, &answer["allowed"], answer.get("lease")), (1, &json!(false), None));

    let (code, renewed, _) = ended(&mut lease(&service, "renew", &[&id, "--json"])?).await?;
    let renewed: Value = serde_json::from_str(&renewed)?;
    assert_eq!((code, &renewed["id"], &renewed["expires_after_ms"]), (0, &json!(id), &json!(20_000)));
    for told in ["released", "it had ended before"] {
        assert_eq!(ended(&mut lease(&service, "release", &[&id])?).await?, (0, told.into(), "".into()));
    }
    let (code, _, told) = ended(&mut lease(&service, "renew", &[&id])?).await?;
    assert!(code == 1 && told.contains("LEASE_NOT_FOUND"), "{code}: {told}");

    let unlimited = ended(&mut lease(&service, "acquire", &["-a", "plan=open"])?).await?;
    assert_eq!((unlimited.0, &*unlimited.1), (0, ""), "{}", unlimited.2);
    let (code, _, told) = ended(&mut lease(&service, "acquire", &["--ttl", "2d", "--cost", "0"])?).await?;
    assert!(code == 2 && told.contains("cost") && told.contains("ttl_ms"), "{code}: {told}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_runs_while_its_lease_is_held_and_its_exit_code_is_told() -> TestResult {
    let _turn = turn::shared().await;
    let service = service().await?;
    let renewing = ["--ttl", "2s", "--", "sh", "-c", "sleep 4; echo \"$TIDEGATE_LEASE_ID\"; exit 7"];
    let mut running = Process::spawn("tidegate lease run", &mut lease(&service, "run", &renewing)?)?;
    eventually("it holds its lease", SOON, async || Ok(held(&service).await? == 1)).await?;
    // Longer than the lease lasts: it is renewed.
    let refused = &["--", "echo", "started"];
    let mut denied = 0;
    while running.ended()?.is_none() {
        let (code, started, told) = ended(&mut lease(&service, "run", refused)?).await?;
        if running.ended()?.is_none() && held(&service).await? == 1 {
            assert_eq!((code, &*started), (75, ""), "{told}");
            assert!(told.contains("denied (concurrency_exceeded)"), "{told}");
            denied += 1;
        }
    }
    assert!(denied > 0, "nothing was tried while it ran");
    assert_eq!(running.wait(SOON).await?.code(), Some(7), "{}", running.tail());
    assert!(running.stdout().len() > 20, "the id of its lease: {}", running.tail());
    assert_eq!(held(&service).await?, 0, "it is released");

    for (command, code) in [("/no/such/command", 127), ("/dev/null", 126)] {
        assert_eq!(ended(&mut lease(&service, "run", &["--", command])?).await?.0, code, "{command}");
        assert_eq!(held(&service).await?, 0, "{command}");
    }
    let unlimited = ended(&mut lease(&service, "run", &["-a", "plan=open", "--", "echo", "ran"])?).await?;
    assert_eq!((unlimited.0, &*unlimited.1), (0, "ran"), "{}", unlimited.2);
    let faulty = ended(&mut lease(&service, "run", &["--cost", "0", "--", "echo", "ran"])?).await?;
    assert_eq!((faulty.0, &*faulty.1), (125, ""), "{}", faulty.2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_reaches_the_command_and_its_lease_is_released() -> TestResult {
    let _turn = turn::shared().await;
    let service = service().await?;
    let folder = tempfile::tempdir()?;
    let begun = folder.path().join("begun");
    let script = format!("trap 'exit 9' TERM; touch {}; while :; do sleep 0.05; done", begun.display());
    let mut polite = Process::spawn("run", &mut lease(&service, "run", &["--", "sh", "-c", &script])?)?;
    appears(&begun).await?;
    polite.signal("TERM")?;
    assert_eq!(polite.wait(SOON).await?.code(), Some(9), "its own exit code: {}", polite.tail());
    assert_eq!(held(&service).await?, 0);

    fs::remove_file(&begun)?;
    let script = format!("touch {}; exec sleep 60", begun.display());
    let mut other = Process::spawn("run", &mut lease(&service, "run", &["--", "sh", "-c", &script])?)?;
    appears(&begun).await?;
    other.signal("INT")?;
    assert_eq!(other.wait(SOON).await?.code(), Some(130), "that of the signal: {}", other.tail());
    assert_eq!(held(&service).await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_while_the_lease_is_asked_for_leaves_none_behind() -> TestResult {
    let _turn = turn::shared().await;
    let service = service().await?;
    let (_, port) = service.address().rsplit_once(':').context("an address has a port")?;
    let relay = Relay::before(port.parse()?).await?;
    relay.hold(true);
    let address = format!("127.0.0.1:{}", relay.port());
    let mut asking = Process::spawn("run", &mut lease_at(&address, "run", &["--", "sleep", "60"])?)?;
    eventually("the lease is granted", SOON, async || Ok(held(&service).await? == 1)).await?;
    asking.signal("TERM")?;
    relay.hold(false);
    assert_eq!(asking.wait(SOON).await?.code(), Some(143), "{}", asking.tail());
    assert_eq!(held(&service).await?, 0, "{}", asking.tail());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_whose_answer_was_lost_is_given_back() -> TestResult {
    let _turn = turn::shared().await;
    let redis = RedisServer::start().await?;
    let relay = Relay::before(redis.port()).await?;
    let settings = RateLimitSettings {
        redis_url: Some(format!("redis://127.0.0.1:{}", relay.port())),
        policies: Some(POLICIES.to_owned()),
        ..RateLimitSettings::default()
    };
    let service = Service::ratelimit(&settings).await?;
    assert_eq!(held(&service).await?, 0);
    relay.lose(1);
    let (code, started, told) = ended(&mut lease(&service, "run", &["--", "echo", "started"])?).await?;
    assert_eq!((code, &*started, relay.lost()), (75, "", 1), "{told}");
    eventually("nothing is held", Duration::from_secs(5), async || Ok(held(&service).await? == 0)).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_may_wait_begins_when_the_place_comes_free() -> TestResult {
    let _turn = turn::shared().await;
    let service = service().await?;
    let (_, id, _) = ended(&mut lease(&service, "acquire", &[])?).await?;
    let waiting = ["--wait", "1m", "--", "echo", "ran"];
    let mut waiting = Process::spawn("tidegate lease run", &mut lease(&service, "run", &waiting)?)?;
    let (code, _, told) =
        ended(&mut lease(&service, "run", &["--wait", "100ms", "--", "echo", "ran"])?).await?;
    assert_eq!(code, 75, "{told}");
    assert!(waiting.ended()?.is_none(), "{}", waiting.tail());
    ended(&mut lease(&service, "release", &[&id])?).await?;
    assert_eq!(waiting.wait(SOON).await?.code(), Some(0), "{}", waiting.tail());
    assert_eq!(waiting.stdout(), "ran");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_ended_when_its_lease_is_lost_and_killed_before_the_place_is_anothers() -> TestResult {
    let _turn = turn::shared().await;
    let mut service = service().await?;
    let folder = tempfile::tempdir()?;
    let begun = folder.path().join("begun");
    let polite = format!("touch {}; exec sleep 60", begun.display());
    let cleared = ["--ttl", "3s", "--", "sh", "-c", &polite];
    let mut cleared = Process::spawn("run", &mut lease(&service, "run", &cleared)?)?;
    appears(&begun).await?;
    // Counters in memory, and so leases, are gone with their process.
    service.kill()?;
    service.restart().await?;
    assert_eq!(cleared.wait(SOON).await?.code(), Some(124), "{}", cleared.tail());
    assert!(cleared.stderr().contains("the lease is lost"), "{}", cleared.tail());

    fs::remove_file(&begun)?;
    let stubborn = format!("trap '' TERM; touch {}; while :; do sleep 0.05; done", begun.display());
    let unreachable = ["--ttl", "3s", "--", "sh", "-c", &stubborn];
    let mut unreachable = Process::spawn("run", &mut lease(&service, "run", &unreachable)?)?;
    appears(&begun).await?;
    service.kill()?;
    assert_eq!(unreachable.wait(SOON).await?.code(), Some(124), "{}", unreachable.tail());
    let told = unreachable.stderr();
    assert!(told.contains("could not be renewed") && told.contains("it is killed"), "{told}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_whose_lease_was_cleared_is_killed_long_before_it_would_have_expired() -> TestResult {
    let _turn = turn::shared().await;
    let service = service().await?;
    let folder = tempfile::tempdir()?;
    let begun = folder.path().join("begun");
    let stubborn = format!("trap '' TERM; touch {}; while :; do sleep 0.05; done", begun.display());
    let asked = Instant::now();
    let cleared = ["--ttl", "15s", "--", "sh", "-c", &stubborn];
    let mut cleared = Process::spawn("run", &mut lease(&service, "run", &cleared)?)?;
    appears(&begun).await?;
    let entry = reset_request::AttributesEntry { key: "organization".into(), value: "acme".into() };
    let reset = ResetRequest { namespace: "shop".into(), attributes: vec![entry], ..ResetRequest::default() };
    rpc::client(service.address())?.reset(reset).await?;
    assert_eq!(cleared.wait(SOON).await?.code(), Some(124), "{}", cleared.tail());
    // It finds that after 5 s, and gives the command 5 more.
    assert!(asked.elapsed() < Duration::from_secs(13), "{}", cleared.tail());
    let told = cleared.stderr();
    assert!(told.contains("it was cleared") && told.contains("it is killed"), "{told}");
    Ok(())
}
