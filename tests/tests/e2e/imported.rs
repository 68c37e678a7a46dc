//! Configurations of other rate-limit services, imported by the command and asked over Envoy's protocol: what their
//! documentation says of such a configuration holds.

mod envoy;
mod limitador;

use std::{fs, process::Command};

use anyhow::{Context, ensure};
use tidegate_proto::envoy::{
    extensions::common::ratelimit::v3::{RateLimitDescriptor, rate_limit_descriptor::Entry},
    service::ratelimit::v3::{
        RateLimitRequest,
        rate_limit_response::{Code, DescriptorStatus},
        rate_limit_service_client::RateLimitServiceClient,
    },
};
use tidegate_tests::{
    rpc,
    services::{RateLimitSettings, Service},
    test_result::TestResult,
    tools, turn,
};

/// A configuration and what is answered in turn.
struct Case {
    /// What their documentation says.
    says: &'static str,
    /// Domain or namespace, which each case has for itself.
    domain: &'static str,
    /// The configuration.
    config: &'static str,
    /// What the command tells to have no counterpart, as `path: beginning of the reason`.
    left_out: &'static [&'static str],
    asks: &'static [Ask],
}

/// A request: its descriptors as `key=value,key=value; …`, its hits, and of each descriptor what is answered and how much is left:
/// `-` without a limit, `all` if it is said to be unlimited.
type Ask = (&'static str, u32, &'static str);

#[tokio::test(flavor = "multi_thread")]
async fn configurations_of_the_reference_service_answer_as_it_documents() -> TestResult {
    run("envoy-ratelimit", envoy::CASES, true).await
}

#[tokio::test(flavor = "multi_thread")]
async fn configurations_of_limitador_answer_as_it_documents() -> TestResult {
    run("limitador", limitador::CASES, false).await
}

async fn run(source: &str, cases: &[Case], every_status: bool) -> TestResult {
    let _turn = turn::shared().await;
    let policies = import(source, cases)?;
    let settings = RateLimitSettings { policies: Some(policies), ..RateLimitSettings::default() };
    let service = Service::ratelimit(&settings).await?;
    let mut client = RateLimitServiceClient::new(rpc::channel(service.address())?);
    let mut wrong = Vec::new();
    for case in cases {
        println!("\n{source}: {}", case.says);
        for (descriptors, hits, expected) in case.asks {
            let request = request(case.domain, descriptors, *hits);
            let answer = client.should_rate_limit(request).await?.into_inner();
            let over = answer.statuses.iter().any(|status| status.code() == Code::OverLimit);
            let is_consistent = (answer.overall_code() == Code::OverLimit) == over;
            let shown: Vec<_> = answer.statuses.iter().map(shown).collect();
            // Limitador answers for a request, not for each of its descriptors.
            let shown = if every_status { shown.join("; ") } else { shown[0].clone() };
            let mark = if shown == *expected && is_consistent { " " } else { "≠" };
            println!("  {mark} {descriptors:60} ×{hits}  {shown}");
            if mark != " " {
                wrong.push(format!("{}: {descriptors} ×{hits}: {shown}, not {expected}", case.says));
            }
        }
    }
    service.assert_no_panic().await?;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// Runs the command on one file for each case, and holds what it tells against what the cases say.
fn import(source: &str, cases: &[Case]) -> anyhow::Result<String> {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("policies.toml");
    let mut command = Command::new(tools::binary("tidegate")?);
    command.current_dir(folder.path()).args(["policies", "import", "--from", source, "--out"]).arg(&out);
    for case in cases {
        let name = format!("{}.yaml", case.domain);
        fs::write(folder.path().join(&name), case.config)?;
        command.arg(name);
    }
    let done = command.output()?;
    let told = String::from_utf8(done.stderr)?;
    let left_out: usize = cases.iter().map(|case| case.left_out.len()).sum();
    let code = if left_out == 0 { 0 } else { 3 };
    ensure!(done.status.code() == Some(code), "{}: {told}", done.status);
    let mut lines: Vec<_> = told.lines().collect();
    let last = lines.pop().context("it says how much was imported")?;
    ensure!(last.contains(&format!(" imported, {left_out} ")), "{last}");
    ensure!(lines.len() == left_out, "{told}");
    for case in cases {
        for expected in case.left_out {
            let (path, reason) = expected.split_once(": ").context("path and reason")?;
            let is_told = |line: &&str| {
                line.starts_with(&format!("{}.yaml:", case.domain))
                    && line.contains(&format!(" {path}: {reason}"))
            };
            ensure!(lines.iter().any(is_told), "{}: {expected:?} is not told:\n{told}", case.domain);
        }
    }
    Ok(fs::read_to_string(out)?)
}

fn request(domain: &str, descriptors: &str, hits: u32) -> RateLimitRequest {
    let entry = |text: &str| {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        Entry { key: key.to_owned(), value: value.to_owned() }
    };
    let descriptors = descriptors.split("; ").map(|text| RateLimitDescriptor {
        entries: text.split(',').map(entry).collect(),
        ..RateLimitDescriptor::default()
    });
    RateLimitRequest { domain: domain.to_owned(), descriptors: descriptors.collect(), hits_addend: hits }
}

fn shown(status: &DescriptorStatus) -> String {
    let code = if status.code() == Code::OverLimit { "over" } else { "ok" };
    match (&status.current_limit, status.limit_remaining) {
        (Some(_), left) => format!("{code} {left}"),
        (None, u32::MAX) => format!("{code} all"),
        (None, _) => format!("{code} -"),
    }
}

#[test]
fn strict_import_writes_nothing_unless_all_of_it_has_a_counterpart() -> TestResult {
    let folder = tempfile::tempdir()?;
    let import = |config: &str, more: &[&str]| -> anyhow::Result<(Option<i32>, String, String)> {
        fs::write(folder.path().join("config.yaml"), config)?;
        let mut command = Command::new(tools::binary("tidegate")?);
        command.current_dir(folder.path()).args(["policies", "import", "--from", "limitador", "config.yaml"]);
        let done = command.args(more).output()?;
        Ok((done.status.code(), String::from_utf8(done.stdout)?, String::from_utf8(done.stderr)?))
    };
    let clean = "[{ namespace: shop, max_value: 5, seconds: 60, conditions: [], variables: [] }]";
    let partial =
        "[{ namespace: shop, max_value: 5, seconds: 60, conditions: [], variables: [], colour: red }]";
    let (code, toml, _) = import(clean, &["--strict"])?;
    assert!(code == Some(0) && toml.contains("[[policies]]"), "{code:?} {toml}");
    let (code, toml, told) = import(partial, &[])?;
    assert!(code == Some(3) && toml.contains("[[policies]]"), "{code:?} {toml}");
    assert!(told.starts_with("config.yaml:1: [0].colour: "), "{told}");
    let (code, toml, told) = import(partial, &["--strict"])?;
    assert!(
        code == Some(1) && toml.is_empty() && told.contains("nothing is written"),
        "{code:?} {toml} {told}"
    );
    let (code, toml, told) = import("{", &[])?;
    assert!(code == Some(1) && toml.is_empty() && told.contains("is not YAML"), "{code:?} {toml} {told}");
    Ok(())
}
