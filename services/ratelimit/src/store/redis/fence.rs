//! Fences: one key for each organization of which something has changed, which the script of a check compares.
//!
//! On a cluster a script works on keys of one slot, so the fence is written beside the keys of every bucket: a check finds it in the slot of
//! its first key.

use std::time::Duration;

use futures_util::future::join_all;
use redis::Cmd;
use tokio::time::{Instant, timeout_at};

use super::{Nodes, RedisStore, call};
use crate::{
    domain::{Check, Fence},
    key::{Key, TAGS, fence_key, slot, tag_of},
    store::StoreError,
};

/// How long a fence is kept: far longer than any replica goes on without asking anew.
const KEPT: Duration = Duration::from_hours(24);

const FENCE: &str = include_str!("fence.lua");

/// Where the fence of a check lies: `beside` its first key, or in the one place where there is no cluster.
pub(super) fn key_of(check: &Check<'_>, fence: Fence, beside: bool) -> Key {
    let tag = check.keys().next().filter(|_| beside).map(tag_of);
    // One without keys is at home in any slot.
    let any = TAGS[0].to_string();
    let tag = if beside { Some(tag.unwrap_or(any.as_bytes())) } else { None };
    fence_key(tag, fence.organization)
}

/// The slot in which it lies on a cluster.
pub(super) fn slot_of(check: &Check<'_>, fence: Fence) -> u16 {
    slot(&key_of(check, fence, true))
}

impl RedisStore {
    /// Raises a fence wherever a check may look for it.
    pub(super) async fn raise(&self, fence: Fence) -> Result<bool, StoreError> {
        let deadline = Instant::now() + self.deadline;
        let raise = async {
            match &self.nodes {
                Nodes::One(link) => {
                    let mut redis = link.queue.connection().await?;
                    let command = command(&fence_key(None, fence.organization), fence);
                    let sent = call::send(&mut redis, &command, false).await;
                    sent.map_err(|error| StoreError::from(call::failure(&error)))?;
                }
                Nodes::Cluster(cluster) => {
                    // All are under way at once, so each node gets its own together.
                    let writes = TAGS.iter().map(|tag| async move {
                        let key = fence_key(Some(tag.to_string().as_bytes()), fence.organization);
                        cluster.send(&key, &command(&key, fence)).await
                    });
                    for written in join_all(writes).await {
                        written?;
                    }
                }
            }
            Ok(true)
        };
        timeout_at(deadline, raise).await.unwrap_or(Err(StoreError::Timeout))
    }
}

/// Sent as text: it is rare, and raising a fence again is safe.
fn command(key: &Key, fence: Fence) -> Cmd {
    let mut command = redis::cmd("EVAL");
    command.arg(FENCE).arg(1).arg(&key[..]).arg(fence.generation);
    command.arg(u64::try_from(KEPT.as_millis()).expect("a day has fewer milliseconds"));
    command
}
