//! Changes of a key that stays the same key.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::{ApiKeys, Expiry, is_revoked, written};
use crate::{
    changes::{By, Turn, feed_entry, raise_generation},
    domain::{Action, ApiKey, KeyId, KeyLimit, OrganizationId},
    error::{KeysError, until_written},
    idempotency::Keep,
    store::{Change, FeedEntry, Write},
};

/// What is to be changed; what is absent stays.
#[derive(Clone, Debug, Default)]
pub struct KeyUpdate {
    /// As in [`super::NewKey`].
    pub name: Option<String>,
    /// As in [`super::NewKey`].
    pub scopes: Option<Vec<String>>,
    /// Whether it is switched on.
    pub enabled: Option<bool>,
    /// As in [`super::NewKey`].
    pub expiry: Option<Expiry>,
    /// As in [`super::NewKey`].
    pub allowed_cidrs: Option<Vec<IpNet>>,
    /// As in [`super::NewKey`].
    pub metadata: Option<BTreeMap<String, String>>,
    /// As in [`super::NewKey`].
    pub limits: Option<Vec<KeyLimit>>,
    /// The version that is meant; whichever if absent.
    pub etag: Option<String>,
}

impl ApiKeys {
    /// Changes a key; for the next check it is what it is now.
    ///
    /// # Errors
    ///
    /// There is no such organization or key, it is revoked, it is not the version that is meant, or it would have expired by now.
    pub async fn update(
        &self,
        by: &By,
        organization: OrganizationId,
        id: KeyId,
        update: KeyUpdate,
        keep: Keep<ApiKey>,
    ) -> Result<ApiKey, KeysError> {
        let turn = self.changes.turn(organization).await;
        until_written(|| self.try_update(by, &turn, id, &update, &keep)).await
    }

    async fn try_update(
        &self,
        by: &By,
        turn: &Turn,
        id: KeyId,
        update: &KeyUpdate,
        keep: &Keep<ApiKey>,
    ) -> Result<ApiKey, KeysError> {
        let organization = turn.organization;
        let mut tenant = self.changes.organization(organization).await?;
        let mut key = self.get(organization, id).await?;
        let now_us = self.changes.now_us();
        if is_revoked(&key, now_us) {
            return Err(KeysError::KeyRevoked);
        }
        let etag = key.version.to_string();
        if update.etag.as_ref().is_some_and(|meant| *meant != etag) {
            return Err(KeysError::EtagMismatch(etag));
        }
        self.apply(&mut key, update, now_us)?;
        let updated = written(key.clone(), now_us);
        let mut write = Write {
            at_us: now_us,
            events: vec![self.event(by, now_us, &key, Action::ApiKeyUpdate)],
            changes: vec![Change::ApiKey(key)],
            idempotency: keep.record(&updated, now_us),
            ..Write::default()
        };
        raise_generation(&mut write, &mut tenant, FeedEntry { key: Some(id), ..feed_entry(organization) });
        self.changes.commit_in(turn, write, Some(tenant.generation)).await?;
        Ok(updated)
    }

    fn apply(&self, key: &mut ApiKey, update: &KeyUpdate, now_us: u64) -> Result<(), KeysError> {
        let KeyUpdate { name, scopes, enabled, expiry, allowed_cidrs, metadata, limits, etag: _ } =
            update.clone();
        key.name = name.unwrap_or_else(|| std::mem::take(&mut key.name));
        key.scopes = scopes.unwrap_or_else(|| std::mem::take(&mut key.scopes));
        key.allowed_cidrs = allowed_cidrs.unwrap_or_else(|| std::mem::take(&mut key.allowed_cidrs));
        key.metadata = metadata.unwrap_or_else(|| std::mem::take(&mut key.metadata));
        key.limits = limits.unwrap_or_else(|| std::mem::take(&mut key.limits));
        match enabled {
            Some(true) => key.disabled_us = None,
            Some(false) => key.disabled_us = key.disabled_us.or(Some(now_us)),
            None => {}
        }
        if let Some(expiry) = expiry {
            key.expires_us = self.expires_us(expiry, now_us)?;
            // One that expires at another time is announced anew.
            key.expiry_announced_us = None;
        }
        Ok(())
    }
}
