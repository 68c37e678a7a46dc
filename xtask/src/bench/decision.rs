//! One decision without the network, measured by criterion on one thread.

use std::{path::PathBuf, process::Stdio};

use anyhow::{Context, ensure};
use serde_json::Value;

use super::{
    Bench, machine,
    results::{Results, Target},
};
use crate::cargo;

/// The benchmark that charges.
const FILTER: &str = "match, decide and charge";

/// Matching, deciding and charging three windows in memory.
pub(super) fn run(bench: &Bench, results: &mut Results) -> anyhow::Result<()> {
    let executable = build()?;
    let home = tempfile::tempdir()?;
    let output = machine::pinned(bench.cores.server, executable)
        .args(["--bench", "--noplot", "--warm-up-time", "1", "--measurement-time", "3", FILTER])
        .env("CRITERION_HOME", home.path())
        .stdin(Stdio::null())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the benchmark ended with {}: {}", output.status, words.trim());
    let times = estimate(&text).with_context(|| format!("criterion says nothing of a time:\n{text}"))?;
    for nanos in times {
        results.figure("decision alone, 3 windows, memory, one thread", nanos, "ns", Target::AtMost(400.0));
    }
    bench.load.say(&format!("decision alone: {:.0} ns", times[1]));
    Ok(())
}

/// Builds it with cargo's progress on the screen, and says where it is.
fn build() -> anyhow::Result<PathBuf> {
    let output = cargo()
        .args(["bench", "--package", "tidegate-ratelimit", "--bench", "decision", "--no-run"])
        .args(["--message-format", "json-render-diagnostics"])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(output.status.success(), "the benchmark does not build");
    executable(&String::from_utf8_lossy(&output.stdout)).context("cargo says nothing of an executable")
}

/// The last executable that cargo names in its messages, one JSON object a line.
fn executable(messages: &str) -> Option<PathBuf> {
    messages.lines().rev().find_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        message["executable"].as_str().map(PathBuf::from)
    })
}

/// Lower bound, estimate and upper bound, in nanoseconds, of `time: [311.2 ns 313.0 ns 315.9 ns]`.
fn estimate(output: &str) -> Option<[f64; 3]> {
    let (_, rest) = output.split_once("time:")?;
    let (_, rest) = rest.split_once('[')?;
    let (inner, _) = rest.split_once(']')?;
    let words: Vec<&str> = inner.split_whitespace().collect();
    let times: Option<Vec<f64>> = words
        .chunks(2)
        .map(|pair| {
            let unit = match *pair.get(1)? {
                "ps" => 1e-3,
                "ns" => 1.0,
                "µs" | "us" => 1e3,
                "ms" => 1e6,
                _ => return None,
            };
            Some(pair[0].parse::<f64>().ok()? * unit)
        })
        .collect();
    times?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn criterion_times_are_read_in_nanoseconds() {
        let output = "match\n      time:   [311.20 ns 1.5000 µs 2.0000 ms]\n      change: [+1 %]";
        assert_eq!(estimate(output), Some([311.2, 1500.0, 2_000_000.0]));
        assert_eq!(estimate("time: [1 ns 2 ns]"), None);
        assert_eq!(estimate("Benchmarking"), None);
    }

    #[test]
    fn executable_is_found_among_the_messages_of_cargo() {
        let messages = "{\"reason\":\"compiler-artifact\",\"executable\":null}\n\
                        {\"reason\":\"compiler-artifact\",\"executable\":\"/t/decision-1\"}\n\
                        {\"reason\":\"build-finished\",\"success\":true}\n";
        assert_eq!(executable(messages), Some(PathBuf::from("/t/decision-1")));
        assert_eq!(executable(""), None);
    }
}
