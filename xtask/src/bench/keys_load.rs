//! Load on a keys service: `tidegate bench-keys`.

use std::{
    path::Path,
    process::{Child, Stdio},
};

use anyhow::{Context, ensure};
use serde_json::Value;

use super::{Bench, machine::pinned, server::Server};

/// What `tidegate bench-keys` found.
#[derive(Debug)]
pub(super) struct Calls {
    pub(super) calls: f64,
    pub(super) calls_per_second: f64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    by_status: Value,
}

/// One that runs beside something else, until it ends or this is dropped.
pub(super) struct Running {
    child: Option<Child>,
    what: String,
}

/// Runs it to its end.
///
/// # Errors
/// It fails.
pub(super) fn run(bench: &Bench, server: &Server, args: &[&str]) -> anyhow::Result<Calls> {
    begin(bench, server, args)?.end()
}

/// Begins it, on the core of the load.
///
/// # Errors
/// It cannot be started.
pub(super) fn begin(bench: &Bench, server: &Server, args: &[&str]) -> anyhow::Result<Running> {
    let what = format!("{}: tidegate bench-keys {}", server.name, args.join(" "));
    let mut command = pinned(bench.cores.load, &bench.tidegate);
    command.arg("bench-keys").arg("--ready-file").arg(server.ready_file()).args(args);
    command.env_remove("TIDEGATE_TOKEN");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().with_context(|| what.clone())?;
    Ok(Running { child: Some(child), what })
}

/// Makes keys, one a line of `out`.
///
/// # Errors
/// They cannot be made.
pub(super) fn prepare(
    bench: &Bench,
    server: &Server,
    (organizations, each): (u32, u32),
    out: &Path,
) -> anyhow::Result<()> {
    let (organizations, each) = (organizations.to_string(), each.to_string());
    let out = out.to_str().context("the path is no UTF-8")?;
    run(bench, server, &["prepare", "--organizations", &organizations, "--keys", &each, "--out", out])?
        .all("Ok")
}

impl Running {
    /// Waits for its end.
    ///
    /// # Errors
    /// It fails.
    pub(super) fn end(mut self) -> anyhow::Result<Calls> {
        let what = self.what.clone();
        let child = self.child.take().expect("it is taken here, once");
        let output = child.wait_with_output()?;
        let words = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{what}: {}", words.trim());
        let report: Value = serde_json::from_slice(&output.stdout).with_context(|| what.clone())?;
        let number = |pointer: &str| {
            report.pointer(pointer).and_then(Value::as_f64).with_context(|| format!("{what}: no {pointer}"))
        };
        Ok(Calls {
            calls: number("/calls")?,
            calls_per_second: number("/calls_per_second")?,
            p50_us: number("/latency_us/p50")?,
            p99_us: number("/latency_us/p99")?,
            by_status: report["by_status"].clone(),
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child
            && child.kill().is_ok()
        {
            child.wait().ok();
        }
    }
}

impl Calls {
    /// How many had this status.
    pub(super) fn with(&self, status: &str) -> f64 {
        self.by_status[status].as_f64().unwrap_or(0.0)
    }

    /// # Errors
    /// Not all had this status.
    pub(super) fn all(&self, status: &str) -> anyhow::Result<()> {
        let with = self.with(status);
        ensure!(with == self.calls && with > 0.0, "calls by their status: {}", self.by_status);
        Ok(())
    }
}
