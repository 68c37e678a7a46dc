//! Whose an API key is.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tidegate_proto::{keys::v1 as keys, ratelimit::v1 as ratelimit};

use crate::{Code, Error};

/// Whose an API key is, and what it may do. [`ProtectLayer`](crate::layer::ProtectLayer) puts it into the extensions of requests.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyIdentity {
    /// Id of the key: a UUIDv7.
    pub id: String,
    /// What the key has in common with those it was rotated from and to.
    pub lineage_id: String,
    /// Its name.
    pub name: String,
    /// "live" or "test".
    pub environment: String,
    /// What it may do.
    pub scopes: Vec<String>,
    /// When it expires; absent for never.
    pub expires_at: Option<SystemTime>,
    /// What its owner remembers of it.
    pub metadata: BTreeMap<String, String>,
    /// Its organization.
    pub organization_id: String,
    /// Name of the organization.
    pub organization_name: String,
    /// Plan of the organization.
    pub plan: String,
}

/// What the keys service says of an API key: no limits were asked, and nothing was charged.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a key that nobody looks at lets everybody in"]
#[non_exhaustive]
pub struct VerifiedKey {
    /// Whether it is accepted.
    pub valid: bool,
    /// Why not, if it is not.
    pub code: Code,
    /// Whose it is; absent if nobody has it.
    pub key: Option<KeyIdentity>,
}

impl KeyIdentity {
    pub(crate) fn of_check(mut key: ratelimit::KeyIdentity) -> Self {
        // As expressions want them.
        key.scopes.sort();
        Self {
            id: key.id,
            lineage_id: key.lineage_id,
            name: key.name,
            environment: key.environment,
            scopes: key.scopes,
            expires_at: time(key.expires_at_ms),
            metadata: key.metadata.into_iter().map(|entry| (entry.key, entry.value)).collect(),
            organization_id: key.organization_id,
            organization_name: key.organization_name,
            plan: key.plan,
        }
    }

    #[cfg(test)]
    pub(crate) fn nobody() -> Self {
        Self::of_check(ratelimit::KeyIdentity::default())
    }

    /// The attributes that a key gives to a check.
    pub(crate) fn value_of(&self, attribute: &str) -> Option<&str> {
        match attribute {
            "organization" => Some(&self.organization_id),
            "plan" => Some(&self.plan),
            "api_key" => Some(&self.lineage_id),
            "environment" => Some(&self.environment),
            _ => None,
        }
    }

    fn of_key(key: keys::ApiKey, organization: keys::Organization) -> Self {
        let environment = match key.environment() {
            keys::KeyEnvironment::Live | keys::KeyEnvironment::Unspecified => "live",
            keys::KeyEnvironment::Test => "test",
        };
        Self {
            id: key.id,
            lineage_id: key.lineage_id,
            name: key.name,
            environment: environment.to_owned(),
            scopes: key.scopes,
            expires_at: time(key.expires_at_ms),
            metadata: key.metadata.into_iter().map(|entry| (entry.key, entry.value)).collect(),
            organization_id: organization.id,
            organization_name: organization.name,
            plan: organization.plan,
        }
    }
}

impl VerifiedKey {
    pub(crate) fn of_answer(answer: keys::VerifyKeyResponse) -> Result<Self, Error> {
        let code = Code::from_word(&answer.code);
        if answer.valid != (code == Code::Ok) {
            return Err(Error::Broken("`valid` and `code` contradict each other"));
        }
        let key = answer.key.zip(answer.organization);
        if answer.valid && key.is_none() {
            return Err(Error::Broken("a valid key is nobody's"));
        }
        let key = key.map(|(key, organization)| KeyIdentity::of_key(key, organization));
        Ok(Self { valid: answer.valid, code, key })
    }
}

/// Unix milliseconds; 0 for never.
fn time(at_ms: u64) -> Option<SystemTime> {
    (at_ms > 0).then(|| UNIX_EPOCH + Duration::from_millis(at_ms))
}
