//! Overrides of a file, as they are found over the API.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_proto::ratelimit::v1::{Override, Policy};
use tidegate_ratelimit::messages;
use toml::{Table, Value};

use super::Fault;
use crate::policies::entry::{Entry, Key};

/// The names of the attributes that the keys of policies are made of, in their order.
pub(super) struct KeyNames(BTreeMap<Key, Vec<String>>);

impl KeyNames {
    /// Of policies of a file, and of those in force whose place they do not take.
    pub(super) fn of<'t>(policies: impl Iterator<Item = &'t Table>, in_force: &[Entry]) -> Self {
        let names = |policy: &Policy| {
            let levels = policy.descriptor.iter().map(|level| level.key.clone());
            let key = Key::Policy(policy.namespace.clone(), policy.name.clone());
            (key, levels.chain(policy.key_by.iter().cloned()).collect())
        };
        let in_force = in_force.iter().filter_map(|entry| match entry {
            Entry::Policy(policy) => Some(names(policy)),
            Entry::Plan(_) | Entry::Assignment(_) | Entry::Override(_) => None,
        });
        Self(in_force.chain(policies.map(|table| names(&messages::policy(table, None)))).collect())
    }

    /// The override that the fields at `path` make, with its patterns by the names of attributes. Notes that it has none if the key of its policy
    /// has a name twice. What else is wrong is left to the reader of policy files.
    pub(super) fn by_names(&self, path: &str, fields: &Table, faults: &mut Vec<Fault>) -> Override {
        let Some(Value::Array(patterns)) = fields.get("key") else {
            return messages::override_of(fields, None);
        };
        let text = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let names =
            self.0.get(&Key::Policy(text("namespace"), text("policy"))).map_or(&[][..], Vec::as_slice);
        let mut seen = BTreeSet::new();
        if let Some(twice) = names.iter().find(|name| !seen.insert(name.as_str())) {
            let description = format!(
                "the key of the policy has {twice:?} more than once, so its overrides are set in the policy file of the service only"
            );
            faults.push(Fault { path: format!("{path}.key"), description });
        }
        let mut fields = fields.clone();
        let key = names.iter().cloned().zip(patterns.iter().cloned());
        fields.insert("key".to_owned(), key.collect::<Table>().into());
        messages::override_of(&fields, None)
    }
}
