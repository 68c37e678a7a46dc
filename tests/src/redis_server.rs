//! A `redis-server` of the test's own.

use std::{process::Command, time::Duration};

use anyhow::Context;
use tempfile::TempDir;

use crate::{
    certificates::{Authority, Identity},
    eventually::eventually,
    ports,
    process::Process,
};

const START_WITHIN: Duration = Duration::from_secs(10);

/// A Redis on a free port of 127.0.0.1 that keeps nothing on disk.
#[derive(Debug)]
pub struct RedisServer {
    process: Process,
    port: u16,
    tls_port: Option<u16>,
    settings: Vec<String>,
    folder: TempDir,
}

/// What a Redis shows over TLS, and asks of others.
#[derive(Clone, Debug)]
pub struct RedisTls {
    settings: Vec<String>,
}

impl RedisTls {
    /// It shows `identity`. Where `clients_must` is set clients have to show a certificate of the authority.
    #[must_use]
    pub fn new(authority: &Authority, identity: &Identity, clients_must: bool) -> Self {
        let path = |path: &std::path::Path| path.display().to_string();
        let settings = [
            ("--tls-cert-file", path(&identity.certificate_file)),
            ("--tls-key-file", path(&identity.key_file)),
            ("--tls-ca-cert-file", path(&authority.file())),
            ("--tls-auth-clients", if clients_must { "yes" } else { "no" }.to_owned()),
        ];
        Self { settings: settings.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect() }
    }

    /// Its settings, each as on the command line, to serve on a port.
    #[must_use]
    pub fn settings(&self, port: u16) -> Vec<String> {
        let port = ["--tls-port".to_owned(), port.to_string()];
        port.into_iter().chain(self.settings.iter().cloned()).collect()
    }
}

impl RedisServer {
    /// Starts `redis-server` from PATH and waits until it answers.
    ///
    /// # Errors
    ///
    /// It is not installed (the message says how to install it), or does not come up.
    pub async fn start() -> anyhow::Result<Self> {
        Self::with([]).await
    }

    /// The same with more settings, each as on its command line: `--appendonly`, `yes`.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub async fn with(settings: impl IntoIterator<Item = &str>) -> anyhow::Result<Self> {
        Self::over(None, settings).await
    }

    /// The same with TLS, if it is given, on another port. That of the fixture stays as it is.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub async fn over(
        tls: Option<&RedisTls>,
        settings: impl IntoIterator<Item = &str>,
    ) -> anyhow::Result<Self> {
        let port = ports::free()?;
        let tls_port = tls.map(|_| ports::free()).transpose()?;
        let folder = tempfile::tempdir()?;
        let mut settings: Vec<_> = settings.into_iter().map(str::to_owned).collect();
        settings.extend(tls.zip(tls_port).into_iter().flat_map(|(tls, port)| tls.settings(port)));
        let process = spawn(port, &settings, &folder)?;
        let mut server = Self { process, port, tls_port, settings, folder };
        server.answering().await?;
        Ok(server)
    }

    /// Its port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port by which others know it: that of TLS, if it has one.
    #[must_use]
    pub fn own_port(&self) -> u16 {
        self.tls_port.unwrap_or(self.port)
    }

    /// `rediss://127.0.0.1:PORT`.
    ///
    /// # Panics
    ///
    /// If it was started without TLS.
    #[must_use]
    pub fn tls_url(&self) -> String {
        format!("rediss://127.0.0.1:{}", self.tls_port.expect("started with TLS"))
    }

    /// `redis://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The process itself.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// `kill -9`.
    ///
    /// # Errors
    ///
    /// The process cannot be waited for.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.process.kill()
    }

    /// Starts it again on the same port, with nothing in it.
    ///
    /// # Errors
    ///
    /// It does not come up.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.process.kill().ok();
        self.process = spawn(self.port, &self.settings, &self.folder)?;
        self.answering().await
    }

    /// Sends one command on a connection of its own.
    ///
    /// # Errors
    ///
    /// Redis cannot be reached, or answers with an error.
    pub async fn command<T: redis::FromRedisValue>(&self, words: &[&str]) -> anyhow::Result<T> {
        let client = redis::Client::open(self.url())?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        let (first, rest) = words.split_first().context("a command has a name")?;
        let mut command = redis::cmd(first);
        for word in rest {
            command.arg(*word);
        }
        Ok(command.query_async(&mut connection).await?)
    }

    async fn answering(&mut self) -> anyhow::Result<()> {
        let answering = eventually("redis-server answers", START_WITHIN, async || {
            if let Some(status) = self.process.ended()? {
                anyhow::bail!("redis-server ended with {status}");
            }
            Ok(self.command::<String>(&["PING"]).await.is_ok())
        });
        answering.await.with_context(|| self.process.tail())
    }
}

fn spawn(port: u16, settings: &[String], folder: &TempDir) -> anyhow::Result<Process> {
    let mut command = Command::new("redis-server");
    command
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .args(["--maxmemory-policy", "noeviction", "--daemonize", "no", "--dir"])
        .arg(folder.path())
        .args(settings);
    Process::spawn("redis-server", &mut command)
        .context("the tests need a real redis-server: `apt-get install redis-server` (Debian), or `cargo xtask test` as root")
}
