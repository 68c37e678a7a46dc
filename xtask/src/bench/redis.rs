//! A Redis of the benchmark's own.

use std::{net::TcpStream, process::Command};

use anyhow::{Context, ensure};

use super::{
    machine::pinned,
    server::{Process, free_addr},
};

/// A running `redis-server` that stores nothing on disk. The kernel chooses its core: pinned beside the
/// server or beside the load it would take from what is measured.
pub(super) struct Redis {
    process: Process,
    port: String,
}

impl Redis {
    /// Starts one on a free port.
    ///
    /// # Errors
    /// `redis-server` is not installed, or does not start.
    pub(super) fn start() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let addr = free_addr()?;
        let port = addr.rsplit(':').next().context("an address ends with its port")?.to_owned();
        let mut command = pinned(None, "redis-server");
        command
            .args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .args(["--maxmemory-policy", "noeviction", "--dir"])
            .arg(folder.path());
        let start = || {
            let mut process = Process::start("redis-server", command, folder)?;
            process.wait(|| TcpStream::connect(&addr).ok())?;
            anyhow::Ok(process)
        };
        let process = start().context("a real Redis is needed (Debian: apt-get install redis-server)")?;
        Ok(Self { process, port })
    }

    /// Runs a script and gives its answer, one line per element.
    ///
    /// # Errors
    /// `redis-cli` is not installed, or the script fails.
    pub(super) fn eval(&self, script: &str) -> anyhow::Result<Vec<String>> {
        let output = Command::new("redis-cli")
            .args(["-e", "-p", &self.port, "--raw", "EVAL", script, "0"])
            .output()
            .context("cannot start redis-cli; install it (Debian: apt-get install redis-tools)")?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "redis-cli: {text}{}", String::from_utf8_lossy(&output.stderr));
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// Where it is, for `REDIS_URL`.
    pub(super) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Process id.
    pub(super) fn pid(&self) -> u32 {
        self.process.pid()
    }
}
