//! A backend that answers with what reaches it.

use std::net::Ipv4Addr;

use serde_json::{Map, Value};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
};

/// Answers every request without a body by 200 and a JSON object of its headers, names in lower case.
#[derive(Debug)]
pub struct Echo {
    address: String,
    serving: AbortHandle,
}

impl Echo {
    /// Listens on a free port of 127.0.0.1.
    ///
    /// # Errors
    ///
    /// There is none.
    pub async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?.to_string();
        let serving = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(answer(stream));
            }
        });
        Ok(Self { address, serving: serving.abort_handle() })
    }

    /// `HOST:PORT` at which it takes requests.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// One request a connection.
async fn answer(stream: TcpStream) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut headers = Map::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(": ") {
            let seen = headers.entry(name.to_ascii_lowercase()).or_insert(Value::String(String::new()));
            let joined = match seen.as_str().unwrap_or_default() {
                "" => value.to_owned(),
                before => format!("{before}, {value}"),
            };
            *seen = joined.into();
        }
    }
    let body = Value::Object(headers).to_string();
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await?;
    stream.flush().await
}
