//! Whose a key is.

use std::{net::IpAddr, sync::Arc};

use tidegate_credentials::{
    KeyHash, KeyShape, Record, ScopeExpression, Standing, Use, key_hash, key_shape, standing,
};

use crate::{
    api_keys::is_revoked,
    domain::{ApiKey, Organization, OrganizationStatus},
    error::KeysError,
    feed::Feed,
    peppers::Peppers,
    store::KeysStore,
};

/// Finds keys by the hashes of their values. Clones are the same.
#[derive(Clone)]
pub struct Resolver {
    store: Arc<dyn KeysStore>,
    peppers: Arc<Peppers>,
    feed: Feed,
}

/// Whose a key is, as of a revision of the feed.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The key and its organization; none if nobody has it.
    pub key: Option<(ApiKey, Organization)>,
    /// What was written up to this revision was seen.
    pub revision: u64,
}

impl Resolver {
    /// Finds what `store` keeps.
    #[must_use]
    pub fn new(store: Arc<dyn KeysStore>, peppers: Arc<Peppers>, feed: Feed) -> Self {
        Self { store, peppers, feed }
    }

    /// Whose the key with this hash is. What was written before the call is seen. A hash that nobody has costs a part of one
    /// question to the database, which all who ask at the same time share.
    ///
    /// # Errors
    ///
    /// What the store says.
    pub async fn resolve(&self, hash: &KeyHash) -> Result<Resolved, KeysError> {
        let hashes = self.peppers.find(hash);
        if !self.feed.hashes().may_have(&hashes) {
            self.feed.catch_up().await?;
            if !self.feed.hashes().may_have(&hashes) {
                return Ok(Resolved { key: None, revision: self.feed.revision() });
            }
        }
        // Before the row: it may be newer than that, and never older.
        let revision = self.feed.revision();
        Ok(Resolved { key: self.store.key_by_hash(&hashes).await?, revision })
    }

    /// Whose a key is, by its value. One that is nobody's by its looks costs nothing.
    ///
    /// # Errors
    ///
    /// What the store says.
    pub async fn resolve_value(&self, value: &str) -> Result<Option<(ApiKey, Organization)>, KeysError> {
        match key_shape(value) {
            KeyShape::Impossible | KeyShape::BadChecksum => Ok(None),
            KeyShape::Ours | KeyShape::Foreign => Ok(self.resolve(&key_hash(value)).await?.key),
        }
    }
}

/// What a key is good for now.
#[must_use]
pub fn key_standing(
    key: &ApiKey,
    organization: &Organization,
    now_us: u64,
    client_ip: Option<IpAddr>,
    required_scopes: &ScopeExpression<'_>,
) -> Standing {
    let record = Record {
        organization_suspended: organization.status == OrganizationStatus::Suspended,
        revoked_us: is_revoked(key, now_us).then_some(now_us),
        disabled: key.disabled_us.is_some(),
        expires_us: key.expires_us,
        allowed_cidrs: &key.allowed_cidrs,
        scopes: &key.scopes,
    };
    standing(&record, &Use { now_us, client_ip, required_scopes: Some(required_scopes) })
}
