//! Steps of a gate that go on after a failure, and the table at the end.

use std::{
    fmt,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// What became of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Passed,
    Failed,
    /// Its tool is not here; said, not hidden.
    Missing,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passed => "ok",
            Self::Failed => "FAILED",
            Self::Missing => "MISSING",
        })
    }
}

/// The steps taken so far.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    taken: Vec<(String, Outcome, Duration, String)>,
}

impl Steps {
    /// Takes a step; its note goes into the table.
    pub(crate) fn take(&mut self, name: &str, step: impl FnOnce() -> anyhow::Result<(Outcome, String)>) {
        println!("\n=== {name}");
        let start = Instant::now();
        let (outcome, note) = step().unwrap_or_else(|error| {
            println!("{error:#}");
            (Outcome::Failed, error.to_string().lines().next().unwrap_or_default().to_owned())
        });
        self.taken.push((name.to_owned(), outcome, start.elapsed(), note));
    }

    /// Takes the step of running a command to its end.
    pub(crate) fn run(&mut self, name: &str, command: &mut Command) {
        self.take(name, || {
            let status = command.stdin(Stdio::null()).status()?;
            let outcome = if status.success() { Outcome::Passed } else { Outcome::Failed };
            Ok((outcome, String::new()))
        });
    }

    /// Whether no step failed.
    pub(crate) fn good(&self) -> bool {
        self.taken.iter().all(|(_, outcome, ..)| *outcome != Outcome::Failed)
    }
}

impl fmt::Display for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{:<28} {:<8} {:>9}", "step", "outcome", "time")?;
        for (name, outcome, took, note) in &self.taken {
            let line = format!("{name:<28} {:<8} {:>7.1} s  {note}", outcome.to_string(), took.as_secs_f64());
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}
