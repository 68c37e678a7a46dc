//! Cargo's companions that the gate needs, by exact version.

use std::process::{Command, Stdio};

use anyhow::ensure;

use crate::cargo;

const PINNED: [(&str, &str); 2] = [("cargo-deny", "0.20.2"), ("cargo-machete", "0.9.2")];

/// Installs what is missing or of another version into cargo's own bin folder, where caches of CI keep
/// it. Returns what was installed.
///
/// # Errors
///
/// `cargo install` failed.
pub(crate) fn install() -> anyhow::Result<Vec<String>> {
    let mut installed = Vec::new();
    for (tool, version) in PINNED {
        if present(tool, version) {
            continue;
        }
        println!("installing {tool} {version} (a few minutes, once)");
        let status = cargo()
            .args(["install", "--locked", tool, "--version", version])
            .stdin(Stdio::null())
            // Beside the workspace's own artifacts it would only take space.
            .env_remove("CARGO_TARGET_DIR")
            .status()?;
        ensure!(status.success(), "cannot install {tool} {version}");
        installed.push(format!("{tool} {version}"));
    }
    Ok(installed)
}

fn present(tool: &str, version: &str) -> bool {
    let asked = Command::new(tool).arg("--version").stdin(Stdio::null()).output();
    asked.is_ok_and(|out| String::from_utf8_lossy(&out.stdout).split_whitespace().any(|word| word == version))
}
