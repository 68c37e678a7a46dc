//! One measurement: `tidegate bench` against a server that runs.

use std::{
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use serde_json::Value;

use super::{machine::pinned, server::Server};

/// How load is made.
pub(super) struct Load {
    pub(super) tidegate: PathBuf,
    /// The core of the generator, if it has one of its own.
    pub(super) core: Option<usize>,
    pub(super) duration: Duration,
    /// When the whole run began, for the progress that is shown.
    pub(super) begun: Instant,
}

/// What one measurement found.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    /// Checks decided.
    pub(super) checks: f64,
    /// Of these, how many were not admitted.
    pub(super) denied: f64,
    pub(super) checks_per_second: f64,
    /// CPU of the server, µs per check.
    pub(super) server_us: f64,
    /// CPU of the Redis behind it, µs per check.
    pub(super) redis_us: Option<f64>,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    /// An open loop that did not keep its schedule says nothing of the server's latency.
    pub(super) kept_schedule: bool,
    /// Everything the generator said.
    pub(super) report: Value,
}

impl Load {
    /// Measures `server` with the given arguments of `tidegate bench`.
    ///
    /// # Errors
    /// The generator fails, or a check could not be decided or was denied: a figure with errors in it is none.
    pub(super) fn measure(&self, server: &Server, args: &[&str]) -> anyhow::Result<Sample> {
        let sample = self.run(server, args, self.duration.as_secs(), "1s")?;
        let denied = sample.denied;
        ensure!(denied == 0.0, "{}: {denied} checks were denied, by limits that no run reaches", server.name);
        Ok(sample)
    }

    /// The same of a server whose limits are used up.
    ///
    /// # Errors
    /// The generator fails, or a check could not be decided or was admitted.
    pub(super) fn measure_denied(&self, server: &Server, args: &[&str]) -> anyhow::Result<Sample> {
        let sample = self.run(server, args, self.duration.as_secs(), "1s")?;
        let admitted = sample.checks - sample.denied;
        ensure!(
            admitted == 0.0,
            "{}: {admitted} checks were admitted, by a limit that is used up",
            server.name
        );
        Ok(sample)
    }

    /// Runs load for a number of seconds after `warmup`.
    ///
    /// # Errors
    /// The generator fails, or a check could not be decided.
    pub(super) fn run(
        &self,
        server: &Server,
        args: &[&str],
        seconds: u64,
        warmup: &str,
    ) -> anyhow::Result<Sample> {
        let mut command = pinned(self.core, &self.tidegate);
        command.args(["bench", "--json", "--addr", &server.addr, "--warmup", warmup]);
        command.args(["--duration", &format!("{seconds}s"), "--pid", &format!("server={}", server.pid())]);
        if let Some(redis) = server.redis_pid {
            command.args(["--pid", &format!("redis={redis}")]);
        }
        let what = || format!("{}: tidegate bench {}", server.name, args.join(" "));
        let output = command.args(args).stdin(Stdio::null()).output().with_context(what)?;
        let words = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}: {}", what(), words.trim());
        let report = serde_json::from_slice(&output.stdout).context("the generator did not print JSON")?;
        let sample = Sample::read(report).with_context(what)?;
        let remark = if sample.kept_schedule { "" } else { " (behind its schedule)" };
        self.say(&format!("{:.0} checks/s{remark}, {}", sample.checks_per_second, what()));
        Ok(sample)
    }

    /// Says on stderr what was measured; stdout carries the result only.
    #[expect(clippy::print_stderr, reason = "a command line tool talks to its user")]
    pub(super) fn say(&self, text: &str) {
        eprintln!("[{:>4} s] {text}", self.begun.elapsed().as_secs());
    }
}

impl Sample {
    fn read(report: Value) -> anyhow::Result<Self> {
        let number = |pointer: &str| {
            report
                .pointer(pointer)
                .and_then(Value::as_f64)
                .with_context(|| format!("no {pointer} in the report"))
        };
        Ok(Self {
            checks: number("/checks")?,
            denied: number("/denied")?,
            checks_per_second: number("/checks_per_second")?,
            server_us: number("/cpu/0/us_per_check")?,
            redis_us: number("/cpu/1/us_per_check").ok(),
            p50_us: number("/latency_us/p50")?,
            p99_us: number("/latency_us/p99")?,
            kept_schedule: report["schedule"]["fell_behind"] != Value::Bool(true),
            report,
        })
    }
}
