//! Since when nothing has been lost of what a node counted.
//!
//! A Redis that restarts begins with what it had on disk, if anything; a replica that is promoted with what had reached it. Either
//! way it has a new replication id. So when a connection is made, before anything is decided over it, the node is
//! asked for its id, how long it has been up and whether it was a replica before (a second id). One that never was has lost
//! nothing since it was started. When one was promoted it does not say: who meets it first under its id leaves a record
//! of that moment beside the counters, where all others find it.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use redis::{Pipeline, RedisResult, Value, aio::MultiplexedConnection, from_redis_value};
use tokio::time::{Instant, sleep, timeout};

use super::cluster::discovery;
use crate::key::TAGS;

/// How often a node is asked over a connection that lasts: it may be demoted and promoted again meanwhile.
const EVERY: Duration = Duration::from_secs(1);

/// How long a record is kept after somebody has met the node, in milliseconds: longer than most limits look back. If it is gone, the
/// node counts as promoted just now.
const KEEP_MS: u64 = 400 * 86_400_000;

/// What is known of the node at the end of a link.
#[derive(Debug)]
pub(super) struct History {
    started: Instant,
    /// Since when nothing was lost, in microseconds after `started`, before which it may be. [`UNKNOWN`] at first.
    complete_since_us: AtomicI64,
}

const UNKNOWN: i64 = i64::MAX;

impl History {
    pub(super) fn new() -> Self {
        Self { started: Instant::now(), complete_since_us: AtomicI64::new(UNKNOWN) }
    }

    /// For how long nothing was lost; 0 if that is not known.
    pub(super) fn complete_for_us(&self) -> u64 {
        let since_us = self.complete_since_us.load(Ordering::Acquire);
        u64::try_from(self.now_us().saturating_sub(since_us)).unwrap_or(0)
    }

    /// Asks the node at the end of a new connection. If it does not tell, nothing is known. Answers its replication id.
    pub(super) async fn learn(
        &self,
        redis: &mut MultiplexedConnection,
        node: &str,
        in_cluster: bool,
    ) -> String {
        let asked_us = self.now_us();
        let (id, since_us) = match complete_for(redis, node, in_cluster).await {
            Ok((id, complete_for_us)) => (id, asked_us.saturating_sub(complete_for_us)),
            Err(error) => {
                tracing::warn!(
                    node,
                    %error,
                    "Redis does not tell since when it has lost nothing: policies that are strict about losses deny"
                );
                (String::new(), UNKNOWN)
            }
        };
        self.complete_since_us.store(since_us, Ordering::Release);
        id
    }

    /// Asks again when the node has another `id` over the same connection, until that is given up.
    pub(super) async fn watch(
        self: Arc<Self>,
        mut redis: MultiplexedConnection,
        node: String,
        in_cluster: bool,
        mut id: String,
        connection: Weak<()>,
    ) {
        while connection.strong_count() > 0 {
            sleep(EVERY).await;
            let asked = timeout(5 * EVERY, replication(&mut redis)).await;
            let Ok(Ok(replication)) = asked else { continue };
            if connection.strong_count() > 0 && field(&replication, "master_replid") != Some(&id) {
                id = self.learn(&mut redis, &node, in_cluster).await;
            }
        }
    }

    fn now_us(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_micros()).unwrap_or(UNKNOWN - 1)
    }
}

async fn replication(redis: &mut MultiplexedConnection) -> RedisResult<String> {
    redis::cmd("INFO").arg("replication").query_async(redis).await
}

/// Finds the record, or leaves one. Answers the replication id, and for how many microseconds nothing was lost.
async fn complete_for(
    redis: &mut MultiplexedConnection,
    node: &str,
    in_cluster: bool,
) -> RedisResult<(String, i64)> {
    let replication = replication(redis).await?;
    let server: String = redis::cmd("INFO").arg("server").query_async(redis).await?;
    let id = field(&replication, "master_replid").unwrap_or_default();
    let was_replica =
        field(&replication, "master_replid2").is_none_or(|id| id.bytes().any(|byte| byte != b'0'));
    let up_s: i64 = field(&server, "uptime_in_seconds").and_then(|text| text.parse().ok()).unwrap_or(0);

    // In a cluster beside the counters of each bucket that the node has, since slots move.
    let tags = if in_cluster { discovery::own_tags(redis, node).await? } else { vec![TAGS[0]] };
    let keys: Vec<_> = tags.iter().map(|tag| format!("tg2:{{{tag}}}complete:{id}")).collect();
    let mut look = Pipeline::new();
    look.cmd("TIME");
    keys.iter().for_each(|key| {
        look.cmd("GET").arg(key);
    });
    let answers = redis.send_packed_commands(&look, 0, keys.len() + 1).await?;
    let mut answers = answers.into_iter().map(Value::extract_error);
    let time: (i64, i64) = from_redis_value(answers.next().unwrap_or(Ok(Value::Nil))?)?;
    let now_us = time.0 * 1_000_000 + time.1;
    // A slot may have moved away just now, with the record in it.
    let found = answers.filter_map(|answer| from_redis_value::<Option<i64>>(answer.ok()?).ok()?);
    let since_us = found.min().unwrap_or(if was_replica { now_us } else { now_us - up_s * 1_000_000 });
    if let Some(key) = keys.first() {
        let mut set = redis::cmd("SET");
        set.arg(key).arg(since_us).arg("PX").arg(KEEP_MS).exec_async(redis).await?;
    }
    Ok((id.to_owned(), (now_us - since_us).max(0)))
}

/// A field of what INFO answers.
fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}
