//! Overrides from JSON and to JSON. Types are checked here; what the fields say is checked by the service.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};
use tidegate_proto::ratelimit::v1::{Override, r#override::KeyEntry};
use utoipa::ToSchema;

use crate::{
    body::fields::{number, object, objects, path, text, unknown, wrong_type},
    problem::Violations,
    routes::policies::answer::MetaAnswer,
};

/// An override as it is written.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Override)]
#[serde(deny_unknown_fields)]
pub(super) struct OverrideBody {
    /// Namespace of the policy.
    #[schema(example = "default")]
    namespace: String,
    /// Name of the policy.
    #[schema(example = "organization")]
    policy: String,
    /// Name of its limit, as `minute`, or with the plan, as `free/minute`.
    #[schema(example = "minute")]
    limit: String,
    /// Whom it is for: for each attribute of the policy's key a value, `prefix*` or `*`.
    #[schema(example = json!({"organization": "acme"}))]
    key: BTreeMap<String, String>,
    /// Tokens per period.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    tokens: Option<u64>,
    /// Another period, as `1m`; absent means that of the limit.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schema(required = false, example = "1m")]
    period: String,
    /// Token buckets only: the most tokens at once; absent means as many as `tokens`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    burst: Option<u64>,
    /// In place of tokens and period, as `60/min`.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schema(required = false, example = "60/min")]
    rate: String,
}

/// Overrides that are to be set.
#[derive(ToSchema)]
#[schema(as = SetOverrides)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema is used")]
pub(super) struct OverridesBody {
    /// 1 to 1,000, no two of the same limit for the same key.
    overrides: Vec<OverrideBody>,
}

/// What finds an override.
#[derive(ToSchema)]
#[schema(as = OverrideTarget)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema is used")]
pub(super) struct TargetBody {
    /// Namespace of the policy.
    #[schema(example = "default")]
    namespace: String,
    /// Name of the policy.
    #[schema(example = "organization")]
    policy: String,
    /// Name of its limit, as the override names it.
    #[schema(example = "minute")]
    limit: String,
    /// The very patterns of the override.
    #[schema(example = json!({"organization": "acme"}))]
    key: BTreeMap<String, String>,
}

/// An override, and what the service says of it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OverrideEntry)]
pub(in crate::routes) struct OverrideAnswer {
    /// The override as it is written.
    #[serde(flatten)]
    says: OverrideBody,
    /// What the service says of it.
    meta: MetaAnswer,
}

impl OverrideAnswer {
    pub(in crate::routes) fn new(of: &Override) -> Self {
        let has_rate = !of.rate.is_empty();
        let says = OverrideBody {
            namespace: of.namespace.clone(),
            policy: of.policy.clone(),
            limit: of.limit.clone(),
            key: of.key.iter().map(|of| (of.key.clone(), of.value.clone())).collect(),
            tokens: (!has_rate).then_some(of.tokens),
            period: of.period.clone(),
            burst: (of.burst != 0).then_some(of.burst),
            rate: of.rate.clone(),
        };
        Self { says, meta: MetaAnswer::new(&of.meta.clone().unwrap_or_default()) }
    }
}

/// Reads overrides that are to be set.
pub(super) fn overrides(body: Value, violations: &mut Violations) -> Vec<Override> {
    let Some(mut fields) = object(body, "", violations) else { return Vec::new() };
    if !fields.contains_key("overrides") {
        violations.add("overrides", "is required");
    }
    let overrides = objects(&mut fields, "overrides", violations, |at, of, violations| Override {
        tokens: number(of, at, "tokens", violations).unwrap_or_default(),
        period: text(of, at, "period", violations),
        burst: number(of, at, "burst", violations).unwrap_or_default(),
        rate: text(of, at, "rate", violations),
        ..found_by(of, at, violations)
    });
    unknown(&fields, "", violations);
    overrides
}

/// Reads what finds an override.
pub(super) fn target(body: Value, violations: &mut Violations) -> Override {
    let Some(mut fields) = object(body, "", violations) else { return Override::default() };
    let target = found_by(&mut fields, "", violations);
    unknown(&fields, "", violations);
    target
}

fn found_by(fields: &mut Map<String, Value>, at: &str, violations: &mut Violations) -> Override {
    Override {
        namespace: text(fields, at, "namespace", violations),
        policy: text(fields, at, "policy", violations),
        limit: text(fields, at, "limit", violations),
        key: patterns(fields.remove("key"), &path(at, "key"), violations),
        ..Override::default()
    }
}

fn patterns(value: Option<Value>, at: &str, violations: &mut Violations) -> Vec<KeyEntry> {
    let entries = value.and_then(|value| object(value, at, violations)).unwrap_or_default();
    let entry = |(key, value): (String, Value)| match value {
        Value::String(value) => Some(KeyEntry { key, value }),
        other => {
            wrong_type(path(at, &key), "a string", &other, violations);
            None
        }
    };
    entries.into_iter().filter_map(entry).collect()
}
