//! A real Caddy of the test's own.

use std::{fs, process::Command, time::Duration};

use anyhow::{Context, bail};
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::{eventually::eventually, ports, process::Process};

const UP_WITHIN: Duration = Duration::from_secs(10);

/// Caddy on a free port of 127.0.0.1, which writes into a folder of its own.
#[derive(Debug)]
pub struct Caddy {
    address: String,
    _process: Process,
    _folder: TempDir,
}

impl Caddy {
    /// Starts Caddy with what stands in the block of its one site, and waits until it takes connections.
    ///
    /// # Errors
    ///
    /// It is not installed, or does not come up (the message carries its log).
    pub async fn start(site: &str) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let port = ports::free()?;
        let config = folder.path().join("Caddyfile");
        fs::write(&config, config_of(port, site))?;
        let mut command = Command::new("caddy");
        command.args(["run", "--adapter", "caddyfile", "--config"]).arg(&config);
        for home in ["HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"] {
            command.env(home, folder.path());
        }
        let mut process = Process::spawn("caddy", &mut command)
            .context("the tests need Caddy: `apt-get install caddy` (Debian)")?;
        let address = format!("127.0.0.1:{port}");
        let up = eventually("caddy", UP_WITHIN, async || {
            if let Some(status) = process.ended()? {
                bail!("ended with {status} before it served");
            }
            Ok(TcpStream::connect(&address).await.is_ok())
        });
        up.await.with_context(|| format!("caddy does not serve\n{}", process.tail()))?;
        Ok(Self { address, _process: process, _folder: folder })
    }

    /// `HOST:PORT` at which it takes requests.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }
}

/// Without TLS, certificates of its own and an admin port.
fn config_of(port: u16, site: &str) -> String {
    format!(
        "{{\n\tadmin off\n\tauto_https off\n}}\n\
         http://127.0.0.1:{port} {{\n\tbind 127.0.0.1\n{site}\n}}\n"
    )
}
