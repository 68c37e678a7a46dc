//! What the tests need besides cargo, and how to get it.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use anyhow::bail;

/// The oldest Go that builds the tools in `tests/clients/go/go.mod`; older ones since 1.21 fetch it themselves.
const GO: (u32, u32) = (1, 21);

struct Need {
    what: &'static str,
    packages: &'static [&'static str],
    otherwise: &'static str,
    present: fn() -> bool,
}

const NEEDS: [Need; 3] = [
    Need {
        what: "redis-server",
        packages: &["redis-server"],
        otherwise: "https://redis.io/docs/latest/operate/oss_and_stack/install/",
        present: || succeeds("redis-server", &["--version"]),
    },
    Need {
        what: "python3 with venv",
        packages: &["python3", "python3-venv"],
        otherwise: "Python 3.10 or later with the modules venv and ensurepip",
        present: || succeeds("python3", &["-c", "import ensurepip, venv"]),
    },
    Need {
        what: "go 1.21 or later",
        packages: &["golang-go"],
        otherwise: "https://go.dev/dl/, unpacked with its bin folder in PATH (Debian 12 packages 1.19, which is too old)",
        present: go_is_new_enough,
    },
];

/// Installs what is missing with apt-get, on Debian as root.
///
/// # Errors
///
/// Something is missing that cannot be installed here; the message names each with its remedy.
pub(crate) fn install() -> anyhow::Result<()> {
    let missing: Vec<_> = NEEDS.iter().filter(|need| !(need.present)()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if can_apt() {
        let packages: Vec<_> = missing.iter().flat_map(|need| need.packages).copied().collect();
        println!("installing with apt-get: {}", packages.join(" "));
        apt(&["update", "-q"]);
        apt(&[&["install", "-q", "-y", "--no-install-recommends"], packages.as_slice()].concat());
    }
    let missing: Vec<_> = missing.into_iter().filter(|need| !(need.present)()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut message = String::from("the tests need what is not installed here:");
    for need in missing {
        let apt = need.packages.join(" ");
        message.push_str(&format!(
            "\n  {}: `apt-get install {apt}` on Debian, or {}",
            need.what, need.otherwise
        ));
    }
    bail!(message)
}

fn can_apt() -> bool {
    let root = Command::new("id").arg("-u").output().is_ok_and(|out| out.stdout.trim_ascii() == b"0");
    root && Path::new("/etc/debian_version").exists() && succeeds("apt-get", &["--version"])
}

/// A failure shows in what is still missing afterwards.
fn apt(args: &[&str]) {
    let status = Command::new("apt-get")
        .args(args)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .status();
    if !status.is_ok_and(|status| status.success()) {
        println!("apt-get {} failed", args.join(" "));
    }
}

fn succeeds(program: &str, args: &[&str]) -> bool {
    let quiet = Command::new(program).args(args).stdin(Stdio::null()).output();
    quiet.is_ok_and(|out| out.status.success())
}

fn go_is_new_enough() -> bool {
    let Ok(out) = Command::new("go").args(["env", "GOVERSION"]).output() else { return false };
    version(&String::from_utf8_lossy(&out.stdout)).is_some_and(|version| version >= GO)
}

/// `go1.26.8` to (1, 26).
fn version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.trim().strip_prefix("go")?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_go_compare_as_numbers() {
        assert!(version("go1.26.8\n").is_some_and(|v| v >= GO));
        assert!(version("go1.9").is_some_and(|v| v < GO));
        assert_eq!(version("devel"), None);
    }
}
