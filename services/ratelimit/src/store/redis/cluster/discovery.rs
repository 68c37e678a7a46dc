//! Learning which node has which slots.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use redis::{
    AsyncConnectionConfig, Client, ConnectionInfo, ErrorKind, RedisResult, Value, aio::MultiplexedConnection,
    from_redis_value,
};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::Cluster;
use crate::{
    key::SLOTS,
    store::redis::{connection::CLIENT_NAME, url},
};

/// How often the map is asked for while all is well.
const EVERY: Duration = Duration::from_secs(1);

/// How often while a node is gone, and at most.
const WHILE_UNWELL: Duration = Duration::from_millis(100);

/// Slots of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) first: u16,
    pub(super) last: u16,
    /// `host:port`.
    pub(super) address: String,
}

/// Keeps the map of a cluster until it is dropped.
pub(super) async fn keep_up(cluster: Weak<Cluster>) {
    let mut nodes = Nodes { asked: None, next: 0 };
    loop {
        let Some(cluster) = cluster.upgrade() else { return };
        let patience = cluster.backend.config.connect_timeout.get();
        let asked_at = Instant::now();
        let map = timeout(patience, nodes.map(&cluster, patience)).await;
        let map = map.unwrap_or_else(|_| Err((ErrorKind::Io, "the node did not answer").into()));
        match map {
            Ok(ranges) => cluster.adopt(&ranges),
            Err(error) => {
                nodes.asked = None;
                tracing::debug!(%error, "a node does not tell the slots of the cluster");
                // Every one that there is has been asked.
                if nodes.next.is_multiple_of(candidates(&cluster).len()) {
                    cluster.not_mapped();
                }
            }
        }
        let pause = if cluster.is_well() { EVERY } else { WHILE_UNWELL };
        let stale = Arc::clone(&cluster.stale);
        drop(cluster);
        tokio::select! {
            () = sleep(pause) => {}
            () = stale.notified() => {}
        }
        sleep_until(asked_at + WHILE_UNWELL).await;
    }
}

/// Whom to ask.
struct Nodes {
    asked: Option<(String, MultiplexedConnection)>,
    /// Index of the candidate to ask next.
    next: usize,
}

impl Nodes {
    /// Asks one node.
    async fn map(&mut self, cluster: &Cluster, patience: Duration) -> RedisResult<Vec<Range>> {
        if self.asked.is_none() {
            let candidates = candidates(cluster);
            let info = candidates[self.next % candidates.len()].clone();
            self.next += 1;
            let host = info.addr().to_string();
            let config = AsyncConnectionConfig::new().set_connection_timeout(Some(patience));
            let mut redis = Client::open(info)?.get_multiplexed_async_connection_with_config(&config).await?;
            let _: () = redis::cmd("CLIENT").arg("SETNAME").arg(CLIENT_NAME).query_async(&mut redis).await?;
            let host = url::host_and_port(&host).map_or_else(String::new, |(host, _)| host.to_owned());
            self.asked = Some((host, redis));
        }
        let (host, redis) = self.asked.as_mut().expect("connected above");
        let answer: Vec<Value> = redis::cmd("CLUSTER").arg("SLOTS").query_async(redis).await?;
        answer.into_iter().map(|range| read(range, host)).collect()
    }
}

/// The nodes that are known, then those of the URL.
fn candidates(cluster: &Cluster) -> Vec<ConnectionInfo> {
    let seed = &cluster.seeds[0];
    let map = cluster.lock();
    let known = map.nodes.iter().filter_map(|node| {
        let (host, port) = url::host_and_port(&node.link.name)?;
        Some(url::at(seed, host, port))
    });
    known.chain(cluster.seeds.iter().cloned()).collect()
}

/// Reads a range: its first and last slot, then its master as host, port and more. A node that does not know its own
/// host means the one at which it was `asked`.
fn read(range: Value, asked: &str) -> RedisResult<Range> {
    let malformed = || (ErrorKind::UnexpectedReturnType, "CLUSTER SLOTS names ranges and their nodes").into();
    let mut fields = from_redis_value::<Vec<Value>>(range)?.into_iter();
    let mut next = || fields.next().ok_or_else(malformed);
    let (first, last): (u16, u16) = (from_redis_value(next()?)?, from_redis_value(next()?)?);
    let mut master = from_redis_value::<Vec<Value>>(next()?)?.into_iter();
    let host: Option<String> = from_redis_value(master.next().ok_or_else(malformed)?)?;
    let port: u16 = from_redis_value(master.next().ok_or_else(malformed)?)?;
    let host = host.filter(|host| !host.is_empty() && host != "?").unwrap_or_else(|| asked.to_owned());
    if first > last || last >= SLOTS {
        return Err(malformed());
    }
    Ok(Range { first, last, address: format!("{host}:{port}") })
}
