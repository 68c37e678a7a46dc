//! What is needed besides cargo, and how to get it.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use anyhow::bail;

use crate::root;

/// Something that must be on the machine.
pub(crate) struct Need {
    what: &'static str,
    /// Packages of Debian that bring it; none if Debian's is too old.
    packages: &'static [&'static str],
    otherwise: &'static str,
    present: fn() -> bool,
}

/// Of `cargo xtask test`.
pub(crate) const OF_THE_TESTS: [Need; 7] = [
    Need {
        what: "redis-server",
        packages: &["redis-server"],
        otherwise: "https://redis.io/docs/latest/operate/oss_and_stack/install/",
        present: || succeeds("redis-server", &["--version"]),
    },
    Need {
        what: "nginx",
        packages: &["nginx"],
        otherwise: "https://nginx.org/en/docs/install.html, in PATH",
        present: || succeeds("nginx", &["-v"]) || succeeds("/usr/sbin/nginx", &["-v"]),
    },
    Need {
        what: "Caddy",
        packages: &["caddy"],
        otherwise: "https://caddyserver.com/docs/install, in PATH",
        present: || succeeds("caddy", &["version"]),
    },
    Need {
        what: "PostgreSQL",
        packages: &["postgresql"],
        otherwise: "https://www.postgresql.org/download/, with its bin folder in PATH",
        present: has_postgres,
    },
    Need {
        what: "python3 with venv",
        packages: &["python3", "python3-venv"],
        otherwise: "Python 3.10 or later with the modules venv and ensurepip",
        present: || succeeds("python3", &["-c", "import ensurepip, venv"]),
    },
    Need {
        what: "curl",
        packages: &["curl", "ca-certificates"],
        otherwise: "https://curl.se/download.html",
        present: || succeeds("curl", &["--version"]),
    },
    Need {
        what: "go 1.25 or later",
        packages: &[],
        otherwise: "https://go.dev/dl/, unpacked with its bin folder in PATH",
        present: go_is_new_enough,
    },
];

/// Of the other steps of `cargo xtask ci`.
pub(crate) const OF_THE_GATE: [Need; 1] = [Need {
    what: "npx",
    packages: &["npm"],
    otherwise: "https://nodejs.org/en/download",
    present: || succeeds("npx", &["--version"]),
}];

/// Installs what is missing with apt-get, on Debian as root.
///
/// # Errors
///
/// Something is missing that cannot be installed here; the message names each with its remedy.
pub(crate) fn install(needs: &[Need]) -> anyhow::Result<()> {
    let missing: Vec<_> = needs.iter().filter(|need| !(need.present)()).collect();
    let packages: Vec<_> = missing.iter().flat_map(|need| need.packages).copied().collect();
    if !packages.is_empty() && can_apt() {
        println!("installing with apt-get: {}", packages.join(" "));
        apt(&["update", "-q"]);
        apt(&[&["install", "-q", "-y", "--no-install-recommends"], packages.as_slice()].concat());
    }
    let missing: Vec<_> = missing.into_iter().filter(|need| !(need.present)()).map(remedy).collect();
    if missing.is_empty() {
        return Ok(());
    }
    bail!("not installed here, and needed:{}", missing.concat())
}

fn remedy(need: &Need) -> String {
    let apt = need.packages.join(" ");
    let apt = if apt.is_empty() { apt } else { format!("`apt-get install {apt}` on Debian, or ") };
    format!("\n  {}: {apt}{}", need.what, need.otherwise)
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

/// In PATH, or where Debian puts it.
fn has_postgres() -> bool {
    succeeds("postgres", &["--version"]) || succeeds("sh", &["-c", "ls /usr/lib/postgresql/*/bin/postgres"])
}

/// The oldest Go that builds `tests/clients/go`, as its go.mod says.
const GO: (u32, u32) = (1, 25);

fn go_is_new_enough() -> bool {
    // Within the module, where one from 1.21 on fetches the version that go.mod asks for, if it may.
    let go = Command::new("go")
        .args(["env", "GOVERSION"])
        .current_dir(root().join("tests/clients/go"))
        .stdin(Stdio::null())
        .output();
    go.is_ok_and(|out| version(&String::from_utf8_lossy(&out.stdout)).is_some_and(|version| version >= GO))
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

    #[test]
    fn everything_missing_is_named_with_its_remedy() {
        let need = |what, packages| Need { what, packages, otherwise: "elsewhere", present: || false };
        // Nothing that apt-get could be asked for, since this must not install anything.
        let error = install(&[need("this", &[]), need("that", &[])]).unwrap_err().to_string();
        assert!(error.contains("\n  this: elsewhere") && error.contains("\n  that: elsewhere"), "{error}");
        assert_eq!(remedy(&need("x", &["a", "b"])), "\n  x: `apt-get install a b` on Debian, or elsewhere");
    }
}
