//! What has to be done so that a file is in force.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use tidegate_proto::ratelimit::v1::{Assignment, Origin};

use super::wanted::{Fault, Placed};
use crate::policies::entry::{Entry, Key};

/// A plan that every service has.
const BUILT_IN: &str = "free";

/// One entry, and what is to be done with it.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) path: String,
    pub(super) entry: Entry,
    /// What is in force now.
    pub(super) before: Option<Entry>,
    pub(super) act: Act,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Create,
    /// Only if it is still what it was compared with; of an override, which has no condition, whatever it is now.
    Update {
        etag: String,
    },
    Nothing,
}

impl Act {
    /// The word for it.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update { .. } => "update",
            Self::Nothing => "unchanged",
        }
    }
}

/// Compares what is wanted with what is in force.
///
/// # Errors
///
/// Entries of the service's own file are in the way.
pub(super) fn changes(wanted: Vec<Placed>, in_force: &[Entry]) -> Result<Vec<Change>, Vec<Fault>> {
    let known: BTreeMap<_, _> = in_force.iter().map(|entry| (entry.key(), entry)).collect();
    let mut faults = Vec::new();
    let mut changes = Vec::with_capacity(wanted.len());
    for Placed { path, entry } in wanted {
        let key = entry.key();
        let before = known.get(&key).copied().cloned();
        let act = match &before {
            Some(known) if known.says_as(&entry) => Act::Nothing,
            Some(known) => match known.meta().origin() {
                Origin::Database => Act::Update { etag: known.meta().etag },
                Origin::File => {
                    let description = format!("{key} is in the policy file of the service, which goes first");
                    faults.push(Fault { path: path.clone(), description });
                    continue;
                }
                Origin::Builtin | Origin::Unspecified => Act::Create,
            },
            None => Act::Create,
        };
        changes.push(Change { path, entry, before, act });
    }
    if faults.is_empty() { Ok(changes) } else { Err(faults) }
}

/// What others may need and is about to be changed.
#[derive(Debug)]
pub(super) struct Pending {
    keys: BTreeSet<Key>,
    has_plans: bool,
}

impl Pending {
    /// What of `changes` others may need.
    pub(super) fn of(changes: &[Change]) -> Self {
        let pending = changes.iter().filter(|change| change.act != Act::Nothing);
        let keys = pending.map(|change| change.entry.key());
        let keys: BTreeSet<_> = keys.filter(|key| matches!(key, Key::Plan(_) | Key::Policy(..))).collect();
        let has_plans = keys.iter().any(|key| matches!(key, Key::Plan(_)));
        Self { keys, has_plans }
    }
}

impl Change {
    /// Whether it can only be made after another one, so that the service cannot tell beforehand.
    fn needs_another(&self, pending: &Pending) -> bool {
        let needed = match &self.entry {
            Entry::Plan(_) => Vec::new(),
            Entry::Policy(policy) => {
                let of = policy.plan_of.as_ref().map(|of| of.default.clone());
                let plans = [Some(policy.plan.clone()), of, Some(policy.upgrade_plan.clone())];
                let replaced = policy.replaces.iter();
                let replaced = replaced.map(|name| Key::Policy(policy.namespace.clone(), name.clone()));
                plans.into_iter().flatten().map(Key::Plan).chain(replaced).collect()
            }
            Entry::Assignment(assignment) => vec![Key::Plan(assignment.plan.clone())],
            // Of a policy that takes its plan from the caller, a limit of any plan.
            Entry::Override(_) if pending.has_plans => return true,
            Entry::Override(set) => vec![Key::Policy(set.namespace.clone(), set.policy.clone())],
        };
        needed.iter().any(|needed| pending.keys.contains(needed))
    }

    /// What of it the service can be asked about before the others are made; nothing if it is not to be made.
    pub(super) fn to_look_at(&self, pending: &Pending) -> Option<Cow<'_, Self>> {
        if self.act == Act::Nothing {
            return None;
        }
        if !self.needs_another(pending) {
            return Some(Cow::Borrowed(self));
        }
        // Of others the fields have been checked here.
        let Entry::Assignment(assignment) = self.entry.clone() else { return None };
        let entry = Entry::Assignment(Assignment { plan: BUILT_IN.to_owned(), ..assignment });
        Some(Cow::Owned(Self { path: self.path.clone(), entry, before: None, act: self.act.clone() }))
    }
}

#[cfg(test)]
mod tests;
