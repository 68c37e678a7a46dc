//! Keys on the screen.

use std::collections::BTreeMap;

use serde::Serialize;
use tidegate_proto::keys::v1::{ApiKey, KeyEnvironment, KeyStatus};

use crate::when;

/// A key as `--json` prints it.
#[derive(Debug, Serialize)]
pub(super) struct ShownKey<'k> {
    id: &'k str,
    organization_id: &'k str,
    lineage_id: &'k str,
    name: &'k str,
    /// The value, of a key that was just made.
    #[serde(skip_serializing_if = "Option::is_none")]
    key_value: Option<&'k str>,
    key_prefix: &'k str,
    environment: &'static str,
    status: &'static str,
    scopes: &'k [String],
    allowed_cidrs: &'k [String],
    metadata: BTreeMap<&'k str, &'k str>,
    limits: Vec<ShownLimit<'k>>,
    has_credits: bool,
    created_at: String,
    expires_at: Option<String>,
    last_used_at: Option<String>,
    revoked_at: Option<String>,
    #[serde(skip_serializing_if = "str::is_empty")]
    revoke_reason: &'k str,
    #[serde(skip_serializing_if = "str::is_empty")]
    replaced_by: &'k str,
    etag: &'k str,
}

#[derive(Debug, Serialize)]
struct ShownLimit<'k> {
    name: &'k str,
    limit: u64,
    period_seconds: u64,
}

impl<'k> ShownKey<'k> {
    /// Of a key, with its value if that is known.
    pub(super) fn new(key: &'k ApiKey, key_value: Option<&'k str>) -> Self {
        let time = |ms: u64| (ms > 0).then(|| when::ms(ms));
        let limits = key.limits.iter();
        Self {
            id: &key.id,
            organization_id: &key.organization_id,
            lineage_id: &key.lineage_id,
            name: &key.name,
            key_value,
            key_prefix: &key.key_prefix,
            environment: environment(key),
            status: status(key),
            scopes: &key.scopes,
            allowed_cidrs: &key.allowed_cidrs,
            metadata: key.metadata.iter().map(|entry| (&*entry.key, &*entry.value)).collect(),
            limits: limits
                .map(|of| ShownLimit { name: &of.name, limit: of.limit, period_seconds: of.period_s })
                .collect(),
            has_credits: key.has_credits,
            created_at: when::ms(key.created_at_ms),
            expires_at: time(key.expires_at_ms),
            last_used_at: time(key.last_used_at_ms),
            revoked_at: time(key.revoked_at_ms),
            revoke_reason: &key.revoke_reason,
            replaced_by: &key.replaced_by,
            etag: &key.etag,
        }
    }
}

/// Where a key is meant to be used.
pub(super) fn environment(key: &ApiKey) -> &'static str {
    match key.environment() {
        KeyEnvironment::Test => "test",
        KeyEnvironment::Live | KeyEnvironment::Unspecified => "live",
    }
}

/// What a key is good for.
pub(super) fn status(key: &ApiKey) -> &'static str {
    match key.status() {
        KeyStatus::Active => "active",
        KeyStatus::Disabled => "disabled",
        KeyStatus::Expired => "expired",
        KeyStatus::Revoked => "revoked",
        KeyStatus::Unspecified => "unknown",
    }
}

/// A line about a key.
pub(super) fn line(key: &ApiKey) -> String {
    let expires = match key.expires_at_ms {
        0 => "never expires".to_owned(),
        ms => format!("expires {}", when::ms(ms)),
    };
    format!("{} ({}, {}…): {}, {expires}", key.name, key.id, key.key_prefix, status(key))
}
