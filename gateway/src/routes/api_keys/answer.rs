//! API keys as answers show them.

use std::collections::BTreeMap;

use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use tidegate_proto::keys::v1::{ApiKey, KeyEnvironment, KeyStatus, RotateApiKeyResponse};
use utoipa::ToSchema;

use crate::{
    problem::Problem,
    routes::{
        accounts::{at, word},
        entries,
        times::moment,
    },
};

/// What a key is good for, and the words for it.
pub(super) const STATUSES: [(&str, KeyStatus); 4] = [
    ("active", KeyStatus::Active),
    ("disabled", KeyStatus::Disabled),
    ("expired", KeyStatus::Expired),
    ("revoked", KeyStatus::Revoked),
];
/// Where a key is to be used, and the words for it.
pub(super) const ENVIRONMENTS: [(&str, KeyEnvironment); 2] =
    [("live", KeyEnvironment::Live), ("test", KeyEnvironment::Test)];

const ROTATED: &str = "API key rotated successfully. Update your application with the new key.";

/// An API key, without its value.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ApiKey)]
pub(in crate::routes) struct ApiKeyAnswer {
    /// Its id.
    id: String,
    /// The organization.
    organization_id: String,
    /// What it has in common with the keys that it was rotated from and to: limits, credits and use belong to it.
    lineage_id: String,
    /// Its name.
    #[schema(example = "Production API Key")]
    name: String,
    /// The beginning of its value, for people; empty if it was imported without.
    #[schema(example = "tk_live_abc123")]
    key_prefix: String,
    /// `live` or `test`.
    #[schema(example = "live")]
    environment: &'static str,
    /// What it may do.
    scopes: Vec<String>,
    /// From where it may be used; empty means from anywhere.
    allowed_cidrs: Vec<String>,
    /// What its owner remembers of it.
    metadata: BTreeMap<String, String>,
    /// Limits of its own, beside those of policies.
    limits: Vec<KeyLimitAnswer>,
    /// `active`, `disabled`, `expired` or `revoked`.
    #[schema(example = "active")]
    status: &'static str,
    /// Whether it is accepted now.
    is_active: bool,
    /// When it was made: RFC 3339, UTC.
    #[schema(format = DateTime)]
    created_at: String,
    /// The account that made it; null if it was imported, or made by a service.
    created_by: Option<String>,
    /// Until when it is accepted: RFC 3339, UTC; null for ever.
    expires_at: Option<String>,
    /// When it was last used, some seconds late: RFC 3339, UTC; null for never.
    last_used_at: Option<String>,
    /// When it was revoked, or will be after a rotation with a grace period: RFC 3339, UTC; null for not.
    revoked_at: Option<String>,
    /// `revoked`, `rotated` or `leaked`; null if it is not revoked.
    revoke_reason: Option<String>,
    /// The key that it was rotated to; null for none.
    replaced_by: Option<String>,
    /// Whether its lineage has an account of credits.
    has_credits: bool,
    /// As in the header `ETag`, without its quotes.
    etag: String,
}

/// A limit of one key.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = KeyLimit)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyLimitAnswer {
    /// 1 to 64 of `a-z 0-9 . _ -`; answers call it `key/NAME`.
    #[schema(example = "minute")]
    name: String,
    /// Tokens per period.
    #[schema(example = 100)]
    limit: u64,
    /// Seconds of the sliding window.
    #[schema(example = 60)]
    period_seconds: u64,
}

/// An API key, with its value.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ApiKeyCreated)]
pub(super) struct CreatedAnswer {
    /// What lists show.
    #[serde(flatten)]
    key: ApiKeyAnswer,
    /// Its value, this once.
    key_value: String,
}

/// One page of API keys.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ApiKeys)]
pub(super) struct ApiKeysAnswer {
    /// The newest first.
    pub(super) api_keys: Vec<ApiKeyAnswer>,
    /// Asks for the next page; empty if this is the last.
    pub(super) next_page_token: String,
}

/// A key in place of another.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ApiKeyRotated)]
pub(super) struct RotatedAnswer {
    /// The old one, as it is now.
    old_key: OldKeyAnswer,
    /// The new one.
    new_key: NewKeyAnswer,
    /// For people.
    message: &'static str,
}

/// A key that was rotated.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RotatedOldKey)]
struct OldKeyAnswer {
    /// Its id.
    id: String,
    /// Its name.
    name: String,
    /// The beginning of its value.
    key_prefix: String,
    /// Whether it is still accepted: during the grace period.
    is_active: bool,
    /// Since when it is not accepted, or when the grace period ends: RFC 3339, UTC.
    revoked_at: Option<String>,
}

/// The key in its place.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RotatedNewKey)]
struct NewKeyAnswer {
    /// Its id.
    id: String,
    /// The name of the old one, with the suffix ` (Rotated)`.
    name: String,
    /// Its value, this once.
    key_value: String,
    /// The beginning of its value.
    key_prefix: String,
    /// Whether it is accepted.
    is_active: bool,
    /// When it was made: RFC 3339, UTC.
    #[schema(format = DateTime)]
    created_at: String,
}

/// An answer of 200 with a key.
pub(super) fn shown(key: Option<ApiKey>) -> Result<Response, Box<Problem>> {
    let key = key.unwrap_or_default();
    entries::answer(StatusCode::OK, &ApiKeyAnswer::new(&key), &key.etag)
}

fn is_active(key: &ApiKey) -> bool {
    key.status() == KeyStatus::Active
}

fn if_any(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

impl ApiKeyAnswer {
    pub(super) fn new(key: &ApiKey) -> Self {
        let limits = key.limits.iter().map(|of| KeyLimitAnswer {
            name: of.name.clone(),
            limit: of.limit,
            period_seconds: of.period_s,
        });
        Self {
            id: key.id.clone(),
            organization_id: key.organization_id.clone(),
            lineage_id: key.lineage_id.clone(),
            name: key.name.clone(),
            key_prefix: key.key_prefix.clone(),
            environment: word(&ENVIRONMENTS, &key.environment()),
            scopes: key.scopes.clone(),
            allowed_cidrs: key.allowed_cidrs.clone(),
            metadata: key.metadata.iter().map(|of| (of.key.clone(), of.value.clone())).collect(),
            limits: limits.collect(),
            status: word(&STATUSES, &key.status()),
            is_active: is_active(key),
            created_at: at(key.created_at_ms),
            created_by: if_any(&key.created_by),
            expires_at: moment(key.expires_at_ms),
            last_used_at: moment(key.last_used_at_ms),
            revoked_at: moment(key.revoked_at_ms),
            revoke_reason: if_any(&key.revoke_reason),
            replaced_by: if_any(&key.replaced_by),
            has_credits: key.has_credits,
            etag: key.etag.clone(),
        }
    }
}

impl CreatedAnswer {
    pub(super) fn new(key: &ApiKey, key_value: String) -> Self {
        Self { key: ApiKeyAnswer::new(key), key_value }
    }
}

impl RotatedAnswer {
    pub(super) fn new(rotated: RotateApiKeyResponse) -> Self {
        let (old, new) = (rotated.old_key.unwrap_or_default(), rotated.new_key.unwrap_or_default());
        Self {
            old_key: OldKeyAnswer {
                is_active: is_active(&old),
                revoked_at: moment(old.revoked_at_ms),
                id: old.id,
                name: old.name,
                key_prefix: old.key_prefix,
            },
            new_key: NewKeyAnswer {
                is_active: is_active(&new),
                created_at: at(new.created_at_ms),
                id: new.id,
                name: new.name,
                key_value: rotated.key_value,
                key_prefix: new.key_prefix,
            },
            message: ROTATED,
        }
    }
}
