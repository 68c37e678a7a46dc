//! The command `tidegate up`.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, bail};
use serde_json::Value;
use tempfile::TempDir;

use crate::{eventually::eventually, process::Process, services::SERVING_WITHIN, tools};

/// Name of the ready file in [`Up::folder`].
pub const READY_FILE: &str = "ready.json";

/// `tidegate up --ephemeral`: everything in one process.
#[derive(Debug)]
pub struct Up {
    process: Process,
    ready: Value,
    folder: TempDir,
}

impl Up {
    /// Starts it and waits for its ready file.
    ///
    /// # Errors
    ///
    /// It has not been built, or does not come up.
    pub async fn start() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join(READY_FILE);
        let mut command = Command::new(tools::binary("tidegate")?);
        command.args(["up", "--ephemeral", "--ready-file"]).arg(&file).current_dir(folder.path());
        let mut process = Process::spawn("tidegate up", &mut command)?;
        let mut ready = None;
        let written = eventually("the ready file is written", SERVING_WITHIN, async || {
            if let Some(status) = process.ended()? {
                bail!("ended with {status} before it was ready");
            }
            ready = fs::read(&file).ok().and_then(|text| serde_json::from_slice(&text).ok());
            Ok(ready.is_some())
        });
        written.await.with_context(|| format!("tidegate up does not start\n{}", process.tail()))?;
        Ok(Self { ready: ready.context("the ready file was read")?, process, folder })
    }

    /// The folder that it was started in.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What the ready file says at a JSON pointer, as `/grpc/ratelimit`; a URL is given as `HOST:PORT`.
    ///
    /// # Panics
    ///
    /// If there is no text.
    #[must_use]
    pub fn address(&self, pointer: &str) -> &str {
        let text = self.ready.pointer(pointer).and_then(Value::as_str);
        let text = text.unwrap_or_else(|| panic!("the ready file has no {pointer}: {}", self.ready));
        text.strip_prefix("http://").unwrap_or(text)
    }

    /// The process itself.
    #[must_use]
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}
