//! When all services serve, and where.

use std::{fs, io::ErrorKind, net::SocketAddr, path::Path, time::Duration};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{config::reachable, demo::Demo};

const POLL: Duration = Duration::from_millis(10);
/// Polls after which the wait is worth a line in the log.
const LONG: u32 = 500;

/// The addresses, as `--ready-file` has them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ready {
    /// Base URL of the REST API.
    pub(crate) gateway: String,
    /// gRPC.
    pub(crate) grpc: Grpc,
    /// `/metrics`, `/live`, `/ready` over HTTP.
    pub(crate) ops: Ops,
    /// What there is to try things out with; told by the first start only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) demo: Option<Demo>,
}

/// gRPC addresses by service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Grpc {
    pub(crate) ratelimit: SocketAddr,
    pub(crate) keys: SocketAddr,
}

/// Ops addresses by service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ops {
    pub(crate) gateway: SocketAddr,
    pub(crate) ratelimit: SocketAddr,
    pub(crate) keys: SocketAddr,
}

impl Ready {
    pub(super) fn of(
        ratelimit: &tidegate_ratelimit::Service,
        keys: &tidegate_keys::Service,
        gateway: &tidegate_gateway::Service,
    ) -> Self {
        Self {
            gateway: format!("http://{}", reachable(gateway.addr())),
            grpc: Grpc { ratelimit: reachable(ratelimit.addr()), keys: reachable(keys.addr()) },
            ops: Ops {
                gateway: reachable(gateway.ops_addr()),
                ratelimit: reachable(ratelimit.ops_addr()),
                keys: reachable(keys.ops_addr()),
            },
            demo: None,
        }
    }

    /// Waits until every service says that it is ready.
    pub(super) async fn wait(&self) {
        let Ops { gateway, ratelimit, keys } = self.ops;
        for (name, ops) in [("ratelimit", ratelimit), ("keys", keys), ("gateway", gateway)] {
            let mut polls = 0_u32;
            while !is_ready(ops).await {
                tokio::time::sleep(POLL).await;
                polls += 1;
                if polls.is_multiple_of(LONG) {
                    tracing::warn!(service = name, "still not ready; http://{ops}/ready says why");
                }
            }
        }
    }

    /// Writes the file so that a reader finds all of it or nothing.
    pub(super) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let mut beside = path.as_os_str().to_owned();
        beside.push(format!(".{}", std::process::id()));
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        fs::write(&beside, text)
            .and_then(|()| fs::rename(&beside, path))
            .with_context(|| format!("cannot write the ready file {}", path.display()))
    }
}

/// Removes the ready file of an earlier run, which would speak of services that are gone.
///
/// # Errors
/// There is something at `path` that cannot be removed.
pub(super) fn forget(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot replace the ready file {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Whether `GET /ready` answers 200.
async fn is_ready(ops: SocketAddr) -> bool {
    let answer = async {
        let mut stream = TcpStream::connect(ops).await?;
        let request = format!("GET /ready HTTP/1.1\r\nHost: {ops}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut status = [0; "HTTP/1.1 200".len()];
        stream.read_exact(&mut status).await?;
        Ok::<_, std::io::Error>(status.ends_with(b" 200"))
    };
    answer.await.unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_file_has_the_agreed_shape() {
        let addr = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let ready = Ready {
            gateway: "http://127.0.0.1:1".to_owned(),
            grpc: Grpc { ratelimit: addr(2), keys: addr(5) },
            ops: Ops { gateway: addr(3), ratelimit: addr(4), keys: addr(6) },
            demo: None,
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ready.json");
        ready.write(&path).unwrap();
        let written: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(
            written,
            serde_json::json!({
                "gateway": "http://127.0.0.1:1",
                "grpc": {"ratelimit": "127.0.0.1:2", "keys": "127.0.0.1:5"},
                "ops": {"gateway": "127.0.0.1:3", "ratelimit": "127.0.0.1:4", "keys": "127.0.0.1:6"},
            })
        );
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left behind");

        forget(&path).unwrap();
        assert!(!path.exists());
        forget(&path).expect("there is nothing to forget");
    }
}
