//! JSON to requests about API keys. Types are checked here; what the fields say is checked by the service.

use serde_json::{Map, Value};
use tidegate_proto::keys::v1::{
    CidrList, CreateApiKeyRequest, KeyLimit, KeyLimitList, Metadata, ScopeList, UpdateApiKeyRequest,
    create_api_key_request, metadata,
};

use super::{ORGANIZATION, answer::ENVIRONMENTS};
use crate::{
    body::fields::{number, text},
    problem::Violations,
    routes::form::Form,
};

/// A new key.
pub(super) fn create(form: &mut Form) -> CreateApiKeyRequest {
    let metadata = form.map("metadata").unwrap_or_default().into_iter();
    CreateApiKeyRequest {
        organization_id: form.parameter(ORGANIZATION),
        name: form.text("name"),
        environment: form.word("environment", &ENVIRONMENTS).map_or(0, Into::into),
        scopes: form.texts("scopes").unwrap_or_default(),
        expires_at_ms: form.time_or_never("expires_at"),
        allowed_cidrs: form.texts("allowed_cidrs").unwrap_or_default(),
        metadata: metadata.map(|(key, value)| create_api_key_request::MetadataEntry { key, value }).collect(),
        limits: form.objects("limits", limit).unwrap_or_default(),
    }
}

/// What is to change of a key.
pub(super) fn update(api_key_id: String, form: &mut Form) -> UpdateApiKeyRequest {
    let entry = |(key, value)| metadata::EntriesEntry { key, value };
    let metadata = form.map("metadata");
    UpdateApiKeyRequest {
        organization_id: form.parameter(ORGANIZATION),
        api_key_id,
        name: form.text_if_any("name"),
        scopes: form.texts("scopes").map(|scopes| ScopeList { scopes }),
        enabled: form.boolean("enabled"),
        expires_at_ms: form.time_or_never("expires_at"),
        allowed_cidrs: form.texts("allowed_cidrs").map(|cidrs| CidrList { cidrs }),
        metadata: metadata.map(|entries| Metadata { entries: entries.into_iter().map(entry).collect() }),
        limits: form.objects("limits", limit).map(|limits| KeyLimitList { limits }),
        etag: form.etag(),
    }
}

fn limit(at: &str, fields: &mut Map<String, Value>, violations: &mut Violations) -> KeyLimit {
    KeyLimit {
        name: text(fields, at, "name", violations),
        limit: number(fields, at, "limit", violations).unwrap_or_default(),
        period_s: number(fields, at, "period_seconds", violations).unwrap_or_default(),
    }
}
