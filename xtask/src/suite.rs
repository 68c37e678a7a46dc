//! `cargo xtask test`: what is missing is installed, everything is built, every test runs.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use anyhow::{Context, ensure};

use crate::{cargo, prerequisites, total::Total};

/// Runs all tests, streaming their output. What keeps them from running is printed and counts as one failure.
pub(crate) fn run(args: &[String]) -> Total {
    prepare()
        .and_then(|()| stream(cargo().args(["test", "--workspace", "--no-fail-fast"]).args(args)))
        .unwrap_or_else(|error| {
            println!("{error:#}");
            Total::FAILED
        })
}

fn prepare() -> anyhow::Result<()> {
    prerequisites::install(&prerequisites::OF_THE_TESTS)?;
    // Binaries and tests together, so that both are built with the same features, once.
    let mut build = cargo();
    build.args(["build", "--workspace", "--bins", "--tests"]);
    ensure!(build.stdin(Stdio::null()).status()?.success(), "the workspace does not build");
    Ok(())
}

/// Runs `cargo test …`, passing its output on and summing its results. A run of no test counts as one failure:
/// a filter that matches nothing has shown nothing.
///
/// # Errors
///
/// Cargo cannot be started.
pub(crate) fn stream(command: &mut Command) -> anyhow::Result<Total> {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cannot start cargo")?;
    let stdout = child.stdout.take().context("standard output is piped")?;
    let mut total = Total::default();
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        total = total + parse(&line).unwrap_or_default();
    }
    let status = child.wait()?;
    if !status.success() && total.good() {
        println!(
            "cargo test ended with {status}, and not by a test: it or a test binary died, or did not compile"
        );
        total = total + Total::FAILED;
    } else if total == Total::default() {
        println!("no test ran: nothing matches");
        total = Total::FAILED;
    }
    Ok(total)
}

/// `test result: ok. 3 passed; 0 failed; 0 ignored; …`
fn parse(line: &str) -> Option<Total> {
    let rest = line.strip_prefix("test result: ")?;
    let count = |word: &str| {
        let part = rest.split(['.', ';']).find(|part| part.trim().ends_with(word))?;
        part.trim().strip_suffix(word)?.trim().parse().ok()
    };
    Some(Total { passed: count("passed")?, failed: count("failed")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_libtest_are_read() {
        let ok =
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.01s";
        assert_eq!(parse(ok), Some(Total { passed: 12, failed: 0 }));
        let bad = "test result: FAILED. 2 passed; 5 failed; 0 ignored; 0 measured; 0 filtered out";
        assert_eq!(parse(bad), Some(Total { passed: 2, failed: 5 }));
        assert_eq!(parse("test checker::tests::a_full_window ... ok"), None);
    }

    #[test]
    fn a_command_that_fails_without_a_failed_test_counts_as_failed() {
        let died = "echo 'test result: ok. 2 passed; 0 failed; 0 ignored'; exit 3";
        let total = stream(Command::new("sh").args(["-c", died])).unwrap();
        assert_eq!(total, Total { passed: 2, failed: 1 });
    }

    #[test]
    fn a_run_of_no_test_counts_as_failed() {
        for output in ["test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 9 filtered out", ""] {
            let total = stream(Command::new("echo").arg(output)).unwrap();
            assert_eq!(total, Total { passed: 0, failed: 1 }, "{output:?}");
        }
    }
}
