//! Overrides as they are written, and what they say of the policies.

use std::collections::HashSet;

use toml::Value;

use super::{
    conditions::read_pattern,
    limits::{read_period, read_rate, read_tokens},
    reader::{Faults, Fields, numbered, wrong_type},
};
use crate::domain::{
    Numbers, Override, OverrideChange, OverrideFault, OverrideTarget, Pattern, Policy, PolicySet,
};

/// One override. Of what is faulty, and noted as such, the fields are absent.
#[derive(Debug)]
pub(super) struct OverrideEntry {
    pub path: String,
    pub namespace: Option<String>,
    pub policy: Option<String>,
    pub limit: Option<String>,
    pub key: Option<KeyEntry>,
    pub numbers: Option<Numbers>,
    /// Whether the numbers were written as a rate.
    is_rate: bool,
}

/// Whom an override is for, as it is written.
#[derive(Debug)]
pub(super) enum KeyEntry {
    /// A pattern for each attribute, in the order of the policy's key.
    InOrder(Vec<Pattern>),
    /// By the names of the attributes, each with its path.
    ByName(Vec<(String, String, Pattern)>),
}

/// Reads one override.
pub(super) fn read_override(mut fields: Fields, faults: &mut Faults) -> OverrideEntry {
    for key in ["namespace", "policy", "limit", "key"] {
        fields.need(key, faults);
    }
    let is_rate = fields.has("rate");
    let entry = OverrideEntry {
        path: fields.path().to_owned(),
        namespace: fields.text("namespace", faults),
        policy: fields.text("policy", faults),
        limit: fields.text("limit", faults),
        key: read_key(&mut fields, faults),
        numbers: read_numbers(&mut fields, faults),
        is_rate,
    };
    fields.finish(faults);
    entry
}

fn read_numbers(fields: &mut Fields, faults: &mut Faults) -> Option<Numbers> {
    let (has_period, has_burst) = (fields.has("period"), fields.has("burst"));
    let (tokens, period) = match read_rate(fields, "tokens", faults) {
        Some(rate) => (rate.map(|(tokens, _)| tokens), rate.map(|(_, period)| period)),
        None => {
            fields.need("tokens", faults);
            (read_tokens(fields, "tokens", faults), read_period(fields, "period", faults))
        }
    };
    let burst = read_tokens(fields, "burst", faults);
    let is_whole = period.is_some() >= has_period && burst.is_some() == has_burst;
    Some(Numbers { tokens: tokens?, period, burst }).filter(|_| is_whole)
}

fn read_key(fields: &mut Fields, faults: &mut Faults) -> Option<KeyEntry> {
    let path = fields.path_of("key");
    match fields.value("key")? {
        Value::Array(values) => {
            let count = values.len();
            let values = numbered(&path, values).into_iter();
            let patterns: Vec<_> =
                values.filter_map(|(path, value)| read_pattern(&path, value, faults)).collect();
            (patterns.len() == count).then_some(KeyEntry::InOrder(patterns))
        }
        Value::Table(values) => {
            let count = values.len();
            let entries = Fields::new(path, values).entries();
            let patterns: Vec<_> = entries
                .filter_map(|(path, name, value)| {
                    let pattern = read_pattern(&path, value, faults)?;
                    Some((path, name, pattern))
                })
                .collect();
            (patterns.len() == count).then_some(KeyEntry::ByName(patterns))
        }
        other => wrong_type(&path, "a table of attributes, or a list in the order of key_by", &other, faults),
    }
}

impl OverrideEntry {
    /// The override, if it says whom it is for in terms of its policy. What it says of limits is checked when it is
    /// [set](PolicySet::with_overrides).
    pub(super) fn resolve(&self, set: &PolicySet, faults: &mut Faults) -> Option<Override> {
        let (namespace, name) = (self.namespace.as_deref()?, self.policy.as_deref()?);
        let Some(declared) = set.namespace(namespace) else {
            let description = format!("no policy is declared in namespace {namespace:?}");
            faults.add(format!("{}.namespace", self.path), description);
            return None;
        };
        let Some(policy) = declared.policy(name) else {
            let description = format!("there is no policy {name:?} in namespace {namespace:?}");
            faults.add(format!("{}.policy", self.path), description);
            return None;
        };
        let key = match self.key.as_ref()? {
            KeyEntry::InOrder(patterns) => patterns.clone(),
            KeyEntry::ByName(entries) => {
                in_order(entries.clone(), policy, &format!("{}.key", self.path), faults)?
            }
        };
        // Numbers that every limit can have, where those that are written were noted as faulty: the rest is checked all the same.
        let numbers = self.numbers.unwrap_or(Numbers { tokens: 1, period: None, burst: None });
        let target = OverrideTarget {
            namespace: policy.namespace.clone(),
            policy: policy.name.clone(),
            limit: self.limit.as_deref()?.into(),
            key: key.into(),
        };
        Some(Override { target, numbers })
    }
}

/// Patterns by name in the order of the policy's key.
fn in_order(
    mut entries: Vec<(String, String, Pattern)>,
    policy: &Policy,
    path: &str,
    faults: &mut Faults,
) -> Option<Vec<Pattern>> {
    let mut names = HashSet::new();
    if let Some(twice) = policy.key_by.iter().find(|name| !names.insert(&***name)) {
        faults.add(path, format!("the key has {twice:?} more than once; write a list in its order"));
        return None;
    }
    let mut patterns = Vec::with_capacity(policy.key_by.len());
    for name in &policy.key_by {
        match entries.iter().position(|(_, of, _)| **of == **name) {
            Some(place) => patterns.push(entries.swap_remove(place).2),
            None => faults.add(path, format!("says nothing of {name:?}; write \"*\" if any value is meant")),
        }
    }
    for (path, name, _) in &entries {
        let key = policy.key_by.join(", ");
        faults.add(path, format!("{name:?} is no part of the key, which is made of {key}"));
    }
    (entries.is_empty() && patterns.len() == policy.key_by.len()).then_some(patterns)
}

/// Puts overrides into a set, whose targets must differ. Gives nothing if there is any fault.
pub(super) fn apply(set: PolicySet, entries: &[&OverrideEntry], faults: &mut Faults) -> Option<PolicySet> {
    if entries.is_empty() {
        return Some(set);
    }
    let mut targets = HashSet::new();
    let (mut places, mut changes) = (Vec::new(), Vec::new());
    for entry in entries {
        let place = (entry.path.clone(), entry.is_rate);
        let Some(resolved) = entry.resolve(&set, faults) else { continue };
        if !targets.insert(resolved.target.clone()) {
            faults.add(place.0, "there is already an override of this limit for this key");
            continue;
        }
        places.push(place);
        changes.push(OverrideChange::Set(resolved));
    }
    let (set, found) = set.with_overrides(changes);
    for OverrideFault { index, field, description } in found {
        let (path, is_rate) = &places[index];
        let is_of_rate = *is_rate && ["tokens", "period"].contains(&field);
        let field = if is_of_rate { "rate" } else { field };
        faults.add(format!("{path}.{field}"), description);
    }
    faults.0.is_empty().then_some(set)
}
