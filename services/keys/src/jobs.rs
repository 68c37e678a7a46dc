//! What is done at its time, by whichever replica is first.

use std::{convert::Infallible, time::Duration};

use tidegate_chassis::{auth::Authenticator, clock::Random};
use tokio::time::sleep;

use crate::{
    changes::{By, Changes},
    domain::{Action, ApiKey, ResourceType},
    error::KeysError,
    feed::{Feed, Since},
    origin::{Actor, RequestOrigin},
    store::{Change, KeysStore, StoreError, Write},
};

/// Between two looks for keys that expire soon, give or take half.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(60);
/// Between two rounds of forgetting, give or take half.
const FORGET_EVERY: Duration = Duration::from_secs(600);
/// Before a question is asked again that failed.
const RETRY: Duration = Duration::from_secs(1);
/// By how much clocks may differ, and more.
const CLOCKS_DIFFER_US: u64 = 60_000_000;
/// Keys that are looked at in one go.
const PAGE: u32 = 200;

/// Announces keys that expire soon, for as long as it is polled.
pub(crate) async fn keep_announcing(changes: Changes, before: Duration, random: Random) -> Infallible {
    loop {
        if let Err(error) = announce(&changes, before).await {
            tracing::warn!(%error, "keys that expire soon were not announced; it is tried again");
        }
        sleep(ANNOUNCE_EVERY.mul_f64(0.5 + random.unit_f64())).await;
    }
}

/// Forgets what is over, for as long as it is polled.
pub(crate) async fn keep_forgetting(changes: Changes, auth: Authenticator, random: Random) -> Infallible {
    loop {
        if let Err(error) = forget(changes.store(), changes.now_us(), &auth).await {
            tracing::warn!(%error, "what is over was not forgotten; it is tried again");
        }
        sleep(FORGET_EVERY.mul_f64(0.5 + random.unit_f64())).await;
    }
}

/// Forgets what is over in the database, and revoked tokens that have expired, which this process refuses by their ids. Refuses those
/// that it forgot too soon, as by a clock that was ahead for a while.
///
/// # Errors
///
/// What the store says, the first that it says. It does not keep the rest from being done.
pub(crate) async fn forget(
    store: &dyn KeysStore,
    now_us: u64,
    auth: &Authenticator,
) -> Result<(), StoreError> {
    let forgotten = store.forget(now_us).await;
    // First: one that is revoked from here on is not taken for one that has expired.
    let mut expired = auth.revoked_ids();
    let living = match store.revoked_service_tokens(now_us.saturating_sub(CLOCKS_DIFFER_US)).await {
        Ok(living) => living,
        Err(error) => return forgotten.and(Err(error)),
    };
    for id in living {
        let id = id.to_string();
        if !expired.remove(&id) {
            auth.revoke(id);
        }
    }
    auth.forget_revoked(&expired);
    forgotten
}

/// Refuses all service tokens that are revoked by now, and gives the revision of the feed from which on later ones are told.
///
/// # Errors
///
/// What the store says.
pub(crate) async fn refuse_revoked(
    feed: &Feed,
    changes: &Changes,
    auth: &Authenticator,
) -> Result<u64, StoreError> {
    let revision = feed.revision();
    let revoked = changes.store().revoked_service_tokens(changes.now_us()).await?;
    // None is taken out: one that was revoked while this was read may not be among them.
    revoked.into_iter().for_each(|id| auth.revoke(id.to_string()));
    Ok(revision)
}

/// Refuses service tokens that were revoked after the revision `seen`, over whichever replica, for as long as it is polled.
pub(crate) async fn keep_refusing(
    feed: Feed,
    changes: Changes,
    auth: Authenticator,
    mut seen: u64,
) -> Infallible {
    loop {
        seen = match feed.since(seen) {
            Since::Changes(revision, changes) => {
                let revoked = changes.into_iter().filter_map(|changed| changed.revoked_service_token);
                revoked.for_each(|id| auth.revoke(id.to_string()));
                revision
            }
            Since::TooLongAgo(_) => match refuse_revoked(&feed, &changes, &auth).await {
                Ok(revision) => revision,
                Err(error) => {
                    tracing::warn!(%error, "revoked service tokens cannot be read; it is tried again");
                    sleep(RETRY).await;
                    continue;
                }
            },
        };
        feed.later_than(seen).await;
    }
}

/// Announces each key that expires within `before`, once, by an event.
///
/// # Errors
///
/// What the store says.
pub(crate) async fn announce(changes: &Changes, before: Duration) -> Result<(), KeysError> {
    let before_us = u64::try_from(before.as_micros()).unwrap_or(u64::MAX);
    loop {
        let now_us = changes.now_us();
        let keys = changes.store().expiring_keys(now_us, now_us.saturating_add(before_us), PAGE).await?;
        let is_last = keys.len() < PAGE as usize;
        for key in keys {
            match announce_one(changes, key, now_us).await {
                // Another replica announced it, or it was changed: it is looked at again the next time.
                Ok(()) | Err(KeysError::Store(StoreError::Conflict)) => {}
                Err(error) => return Err(error),
            }
        }
        if is_last {
            return Ok(());
        }
    }
}

async fn announce_one(changes: &Changes, key: ApiKey, now_us: u64) -> Result<(), KeysError> {
    let by = By { actor: Actor::system(), origin: RequestOrigin::default() };
    let details = [
        ("name", key.name.clone().into()),
        ("expires_at_ms", key.expires_us.map(|at_us| at_us / 1_000).into()),
    ];
    let resource = (Action::ApiKeyExpiring, ResourceType::ApiKey, key.id.0);
    let event = changes.event(&by, now_us, key.organization_id, resource, details);
    // The row is written with the event, so that of two replicas one fails.
    let key = ApiKey { expiry_announced_us: Some(now_us), ..key };
    let write =
        Write { at_us: now_us, changes: vec![Change::ApiKey(key)], events: vec![event], ..Write::default() };
    changes.commit(write, None).await
}
