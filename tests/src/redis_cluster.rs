//! A Redis Cluster of the test's own.

use std::time::Duration;

use anyhow::Context;

use crate::{
    eventually::eventually,
    ports,
    redis_server::{RedisServer, RedisTls},
};

/// How many masters there are; each has one replica.
pub const MASTERS: usize = 3;

/// How long a node may be silent before it is taken for dead, milliseconds.
const NODE_TIMEOUT_MS: &str = "1000";

const READY_WITHIN: Duration = Duration::from_secs(30);

/// Three masters, each with a third of the slots, and a replica of each.
#[derive(Debug)]
pub struct RedisCluster {
    /// The masters, then their replicas in the same order.
    pub nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// Starts the nodes and waits until every one of them knows the whole cluster.
    ///
    /// # Errors
    ///
    /// As [`RedisServer::start`], or they do not come together.
    pub async fn start() -> anyhow::Result<Self> {
        Self::with(&[]).await
    }

    /// The same with more settings for each node, as on its command line.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub async fn with(settings: &[&str]) -> anyhow::Result<Self> {
        Self::over(None, settings).await
    }

    /// The same with TLS, if it is given, for clients and between the nodes.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub async fn over(tls: Option<&RedisTls>, settings: &[&str]) -> anyhow::Result<Self> {
        let between: &[&str] = match tls {
            Some(_) => &["--tls-cluster", "yes", "--tls-replication", "yes"],
            None => &[],
        };
        let mut nodes = Vec::new();
        for _ in 0..2 * MASTERS {
            let bus = ports::free()?.to_string();
            let own = [
                ["--cluster-enabled", "yes"],
                ["--cluster-port", &bus],
                ["--cluster-node-timeout", NODE_TIMEOUT_MS],
                // Slots of a master that is gone are no reason to refuse the others.
                ["--cluster-require-full-coverage", "no"],
                ["--repl-diskless-sync-delay", "0"],
            ];
            let settings = own.into_iter().flatten().chain(between.iter().chain(settings).copied());
            nodes.push(RedisServer::over(tls, settings).await.context("a node of the cluster")?);
        }
        let cluster = Self { nodes };
        cluster.come_together().await?;
        Ok(cluster)
    }

    /// `redis-cluster://127.0.0.1:PORT,…` of two of the masters.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis-cluster://127.0.0.1:{},127.0.0.1:{}", self.nodes[0].port(), self.nodes[1].port())
    }

    /// The same with TLS: `rediss-cluster://…`.
    #[must_use]
    pub fn tls_url(&self) -> String {
        let [first, second] = [0, 1].map(|node: usize| self.nodes[node].own_port());
        format!("rediss-cluster://127.0.0.1:{first},127.0.0.1:{second}")
    }

    /// Makes a node name another port of its own, and waits until all name it so.
    ///
    /// # Errors
    ///
    /// The node refuses, or the others do not hear of it.
    pub async fn announce(&self, node: usize, port: u16) -> anyhow::Result<()> {
        let port = port.to_string();
        self.nodes[node].command::<()>(&["CONFIG", "SET", "cluster-announce-port", &port]).await?;
        for node in &self.nodes {
            eventually("the nodes name the port", READY_WITHIN, async || {
                let nodes: String = node.command(&["CLUSTER", "NODES"]).await?;
                Ok(nodes.contains(&format!("127.0.0.1:{port}@")))
            })
            .await?;
        }
        Ok(())
    }

    /// A node leaves for good, after its replica has taken over its slots: the others forget it, and it them.
    ///
    /// # Errors
    ///
    /// A node refuses, or the replica does not take over.
    pub async fn leave(&self, master: usize) -> anyhow::Result<()> {
        let replica = &self.nodes[master + MASTERS];
        replica.command::<()>(&["CLUSTER", "FAILOVER"]).await?;
        eventually("the replica takes over", READY_WITHIN, async || {
            let role: Vec<redis::Value> = self.nodes[master].command(&["ROLE"]).await?;
            Ok(role.first() == Some(&redis::Value::BulkString(b"slave".to_vec())))
        })
        .await?;
        let id = self.id(master).await?;
        for (_, node) in self.nodes.iter().enumerate().filter(|(index, _)| *index != master) {
            node.command::<()>(&["CLUSTER", "FORGET", &id]).await?;
        }
        self.nodes[master].command::<()>(&["CLUSTER", "RESET", "HARD"]).await
    }

    /// Index of the node that has `slot`, by what node `asked` says.
    ///
    /// # Errors
    ///
    /// The node cannot be asked, or nobody has the slot.
    pub async fn owner(&self, asked: usize, slot: u16) -> anyhow::Result<usize> {
        let ranges: Vec<redis::Value> = self.nodes[asked].command(&["CLUSTER", "SLOTS"]).await?;
        for range in ranges {
            let fields: Vec<redis::Value> = redis::from_redis_value(range)?;
            let mut fields = fields.into_iter();
            let mut next = || fields.next().context("a range has three fields");
            let first: u16 = redis::from_redis_value(next()?)?;
            let last: u16 = redis::from_redis_value(next()?)?;
            let master: Vec<redis::Value> = redis::from_redis_value(next()?)?;
            let port: u16 = redis::from_redis_value(master.into_iter().nth(1).context("a port")?)?;
            if (first..=last).contains(&slot) {
                return self.nodes.iter().position(|node| node.port() == port).context("a node of ours");
            }
        }
        anyhow::bail!("nobody has slot {slot}")
    }

    /// Begins to move a slot: from now on the new owner takes what the old one no longer has.
    ///
    /// # Errors
    ///
    /// A node refuses.
    pub async fn begin_move(&self, slot: u16, from: usize, to: usize) -> anyhow::Result<()> {
        let (slot, from_id, to_id) = (slot.to_string(), self.id(from).await?, self.id(to).await?);
        self.nodes[to].command::<()>(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id]).await?;
        self.nodes[from].command::<()>(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id]).await
    }

    /// Moves up to `count` keys of a slot, and answers how many it were.
    ///
    /// # Errors
    ///
    /// A node refuses.
    pub async fn move_keys(&self, slot: u16, from: usize, to: usize, count: u32) -> anyhow::Result<usize> {
        let (slot, count) = (slot.to_string(), count.to_string());
        let keys: Vec<String> =
            self.nodes[from].command(&["CLUSTER", "GETKEYSINSLOT", &slot, &count]).await?;
        if !keys.is_empty() {
            let port = self.nodes[to].port().to_string();
            let mut command = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
            command.extend(keys.iter().map(String::as_str));
            self.nodes[from].command::<String>(&command).await?;
        }
        Ok(keys.len())
    }

    /// Ends the move of a slot that has no key left at its old owner.
    ///
    /// # Errors
    ///
    /// A node refuses.
    pub async fn end_move(&self, slot: u16, from: usize, to: usize) -> anyhow::Result<()> {
        let (slot, id) = (slot.to_string(), self.id(to).await?);
        for node in [to, from] {
            self.nodes[node].command::<()>(&["CLUSTER", "SETSLOT", &slot, "NODE", &id]).await?;
        }
        Ok(())
    }

    /// Moves a slot with everything in it.
    ///
    /// # Errors
    ///
    /// A node refuses.
    pub async fn move_slot(&self, slot: u16, from: usize, to: usize) -> anyhow::Result<()> {
        self.begin_move(slot, from, to).await?;
        while self.move_keys(slot, from, to, 100).await? > 0 {}
        self.end_move(slot, from, to).await
    }

    /// The slots of all masters together, and a master for each replica.
    async fn come_together(&self) -> anyhow::Result<()> {
        for (index, node) in self.nodes.iter().enumerate() {
            node.command::<()>(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]).await?;
            if index < MASTERS {
                let (from, to) = (16_384 * index / MASTERS, 16_384 * (index + 1) / MASTERS - 1);
                node.command::<()>(&["CLUSTER", "ADDSLOTSRANGE", &from.to_string(), &to.to_string()]).await?;
            }
            if index > 0 {
                let bus: Vec<String> = node.command(&["CONFIG", "GET", "cluster-port"]).await?;
                let bus = bus.get(1).context("a cluster has a port for its bus")?;
                let port = node.own_port().to_string();
                self.nodes[0].command::<()>(&["CLUSTER", "MEET", "127.0.0.1", &port, bus]).await?;
            }
        }
        let all = 2 * MASTERS;
        self.each("know each other", |info, _| info.contains(&format!("cluster_known_nodes:{all}"))).await?;
        for index in MASTERS..all {
            let master = self.id(index - MASTERS).await?;
            eventually("the replica takes its master", READY_WITHIN, async || {
                Ok(self.nodes[index].command::<()>(&["CLUSTER", "REPLICATE", &master]).await.is_ok())
            })
            .await?;
        }
        self.each("have come together", |cluster, replication| {
            cluster.contains("cluster_state:ok")
                && cluster.contains(&format!("cluster_size:{MASTERS}"))
                && (replication.contains("master_link_status:up")
                    || replication.contains("connected_slaves:1"))
        })
        .await
    }

    async fn each(&self, what: &str, holds: impl Fn(&str, &str) -> bool) -> anyhow::Result<()> {
        for node in &self.nodes {
            eventually(&format!("all nodes {what}"), READY_WITHIN, async || {
                let cluster: String = node.command(&["CLUSTER", "INFO"]).await?;
                let replication: String = node.command(&["INFO", "replication"]).await?;
                Ok(holds(&cluster, &replication))
            })
            .await?;
        }
        Ok(())
    }

    async fn id(&self, node: usize) -> anyhow::Result<String> {
        self.nodes[node].command(&["CLUSTER", "MYID"]).await
    }
}
