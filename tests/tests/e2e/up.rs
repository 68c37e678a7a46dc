//! `tidegate up`: what a newcomer sees first works as printed.

use std::{fs, process::Command, time::Duration};

use tidegate_tests::{
    eventually::eventually,
    http_client, rpc,
    test_result::TestResult,
    tools, turn,
    up::{READY_FILE, Up},
};
use tonic_health::pb::health_check_response::ServingStatus;

#[tokio::test(flavor = "multi_thread")]
async fn the_ready_file_names_what_serves_and_nothing_else_is_left_behind() -> TestResult {
    let _turn = turn::shared().await;
    let mut up = Up::start().await?;
    let ratelimit = up.address("/grpc/ratelimit").to_owned();
    assert_eq!(rpc::health(&ratelimit, rpc::RATELIMIT).await?, ServingStatus::Serving);
    assert_eq!(rpc::health(up.address("/grpc/keys"), rpc::KEYS).await?, ServingStatus::Serving);
    for path in ["/health/live", "/health/ready"] {
        let answer = http_client::get(up.address("/gateway"), path).await?;
        assert_eq!(answer.status, http::StatusCode::OK, "{path}: {}", answer.text());
    }
    for ops in ["/ops/gateway", "/ops/ratelimit", "/ops/keys"] {
        let page = http_client::get(up.address(ops), "/metrics").await?;
        assert!(page.status.is_success() && page.text().ends_with("# EOF\n"), "{ops}: {}", page.text());
    }

    up.process().signal("TERM")?;
    let status = up.process().wait(Duration::from_secs(20)).await?;
    assert_eq!(status.code(), Some(0), "{}", up.process().tail());
    let left: Vec<_> = fs::read_dir(up.folder())?.flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left, [READY_FILE], "--ephemeral keeps nothing");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_printed_lines_run_as_printed() -> TestResult {
    let _turn = turn::shared().await;
    let mut up = Up::start().await?;
    // The ready file comes first, then the banner.
    let printed = async || Ok(calls(&up.process().stdout()).len() >= 5);
    eventually("three lines of curl and two of tidegate are printed", Duration::from_secs(10), printed)
        .await?;
    let stdout = up.process().stdout();
    // As in one terminal: what is exported first is there for the lines after it.
    let exports: Vec<_> = stdout.lines().map(str::trim).filter(|line| line.starts_with("export ")).collect();
    assert_eq!(exports.len(), 2, "{stdout}");
    let credentials = up.folder().join("credentials.toml");
    let mut reached_the_limit = false;
    for line in calls(&stdout) {
        let script = format!("{}\n{line}", exports.join("\n"));
        let mut bash = Command::new("bash");
        bash.args(["-c", &script]).env("TIDEGATE_CREDENTIALS", &credentials);
        let shown = tools::output(&mut bash)?;
        let status = |code: &str| shown.matches(&format!("HTTP/1.1 {code}")).count();
        if line.contains("enforce=true") {
            assert_eq!((status("200"), status("429")), (10, 2), "`{line}`: {shown}");
            assert_eq!(shown.to_lowercase().matches("retry-after:").count(), 2, "`{line}`: {shown}");
            reached_the_limit = true;
        } else if line.contains("/health/") {
            assert!(shown.contains("\"ready\""), "`{line}`: {shown}");
        } else if line.contains(" login ") {
            assert!(credentials.is_file(), "`{line}`: {shown}");
        } else {
            assert!(shown.contains("allowed") && shown.contains("Demo"), "`{line}`: {shown}");
        }
    }
    assert!(reached_the_limit, "no line reaches the limit:\n{}", up.process().stdout());
    Ok(())
}

/// Lines that call curl or tidegate, with those they are continued on by a backslash.
fn calls(printed: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut lines = printed.lines();
    while let Some(line) = lines.next() {
        let mut whole = line.trim().to_owned();
        let is_tidegate = ["tidegate check ", "tidegate login "].iter().any(|call| whole.contains(call));
        if !whole.starts_with("curl ") && !is_tidegate {
            continue;
        }
        while whole.ends_with('\\') {
            whole.push('\n');
            whole.push_str(lines.next().unwrap_or_default());
        }
        found.push(whole);
    }
    found
}
