//! `cargo xtask test`: what is missing is installed, everything is built, every test runs.

use std::{
    fmt,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use anyhow::Context;

use crate::{cargo, prerequisites};

/// Sum over all test binaries; prints as the last line of the command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Total {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl fmt::Display for Total {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

/// Runs all tests, streaming their output. A build that fails counts as one failure.
///
/// # Errors
///
/// Something that the tests need is missing and cannot be installed, or cargo cannot be started.
pub(crate) fn run(args: &[String]) -> anyhow::Result<Total> {
    prerequisites::install()?;
    // Binaries and tests together, so that both are built with the same features, once.
    let built = cargo().args(["build", "--workspace", "--bins", "--tests"]).stdin(Stdio::null()).status()?;
    if !built.success() {
        println!("the workspace does not build");
        return Ok(Total { passed: 0, failed: 1 });
    }
    stream(cargo().args(["test", "--workspace", "--no-fail-fast"]).args(args))
}

/// Runs `cargo test …`, passing its output on and summing its results.
pub(crate) fn stream(command: &mut Command) -> anyhow::Result<Total> {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cannot start cargo")?;
    let stdout = child.stdout.take().context("standard output is piped")?;
    let mut total = Total::default();
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        if let Some(result) = parse(&line) {
            total.passed += result.passed;
            total.failed += result.failed;
        }
    }
    if !child.wait()?.success() && total.failed == 0 {
        println!("cargo test failed outside of a test: a test binary died, or did not compile");
        total.failed = 1;
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
    fn the_last_line_has_its_fixed_form() {
        assert_eq!(Total { passed: 3, failed: 1 }.to_string(), "3 passed, 1 failed");
    }
}
