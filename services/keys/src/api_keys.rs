//! API keys: made, changed, rotated, revoked, imported.

mod change;
mod import;
mod leak;
mod rotate;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use ipnet::IpNet;
use tidegate_credentials::{Environment, KeyValue, Prefix};

pub use self::{
    change::KeyUpdate,
    import::ImportedKey,
    leak::Leak,
    rotate::{MAX_GRACE, ROTATED_SUFFIX, RotatedKey},
};
use crate::{
    changes::{By, Changes, feed_entry},
    domain::{
        Action, ApiKey, KeyId, KeyLimit, KeySecret, LineageId, OrganizationId, ResourceType, RevokeReason,
        UserId,
    },
    error::KeysError,
    idempotency::Keep,
    peppers::Peppers,
    store::{Change, FeedEntry, KeyFilter, KeyStatus, Write},
};

/// The longest name.
pub const MAX_NAME_CHARS: usize = 128;

/// What is done with API keys. Clones are the same.
#[derive(Clone)]
pub struct ApiKeys {
    changes: Changes,
    peppers: Arc<Peppers>,
    settings: KeySettings,
}

/// What the settings say of keys.
#[derive(Clone, Debug)]
pub struct KeySettings {
    /// What their values begin with.
    pub prefix: Prefix,
    /// When a key expires that is made without saying when; none for never.
    pub default_expiry: Option<Duration>,
}

/// A key that is to be made.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// 1 to 128 characters.
    pub name: String,
    /// Where it is to be used.
    pub environment: Environment,
    /// Sorted, without repetition.
    pub scopes: Vec<String>,
    /// When it expires.
    pub expiry: Expiry,
    /// From where it may be used.
    pub allowed_cidrs: Vec<IpNet>,
    /// Whatever its owner wants to remember.
    pub metadata: BTreeMap<String, String>,
    /// Limits of its own.
    pub limits: Vec<KeyLimit>,
}

/// When a key that is made expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// When the settings say.
    Default,
    /// Never.
    Never,
    /// At this time, Unix microseconds.
    At(u64),
}

/// A key that was made, with its value: it is told this once.
#[derive(Clone, Debug)]
pub struct CreatedKey {
    /// The key.
    pub key: ApiKey,
    /// Its value.
    pub value: KeyValue,
}

impl ApiKeys {
    /// Works on what `changes` writes.
    #[must_use]
    pub fn new(changes: Changes, peppers: Arc<Peppers>, settings: KeySettings) -> Self {
        Self { changes, peppers, settings }
    }

    /// Makes a key.
    ///
    /// # Errors
    ///
    /// There is no such organization, or the key would have expired by now.
    pub async fn create(
        &self,
        by: &By,
        organization: OrganizationId,
        new: NewKey,
        keep: Keep<CreatedKey>,
    ) -> Result<CreatedKey, KeysError> {
        self.changes.organization(organization).await?;
        let now_us = self.changes.now_us();
        let expires_us = self.expires_us(new.expiry, now_us)?;
        let id = KeyId(self.changes.id(now_us));
        let value = self.new_value(new.environment);
        let key = ApiKey {
            id,
            organization_id: organization,
            lineage_id: LineageId(id.0),
            name: new.name,
            key_prefix: value.key_prefix().to_owned(),
            environment: new.environment,
            scopes: new.scopes,
            allowed_cidrs: new.allowed_cidrs,
            metadata: new.metadata,
            limits: new.limits,
            created_us: now_us,
            created_by: creator(by),
            expires_us,
            disabled_us: None,
            revoked: None,
            replaced_by: None,
            has_credits: false,
            last_used_us: None,
            expiry_announced_us: None,
            changed_us: now_us,
            version: 0,
        };
        let secret = self.secret(&key, &value.hash());
        let event = self.event(by, now_us, &key, Action::ApiKeyCreate);
        let feed = FeedEntry { key: Some(id), new_hashes: vec![secret.hash], ..feed_entry(organization) };
        let created = CreatedKey { key: written(key.clone(), now_us), value };
        let write = Write {
            at_us: now_us,
            changes: vec![Change::ApiKey(key), Change::KeySecret(secret)],
            feed: vec![feed],
            events: vec![event],
            idempotency: keep.record(&created, now_us),
            ..Write::default()
        };
        // Nobody has asked for it yet, so there is nothing to be forgotten.
        self.changes.commit(write, None).await?;
        Ok(created)
    }

    /// A key.
    ///
    /// # Errors
    ///
    /// There is no such organization, or it has no such key.
    pub async fn get(&self, organization: OrganizationId, id: KeyId) -> Result<ApiKey, KeysError> {
        match self.changes.store().api_key(organization, id).await? {
            Some(key) => Ok(key),
            None => {
                self.changes.organization(organization).await?;
                Err(KeysError::KeyNotFound)
            }
        }
    }

    /// Keys, the newest first: at most `limit` of those after `after`.
    ///
    /// # Errors
    ///
    /// There is no such organization.
    pub async fn list(
        &self,
        organization: OrganizationId,
        search: &str,
        status: Option<KeyStatus>,
        lineage: Option<LineageId>,
        after: Option<KeyId>,
        limit: u32,
    ) -> Result<Vec<ApiKey>, KeysError> {
        let now_us = self.changes.now_us();
        let status = status.map(|status| (status, now_us));
        let filter = KeyFilter { search: search.to_owned(), status, lineage };
        let keys = self.changes.store().api_keys(organization, &filter, after, limit).await?;
        if keys.is_empty() {
            self.changes.organization(organization).await?;
        }
        Ok(keys)
    }

    fn expires_us(&self, expiry: Expiry, now_us: u64) -> Result<Option<u64>, KeysError> {
        match expiry {
            Expiry::Never => Ok(None),
            Expiry::At(at_us) if at_us <= now_us => {
                Err(KeysError::field("expires_at_ms", "must be later than now, or 0 for never"))
            }
            Expiry::At(at_us) => Ok(Some(at_us)),
            Expiry::Default => Ok(self
                .settings
                .default_expiry
                .map(|expiry| now_us.saturating_add(u64::try_from(expiry.as_micros()).unwrap_or(u64::MAX)))),
        }
    }

    fn new_value(&self, environment: Environment) -> KeyValue {
        KeyValue::generate(&self.settings.prefix, environment, |bytes| {
            aws_lc_rs::rand::fill(bytes).expect("the system has random bytes");
        })
    }

    fn secret(&self, key: &ApiKey, hash: &tidegate_credentials::KeyHash) -> KeySecret {
        let (hash, pepper_version) = self.peppers.store(hash);
        KeySecret { hash, pepper_version, api_key_id: key.id, organization_id: key.organization_id }
    }

    fn event(&self, by: &By, at_us: u64, key: &ApiKey, action: Action) -> crate::domain::Event {
        let details = [
            ("name", key.name.clone().into()),
            ("environment", key.environment.as_str().into()),
            ("lineage_id", key.lineage_id.to_string().into()),
        ];
        let resource = (action, ResourceType::ApiKey, key.id.0);
        self.changes.event(by, at_us, key.organization_id, resource, details)
    }
}

/// What a key is good for at a time.
#[must_use]
pub fn key_status(key: &ApiKey, now_us: u64) -> KeyStatus {
    if is_revoked(key, now_us) {
        KeyStatus::Revoked
    } else if key.expires_us.is_some_and(|at| at <= now_us) {
        KeyStatus::Expired
    } else if key.disabled_us.is_some() {
        KeyStatus::Disabled
    } else {
        KeyStatus::Active
    }
}

/// Whether a key is revoked. Only a rotation can do it ahead of time: the rest holds also by the clock of a replica that is behind
/// the one that did it, and so does what was over when the key was last changed.
pub(crate) fn is_revoked(key: &ApiKey, now_us: u64) -> bool {
    key.revoked.is_some_and(|(at_us, reason)| match reason {
        RevokeReason::Revoked | RevokeReason::Leaked => true,
        RevokeReason::Rotated => at_us <= now_us.max(key.changed_us),
    })
}

/// The row as it is once it is written.
fn written(key: ApiKey, now_us: u64) -> ApiKey {
    ApiKey { version: key.version + 1, changed_us: now_us, ..key }
}

fn creator(by: &By) -> Option<UserId> {
    match by.actor.kind {
        crate::domain::ActorType::User => by.actor.id.parse().ok(),
        crate::domain::ActorType::Service
        | crate::domain::ActorType::System
        | crate::domain::ActorType::Anonymous => None,
    }
}
