//! Stored entries, read by the same reader as those of the policy file.

use super::{
    PolicyError,
    file::{AssignmentEntry, Defaults, PlanEntry, PolicyEntry, read_plan, read_policy},
    names::{check_attribute, check_value},
    overrides::{OverrideEntry, read_override},
    reader::{Faults, Fields},
};
use crate::store::catalog::{Entry, EntryKey, Kind};

/// An entry as stored, and as read.
#[derive(Debug)]
pub(crate) struct StoredEntry {
    /// As stored.
    pub(crate) entry: Entry,
    /// As read; faults if it was stored by a release that knows more than this one, or by hand.
    pub(super) parsed: Result<Parsed, Vec<PolicyError>>,
}

/// What an entry says.
#[derive(Debug)]
pub(super) enum Parsed {
    Policy(PolicyEntry),
    Plan(PlanEntry),
    Assignment(AssignmentEntry),
    Override(OverrideEntry),
    /// Nothing: the entry is removed.
    Removal,
}

impl StoredEntry {
    /// Reads what is stored.
    pub(crate) fn read(entry: Entry) -> Self {
        let Some(body) = &entry.body else { return Self::removal(entry) };
        let path = entry.key.to_string();
        let parsed = match serde_json::from_str(body) {
            Ok(table) => parse(&entry.key, &path, &path, table),
            Err(error) => Err(vec![PolicyError { path, description: format!("is not JSON: {error}") }]),
        };
        Self { entry, parsed }
    }

    /// The end of an entry.
    pub(crate) fn removal(entry: Entry) -> Self {
        Self { entry, parsed: Ok(Parsed::Removal) }
    }

    /// Reads what is to be stored. Faults of fields lie under `path`.
    ///
    /// # Errors
    ///
    /// Every fault.
    pub(crate) fn new(entry: Entry, path: &str, fields: toml::Table) -> Result<Self, Vec<PolicyError>> {
        let parsed = parse(&entry.key, path, &entry.key.to_string(), fields)?;
        Ok(Self { entry, parsed: Ok(parsed) })
    }

    /// The override that it is, if it is one and has no fault.
    pub(super) fn as_override(&self) -> Option<&OverrideEntry> {
        match &self.parsed {
            Ok(Parsed::Override(entry)) => Some(entry),
            _ => None,
        }
    }

    /// Whether it is the end of one.
    pub(crate) fn is_removal(&self) -> bool {
        self.entry.body.is_none()
    }

    /// What there is to be read is read already; this is when it was stored.
    #[must_use]
    pub(crate) fn at_version(mut self, version: u64) -> Self {
        self.entry.version = version;
        self
    }
}

/// Reads the fields of an entry, whose faults lie under `path`, and gives it the path `name` for faults that are found later.
fn parse(key: &EntryKey, path: &str, name: &str, fields: toml::Table) -> Result<Parsed, Vec<PolicyError>> {
    let mut faults = Faults::default();
    refuse_nul(path, &toml::Value::Table(fields.clone()), &mut faults);
    let mut fields = Fields::new(path, fields);
    let parsed = match key.kind {
        Kind::Policy => {
            let policy = read_policy(fields, Defaults::default(), &mut faults);
            Parsed::Policy(PolicyEntry { path: name.to_owned(), ..policy })
        }
        Kind::Plan => Parsed::Plan(PlanEntry { path: name.to_owned(), ..read_plan(fields, &mut faults) }),
        Kind::Assignment => {
            check_attribute(&fields.path_of("attribute"), &key.scope, &mut faults);
            check_value(&fields.path_of("value"), &key.name, &mut faults);
            fields.need("plan", &mut faults);
            let plan = fields.text("plan", &mut faults).unwrap_or_default();
            fields.finish(&mut faults);
            Parsed::Assignment(AssignmentEntry {
                path: name.to_owned(),
                attribute: key.scope.clone(),
                value: key.name.clone(),
                plan,
            })
        }
        Kind::Override => {
            let entry = read_override(fields, &mut faults);
            if faults.0.is_empty() && entry.stored_key().as_ref() != Some(key) {
                faults.add(path, "is stored under a name that is not made of its policy, limit and key");
            }
            Parsed::Override(OverrideEntry { path: name.to_owned(), ..entry })
        }
    };
    if faults.0.is_empty() { Ok(parsed) } else { Err(faults.0) }
}

/// PostgreSQL holds no U+0000 in a text.
fn refuse_nul(path: &str, value: &toml::Value, faults: &mut Faults) {
    match value {
        toml::Value::String(text) if text.contains('\0') => faults.add(path, "must not contain U+0000"),
        toml::Value::Array(values) => {
            values
                .iter()
                .enumerate()
                .for_each(|(at, value)| refuse_nul(&format!("{path}[{at}]"), value, faults));
        }
        toml::Value::Table(table) => {
            table.iter().for_each(|(key, value)| refuse_nul(&format!("{path}.{key}"), value, faults));
        }
        _ => {}
    }
}
