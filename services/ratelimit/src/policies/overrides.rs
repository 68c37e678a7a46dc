//! Overrides as they are written, and what they say of the policies.

use std::{
    collections::{BTreeMap, HashSet},
    hash::Hash,
};

use siphasher::sip128::{Hasher128, SipHasher24};
use toml::{Table, Value};

use super::{
    conditions::read_pattern,
    limits::{read_period, read_rate, read_tokens},
    period::format,
    reader::{Faults, Fields, join, numbered, wrong_type},
};
use crate::{
    domain::{Numbers, Override, OverrideChange, OverrideFault, OverrideTarget, Pattern, Policy, PolicySet},
    store::catalog::EntryKey,
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
    pub is_rate: bool,
}

/// Whom an override is for, as it is written.
#[derive(Debug)]
pub(super) enum KeyEntry {
    /// A pattern for each attribute, in the order of the policy's key.
    InOrder(Vec<Pattern>),
    /// By the names of the attributes.
    ByName(Vec<(String, Pattern)>),
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

/// The fields of an override as those of one in the policy file are told: tokens and a period in place of a rate, and the period in one
/// of the ways to write it. So what says the same looks the same. Nothing if a field is faulty, or the key is not by the names of attributes.
pub fn spelt_out(fields: Table) -> Option<Table> {
    let mut faults = Faults::default();
    let entry = read_override(Fields::new("", fields), &mut faults);
    let key = entry.stored_key()?;
    faults.0.is_empty().then(|| entry.fields(&key, None))
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
            let values = numbered(&path, 0, values).into_iter();
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
                    Some((name, pattern))
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
            KeyEntry::ByName(entries) => in_order(entries, policy, &format!("{}.key", self.path), faults)?,
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

    /// Notes what is wrong with the override that it [is](Self::resolve).
    pub(super) fn note(&self, fault: &OverrideFault, faults: &mut Faults) {
        let is_of_rate = self.is_rate && ["tokens", "period"].contains(&fault.field);
        let field = if is_of_rate { "rate" } else { fault.field };
        faults.add(format!("{}.{field}", self.path), fault.description.as_str());
    }

    /// What it is found by over the API; nothing if the policy is not in `set`, or has a key that cannot be said by the names of attributes.
    pub(super) fn entry_key(&self, set: &PolicySet) -> Option<EntryKey> {
        let policy = self.policy_in(set)?;
        let key = self.key_by_names(&policy.key_by)?;
        let is_whole = key.len() == policy.key_by.len();
        let limit = self.limit.as_deref()?;
        is_whole.then(|| EntryKey::of_override(&policy.namespace, &policy.name, limit, &key))
    }

    /// What it is stored under.
    pub(super) fn stored_key(&self) -> Option<EntryKey> {
        let Some(KeyEntry::ByName(_)) = self.key else { return None };
        let (namespace, policy, limit) =
            (self.namespace.as_deref()?, self.policy.as_deref()?, self.limit.as_deref()?);
        Some(EntryKey::of_override(namespace, policy, limit, &self.key_by_names(&[])?))
    }

    /// Its patterns by the names of attributes, which are those of `key_by` where it does not name them itself.
    fn key_by_names(&self, key_by: &[Box<str>]) -> Option<BTreeMap<String, String>> {
        Some(match self.key.as_ref()? {
            KeyEntry::InOrder(patterns) => {
                let names = key_by.iter().map(ToString::to_string);
                names.zip(patterns.iter().map(ToString::to_string)).collect()
            }
            KeyEntry::ByName(entries) => {
                entries.iter().map(|(name, pattern)| (name.clone(), pattern.to_string())).collect()
            }
        })
    }

    /// The policy that it is for.
    pub(super) fn policy_in<'s>(&self, set: &'s PolicySet) -> Option<&'s Policy> {
        set.namespace(self.namespace.as_deref()?)?.policy(self.policy.as_deref()?)
    }

    /// Its fields, as they would be written over the API, where it is found by `key`. Patterns in the order of the policy's key have names by
    /// that of `policy`, if they cannot be read in `key`.
    pub(super) fn fields(&self, key: &EntryKey, policy: Option<&Policy>) -> Table {
        let mut table = Table::new();
        for (field, value) in
            [("namespace", &self.namespace), ("policy", &self.policy), ("limit", &self.limit)]
        {
            table.insert(field.to_owned(), value.as_deref().unwrap_or_default().into());
        }
        let key_by = policy.map_or(&[][..], |policy| &policy.key_by);
        let own = || self.key_by_names(key_by).unwrap_or_default();
        let key = key.override_key().unwrap_or_else(own).into_iter();
        let key: Table = key.map(|(attribute, pattern)| (attribute, pattern.into())).collect();
        table.insert("key".to_owned(), key.into());
        if let Some(Numbers { tokens, period, burst }) = self.numbers {
            let number = |number: u64| Value::from(i64::try_from(number).unwrap_or(i64::MAX));
            table.insert("tokens".to_owned(), number(tokens));
            table.extend(period.map(|period| ("period".to_owned(), format(period).into())));
            table.extend(burst.map(|burst| ("burst".to_owned(), number(burst))));
        }
        table
    }
}

/// Patterns by name in the order of the policy's key.
fn in_order(
    entries: &[(String, Pattern)],
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
        match entries.iter().find(|(of, _)| **of == **name) {
            Some((_, pattern)) => patterns.push(pattern.clone()),
            None => faults.add(path, format!("says nothing of {name:?}; write \"*\" if any value is meant")),
        }
    }
    let is_part = |name: &str| policy.key_by.iter().any(|of| **of == *name);
    for (name, _) in entries.iter().filter(|(name, _)| !is_part(name)) {
        let key = policy.key_by.join(", ");
        faults.add(join(path, name), format!("{name:?} is no part of the key, which is made of {key}"));
    }
    (entries.len() == policy.key_by.len() && patterns.len() == entries.len()).then_some(patterns)
}

/// Puts the overrides of layers into a set, those of a later one in place of those of an earlier one with the same target. Within a layer
/// targets must differ. Gives nothing if there is any fault.
pub(super) fn apply(
    mut set: PolicySet,
    layers: &[&[&OverrideEntry]],
    faults: &mut Faults,
) -> Option<PolicySet> {
    for entries in layers {
        // There may be very many: each is put in as soon as it is known, and nothing but a number is kept of its target.
        let (mut targets, mut places) = (HashSet::new(), Vec::new());
        let changes = entries.iter().filter_map(|entry| {
            let resolved = entry.resolve(&set, faults)?;
            let mut hasher = SipHasher24::new();
            resolved.target.hash(&mut hasher);
            if !targets.insert(hasher.finish128().as_u128()) {
                faults.add(entry.path.as_str(), "there is already an override of this limit for this key");
                return None;
            }
            places.push(entry);
            Some(OverrideChange::Set(resolved))
        });
        let (next, found) = set.with_overrides(changes);
        found.into_iter().for_each(|fault| places[fault.index].note(&fault, faults));
        set = next;
    }
    faults.0.is_empty().then_some(set)
}
