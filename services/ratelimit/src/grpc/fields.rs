//! Entries as messages, and as the tables that the reader of policy files takes.

use tidegate_proto::ratelimit::v1 as pb;
use toml::{Table, Value};

use crate::{
    domain::{Enforcement, FailureMode, OnDataLoss},
    policies::{Listed, Origin},
    store::catalog::{Entry, EntryKey},
};

/// Each algorithm with the word for it in policy files.
const ALGORITHMS: [(&str, pb::Algorithm); 5] = [
    ("sliding_window", pb::Algorithm::SlidingWindow),
    ("sliding_log", pb::Algorithm::SlidingLog),
    ("token_bucket", pb::Algorithm::TokenBucket),
    ("fixed_window", pb::Algorithm::FixedWindow),
    ("concurrency", pb::Algorithm::Concurrency),
];

/// The fields of a policy, as in a policy file. What cannot be right there is left to the reader to be refused, so that all
/// faults are told together.
pub fn of_policy(policy: pb::Policy) -> Table {
    let mut table = Table::new();
    let needs_key = policy.descriptor.is_empty() || !policy.key_by.is_empty();
    let matches: Table = policy
        .r#match
        .into_iter()
        .map(|entry| {
            let values = entry.value.unwrap_or_default().values;
            (entry.key, values.into_iter().map(Value::String).collect::<Vec<_>>().into())
        })
        .collect();
    table.insert("name".to_owned(), policy.name.into());
    table.insert("namespace".to_owned(), policy.namespace.into());
    put(&mut table, "match", !matches.is_empty(), matches);
    put(&mut table, "when", !policy.when.is_empty(), policy.when);
    put(&mut table, "key_by", needs_key, policy.key_by);
    let levels: Vec<_> = policy.descriptor.into_iter().map(of_level).collect();
    put(&mut table, "descriptor", !levels.is_empty(), levels);
    put(&mut table, "replaces", !policy.replaces.is_empty(), policy.replaces);
    let upgrade = Table::from_iter([text_entry(("upgrade_plan", policy.upgrade_plan))]);
    put(&mut table, "on_limit", !text(&upgrade, "upgrade_plan").is_empty(), upgrade);
    put(&mut table, "plan", !policy.plan.is_empty(), policy.plan);
    if let Some(pb::PlanOf { attribute, default }) = policy.plan_of {
        let plan_of = Table::from_iter([("attribute", attribute), ("default", default)].map(text_entry));
        // Beside a plan it stays what the reader does not know.
        let key = if table.contains_key("plan") { "plan_of" } else { "plan" };
        table.insert(key.to_owned(), plan_of.into());
    }
    put_limits(&mut table, policy.limits, policy.unlimited);
    put_word(&mut table, "enforcement", policy.enforcement, &ENFORCEMENTS);
    put_word(&mut table, "failure_mode", policy.failure_mode, &FAILURE_MODES);
    put_word(&mut table, "on_data_loss", policy.on_data_loss, &ON_DATA_LOSS);
    table
}

/// The fields of a plan.
pub fn of_plan(plan: pb::Plan) -> Table {
    let mut table = Table::from_iter([text_entry(("name", plan.name))]);
    put_limits(&mut table, plan.limits, plan.unlimited);
    table
}

/// The fields of an assignment, but for those that are its key.
pub(super) fn of_assignment(assignment: pb::Assignment) -> Table {
    Table::from_iter([text_entry(("plan", assignment.plan))])
}

/// The fields of an override. What is not set is left to the reader to be missed.
pub fn of_override(set: pb::Override) -> Table {
    let mut table = Table::new();
    for (field, text) in [("namespace", set.namespace), ("policy", set.policy), ("limit", set.limit)] {
        put(&mut table, field, !text.is_empty(), text);
    }
    let key = set.key.into_iter().map(|of| (of.key, Value::String(of.value)));
    table.insert("key".to_owned(), Table::from_iter(key).into());
    let has_rate = !set.rate.is_empty();
    put(&mut table, "rate", has_rate, set.rate);
    put(&mut table, "tokens", !has_rate || set.tokens != 0, tokens_of(set.tokens));
    put(&mut table, "period", !set.period.is_empty(), set.period);
    put(&mut table, "burst", set.burst != 0, tokens_of(set.burst));
    table
}

/// The policy that fields make.
pub fn policy(fields: &Table, meta: Option<pb::EntryMeta>) -> pb::Policy {
    let plan = fields.get("plan");
    pb::Policy {
        namespace: text(fields, "namespace"),
        name: text(fields, "name"),
        r#match: tables(fields.get("match")).flat_map(|table| table.iter().map(match_entry)).collect(),
        when: text(fields, "when"),
        key_by: texts(fields.get("key_by")),
        descriptor: tables(fields.get("descriptor"))
            .map(|level| pb::DescriptorLevel {
                key: text(level, "key"),
                value: text(level, "value"),
                shared: flag(level, "shared"),
            })
            .collect(),
        plan: plan.and_then(Value::as_str).unwrap_or_default().to_owned(),
        plan_of: plan
            .and_then(Value::as_table)
            .map(|plan| pb::PlanOf { attribute: text(plan, "attribute"), default: text(plan, "default") }),
        limits: limits(fields),
        unlimited: flag(fields, "unlimited"),
        enforcement: number(fields, "enforcement", &ENFORCEMENTS, pb::Enforcement::Enforce.into()),
        failure_mode: number(fields, "failure_mode", &FAILURE_MODES, pb::FailureMode::Closed.into()),
        on_data_loss: number(fields, "on_data_loss", &ON_DATA_LOSS, pb::OnDataLoss::Accept.into()),
        replaces: texts(fields.get("replaces")),
        upgrade_plan: tables(fields.get("on_limit")).map(|action| text(action, "upgrade_plan")).collect(),
        meta,
    }
}

/// The plan that fields make.
pub fn plan(fields: &Table, meta: Option<pb::EntryMeta>) -> pb::Plan {
    pb::Plan {
        name: text(fields, "name"),
        limits: limits(fields),
        unlimited: flag(fields, "unlimited"),
        meta,
    }
}

/// The assignment that a key and fields make.
pub(super) fn assignment(key: &EntryKey, fields: &Table, meta: Option<pb::EntryMeta>) -> pb::Assignment {
    let (attribute, value) = (key.scope.clone(), key.name.clone());
    pb::Assignment { attribute, value, plan: text(fields, "plan"), meta }
}

/// The override that fields make.
pub fn override_of(fields: &Table, meta: Option<pb::EntryMeta>) -> pb::Override {
    let pattern = |(attribute, pattern): (&String, &Value)| pb::r#override::KeyEntry {
        key: attribute.clone(),
        value: pattern.as_str().unwrap_or_default().to_owned(),
    };
    pb::Override {
        namespace: text(fields, "namespace"),
        policy: text(fields, "policy"),
        limit: text(fields, "limit"),
        key: tables(fields.get("key")).flatten().map(pattern).collect(),
        tokens: tokens(fields, "tokens"),
        period: text(fields, "period"),
        burst: tokens(fields, "burst"),
        rate: text(fields, "rate"),
        meta,
    }
}

/// What is said of an entry in force.
pub(super) fn meta_of_listed(listed: &Listed) -> pb::EntryMeta {
    let origin = match listed.origin {
        Origin::BuiltIn => pb::Origin::Builtin,
        Origin::File => pb::Origin::File,
        Origin::Database => pb::Origin::Database,
    };
    let stored = listed.stored.as_ref().map(|stored| meta_of_stored(&stored.entry)).unwrap_or_default();
    pb::EntryMeta { origin: origin.into(), hides_database_entry: listed.hides_stored, ..stored }
}

/// What is said of a stored entry; less of one that was only looked at.
pub(super) fn meta_of_stored(entry: &Entry) -> pb::EntryMeta {
    let origin = pb::Origin::Database.into();
    if entry.version == 0 {
        return pb::EntryMeta { origin, ..pb::EntryMeta::default() };
    }
    pb::EntryMeta {
        origin,
        id: entry.id.to_string(),
        version: entry.version,
        etag: etag(entry.version),
        create_time: Some(timestamp(entry.created_us)),
        update_time: Some(timestamp(entry.changed_us)),
        hides_database_entry: false,
    }
}

/// The fields that were stored.
pub(super) fn of_stored(entry: &Entry) -> Table {
    serde_json::from_str(entry.body.as_deref().unwrap_or_default()).unwrap_or_default()
}

/// The version that an etag stands for; one that none has for what is no etag of ours.
pub(super) fn version_of(etag: &str) -> Option<u64> {
    (!etag.is_empty()).then(|| u64::from_str_radix(etag, 16).unwrap_or_default())
}

/// A time in Unix µs.
pub(super) fn timestamp(us: u64) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: i64::try_from(us / 1_000_000).unwrap_or(i64::MAX),
        nanos: i32::try_from(us % 1_000_000 * 1_000).unwrap_or_default(),
    }
}

const ENFORCEMENTS: [(&str, i32); 3] = [
    (Enforcement::WORDS[0].0, pb::Enforcement::Enforce as i32),
    (Enforcement::WORDS[1].0, pb::Enforcement::Shadow as i32),
    (Enforcement::WORDS[2].0, pb::Enforcement::Off as i32),
];

const FAILURE_MODES: [(&str, i32); 3] = [
    (FailureMode::WORDS[0].0, pb::FailureMode::Closed as i32),
    (FailureMode::WORDS[1].0, pb::FailureMode::Open as i32),
    (FailureMode::WORDS[2].0, pb::FailureMode::Local as i32),
];

const ON_DATA_LOSS: [(&str, i32); 2] = [
    (OnDataLoss::WORDS[0].0, pb::OnDataLoss::Accept as i32),
    (OnDataLoss::WORDS[1].0, pb::OnDataLoss::Strict as i32),
];

fn etag(version: u64) -> String {
    format!("{version:x}")
}

fn put(table: &mut Table, key: &str, is_set: bool, value: impl Into<Value>) {
    if is_set {
        table.insert(key.to_owned(), value.into());
    }
}

/// Nothing for 0, and for a number without a word something that the reader refuses.
fn put_word(table: &mut Table, key: &str, number: i32, words: &[(&str, i32)]) {
    let word = words
        .iter()
        .find(|(_, known)| *known == number)
        .map_or_else(|| number.to_string(), |(word, _)| (*word).to_owned());
    put(table, key, number != 0, word);
}

fn put_limits(table: &mut Table, limits: Vec<pb::LimitSpec>, unlimited: bool) {
    let limits: Vec<_> = limits.into_iter().map(of_limit).collect();
    put(table, "limits", !limits.is_empty(), limits);
    put(table, "unlimited", unlimited, true);
}

fn of_limit(limit: pb::LimitSpec) -> Table {
    let mut table = Table::from_iter([text_entry(("name", limit.name))]);
    let has_rate = !limit.rate.is_empty();
    let is_leased = limit.algorithm == i32::from(pb::Algorithm::Concurrency);
    put(&mut table, "rate", has_rate, limit.rate);
    put(&mut table, "limit", !has_rate || limit.limit != 0, tokens_of(limit.limit));
    put(&mut table, "period", !(has_rate || is_leased) || !limit.period.is_empty(), limit.period);
    put(&mut table, "lease", is_leased || !limit.lease.is_empty(), limit.lease);
    let words = ALGORITHMS.map(|(word, algorithm)| (word, algorithm.into()));
    put_word(&mut table, "algorithm", limit.algorithm, &words);
    put(&mut table, "burst", limit.burst != 0, tokens_of(limit.burst));
    table
}

fn of_level(level: pb::DescriptorLevel) -> Table {
    let mut table = Table::from_iter([text_entry(("key", level.key))]);
    put(&mut table, "value", !level.value.is_empty(), level.value);
    put(&mut table, "shared", level.shared, true);
    table
}

fn text_entry((key, text): (&str, String)) -> (String, Value) {
    (key.to_owned(), text.into())
}

fn text(fields: &Table, key: &str) -> String {
    fields.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn texts(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(values)) => values.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

/// A table, or those of a list.
fn tables(value: Option<&Value>) -> impl Iterator<Item = &Table> {
    let list = value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_table);
    value.and_then(Value::as_table).into_iter().chain(list)
}

fn match_entry((attribute, value): (&String, &Value)) -> pb::policy::MatchEntry {
    pb::policy::MatchEntry {
        key: attribute.clone(),
        value: Some(pb::Patterns { values: texts(Some(value)) }),
    }
}

fn limits(fields: &Table) -> Vec<pb::LimitSpec> {
    let limit = |limit: &Table| {
        let words = ALGORITHMS.map(|(word, algorithm)| (word, algorithm.into()));
        pb::LimitSpec {
            name: text(limit, "name"),
            algorithm: number(limit, "algorithm", &words, pb::Algorithm::SlidingWindow.into()),
            limit: tokens(limit, "limit"),
            period: text(limit, "period"),
            burst: tokens(limit, "burst"),
            rate: text(limit, "rate"),
            lease: text(limit, "lease"),
        }
    };
    tables(fields.get("limits")).map(limit).collect()
}

/// A number as files write it, which the reader refuses if it is too large.
fn tokens_of(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn tokens(fields: &Table, key: &str) -> u64 {
    let tokens = fields.get(key).and_then(Value::as_integer).unwrap_or_default();
    u64::try_from(tokens).unwrap_or_default()
}

fn flag(fields: &Table, key: &str) -> bool {
    fields.get(key).and_then(Value::as_bool).unwrap_or_default()
}

fn number(fields: &Table, key: &str, words: &[(&str, i32)], default: i32) -> i32 {
    let word = fields.get(key).and_then(Value::as_str);
    words.iter().find(|(known, _)| Some(*known) == word).map_or(default, |(_, number)| *number)
}

#[cfg(test)]
mod tests;
