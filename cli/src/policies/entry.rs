//! Policies, plans, assignments and overrides: their names, and how they are written.

use std::{collections::BTreeMap, fmt};

use prost_types::Timestamp;
use tidegate_proto::ratelimit::v1::{Assignment, EntryMeta, Origin, Override, Plan, Policy};
use tidegate_ratelimit::{
    messages::{of_override, of_plan, of_policy, plan, policy},
    policies::spelt_out,
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use toml::{Table, Value};

/// Fields in the order in which they are written; others follow by name.
const ORDER: [&str; 14] = [
    "name",
    "namespace",
    "match",
    "when",
    "key_by",
    "descriptor",
    "replaces",
    "plan",
    "limits",
    "unlimited",
    "enforcement",
    "failure_mode",
    "on_data_loss",
    "on_limit",
];

/// The same of a limit.
const ORDER_IN_LIMITS: [&str; 7] = ["name", "algorithm", "rate", "limit", "period", "burst", "lease"];

/// The same of an override.
const ORDER_IN_OVERRIDES: [&str; 8] =
    ["namespace", "policy", "limit", "key", "rate", "tokens", "period", "burst"];

/// Something of the database that files are made of and applied to. A new kind gets a place here, in [`super::in_force`] and in
/// [`super::apply`].
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    Plan(Plan),
    Policy(Policy),
    Assignment(Assignment),
    Override(Override),
}

/// What an entry is found by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Plan(String),
    /// Namespace and name.
    Policy(String, String),
    /// Attribute and value.
    Assignment(String, String),
    /// Namespace, policy, limit, and patterns by the names of attributes.
    Override(String, String, String, BTreeMap<String, String>),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plan(name) => write!(f, "plan {name}"),
            Self::Policy(namespace, name) => write!(f, "policy {namespace}:{name}"),
            Self::Assignment(attribute, value) => write!(f, "assignment {attribute}={value}"),
            Self::Override(namespace, policy, limit, key) => {
                let of = if key.is_empty() { "" } else { " of " };
                write!(f, "override {namespace}:{policy} {limit}{of}{}", patterns(key))
            }
        }
    }
}

impl Entry {
    /// What it is found by.
    pub(crate) fn key(&self) -> Key {
        match self {
            Self::Plan(plan) => Key::Plan(plan.name.clone()),
            Self::Policy(policy) => Key::Policy(policy.namespace.clone(), policy.name.clone()),
            Self::Assignment(assignment) => {
                Key::Assignment(assignment.attribute.clone(), assignment.value.clone())
            }
            Self::Override(set) => {
                let key = set.key.iter().map(|of| (of.key.clone(), of.value.clone())).collect();
                Key::Override(set.namespace.clone(), set.policy.clone(), set.limit.clone(), key)
            }
        }
    }

    /// What the service says of it.
    pub(crate) fn meta(&self) -> EntryMeta {
        let meta = match self {
            Self::Plan(plan) => &plan.meta,
            Self::Policy(policy) => &policy.meta,
            Self::Assignment(assignment) => &assignment.meta,
            Self::Override(set) => &set.meta,
        };
        meta.clone().unwrap_or_default()
    }

    /// Its fields as the service would tell them if it were stored: what is written in several ways is the same, but for the numbers of
    /// overrides.
    pub(crate) fn fields(&self) -> Table {
        match self {
            Self::Plan(known) => of_plan(plan(&of_plan(known.clone()), None)),
            Self::Policy(known) => of_policy(policy(&of_policy(known.clone()), None)),
            Self::Assignment(known) => {
                [("plan".to_owned(), Value::from(known.plan.clone()))].into_iter().collect()
            }
            Self::Override(known) => of_override(known.clone()),
        }
    }

    /// Whether it says the same as another one.
    pub(crate) fn says_as(&self, other: &Self) -> bool {
        let (own, others) = (self.fields(), other.fields());
        if own == others {
            return true;
        }
        let is_override = matches!((self, other), (Self::Override(_), Self::Override(_)));
        is_override && spelt_out(own).is_some_and(|own| spelt_out(others) == Some(own))
    }

    /// Its lines in a policy file, without the header.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Self::Assignment(Assignment { value, plan, .. }) = self {
            lines.push(assigned(value, plan));
            return lines;
        }
        let order = if matches!(self, Self::Override(_)) { &ORDER_IN_OVERRIDES[..] } else { &ORDER };
        for (name, value) in ordered(&self.fields(), order) {
            match value {
                Value::Array(limits) if name == "limits" => {
                    lines.push("limits = [".to_owned());
                    let limits = limits.iter().filter_map(Value::as_table);
                    lines.extend(limits.map(|limit| format!("    {},", inline(limit))));
                    lines.push("]".to_owned());
                }
                value => lines.push(format!("{name} = {value}")),
            }
        }
        lines
    }
}

/// Entries as a policy file, with what the service says of each.
pub(crate) fn file(entries: &[Entry]) -> String {
    let mut text = String::new();
    let mut attribute_before = None;
    for entry in entries {
        let header = match entry {
            Entry::Plan(_) => Some("[[plans]]".to_owned()),
            Entry::Policy(_) => Some("[[policies]]".to_owned()),
            Entry::Override(_) => Some("[[overrides]]".to_owned()),
            Entry::Assignment(assignment) => {
                let attribute = Some(&assignment.attribute);
                let begins = attribute_before != attribute;
                attribute_before = attribute;
                begins.then(|| format!("[assignments.{}]", bare(&assignment.attribute)))
            }
        };
        if let Some(header) = header {
            let said = said(&entry.meta());
            let said =
                if matches!(entry, Entry::Assignment(_)) { String::new() } else { format!("# {said}\n") };
            let gap = if text.is_empty() { "" } else { "\n" };
            text.push_str(&format!("{gap}{said}{header}\n"));
        }
        for line in entry.lines() {
            text.push_str(&line);
            text.push('\n');
        }
    }
    text
}

/// What the service says of an entry, in a line.
fn said(meta: &EntryMeta) -> String {
    match meta.origin() {
        Origin::Database if !meta.etag.is_empty() => format!(
            "database, version {}, etag {}, since {}",
            meta.version,
            meta.etag,
            when(meta.update_time.as_ref())
        ),
        _ => origin(meta).to_owned(),
    }
}

/// Where an entry comes from.
pub(crate) fn origin(meta: &EntryMeta) -> &'static str {
    match meta.origin() {
        Origin::Unspecified => "unspecified",
        Origin::Builtin => "builtin",
        Origin::File => "file",
        Origin::Database => "database",
    }
}

/// RFC 3339, UTC, whole seconds; empty if it is not known.
pub(crate) fn when(time: Option<&Timestamp>) -> String {
    let time = time.and_then(|time| OffsetDateTime::from_unix_timestamp(time.seconds).ok());
    time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_default()
}

/// Limits of an entry in few words.
pub(crate) fn limits(fields: &Table) -> String {
    if fields.get("unlimited").and_then(Value::as_bool).unwrap_or_default() {
        return "unlimited".to_owned();
    }
    match fields.get("plan") {
        Some(Value::String(plan)) => return format!("plan {plan}"),
        Some(Value::Table(of)) => {
            let text = |name: &str| of.get(name).and_then(Value::as_str).unwrap_or_default();
            return format!("plan by {}, else {}", text("attribute"), text("default"));
        }
        _ => {}
    }
    let limits = fields.get("limits").and_then(Value::as_array).into_iter().flatten();
    let one = |limit: &Table| {
        let text = |name: &str| limit.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let tokens = limit.get("limit").and_then(Value::as_integer).unwrap_or_default();
        match (text("rate"), text("lease")) {
            (rate, _) if !rate.is_empty() => format!("{} {rate}", text("name")),
            (_, lease) if !lease.is_empty() => format!("{} {tokens} at once", text("name")),
            _ => format!("{} {tokens}/{}", text("name"), text("period")),
        }
    };
    limits.filter_map(Value::as_table).map(one).collect::<Vec<_>>().join(", ")
}

/// Patterns of an override in a line.
pub(crate) fn patterns(key: &BTreeMap<String, String>) -> String {
    let patterns: Vec<_> = key.iter().map(|(attribute, pattern)| format!("{attribute}={pattern}")).collect();
    patterns.join(", ")
}

fn ordered<'t>(table: &'t Table, order: &[&str]) -> Vec<(&'t str, &'t Value)> {
    let place = |name: &str| order.iter().position(|known| *known == name).unwrap_or(order.len());
    let mut fields: Vec<_> = table.iter().map(|(name, value)| (name.as_str(), value)).collect();
    fields.sort_by_key(|(name, _)| place(name));
    fields
}

fn inline(limit: &Table) -> String {
    let fields = ordered(limit, &ORDER_IN_LIMITS).into_iter();
    let fields: Vec<_> = fields.map(|(name, value)| format!("{name} = {value}")).collect();
    format!("{{ {} }}", fields.join(", "))
}

fn assigned(value: &str, plan: &str) -> String {
    format!("{} = {}", bare(value), Value::from(plan))
}

/// A key of TOML, in quotes only if it needs them.
fn bare(key: &str) -> String {
    let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if !key.is_empty() && key.bytes().all(is_bare) { key.to_owned() } else { quoted(key) }
}

/// A basic string of TOML.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests;
