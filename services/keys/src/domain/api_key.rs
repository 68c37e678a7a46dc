//! API keys.

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
pub use tidegate_credentials::Environment;

use super::{KeyId, LineageId, OrganizationId, UserId};

/// An API key, without its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Its id.
    pub id: KeyId,
    /// The organization.
    pub organization_id: OrganizationId,
    /// What it has in common with those it was rotated from and to.
    pub lineage_id: LineageId,
    /// 1 to 128 characters.
    pub name: String,
    /// The beginning of its value, for people; may be empty if it was imported.
    pub key_prefix: String,
    /// Where it is meant to be used.
    pub environment: Environment,
    /// What it may do: sorted, without repetition.
    pub scopes: Vec<String>,
    /// From where it may be used; empty means from anywhere.
    pub allowed_cidrs: Vec<IpNet>,
    /// Whatever the owner wants to remember.
    pub metadata: BTreeMap<String, String>,
    /// Limits of its own.
    pub limits: Vec<KeyLimit>,
    /// When it was made.
    pub created_us: u64,
    /// Who made it.
    pub created_by: Option<UserId>,
    /// From when on it is not accepted any more.
    pub expires_us: Option<u64>,
    /// When it was switched off; not now if absent.
    pub disabled_us: Option<u64>,
    /// From when on it is revoked, and why; in the future after a rotation with a grace period.
    pub revoked: Option<(u64, RevokeReason)>,
    /// The key that it was rotated to.
    pub replaced_by: Option<KeyId>,
    /// Whether its lineage has an account of credits.
    pub has_credits: bool,
    /// When it was last used, some seconds late. Written apart from the rest: no new version.
    pub last_used_us: Option<u64>,
    /// When it was announced that it expires.
    pub expiry_announced_us: Option<u64>,
    /// When it was last changed.
    pub changed_us: u64,
    /// See [`crate::domain`].
    pub version: u64,
}

/// Why a key was revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevokeReason {
    /// Somebody wanted it.
    Revoked,
    /// Another took its place.
    Rotated,
    /// It was found where it should not be.
    Leaked,
}

/// A limit of one key, in a sliding window.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct KeyLimit {
    /// 1 to 64 of `[a-z0-9._-]`.
    pub name: String,
    /// Tokens per period, 1 to 1,000,000,000.
    pub limit: u64,
    /// Seconds, 1 to 31,622,400.
    pub period_s: u64,
}

/// By what a key is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySecret {
    /// HMAC-SHA256 under a pepper of the SHA-256 of the value.
    pub hash: [u8; 32],
    /// Which pepper.
    pub pepper_version: u16,
    /// The key.
    pub api_key_id: KeyId,
    /// Its organization.
    pub organization_id: OrganizationId,
}
