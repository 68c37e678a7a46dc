//! What a file asks for, read and checked as a whole with what is in force.

mod overrides;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use anyhow::Context;
use tidegate_proto::ratelimit::v1::{Assignment, Origin};
use tidegate_ratelimit::{messages, policies};
use toml::{Table, Value};

use self::overrides::KeyNames;

use crate::policies::{
    ONE_REPLICA,
    entry::{Entry, Key},
};

/// What else a policy file has, and why it is not applied.
const NOT_APPLIED: [(&str, &str); 2] = [
    ("namespaces", "are settings of the policy file of the service, and of nothing else"),
    ("builtin", "is a setting of the policy file of the service, and of nothing else"),
];

/// What policies take from `[defaults]` if they do not say.
const DEFAULTS: [&str; 3] = ["enforcement", "failure_mode", "on_data_loss"];

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// Where in the file, as `policies[2].limits[0].period`.
    pub(super) path: String,
    pub(super) description: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let colon = if self.path.is_empty() { "" } else { ": " };
        write!(f, "{}{colon}{}", self.path, self.description)
    }
}

/// What a file asks for.
#[derive(Debug)]
pub(super) struct Wanted {
    /// Plans, policies, overrides and defaults of the file.
    table: Table,
    /// Attribute, value and plan, each where it stands.
    assignments: Vec<(String, Assignment)>,
}

/// An entry that is wanted, and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub(super) path: String,
    pub(super) entry: Entry,
}

impl Wanted {
    /// Reads a file, and says what of it cannot be applied.
    ///
    /// # Errors
    ///
    /// It is not TOML.
    pub(super) fn read(text: &str, name: &str) -> anyhow::Result<(Self, Vec<Fault>)> {
        let mut table: Table = text.parse().with_context(|| format!("{name} is not TOML"))?;
        let mut faults = Vec::new();
        for (key, why) in NOT_APPLIED {
            if table.remove(key).is_some() {
                faults.push(Fault { path: key.to_owned(), description: why.to_owned() });
            }
        }
        let assignments = match table.remove("assignments") {
            None => Vec::new(),
            Some(value) => read_assignments(value, &mut faults),
        };
        Ok((Self { table, assignments }, faults))
    }

    /// Attributes to which the file assigns plans.
    pub(super) fn assigned_attributes(&self) -> BTreeSet<&str> {
        self.assignments.iter().map(|(_, assignment)| &*assignment.attribute).collect()
    }

    /// The namespaces in which it may change what overrides have to fit; all of them if there are none in the set. Nothing if it changes no
    /// limits and sets no overrides.
    pub(super) fn overridden_namespaces(&self) -> Option<BTreeSet<&str>> {
        let of = |list: &str| {
            let entries = self.tables(list);
            entries.filter_map(|(_, entry)| entry.get("namespace")?.as_str()).collect::<BTreeSet<_>>()
        };
        let mut namespaces = of("policies").into_iter().chain(of("overrides")).collect::<BTreeSet<_>>();
        namespaces.remove("");
        // A plan is of no namespace.
        match self.tables("plans").next() {
            Some(_) => Some(BTreeSet::new()),
            None => Some(namespaces).filter(|namespaces| !namespaces.is_empty()),
        }
    }

    /// Everything that is wrong with what would be in force: with the fields of the file, and with what its entries and those of the
    /// service say of each other. It is the check of the service itself, of a file that has it all.
    pub(super) fn check(&self, in_force: &[Entry]) -> Vec<Fault> {
        let mut whole = self.table.clone();
        let mut own = self.names();
        let mut faults = Vec::new();
        let overrides = self.overrides(in_force, &mut faults);
        own.extend(overrides.iter().map(|placed| placed.entry.key()));
        let mut added = BTreeMap::new();
        for entry in in_force.iter().filter(|entry| entry.meta().origin() != Origin::Builtin) {
            let list = match entry {
                Entry::Plan(_) => "plans",
                Entry::Policy(_) => "policies",
                Entry::Override(_) => "overrides",
                Entry::Assignment(_) => continue,
            };
            let list = (list, whole.entry(list).or_insert_with(|| Value::Array(Vec::new())));
            if let (name, Value::Array(entries)) = list
                && !own.contains(&entry.key())
            {
                added.insert(format!("{name}[{}]", entries.len()), entry.key());
                entries.push(entry.fields().into());
            }
        }
        if let Err(found) = policies::parse(&whole.to_string(), "", ONE_REPLICA) {
            let fault = |found: &policies::PolicyError| {
                let of_service = found.path.find(']').and_then(|at| {
                    let (place, rest) = found.path.split_at(at + 1);
                    Some(format!("{}{rest}", added.get(place)?))
                });
                let path = of_service.unwrap_or_else(|| found.path.clone());
                Fault { path, description: found.description.clone() }
            };
            faults.extend(found.iter().map(fault));
        }
        let plans: BTreeSet<_> = own.into_iter().chain(in_force.iter().map(Entry::key)).collect();
        for (path, assignment) in &self.assignments {
            if !plans.contains(&Key::Plan(assignment.plan.clone())) {
                let description = format!("there is no plan {:?}", assignment.plan);
                faults.push(Fault { path: path.clone(), description });
            }
        }
        faults
    }

    /// The entries, in an order in which none needs one that comes after it. They have been checked.
    pub(super) fn entries(&self, in_force: &[Entry]) -> Vec<Placed> {
        let plans = self.tables("plans").map(|(path, table)| {
            let entry = Entry::Plan(messages::plan(table, None));
            Placed { path, entry }
        });
        let mut defaults = self.table.get("defaults").and_then(Value::as_table).cloned().unwrap_or_default();
        defaults.retain(|name, _| DEFAULTS.contains(&name));
        let policies = self.tables("policies").map(|(path, table)| {
            let mut whole = defaults.clone();
            whole.extend(table.clone());
            Placed { path, entry: Entry::Policy(messages::policy(&whole, None)) }
        });
        let assignments = self.assignments.iter().map(|(path, assignment)| Placed {
            path: path.clone(),
            entry: Entry::Assignment(assignment.clone()),
        });
        let overrides = self.overrides(in_force, &mut Vec::new());
        plans.chain(replaced_first(policies.collect())).chain(assignments).chain(overrides).collect()
    }

    /// The overrides of the file. Notes those that can be set in the policy file of a service only.
    fn overrides(&self, in_force: &[Entry], faults: &mut Vec<Fault>) -> Vec<Placed> {
        let names = KeyNames::of(self.tables("policies").map(|(_, policy)| policy), in_force);
        let overrides = self.tables("overrides").map(|(path, table)| {
            let set = names.by_names(&path, table, faults);
            Placed { path, entry: Entry::Override(set) }
        });
        overrides.collect()
    }

    fn tables(&self, list: &str) -> impl Iterator<Item = (String, &Table)> {
        let entries = self.table.get(list).and_then(Value::as_array).into_iter().flatten();
        let placed = entries.enumerate().map(move |(at, value)| (format!("{list}[{at}]"), value));
        placed.filter_map(|(path, value)| Some((path, value.as_table()?)))
    }

    /// Plans and policies that the file names.
    fn names(&self) -> BTreeSet<Key> {
        let text = |table: &Table, name: &str| {
            table.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let plans = self.tables("plans").map(|(_, plan)| Key::Plan(text(plan, "name")));
        let policies = self.tables("policies");
        let policies =
            policies.map(|(_, policy)| Key::Policy(text(policy, "namespace"), text(policy, "name")));
        plans.chain(policies).collect()
    }
}

/// A policy comes after those whose place it takes.
fn replaced_first(mut waiting: Vec<Placed>) -> Vec<Placed> {
    let mut ordered = Vec::with_capacity(waiting.len());
    while !waiting.is_empty() {
        let names: BTreeSet<_> = waiting.iter().map(|placed| placed.entry.key()).collect();
        let waits = |placed: &Placed| {
            let Entry::Policy(policy) = &placed.entry else { return false };
            let mut replaced = policy.replaces.iter();
            replaced.any(|name| names.contains(&Key::Policy(policy.namespace.clone(), name.clone())))
        };
        let (later, now): (Vec<_>, Vec<_>) = waiting.into_iter().partition(waits);
        if now.is_empty() {
            // In a circle, which the check has refused.
            ordered.extend(later);
            break;
        }
        ordered.extend(now);
        waiting = later;
    }
    ordered
}

fn read_assignments(value: Value, faults: &mut Vec<Fault>) -> Vec<(String, Assignment)> {
    let mut wrong = |path: &str, must: &str| {
        faults.push(Fault { path: path.to_owned(), description: format!("must be {must}") });
    };
    let Value::Table(attributes) = value else {
        wrong("assignments", "a table");
        return Vec::new();
    };
    let mut assignments = Vec::new();
    for (attribute, values) in attributes {
        let path = format!("assignments.{attribute}");
        let Value::Table(values) = values else {
            wrong(&path, "a table of values and their plans");
            continue;
        };
        for (value, plan) in values {
            let path = format!("{path}.{value}");
            match plan {
                Value::String(plan) => {
                    let attribute = attribute.clone();
                    assignments.push((path, Assignment { attribute, value, plan, meta: None }));
                }
                _ => wrong(&path, "the name of a plan"),
            }
        }
    }
    assignments
}

#[cfg(test)]
mod tests;
