//! A server of the benchmark's own: `tidegate up --ephemeral` in a child process.

use std::{
    fs,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use tempfile::TempDir;

use crate::up::Ready;

/// A plan whose limits are never reached, beside the built-in ones.
pub(crate) const POLICIES: &str = include_str!("policies.toml");
/// The plan that measures checks which are admitted.
pub(crate) const PLAN: &str = "bench";

const START: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);

/// A running server; it is stopped when this is dropped, and leaves by itself if this process is killed.
pub(crate) struct OwnServer {
    child: Child,
    /// gRPC address.
    pub(crate) addr: String,
    _files: TempDir,
}

impl OwnServer {
    /// Starts this same executable and waits until it serves.
    ///
    /// # Errors
    /// It does not start, or does not serve within 20 s.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let files = tempfile::Builder::new().prefix("tidegate-bench-").tempdir()?;
        let policies = files.path().join("policies.toml");
        fs::write(&policies, POLICIES)?;
        let ready_file = files.path().join("ready.json");
        let executable = std::env::current_exe().context("cannot find this executable")?;
        let mut command = Command::new(executable);
        // Settings of this shell are not meant: a benchmark must not load somebody's Redis.
        let settings = std::env::vars_os().map(|(name, _)| name);
        for name in settings.filter(|name| name.to_str().is_some_and(is_setting)) {
            command.env_remove(name);
        }
        let mut child = command
            .args(["up", "--ephemeral", "--until-stdin-ends", "--ready-file"])
            .arg(&ready_file)
            .env("TIDEGATE_RATELIMIT__POLICIES__FILE", &policies)
            .env("TIDEGATE_RATELIMIT__TELEMETRY__LOG_LEVEL", "warn")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .context("cannot start a server")?;

        let deadline = Instant::now() + START;
        loop {
            if let Ok(ready) = fs::read(&ready_file) {
                let ready: Ready =
                    serde_json::from_slice(&ready).context("the ready file is not what it should be")?;
                return Ok(Self { child, addr: ready.grpc.ratelimit.to_string(), _files: files });
            }
            if let Some(status) = child.try_wait()? {
                bail!("the server did not start ({status}); its words are above");
            }
            if Instant::now() > deadline {
                child.kill().and_then(|()| child.wait()).context("cannot stop the server")?;
                bail!("the server did not serve within {START:?}");
            }
            thread::sleep(POLL);
        }
    }

    /// Process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

fn is_setting(name: &str) -> bool {
    name.starts_with("TIDEGATE_")
        || ["REDIS_URL", "DATABASE_URL", "ENVIRONMENT", "RATE_LIMIT_ENABLED", "LOG_LEVEL"].contains(&name)
        || name == "OTEL_EXPORTER_OTLP_ENDPOINT"
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        // A graceful leave would wait out a lame duck that nobody needs here: nothing is kept.
        if self.child.kill().is_ok() {
            self.child.wait().ok();
        }
    }
}
