//! A master, its replicas and the sentinels that watch them, of the test's own.

use std::{fs, process::Command, time::Duration};

use anyhow::Context;
use tempfile::TempDir;

use crate::{
    eventually::eventually,
    ports,
    process::Process,
    redis_server::{RedisServer, RedisTls},
};

/// The name by which the sentinels know the master.
pub const MASTER: &str = "main";

const SENTINELS: usize = 3;
const READY_WITHIN: Duration = Duration::from_secs(30);

/// One master, two replicas, three sentinels.
#[derive(Debug)]
pub struct RedisSentinel {
    /// The master as it was at the start, then its replicas.
    pub servers: Vec<RedisServer>,
    sentinels: Vec<Sentinel>,
}

#[derive(Debug)]
struct Sentinel {
    process: Process,
    port: u16,
    tls_port: Option<u16>,
    /// Holds the file that the sentinel keeps its state in.
    _folder: TempDir,
}

impl RedisSentinel {
    /// Starts all of them and waits until every sentinel knows the others and the replicas.
    ///
    /// # Errors
    ///
    /// As [`RedisServer::start`], or they do not come together.
    pub async fn start() -> anyhow::Result<Self> {
        Self::with(&[], "").await
    }

    /// The same with more settings for the servers, as on the command line, and lines for the sentinels.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub async fn with(settings: &[&str], sentinel: &str) -> anyhow::Result<Self> {
        Self::over(None, settings, sentinel).await
    }

    /// The same with TLS, if it is given, for clients and between all of them.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub async fn over(tls: Option<&RedisTls>, settings: &[&str], sentinel: &str) -> anyhow::Result<Self> {
        let between: &[&str] = if tls.is_some() { &["--tls-replication", "yes"] } else { &[] };
        let all = || between.iter().chain(settings).copied();
        let mut servers = vec![RedisServer::over(tls, all()).await?];
        let master = servers[0].own_port().to_string();
        for _ in 0..2 {
            let own = ["--replicaof", "127.0.0.1", &master, "--repl-diskless-sync-delay", "0"];
            servers.push(RedisServer::over(tls, own.into_iter().chain(all())).await?);
        }
        servers[0].command::<()>(&["CONFIG", "SET", "repl-diskless-sync-delay", "0"]).await?;
        for replica in &servers[1..] {
            eventually("the replica follows its master", READY_WITHIN, async || {
                let info: String = replica.command(&["INFO", "replication"]).await?;
                Ok(info.contains("master_link_status:up"))
            })
            .await?;
        }
        let mut sentinels = Vec::new();
        for _ in 0..SENTINELS {
            sentinels.push(Sentinel::start(&master, tls, sentinel)?);
        }
        let these = Self { servers, sentinels };
        these.come_together().await?;
        Ok(these)
    }

    /// `redis+sentinel://127.0.0.1:PORT,…/main`.
    #[must_use]
    pub fn url(&self) -> String {
        let hosts: Vec<_> = self.sentinels.iter().map(|s| format!("127.0.0.1:{}", s.port)).collect();
        format!("redis+sentinel://{}/{MASTER}", hosts.join(","))
    }

    /// The same with TLS: `rediss+sentinel://…`.
    ///
    /// # Panics
    ///
    /// If they were started without TLS.
    #[must_use]
    pub fn tls_url(&self) -> String {
        let port = |sentinel: &Sentinel| sentinel.tls_port.expect("started with TLS");
        let hosts: Vec<_> = self.sentinels.iter().map(|s| format!("127.0.0.1:{}", port(s))).collect();
        format!("rediss+sentinel://{}/{MASTER}", hosts.join(","))
    }

    /// Index of the server that is the master, as most sentinels say.
    ///
    /// # Errors
    ///
    /// No sentinel answers.
    pub async fn master(&self) -> anyhow::Result<usize> {
        let mut votes = vec![0; self.servers.len()];
        for sentinel in &self.sentinels {
            let (_, port): (String, u16) =
                sentinel.command(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER]).await?;
            if let Some(index) = self.servers.iter().position(|server| server.own_port() == port) {
                votes[index] += 1;
            }
        }
        votes.iter().position(|votes| *votes * 2 > SENTINELS).context("the sentinels agree on a master")
    }

    /// Asks for a failover although the master is well: a replica is promoted.
    ///
    /// # Errors
    ///
    /// The sentinel refuses.
    pub async fn promote_a_replica(&self) -> anyhow::Result<()> {
        self.sentinels[0].command::<String>(&["SENTINEL", "FAILOVER", MASTER]).await.map(drop)
    }

    /// Sends one command to a sentinel.
    ///
    /// # Errors
    ///
    /// As [`RedisServer::command`].
    pub async fn command_sentinel<T: redis::FromRedisValue>(
        &self,
        index: usize,
        words: &[&str],
    ) -> anyhow::Result<T> {
        self.sentinels[index].command(words).await
    }

    /// The process of a sentinel.
    #[must_use]
    pub fn sentinel(&self, index: usize) -> &Process {
        &self.sentinels[index].process
    }

    async fn come_together(&self) -> anyhow::Result<()> {
        for sentinel in &self.sentinels {
            eventually("the sentinel knows the others", READY_WITHIN, async || {
                let of: std::collections::HashMap<String, String> =
                    match sentinel.command(&["SENTINEL", "MASTER", MASTER]).await {
                        Ok(of) => of,
                        Err(_) => return Ok(false),
                    };
                let has = |field: &str, count: usize| of.get(field) == Some(&count.to_string());
                Ok(has("num-other-sentinels", SENTINELS - 1) && has("num-slaves", self.servers.len() - 1))
            })
            .await
            .with_context(|| sentinel.process.tail())?;
        }
        Ok(())
    }
}

impl Sentinel {
    fn start(master: &str, tls: Option<&RedisTls>, lines: &str) -> anyhow::Result<Self> {
        let (port, folder) = (ports::free()?, tempfile::tempdir()?);
        let tls_port = tls.map(|_| ports::free()).transpose()?;
        let file = folder.path().join("sentinel.conf");
        let mut text = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor {MASTER} 127.0.0.1 {master} 2\n\
             sentinel down-after-milliseconds {MASTER} 700\nsentinel failover-timeout {MASTER} 3000\n{lines}\n",
            folder.path().display()
        );
        if let Some((tls, port)) = tls.zip(tls_port) {
            text.push_str("tls-replication yes\n");
            for setting in tls.settings(port).chunks(2) {
                text.push_str(&format!("{}\n", setting.join(" ").trim_start_matches("--")));
            }
        }
        fs::write(&file, text)?;
        let mut command = Command::new("redis-server");
        command.arg(&file).arg("--sentinel");
        let process = Process::spawn("redis-sentinel", &mut command).context("a sentinel")?;
        Ok(Self { process, port, tls_port, _folder: folder })
    }

    async fn command<T: redis::FromRedisValue>(&self, words: &[&str]) -> anyhow::Result<T> {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", self.port))?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        let (first, rest) = words.split_first().context("a command has a name")?;
        let mut command = redis::cmd(first);
        rest.iter().for_each(|word| {
            command.arg(*word);
        });
        Ok(command.query_async(&mut connection).await?)
    }
}
