//! Keys of another system, of which only the hashes are known.

use std::collections::{BTreeMap, HashSet};

use tidegate_chassis::error::Violations;
use tidegate_credentials::{Environment, KeyHash};

use super::{ApiKeys, Expiry, creator, written};
use crate::{
    changes::{By, feed_entry},
    domain::{Action, ApiKey, KeyId, LineageId, OrganizationId},
    error::KeysError,
    idempotency::Keep,
    store::{Change, FeedEntry, StoreError, Unique, Write},
};

/// A key of another system.
#[derive(Clone, Debug)]
pub struct ImportedKey {
    /// SHA-256 of its value.
    pub hash: KeyHash,
    /// As in [`super::NewKey`].
    pub name: String,
    /// The beginning of its value, for people; may be empty.
    pub key_prefix: String,
    /// As in [`super::NewKey`].
    pub environment: Environment,
    /// As in [`super::NewKey`].
    pub scopes: Vec<String>,
    /// As in [`super::NewKey`].
    pub expiry: Expiry,
    /// As in [`super::NewKey`].
    pub metadata: BTreeMap<String, String>,
}

impl ApiKeys {
    /// Takes keys in, all or none.
    ///
    /// # Errors
    ///
    /// There is no such organization, one would have expired by now, comes twice, or is known already, in whichever organization.
    pub async fn import(
        &self,
        by: &By,
        organization: OrganizationId,
        imported: Vec<ImportedKey>,
        keep: Keep<Vec<ApiKey>>,
    ) -> Result<Vec<ApiKey>, KeysError> {
        self.changes.organization(organization).await?;
        self.refuse_twins(&imported)?;
        for key in &imported {
            // A key that was made under another pepper has another hash, which the database would not find to be taken.
            if self.is_known(&key.hash).await? {
                return Err(KeysError::KeyExists);
            }
        }
        let now_us = self.changes.now_us();
        let mut write = Write { at_us: now_us, ..Write::default() };
        let mut keys = Vec::with_capacity(imported.len());
        let mut new_hashes = Vec::with_capacity(imported.len());
        for ImportedKey { hash, name, key_prefix, environment, scopes, expiry, metadata } in imported {
            let id = KeyId(self.changes.id(now_us));
            let key = ApiKey {
                id,
                organization_id: organization,
                lineage_id: LineageId(id.0),
                name,
                key_prefix,
                environment,
                scopes,
                allowed_cidrs: Vec::new(),
                metadata,
                limits: Vec::new(),
                created_us: now_us,
                created_by: creator(by),
                expires_us: self.expires_us(expiry, now_us)?,
                disabled_us: None,
                revoked: None,
                replaced_by: None,
                has_credits: false,
                last_used_us: None,
                expiry_announced_us: None,
                changed_us: now_us,
                version: 0,
            };
            let secret = self.secret(&key, &hash);
            new_hashes.push(secret.hash);
            write.events.push(self.event(by, now_us, &key, Action::ApiKeyImport));
            write.changes.extend([Change::ApiKey(key.clone()), Change::KeySecret(secret)]);
            keys.push(written(key, now_us));
        }
        write.feed.push(FeedEntry { new_hashes, imported: true, ..feed_entry(organization) });
        write.idempotency = keep.record(&keys, now_us);
        match self.changes.commit(write, None).await {
            Err(KeysError::Store(StoreError::Taken(Unique::KeyHash))) => Err(KeysError::KeyExists),
            other => other.map(|()| keys),
        }
    }

    fn refuse_twins(&self, imported: &[ImportedKey]) -> Result<(), KeysError> {
        let mut seen = HashSet::new();
        let mut violations = Violations::default();
        for (index, key) in imported.iter().enumerate() {
            if !seen.insert(key.hash) {
                violations.add(format!("keys[{index}].key_sha256"), "is there already");
            }
        }
        if violations.is_empty() { Ok(()) } else { Err(KeysError::Invalid(violations)) }
    }

    async fn is_known(&self, hash: &KeyHash) -> Result<bool, KeysError> {
        let hashes = self.peppers.find(hash);
        if !self.changes.may_have(&hashes) {
            return Ok(false);
        }
        Ok(self.changes.store().key_by_hash(&hashes).await?.is_some())
    }
}
