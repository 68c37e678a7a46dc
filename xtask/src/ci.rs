//! `cargo xtask ci`: the gate that CI runs, and a person before a push.

use std::process::{Command, Stdio};

use crate::{
    cargo, codegen, root,
    steps::{Outcome, Steps},
    suite, tools,
};

/// The npm package that ships the buf binary.
const BUF: &str = "@bufbuild/buf@1.75.0";

/// Runs every step, also after one has failed, so that all faults show; prints the summary and, last, the
/// line of the tests. True if all is well.
///
/// # Errors
///
/// None of the steps': those are in the summary.
pub(crate) fn run() -> anyhow::Result<bool> {
    let mut steps = Steps::default();
    steps.run("fmt", cargo().args(["fmt", "--all", "--check"]));
    steps.run("clippy", cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]));
    steps.take("tools", || {
        let installed = tools::install()?;
        let note = if installed.is_empty() {
            "present".to_owned()
        } else {
            format!("installed {}", installed.join(", "))
        };
        Ok((Outcome::Passed, note))
    });
    steps.run("deny", cargo().args(["deny", "--all-features", "check", "bans", "licenses", "sources"]));
    steps.run("machete", cargo().arg("machete"));
    steps.run("doc", cargo().env("RUSTDOCFLAGS", "-D warnings").args(["doc", "--workspace", "--no-deps"]));
    steps.take("codegen --check", || codegen::run(true).map(|()| (Outcome::Passed, String::new())));
    steps.take("buf lint", buf);
    let mut total = suite::Total { passed: 0, failed: 1 };
    steps.take("tests", || {
        total = suite::run(&[])?;
        let outcome = if total.failed == 0 { Outcome::Passed } else { Outcome::Failed };
        Ok((outcome, total.to_string()))
    });
    println!("{steps}");
    println!("{total}");
    Ok(steps.good())
}

fn buf() -> anyhow::Result<(Outcome, String)> {
    let npx = Command::new("npx").arg("--version").stdin(Stdio::null()).output();
    if !npx.is_ok_and(|out| out.status.success()) {
        return Ok((Outcome::Missing, format!("needs npx (Node.js) to run {BUF}")));
    }
    let mut buf = Command::new("npx");
    let status =
        buf.args(["--yes", BUF, "lint"]).current_dir(root().join("proto")).stdin(Stdio::null()).status()?;
    Ok((if status.success() { Outcome::Passed } else { Outcome::Failed }, BUF.to_owned()))
}
