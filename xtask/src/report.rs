//! `cargo xtask report`: the long end-to-end scenarios, with their tables on the screen.

use std::{ffi::OsString, path::PathBuf};

use anyhow::ensure;

use crate::{cargo, prerequisites, root, suite};

/// Runs the scenarios at full length, one after the other. True if all hold.
///
/// # Errors
///
/// The workspace does not build, or something that the tests need is missing.
pub(crate) fn run(release: bool, filter: Option<&str>) -> anyhow::Result<bool> {
    prerequisites::install()?;
    let profile: &[&str] = if release { &["--release"] } else { &[] };
    let built = cargo().args(["build", "--workspace", "--bins"]).args(profile).status()?;
    ensure!(built.success(), "the workspace does not build");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let binaries: OsString = target.join(if release { "release" } else { "debug" }).into();
    let total = suite::stream(
        cargo()
            .args(["test", "--package", "tidegate-tests", "--test", "e2e", filter.unwrap_or("report_"), "--"])
            .args(["--nocapture", "--test-threads=1"])
            .env("TIDEGATE_BIN_DIR", binaries)
            .env("TIDEGATE_TEST_SECONDS", "10")
            .env("TIDEGATE_OUTAGE_SECONDS", "20"),
    )?;
    println!("{total}");
    Ok(total.failed == 0)
}
