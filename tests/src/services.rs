//! The services under test, each as its own process, configured as a user would.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use tempfile::TempDir;
use tonic_health::pb::health_check_response::ServingStatus;

use crate::{
    eventually::eventually,
    http_client::{self, metric},
    ports,
    process::Process,
    rpc, tools,
};

/// Debug builds on a busy machine with two cores need more than a moment.
pub(crate) const SERVING_WITHIN: Duration = Duration::from_secs(30);

/// How a rate-limit process is set up; everything else is its default.
#[derive(Clone, Debug, Default)]
pub struct RateLimitSettings {
    /// Counters in this Redis; in memory if absent.
    pub redis_url: Option<String>,
    /// Text of the policy file; the built-in policies if absent.
    pub policies: Option<String>,
    /// More settings, as TOML; they win over those of the fixture.
    pub toml: String,
}

/// A service as its own process.
#[derive(Debug)]
pub struct Service {
    binary: &'static str,
    process: Process,
    address: String,
    ops: String,
    tls: bool,
    folder: TempDir,
}

impl Service {
    /// Starts `tidegate-ratelimit` and waits until it says SERVING.
    ///
    /// # Errors
    ///
    /// It has not been built, or does not come up (the message carries its log).
    pub async fn ratelimit(settings: &RateLimitSettings) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut toml = base()?;
        if let Some(url) = &settings.redis_url {
            merge(
                &mut toml,
                format!("[store]\nbackend = \"redis\"\n[store.redis]\nurl = \"{url}\"").parse()?,
            );
        }
        if let Some(policies) = &settings.policies {
            let file = folder.path().join(POLICIES);
            fs::write(&file, policies)?;
            merge(&mut toml, format!("[policies]\nfile = {:?}", file.display().to_string()).parse()?);
        }
        merge(&mut toml, settings.toml.parse().context("the settings of the test are not TOML")?);
        Self::start(RATELIMIT, &toml, folder).await
    }

    /// Starts `tidegate-gateway` before the given rate-limit services (`HOST:PORT`) and waits
    /// until it is ready; `toml` holds more settings.
    ///
    /// # Errors
    ///
    /// As [`Service::ratelimit`].
    pub async fn gateway(ratelimit: &[&str], toml: &str) -> anyhow::Result<Self> {
        let urls: Vec<_> = ratelimit.iter().map(|address| format!("http://{address}")).collect();
        let mut settings = base()?;
        merge(&mut settings, format!("[upstreams]\nratelimit = {urls:?}").parse()?);
        merge(&mut settings, toml.parse().context("the settings of the test are not TOML")?);
        Self::start(GATEWAY, &settings, tempfile::tempdir()?).await
    }

    /// Starts a binary with these settings, those of [`base`] among them, and waits until it serves.
    ///
    /// # Errors
    ///
    /// As [`Service::ratelimit`].
    pub(crate) async fn with(binary: &'static str, settings: &toml::Table) -> anyhow::Result<Self> {
        Self::start(binary, settings, tempfile::tempdir()?).await
    }

    async fn start(binary: &'static str, settings: &toml::Table, folder: TempDir) -> anyhow::Result<Self> {
        let server = settings.get("server").and_then(toml::Value::as_table).context("[server] is set")?;
        let text = |key: &str| server.get(key).and_then(toml::Value::as_str).unwrap_or_default().to_owned();
        let (address, ops) = (text("listen"), text("ops_listen"));
        fs::write(folder.path().join(CONFIG), settings.to_string())?;
        let process = spawn(binary, folder.path())?;
        let tls = server.contains_key("tls");
        let mut service = Self { binary, process, address, ops, tls, folder };
        service.serving().await?;
        Ok(service)
    }

    /// `HOST:PORT` of gRPC, or of HTTP for the gateway.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// `HOST:PORT` of the ops listener.
    #[must_use]
    pub fn ops(&self) -> &str {
        &self.ops
    }

    /// The process itself.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// The policy file given in the settings.
    #[must_use]
    pub fn policy_file(&self) -> PathBuf {
        self.folder.path().join(POLICIES)
    }

    /// The page of metrics.
    ///
    /// # Errors
    ///
    /// The ops port does not answer.
    pub async fn metrics(&self) -> anyhow::Result<String> {
        Ok(http_client::get(&self.ops, "/metrics").await?.text())
    }

    /// `kill -9`.
    ///
    /// # Errors
    ///
    /// The process cannot be waited for.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.process.kill()
    }

    /// Starts it again with the same settings on the same ports, and waits until it serves.
    ///
    /// # Errors
    ///
    /// It does not come up.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.process.kill().ok();
        self.process = spawn(self.binary, self.folder.path())?;
        self.serving().await
    }

    /// Sends SIGTERM and returns at once.
    ///
    /// # Errors
    ///
    /// The process is gone.
    pub fn terminate(&self) -> anyhow::Result<()> {
        self.process.signal("TERM")
    }

    /// Waits for the end of the process.
    ///
    /// # Errors
    ///
    /// It still runs after `within`.
    pub async fn ended(&mut self, within: Duration) -> anyhow::Result<ExitStatus> {
        self.process.wait(within).await
    }

    /// Fails if the service ever panicked.
    ///
    /// # Errors
    ///
    /// The log tells of a panic, or the metrics count one.
    pub async fn assert_no_panic(&self) -> anyhow::Result<()> {
        let log = self.process.stderr();
        // Whether caught or not, every panic is a line of the log that says so.
        ensure!(!log.contains("panic"), "{} panicked:\n{log}", self.binary);
        let page = self.metrics().await?;
        if self.binary != GATEWAY {
            ensure!(page.contains(PANICS), "{PANICS} is not among the metrics:\n{page}");
            let panics = metric(&page, PANICS, "");
            ensure!(panics == 0.0, "{panics} panics are counted:\n{log}");
        }
        Ok(())
    }

    async fn serving(&mut self) -> anyhow::Result<()> {
        let speaks_grpc = match self.binary {
            RATELIMIT if !self.tls => Some(rpc::RATELIMIT),
            KEYS if !self.tls => Some(rpc::KEYS),
            _ => None,
        };
        let serving = eventually(self.binary, SERVING_WITHIN, async || {
            if let Some(status) = self.process.ended()? {
                bail!("ended with {status} before it served");
            }
            let ready = http_client::get(&self.ops, "/ready").await.is_ok_and(|a| a.status.is_success());
            Ok(ready
                && match speaks_grpc {
                    Some(service) => serves(&self.address, service).await,
                    None => true,
                })
        });
        serving.await.with_context(|| format!("{} does not serve\n{}", self.binary, self.process.tail()))
    }
}

async fn serves(address: &str, service: &str) -> bool {
    rpc::health(address, service).await.is_ok_and(|status| status == ServingStatus::Serving)
}

pub(crate) const RATELIMIT: &str = "tidegate-ratelimit";
pub(crate) const KEYS: &str = "tidegate-keys";
pub(crate) const GATEWAY: &str = "tidegate-gateway";
const PANICS: &str = "tidegate_server_panics_total";
const CONFIG: &str = "config.toml";
const POLICIES: &str = "policies.toml";

fn spawn(binary: &'static str, folder: &Path) -> anyhow::Result<Process> {
    let mut command = Command::new(tools::binary(binary)?);
    command.arg("--config").arg(folder.join(CONFIG)).current_dir(folder);
    Process::spawn(binary, &mut command)
}

/// Free ports, and a lame duck that does not make every test wait.
pub(crate) fn base() -> anyhow::Result<toml::Table> {
    let (listen, ops) = (ports::free()?, ports::free()?);
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:{listen}\"\nops_listen = \"127.0.0.1:{ops}\"\nlame_duck = \"100ms\"\n"
    );
    Ok(text.parse()?)
}

pub(crate) fn merge(base: &mut toml::Table, over: toml::Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(toml::Value::Table(old)), toml::Value::Table(new)) => merge(old, new),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}
