//! What the keys service tells of changes.

use std::{sync::atomic::Ordering, time::Duration};

use anyhow::Context;
use tidegate_proto::keys::v1::{KeyChange, WatchKeysRequest, WatchKeysResponse};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Keys, OnRevoked};
use crate::domain::Fence;

/// There is a message every second; after so long without one the feed is taken for lost.
pub(super) const SILENCE: Duration = Duration::from_secs(3);
/// Pauses between attempts: the first, doubled each time, up to the last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Follows the feed until `stop`.
pub(super) async fn follow(keys: Keys, on_revoked: OnRevoked, stop: CancellationToken) {
    let mut follower = Follower { keys, on_revoked, seen: None, is_well: false };
    let mut pause = PAUSES.0;
    let following = async {
        loop {
            follower.is_well = false;
            let Err(error) = follower.listen().await;
            if follower.is_well {
                pause = PAUSES.0;
                tracing::warn!(
                    error = format!("{error:#}"),
                    "the feed of the keys service is lost; what is known of keys is believed for keys.stale_for"
                );
            } else {
                tracing::debug!(error = format!("{error:#}"), "the feed of the keys service is not there");
            }
            // Not all replicas at the same moment.
            let share = 0.5 + 0.5 * (follower.keys.0.random.u64() >> 40) as f64 / f64::from(1_u32 << 24);
            sleep(pause.mul_f64(share)).await;
            pause = (2 * pause).min(PAUSES.1);
        }
    };
    stop.run_until_cancelled(following).await;
}

struct Follower {
    keys: Keys,
    on_revoked: OnRevoked,
    /// The revision up to which all was told.
    seen: Option<u64>,
    /// Whether this connection has told anything.
    is_well: bool,
}

impl Follower {
    /// Takes in what is told until it breaks off.
    async fn listen(&mut self) -> anyhow::Result<std::convert::Infallible> {
        let request = WatchKeysRequest { after_revision: self.seen };
        let mut client = self.keys.0.client.get();
        let asked = timeout(SILENCE, client.watch_keys(request)).await;
        let mut told = asked.context("no answer")??.into_inner();
        loop {
            let message = timeout(SILENCE, told.message()).await.context("silence")??;
            self.take(&message.context("it has ended")?);
        }
    }

    fn take(&mut self, message: &WatchKeysResponse) {
        let inner = &self.keys.0;
        for change in &message.changes {
            self.change(change);
        }
        // What changed before the first word was not told.
        if message.reset || self.seen.is_none() {
            inner.reset();
        }
        if !self.is_well {
            self.is_well = true;
            tracing::info!(revision = message.revision, "the keys service tells of changes");
        }
        self.seen = Some(message.revision);
        // Not 0, which is never.
        inner.heard_us.store(inner.clock.steady_us().max(1), Ordering::Release);
    }

    fn change(&self, change: &KeyChange) {
        if let Ok(organization) = Uuid::try_parse(&change.organization_id) {
            self.keys.fence(Fence { organization, generation: change.generation });
        }
        if change.imported {
            self.keys.0.forget_unknown();
        }
        if !change.revoked_service_token_id.is_empty() {
            (self.on_revoked)(&change.revoked_service_token_id);
        }
    }
}
