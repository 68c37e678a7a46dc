//! Cargo's companions that the gate needs, by exact version.

use std::process::Stdio;

use anyhow::ensure;

use crate::cargo;

/// Subcommand of cargo and version; the package is `cargo-<subcommand>`.
const PINNED: [(&str, &str); 2] = [("deny", "0.20.2"), ("machete", "0.9.2")];

/// Installs what is missing or of another version into cargo's own bin folder, where caches of CI keep it. Says
/// what was installed.
///
/// # Errors
///
/// `cargo install` failed.
pub(crate) fn install() -> anyhow::Result<String> {
    let mut installed = Vec::new();
    for (tool, version) in PINNED {
        if present(tool, version) {
            continue;
        }
        println!("installing cargo-{tool} {version} (a few minutes, once)");
        let status = cargo()
            .args(["install", "--locked", &format!("cargo-{tool}"), "--version", version])
            // Beside the workspace's own artifacts it would only take space.
            .env_remove("CARGO_TARGET_DIR")
            .stdin(Stdio::null())
            .status()?;
        ensure!(status.success(), "cannot install cargo-{tool} {version}");
        installed.push(format!("cargo-{tool} {version}"));
    }
    Ok(if installed.is_empty() {
        "present".to_owned()
    } else {
        format!("installed {}", installed.join(", "))
    })
}

fn present(tool: &str, version: &str) -> bool {
    let asked = cargo().args([tool, "--version"]).stdin(Stdio::null()).output();
    asked.is_ok_and(|out| String::from_utf8_lossy(&out.stdout).split_whitespace().any(|word| word == version))
}
