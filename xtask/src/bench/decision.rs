//! One decision without the network, on one thread: `tidegate bench-decision`.

use std::process::Stdio;

use anyhow::{Context, ensure};

use super::{
    Bench, machine,
    results::{Results, Target},
};

/// Matching, deciding and charging three windows in memory.
pub(super) fn run(bench: &Bench, results: &mut Results) -> anyhow::Result<()> {
    let mut command = machine::pinned(bench.cores.server, &bench.tidegate);
    let output = command.arg("bench-decision").stdin(Stdio::null()).output()?;
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "tidegate bench-decision: {}", words.trim());
    let text = String::from_utf8_lossy(&output.stdout);
    for line in text.lines() {
        let nanos = line.trim().parse().with_context(|| format!("not a number: {line}"))?;
        results.figure("decision alone, 3 windows, memory", nanos, "ns", Target::AtMost(400.0));
    }
    bench.load.say("decision alone");
    Ok(())
}
