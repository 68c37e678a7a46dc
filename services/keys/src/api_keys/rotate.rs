//! The end of a key: another takes its place, or none.

use std::time::Duration;

use serde_json::Value;
use tidegate_credentials::KeyValue;

use super::{ApiKeys, CreatedKey, MAX_NAME_CHARS, creator, is_revoked, written};
use crate::{
    changes::{By, Turn, feed_entry, raise_generation},
    domain::{Action, ApiKey, KeyId, OrganizationId, RevokeReason},
    error::{KeysError, until_written},
    idempotency::Keep,
    store::{Change, FeedEntry, Write},
};

/// What is added to the name of a key that takes the place of another.
pub const ROTATED_SUFFIX: &str = " (Rotated)";
/// The longest grace period.
pub const MAX_GRACE: Duration = Duration::from_secs(2_592_000);

/// A key that was rotated.
#[derive(Clone, Debug)]
pub struct RotatedKey {
    /// As it is now.
    pub old: ApiKey,
    /// What took its place.
    pub new: CreatedKey,
}

impl ApiKeys {
    /// Makes a key in place of another, which is revoked after `grace`. What was not used up of limits and credits is left to the
    /// new one, since it is of the same lineage.
    ///
    /// # Errors
    ///
    /// There is no such organization or key, or it is revoked, or was rotated before.
    pub async fn rotate(
        &self,
        by: &By,
        organization: OrganizationId,
        id: KeyId,
        grace: Duration,
        keep: Keep<RotatedKey>,
    ) -> Result<RotatedKey, KeysError> {
        let turn = self.changes.turn(organization).await;
        until_written(|| self.try_rotate(by, &turn, id, grace, &keep)).await
    }

    async fn try_rotate(
        &self,
        by: &By,
        turn: &Turn,
        id: KeyId,
        grace: Duration,
        keep: &Keep<RotatedKey>,
    ) -> Result<RotatedKey, KeysError> {
        let organization = turn.organization;
        let mut tenant = self.changes.organization(organization).await?;
        let mut old = self.get(organization, id).await?;
        let now_us = self.changes.now_us();
        // In its grace period it has a successor already, and there is one for each key.
        if old.revoked.is_some() {
            return Err(KeysError::KeyRevoked);
        }
        let value = self.new_value(old.environment);
        let new = ApiKey { created_by: creator(by), ..self.successor(&old, &value, now_us) };
        let secret = self.secret(&new, &value.hash());
        let grace_us = u64::try_from(grace.min(MAX_GRACE).as_micros()).unwrap_or(u64::MAX);
        old.revoked = Some((now_us.saturating_add(grace_us), RevokeReason::Rotated));
        old.replaced_by = Some(new.id);
        let mut event = self.event(by, now_us, &old, Action::ApiKeyRotate);
        event.details.insert("replaced_by".to_owned(), new.id.to_string().into());
        event.details.insert("grace_period_s".to_owned(), Value::from(grace_us / 1_000_000));
        let entry = FeedEntry { key: Some(id), new_hashes: vec![secret.hash], ..feed_entry(organization) };
        let rotated = RotatedKey {
            old: written(old.clone(), now_us),
            new: CreatedKey { key: written(new.clone(), now_us), value },
        };
        let mut write = Write {
            at_us: now_us,
            changes: vec![Change::ApiKey(new), Change::KeySecret(secret), Change::ApiKey(old)],
            events: vec![event],
            idempotency: keep.record(&rotated, now_us),
            ..Write::default()
        };
        raise_generation(&mut write, &mut tenant, entry);
        self.changes.commit_in(turn, write, Some(tenant.generation)).await?;
        Ok(rotated)
    }

    fn successor(&self, old: &ApiKey, value: &KeyValue, now_us: u64) -> ApiKey {
        let kept = old.name.chars().take(MAX_NAME_CHARS - ROTATED_SUFFIX.len());
        ApiKey {
            id: KeyId(self.changes.id(now_us)),
            name: kept.chain(ROTATED_SUFFIX.chars()).collect(),
            key_prefix: value.key_prefix().to_owned(),
            created_us: now_us,
            expires_us: old.expires_us.map(|at| now_us.saturating_add(at.saturating_sub(old.created_us))),
            revoked: None,
            replaced_by: None,
            last_used_us: None,
            expiry_announced_us: None,
            version: 0,
            ..old.clone()
        }
    }

    /// Revokes a key: its next use is denied. One that is revoked stays as it is.
    ///
    /// # Errors
    ///
    /// There is no such organization or key.
    pub async fn revoke(
        &self,
        by: &By,
        organization: OrganizationId,
        id: KeyId,
        keep: Keep<ApiKey>,
    ) -> Result<ApiKey, KeysError> {
        let reason = (RevokeReason::Revoked, Action::ApiKeyRevoke);
        let turn = self.changes.turn(organization).await;
        until_written(|| self.try_revoke(by, &turn, id, reason, &[], &keep)).await
    }

    pub(super) async fn try_revoke(
        &self,
        by: &By,
        turn: &Turn,
        id: KeyId,
        (reason, action): (RevokeReason, Action),
        details: &[(&'static str, Value)],
        keep: &Keep<ApiKey>,
    ) -> Result<ApiKey, KeysError> {
        let organization = turn.organization;
        let mut tenant = self.changes.organization(organization).await?;
        let mut key = self.get(organization, id).await?;
        let now_us = self.changes.now_us();
        if is_revoked(&key, now_us) {
            turn.end();
            // Whoever revoked it may have been stopped before it was told; who asks again wants to be sure. It may have been revoked
            // after the organization was read, by another replica.
            self.changes.put_in_force(organization).await?;
            return Ok(key);
        }
        key.revoked = Some((now_us, reason));
        let mut event = self.event(by, now_us, &key, action);
        event.details.extend(details.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        let revoked = written(key.clone(), now_us);
        let mut write = Write {
            at_us: now_us,
            changes: vec![Change::ApiKey(key)],
            events: vec![event],
            idempotency: keep.record(&revoked, now_us),
            ..Write::default()
        };
        raise_generation(&mut write, &mut tenant, FeedEntry { key: Some(id), ..feed_entry(organization) });
        self.changes.commit_in(turn, write, Some(tenant.generation)).await?;
        Ok(revoked)
    }
}
