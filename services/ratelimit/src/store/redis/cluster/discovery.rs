//! Learning which node has which slots.

use std::{
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use redis::{
    AsyncConnectionConfig, Client, ConnectionInfo, ErrorKind, RedisError, RedisResult, Value,
    aio::MultiplexedConnection, from_redis_value,
};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::Cluster;
use crate::{
    key::{SLOTS, TAGS, slot},
    store::redis::{connection::CLIENT_NAME, url},
};

/// How often the map is asked for while all is well.
const EVERY: Duration = Duration::from_secs(1);

/// How often while a node is gone, and at most.
const WHILE_UNWELL: Duration = Duration::from_millis(100);

/// Slots of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store::redis) struct Range {
    pub(in crate::store::redis) first: u16,
    pub(in crate::store::redis) last: u16,
    /// `host:port`.
    pub(in crate::store::redis) address: String,
}

/// Keeps the map of a cluster until it is dropped. A node that has left the cluster knows no slots, or only some: less than is
/// known already is believed only if every other node knows no more.
pub(super) async fn keep_up(cluster: Weak<Cluster>) {
    let first = cluster.upgrade().map_or(0, |cluster| cluster.backend.random.below(u64::from(u16::MAX)));
    let mut informants = Informants { asked: None, next: usize::try_from(first).unwrap_or(0) };
    // Of those asked one after the other that did not know as much: how many, and the most that one knew.
    let (mut passed_over, mut best) = (0, Vec::new());
    let mut last_error = RedisError::from((ErrorKind::Client, "no node knows any slot"));
    loop {
        let Some(cluster) = cluster.upgrade() else { return };
        let patience = cluster.backend.config.connect_timeout.get();
        let asked_at = Instant::now();
        if cluster.doubted.swap(false, Ordering::Relaxed) {
            informants.asked = None;
        }
        let map = timeout(patience, informants.map(&cluster, patience)).await;
        let map = map.unwrap_or_else(|_| Err((ErrorKind::Io, "the node did not answer").into()));
        if let Ok(ranges) = &map
            && slots(ranges) >= cluster.slots_known().max(1)
        {
            cluster.adopt(ranges);
            (passed_over, best) = (0, Vec::new());
        } else {
            informants.asked = None;
            passed_over += 1;
            match map {
                Ok(ranges) if slots(&ranges) > slots(&best) => best = ranges,
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(%error, "a node does not tell the slots of the cluster");
                    last_error = error;
                }
            }
            // Every one that there is has been asked.
            if passed_over >= candidates(&cluster).len() {
                if best.is_empty() {
                    cluster.not_mapped(&last_error);
                } else {
                    cluster.adopt(&best);
                }
                (passed_over, best) = (0, Vec::new());
            }
        }
        let pause = if passed_over == 0 && cluster.is_well() { EVERY } else { WHILE_UNWELL };
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
struct Informants {
    asked: Option<(String, MultiplexedConnection)>,
    /// Index of the candidate to ask next.
    next: usize,
}

impl Informants {
    /// Asks one node.
    ///
    /// # Errors
    ///
    /// It does not answer.
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
        ranges(redis, host).await
    }
}

/// All ranges of slots and their masters, as a node tells that was asked at a host.
///
/// # Errors
///
/// As Redis answers, or the connection fails.
async fn ranges(redis: &mut MultiplexedConnection, host: &str) -> RedisResult<Vec<Range>> {
    let answer: Vec<Value> = redis::cmd("CLUSTER").arg("SLOTS").query_async(redis).await?;
    answer.into_iter().map(|range| read(range, host)).collect()
}

/// The tags whose slots a `node` has, `host:port`, as it tells itself.
///
/// # Errors
///
/// As Redis answers, or the connection fails.
pub(in crate::store::redis) async fn own_tags(
    redis: &mut MultiplexedConnection,
    node: &str,
) -> RedisResult<Vec<u16>> {
    let host = url::host_and_port(node).map_or("", |(host, _)| host);
    let mut ranges = ranges(redis, host).await?;
    ranges.retain(|range| range.address == node);
    let is_own = |tag: &u16| {
        let slot = slot(tag.to_string().as_bytes());
        ranges.iter().any(|range| (range.first..=range.last).contains(&slot))
    };
    Ok(TAGS.into_iter().filter(is_own).collect())
}

fn slots(ranges: &[Range]) -> usize {
    ranges.iter().map(|range| usize::from(range.last - range.first) + 1).sum()
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
