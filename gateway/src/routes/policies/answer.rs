//! Policies and plans to JSON: the fields that they are written with, and what the service says of them.

use std::collections::BTreeMap;

use prost_types::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use tidegate_proto::ratelimit::v1::{EntryMeta, LimitSpec, Plan, Policy, PolicyVersion};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use utoipa::ToSchema;

use super::words::{ALGORITHMS, ENFORCEMENTS, FAILURE_MODES, ON_DATA_LOSS, ORIGINS, word};

/// A policy as it is written.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Policy)]
#[serde(deny_unknown_fields)]
pub(in crate::routes) struct PolicyBody {
    /// Namespace: 1 to 128 of `A-Z a-z 0-9 . _ / -`.
    #[schema(example = "default")]
    namespace: String,
    /// Name: 1 to 64 of `a-z 0-9 . _ -`, unique in the namespace.
    #[schema(example = "organization")]
    name: String,
    /// Conditions on attributes, all of which must hold: for each a value, `prefix*` or `*`, or a list of them.
    #[serde(rename = "match", skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(required = false)]
    conditions: BTreeMap<String, Vec<String>>,
    /// A CEL expression that must hold as well.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schema(required = false)]
    when: String,
    /// Attributes whose values make the key that is counted under.
    key_by: Vec<String>,
    /// Entries of a descriptor of Envoy's protocol, in place of `match`, `when` and `key_by`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    descriptor: Vec<LevelBody>,
    /// Policies of the namespace that do not apply to a request to which this one does.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    replaces: Vec<String>,
    /// Name of a plan, or `{"attribute", "default"}`: the attribute names it. Exactly one of plan, limits and unlimited is given.
    #[serde(skip_serializing_if = "Value::is_null")]
    #[schema(required = false, value_type = Object)]
    plan: Value,
    /// Limits of its own, 1 to 16.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    limits: Vec<LimitBody>,
    /// Whether it limits nothing.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    unlimited: bool,
    /// `enforce`, `shadow` or `off`.
    #[schema(required = false, example = "enforce")]
    enforcement: &'static str,
    /// What it answers when the store is gone: `closed`, `open` or `local`.
    #[schema(required = false, example = "closed")]
    failure_mode: &'static str,
    /// What it does after its store has lost counts: `accept` or `strict`.
    #[schema(required = false, example = "accept")]
    on_data_loss: &'static str,
    /// `{"upgrade_plan"}`: the plan that callers are to be moved to whom it denies.
    #[serde(skip_serializing_if = "Value::is_null")]
    #[schema(required = false, value_type = Object)]
    on_limit: Value,
}

/// A plan as it is written.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Plan)]
#[serde(deny_unknown_fields)]
pub(in crate::routes) struct PlanBody {
    /// Name: 1 to 64 of `a-z 0-9 . _ -`.
    #[schema(example = "free")]
    name: String,
    /// Its limits, 1 to 16, unless it is unlimited.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    limits: Vec<LimitBody>,
    /// Whether it limits nothing.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    unlimited: bool,
}

/// One limit of a policy or plan.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LimitSpec)]
#[serde(deny_unknown_fields)]
struct LimitBody {
    /// Name, unique among its neighbours.
    #[schema(example = "minute")]
    name: String,
    /// `sliding_window`, `sliding_log`, `token_bucket`, `fixed_window` or `concurrency`.
    #[schema(required = false, example = "sliding_window")]
    algorithm: &'static str,
    /// Tokens per period.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    limit: Option<u64>,
    /// As `1m`, `1h30m`, `1d`, `1mo`.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schema(required = false, example = "1m")]
    period: String,
    /// Token buckets only: the most tokens at once; absent means as many as `limit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    burst: Option<u64>,
    /// In place of limit and period, as `60/min`.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schema(required = false, example = "60/min")]
    rate: String,
    /// Concurrency only, in place of period: how long a lease lasts, as `30s`.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schema(required = false, example = "30s")]
    lease: String,
}

/// One entry of a descriptor.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DescriptorLevel)]
#[serde(deny_unknown_fields)]
struct LevelBody {
    /// Its key.
    key: String,
    /// What its value may be; absent means any.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schema(required = false)]
    value: String,
    /// Whether all values that fit are counted as one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    shared: bool,
}

/// What the service says of a policy, a plan or an override. Of what is not in the database only the origin is known.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EntryMeta)]
pub(in crate::routes) struct MetaAnswer {
    /// `builtin`, `file` or `database`; only the last can be changed.
    #[schema(example = "database")]
    origin: &'static str,
    /// Grows with every change.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    /// As in the header `ETag`, without its quotes.
    #[serde(skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
    /// When it was created.
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<String>,
    /// When this version was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    updated_at: Option<String>,
    /// Whether the database holds one of the same name, which has no effect because of the file's.
    hides_database_entry: bool,
}

/// A policy, and what the service says of it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PolicyEntry)]
pub(in crate::routes) struct PolicyAnswer {
    /// `namespace:name`, by which calls find it.
    #[schema(example = "default:organization")]
    id: String,
    /// The policy as it is written.
    #[serde(flatten)]
    policy: PolicyBody,
    /// What the service says of it.
    meta: MetaAnswer,
}

/// A plan, and what the service says of it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PlanEntry)]
pub(in crate::routes) struct PlanAnswer {
    /// The plan as it is written.
    #[serde(flatten)]
    plan: PlanBody,
    /// What the service says of it.
    meta: MetaAnswer,
}

/// One version of a policy.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PolicyVersion)]
pub(in crate::routes) struct VersionAnswer {
    /// Its number.
    version: u64,
    /// When it was made.
    time: String,
    /// Whether the policy was deleted by it.
    deleted: bool,
    /// The policy as it was; absent if it was deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    policy: Option<PolicyBody>,
}

impl PolicyBody {
    pub(in crate::routes) fn new(policy: &Policy) -> Self {
        let conditions = policy.r#match.iter().map(|entry| {
            (entry.key.clone(), entry.value.as_ref().map(|of| of.values.clone()).unwrap_or_default())
        });
        let level = |level: &tidegate_proto::ratelimit::v1::DescriptorLevel| LevelBody {
            key: level.key.clone(),
            value: level.value.clone(),
            shared: level.shared,
        };
        let named = |name: &str| if name.is_empty() { Value::Null } else { json!(name) };
        Self {
            namespace: policy.namespace.clone(),
            name: policy.name.clone(),
            conditions: conditions.collect(),
            when: policy.when.clone(),
            key_by: policy.key_by.clone(),
            descriptor: policy.descriptor.iter().map(level).collect(),
            replaces: policy.replaces.clone(),
            plan: policy.plan_of.as_ref().map_or_else(
                || named(&policy.plan),
                |of| json!({"attribute": of.attribute, "default": of.default}),
            ),
            limits: policy.limits.iter().map(LimitBody::new).collect(),
            unlimited: policy.unlimited,
            enforcement: word(&ENFORCEMENTS, &policy.enforcement()),
            failure_mode: word(&FAILURE_MODES, &policy.failure_mode()),
            on_data_loss: word(&ON_DATA_LOSS, &policy.on_data_loss()),
            on_limit: match &*policy.upgrade_plan {
                "" => Value::Null,
                plan => json!({"upgrade_plan": plan}),
            },
        }
    }
}

impl PlanBody {
    pub(in crate::routes) fn new(plan: &Plan) -> Self {
        let limits = plan.limits.iter().map(LimitBody::new).collect();
        Self { name: plan.name.clone(), limits, unlimited: plan.unlimited }
    }
}

impl LimitBody {
    fn new(limit: &LimitSpec) -> Self {
        let has_rate = !limit.rate.is_empty();
        Self {
            name: limit.name.clone(),
            algorithm: word(&ALGORITHMS, &limit.algorithm()),
            limit: (!has_rate).then_some(limit.limit),
            period: limit.period.clone(),
            burst: (limit.burst != 0).then_some(limit.burst),
            rate: limit.rate.clone(),
            lease: limit.lease.clone(),
        }
    }
}

impl MetaAnswer {
    pub(in crate::routes) fn new(meta: &EntryMeta) -> Self {
        Self {
            origin: word(&ORIGINS, &meta.origin()),
            version: (meta.version != 0).then_some(meta.version),
            etag: Some(meta.etag.clone()).filter(|etag| !etag.is_empty()),
            created_at: meta.create_time.as_ref().map(rfc_3339),
            updated_at: meta.update_time.as_ref().map(rfc_3339),
            hides_database_entry: meta.hides_database_entry,
        }
    }
}

impl PolicyAnswer {
    pub(in crate::routes) fn new(policy: &Policy) -> Self {
        let meta = MetaAnswer::new(&policy.meta.clone().unwrap_or_default());
        let id = format!("{}:{}", policy.namespace, policy.name);
        Self { id, policy: PolicyBody::new(policy), meta }
    }
}

impl PlanAnswer {
    pub(in crate::routes) fn new(plan: &Plan) -> Self {
        let meta = MetaAnswer::new(&plan.meta.clone().unwrap_or_default());
        Self { plan: PlanBody::new(plan), meta }
    }
}

impl VersionAnswer {
    pub(in crate::routes) fn new(version: &PolicyVersion) -> Self {
        Self {
            version: version.version,
            time: version.time.as_ref().map(rfc_3339).unwrap_or_default(),
            deleted: version.deleted,
            policy: version.policy.as_ref().map(PolicyBody::new),
        }
    }
}

fn rfc_3339(time: &Timestamp) -> String {
    let moment = OffsetDateTime::from_unix_timestamp(time.seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let moment = moment + std::time::Duration::from_nanos(u64::try_from(time.nanos).unwrap_or_default());
    moment.format(&Rfc3339).unwrap_or_default()
}
