//! A real nginx of the test's own.

use std::{fs, path::Path, process::Command, time::Duration};

use anyhow::{Context, bail};
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::{eventually::eventually, ports, process::Process};

const UP_WITHIN: Duration = Duration::from_secs(10);

/// Where Debian puts it, which is not in everybody's PATH.
const DEBIANS: &str = "/usr/sbin/nginx";

/// nginx on a free port of 127.0.0.1, as one process that writes into a folder of its own.
#[derive(Debug)]
pub struct Nginx {
    address: String,
    _process: Process,
    _folder: TempDir,
}

impl Nginx {
    /// Starts nginx with what stands in the block `server`, but for `listen`, and waits until it takes connections.
    ///
    /// # Errors
    ///
    /// It is not installed, or does not come up (the message carries its log).
    pub async fn start(server: &str) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let address = format!("127.0.0.1:{}", ports::free()?);
        let config = folder.path().join("nginx.conf");
        fs::write(&config, config_of(folder.path(), &address, server))?;
        let program = if Path::new(DEBIANS).exists() { DEBIANS } else { "nginx" };
        let mut command = Command::new(program);
        command.args(["-e", "stderr", "-p"]).arg(folder.path()).arg("-c").arg(&config);
        let mut process = Process::spawn("nginx", &mut command)
            .context("the tests need nginx: `apt-get install nginx` (Debian)")?;
        let up = eventually("nginx", UP_WITHIN, async || {
            if let Some(status) = process.ended()? {
                bail!("ended with {status} before it served");
            }
            Ok(TcpStream::connect(&address).await.is_ok())
        });
        up.await.with_context(|| format!("nginx does not serve\n{}", process.tail()))?;
        Ok(Self { address, _process: process, _folder: folder })
    }

    /// `HOST:PORT` at which it takes requests.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }
}

/// One process without a master, so that whoever ends it ends all of it.
fn config_of(folder: &Path, address: &str, server: &str) -> String {
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|of| format!("    {of}_temp_path {}/{of};\n", folder.display()))
        .collect();
    format!(
        "daemon off;\nmaster_process off;\nerror_log stderr;\npid {}/nginx.pid;\n\
         events {{ worker_connections 64; }}\n\
         http {{\n    access_log off;\n{temporary}    server {{\n        listen {address};\n{server}\n    }}\n}}\n",
        folder.display()
    )
}
