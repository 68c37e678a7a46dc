//! `cargo xtask ci`: the gate that CI runs, and a person before a push.

use std::process::{Command, Stdio};

use anyhow::ensure;

use crate::{
    cargo, codegen, prerequisites, root,
    steps::{Outcome, Steps, exit},
    suite, tools,
};

/// The npm package that ships the buf binary.
const BUF: &str = "@bufbuild/buf@1.75.0";

/// Runs every step, also after one has failed, so that all faults show; prints one summary and, last, what
/// passed and failed: every test, and every other step as one. True if nothing failed. Without a network the
/// advisories are skipped, and named just above the last line, unless they are required.
pub(crate) fn run(require_advisories: bool) -> bool {
    let mut steps = Steps::default();
    steps.run("fmt", cargo().args(["fmt", "--all", "--check"]));
    steps.run("clippy", cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]));
    steps.take("tools", || Ok((Outcome::Passed, tools::install()?)));
    steps.run("deny", cargo().args(["deny", "--all-features", "check", "bans", "licenses", "sources"]));
    steps.take("advisories", || advisories(require_advisories));
    steps.run("machete", cargo().arg("machete"));
    steps.run("doc", cargo().env("RUSTDOCFLAGS", "-D warnings").args(["doc", "--workspace", "--no-deps"]));
    steps.take("codegen --check", || codegen::run(true).map(|()| (Outcome::Passed, String::new())));
    steps.take("buf lint", buf);
    let mut total = steps.total();
    steps.take("tests", || {
        let tests = suite::run(&[]);
        total = total + tests;
        Ok((if tests.good() { Outcome::Passed } else { Outcome::Failed }, tests.to_string()))
    });
    println!("{steps}");
    for skipped in steps.skipped() {
        println!("skipped: {skipped}");
    }
    println!("{total}");
    total.good()
}

/// Known vulnerabilities, from a database that lies on GitHub.
fn advisories(required: bool) -> anyhow::Result<(Outcome, String)> {
    let mut fetch = cargo();
    // The reason is read below, in English.
    fetch.args(["deny", "fetch", "db"]).env("LC_ALL", "C").stdin(Stdio::null());
    let fetched = fetch.output()?;
    if fetched.status.success() {
        return Ok((exit(cargo().args(["deny", "--all-features", "check", "advisories"]))?, String::new()));
    }
    let reason = String::from_utf8_lossy(&fetched.stderr);
    println!("{reason}");
    ensure!(is_offline(&reason), "the advisory database cannot be fetched, and not for want of a network");
    ensure!(!required, "the advisory database cannot be reached");
    Ok((Outcome::Skipped, "not checked: the advisory database cannot be reached from here".to_owned()))
}

/// Whether git says that there is no way to the server, rather than that the server said no.
fn is_offline(reason: &str) -> bool {
    const WORDS: [&str; 5] = [
        "Could not resolve host",
        "Could not resolve proxy",
        "Failed to connect to",
        "Network is unreachable",
        "Connection timed out",
    ];
    WORDS.iter().any(|words| reason.contains(words))
}

fn buf() -> anyhow::Result<(Outcome, String)> {
    if let Err(error) = prerequisites::install(&prerequisites::OF_THE_GATE) {
        println!("{error}");
        return Ok((Outcome::Missing, format!("needs npx (Node.js) to run {BUF}")));
    }
    let mut lint = Command::new("npx");
    lint.args(["--yes", BUF, "lint"]).current_dir(root().join("proto"));
    Ok((exit(&mut lint)?, BUF.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_missing_network_excuses_from_the_advisories() {
        let url = "https://example.com/db/";
        assert!(is_offline(&format!("fatal: unable to access '{url}': Could not resolve host: example.com")));
        for refusal in [
            format!("fatal: repository '{url}' not found"),
            format!("fatal: unable to access '{url}': The requested URL returned error: 403"),
            "error: unknown field `db-pth`".to_owned(),
            String::new(),
        ] {
            assert!(!is_offline(&refusal), "{refusal}");
        }
    }
}
