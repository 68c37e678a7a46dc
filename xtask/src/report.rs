//! `cargo xtask report`: the long end-to-end scenarios, with their tables on the screen.

use anyhow::ensure;

use crate::{cargo, prerequisites, suite, target_dir, total::Total};

/// Runs the scenarios at full length, one after the other.
///
/// # Errors
///
/// The workspace does not build, or something that the tests need is missing.
pub(crate) fn run(release: bool, filter: Option<&str>) -> anyhow::Result<Total> {
    prerequisites::install(&prerequisites::OF_THE_TESTS)?;
    let mut tests = cargo();
    tests
        .args(["test", "--package", "tidegate-tests", "--test", "e2e", filter.unwrap_or("report_"), "--"])
        .args(["--nocapture", "--test-threads=1"])
        .env("TIDEGATE_TEST_SECONDS", "10")
        .env("TIDEGATE_OUTAGE_SECONDS", "20");
    if release {
        let built = cargo().args(["build", "--workspace", "--bins", "--release"]).status()?;
        ensure!(built.success(), "the workspace does not build");
        tests.env("TIDEGATE_BIN_DIR", target_dir().join("release"));
    }
    suite::stream(&mut tests)
}
