//! Steps of a gate that go on after a failure, and the table at the end.

use std::{
    fmt,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::total::Total;

/// What became of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Passed,
    Failed,
    /// Its tool is not here and cannot be installed: as bad as a failure, since nothing was looked at.
    Missing,
    /// What it compares with cannot be had here. Said, and not held against the code.
    Skipped,
}

impl Outcome {
    fn of(good: bool) -> Self {
        if good { Self::Passed } else { Self::Failed }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Passed => "ok",
            Self::Failed => "FAILED",
            Self::Missing => "MISSING",
            Self::Skipped => "skipped",
        })
    }
}

/// The steps taken so far.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    taken: Vec<Step>,
}

#[derive(Debug)]
struct Step {
    name: &'static str,
    outcome: Outcome,
    took: Duration,
    note: String,
}

impl Steps {
    /// Takes a step; its note goes into the table. An error is a failure.
    pub(crate) fn take(
        &mut self,
        name: &'static str,
        step: impl FnOnce() -> anyhow::Result<(Outcome, String)>,
    ) {
        println!("\n=== {name}");
        let start = Instant::now();
        let (outcome, note) = step().unwrap_or_else(|error| {
            println!("{error:#}");
            (Outcome::Failed, error.to_string().lines().next().unwrap_or_default().to_owned())
        });
        self.taken.push(Step { name, outcome, took: start.elapsed(), note });
    }

    /// Takes the step of running a command to its end.
    pub(crate) fn run(&mut self, name: &'static str, command: &mut Command) {
        self.take(name, || Ok((exit(command)?, String::new())));
    }

    /// Each step that says something counts as one.
    pub(crate) fn total(&self) -> Total {
        self.taken.iter().fold(Total::default(), |total, step| match step.outcome {
            Outcome::Passed => total + Total::PASSED,
            Outcome::Failed | Outcome::Missing => total + Total::FAILED,
            Outcome::Skipped => total,
        })
    }

    /// Names and notes of the steps that said nothing.
    pub(crate) fn skipped(&self) -> impl Iterator<Item = String> {
        let skipped = self.taken.iter().filter(|step| step.outcome == Outcome::Skipped);
        skipped.map(|Step { name, note, .. }| format!("{name} ({note})"))
    }
}

/// Runs a command to its end.
///
/// # Errors
///
/// It cannot be started.
pub(crate) fn exit(command: &mut Command) -> anyhow::Result<Outcome> {
    Ok(Outcome::of(command.stdin(Stdio::null()).status()?.success()))
}

impl fmt::Display for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{:<18} {:<8} {:>9}", "step", "outcome", "time")?;
        for Step { name, outcome, took, note } in &self.taken {
            let line = format!("{name:<18} {outcome:<8} {:>7.1} s  {note}", took.as_secs_f64());
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_counts_as_failed_and_what_is_skipped_does_not_count() {
        let mut steps = Steps::default();
        for outcome in [Outcome::Passed, Outcome::Failed, Outcome::Missing, Outcome::Skipped] {
            steps.take("step", || Ok((outcome, "why".to_owned())));
        }
        assert_eq!(steps.skipped().collect::<Vec<_>>(), ["step (why)"]);
        steps.take("error", || anyhow::bail!("no such thing"));
        assert_eq!(steps.total(), Total { passed: 1, failed: 3 });
        assert!(steps.to_string().contains("no such thing"), "{steps}");
    }
}
