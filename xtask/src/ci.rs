//! `cargo xtask ci`: the gate that CI runs, and a person before a push.

use std::process::{Command, Stdio};

use crate::{
    cargo, codegen, prerequisites, root,
    steps::{Outcome, Steps, exit},
    suite, tools,
};

/// The npm package that ships the buf binary.
const BUF: &str = "@bufbuild/buf@1.75.0";

/// Runs every step, also after one has failed, so that all faults show; prints one summary and, last, what
/// passed and failed: every test, and every other step as one. True if nothing failed.
pub(crate) fn run() -> bool {
    let mut steps = Steps::default();
    steps.run("fmt", cargo().args(["fmt", "--all", "--check"]));
    steps.run("clippy", cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]));
    steps.take("tools", || Ok((Outcome::Passed, tools::install()?)));
    steps.run("deny", cargo().args(["deny", "--all-features", "check", "bans", "licenses", "sources"]));
    steps.take("advisories", advisories);
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
    println!("{total}");
    total.good()
}

/// Known vulnerabilities, from a database that lies on GitHub.
fn advisories() -> anyhow::Result<(Outcome, String)> {
    let fetched = cargo().args(["deny", "fetch", "db"]).stdin(Stdio::null()).output()?;
    if !fetched.status.success() {
        let note = "not checked: github.com/RustSec/advisory-db cannot be fetched here".to_owned();
        return Ok((Outcome::Skipped, note));
    }
    Ok((exit(cargo().args(["deny", "--all-features", "check", "advisories"]))?, String::new()))
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
