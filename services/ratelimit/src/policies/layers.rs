//! What is built in, what is stored in a database, and the policy file, one on top of the other.

mod change;

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

pub(crate) use self::change::Trial;
use super::{
    PolicyError, PolicyErrors,
    compile::{StoredEntries, merge},
    file::PolicyFile,
    fingerprint, read, read_built_in,
    reader::Faults,
    stored::{Parsed, StoredEntry},
    utf8,
};
use crate::{
    domain::PolicySet,
    store::catalog::{Entry, EntryKey, Kind},
};

/// Where an entry comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// It came with the service.
    BuiltIn,
    /// The policy file.
    File,
    /// The database.
    Database,
}

impl Origin {
    /// The word for it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::BuiltIn => "builtin",
            Self::File => "file",
            Self::Database => "database",
        }
    }
}

/// An entry in force.
#[derive(Debug)]
pub(crate) struct Listed {
    /// What it is found by.
    pub(crate) key: EntryKey,
    /// Where it comes from.
    pub(crate) origin: Origin,
    /// What is stored of it if it comes from the database.
    pub(crate) stored: Option<Arc<StoredEntry>>,
    /// Its fields as in the policy file.
    pub(crate) fields: toml::Table,
    /// Whether an entry of the database has the same name and has no effect.
    pub(crate) hides_stored: bool,
}

/// The layer that an entry is in, of those that do not change over the API, and its position there.
type Fixed = BTreeMap<EntryKey, (Origin, usize)>;

/// All entries of all layers.
#[derive(Debug)]
pub(crate) struct Layers {
    built_in: PolicyFile,
    file: PolicyFile,
    fingerprint: u128,
    fixed: Fixed,
    stored: Option<BTreeMap<EntryKey, Arc<StoredEntry>>>,
    replicas: u32,
    /// What all of it makes; absent if that is not known.
    built: Option<PolicySet>,
    /// The overrides of the file, as of the last time that something was built.
    fixed_overrides: Arc<Fixed>,
}

impl Layers {
    /// What is built in, without a file.
    pub(crate) fn built_in(replicas: u32) -> Self {
        let nothing = read("", &mut Faults::default()).expect("nothing is TOML");
        Self::new(nothing, 0, replicas)
    }

    /// A policy file on top of what is built in.
    ///
    /// # Errors
    ///
    /// Every fault of a field, and of what its parts say of each other.
    pub(crate) fn of_text(text: &str, origin: &str, replicas: u32) -> Result<Self, PolicyErrors> {
        let mut faults = Faults::default();
        match read(text, &mut faults) {
            Some(file) => {
                let mut layers = Self::new(file, fingerprint(text.as_bytes()), replicas);
                // So that faults of fields and of what they say of each other are told together.
                layers.build_noting(&mut faults);
                faults.none_or(origin).map(|()| layers)
            }
            None => faults.none_or(origin).map(|()| Self::built_in(replicas)),
        }
    }

    fn new(file: PolicyFile, fingerprint: u128, replicas: u32) -> Self {
        let mut layers = Self {
            built_in: read_built_in(),
            file,
            fingerprint,
            fixed: BTreeMap::new(),
            stored: None,
            replicas,
            built: None,
            fixed_overrides: Arc::default(),
        };
        layers.index();
        layers
    }

    /// The same with what is stored, of which nothing is known yet.
    #[must_use]
    pub(crate) fn with_database(self) -> Self {
        Self { stored: Some(BTreeMap::new()), built: None, ..self }
    }

    /// Puts another file in the place of the one there is, if it fits what is stored.
    ///
    /// # Errors
    ///
    /// Every fault; then nothing has changed.
    pub(crate) fn replace_file(&mut self, bytes: &[u8], origin: &str) -> Result<(), PolicyErrors> {
        let text = utf8(bytes, origin)?;
        let mut faults = Faults::default();
        let Some(file) = read(text, &mut faults) else { return faults.none_or(origin) };
        let before = std::mem::replace(&mut self.file, file);
        let fingerprint_before = std::mem::replace(&mut self.fingerprint, fingerprint(bytes));
        let built_before = self.built.take();
        self.build_noting(&mut faults);
        if let Err(errors) = faults.none_or(origin) {
            (self.file, self.fingerprint, self.built) = (before, fingerprint_before, built_before);
            return Err(errors);
        }
        self.index();
        Ok(())
    }

    /// Puts what is stored in the place of what was known of it.
    pub(crate) fn replace_stored(&mut self, entries: Vec<Entry>) {
        let entries = entries.into_iter().map(|entry| Arc::new(StoredEntry::read(entry)));
        let entries = entries.filter(|entry| !entry.is_removal());
        self.stored = Some(entries.map(|entry| (entry.entry.key.clone(), entry)).collect());
        self.built = None;
    }

    /// What is stored under a key.
    pub(crate) fn stored(&self, key: &EntryKey) -> Option<&Arc<StoredEntry>> {
        self.stored.as_ref()?.get(key)
    }

    /// Whether an entry is in the file, or built in.
    pub(crate) fn fixed_origin(&self, key: &EntryKey) -> Option<Origin> {
        self.fixed_of(key.kind).get(key).map(|(origin, _)| *origin)
    }

    /// Stored entries that have no effect, since the file has one of the same name.
    pub(crate) fn hidden(&self) -> impl Iterator<Item = &EntryKey> {
        let stored = self.stored.iter().flat_map(BTreeMap::keys);
        stored.filter(|key| self.fixed_origin(key) == Some(Origin::File))
    }

    /// The policies in force. What several overrides make together is put together anew for each set that this gives.
    ///
    /// # Errors
    ///
    /// Everything that does not fit together.
    pub(crate) fn build(&mut self) -> Result<PolicySet, Vec<PolicyError>> {
        if self.built.is_none() {
            let mut faults = Faults::default();
            self.build_noting(&mut faults);
            if !faults.0.is_empty() {
                return Err(faults.0);
            }
        }
        let set = self.built.as_ref().expect("what has no fault makes a set");
        Ok(set.with_nothing_combined())
    }

    /// The entry in force of a key.
    pub(crate) fn get(&self, key: &EntryKey) -> Option<Listed> {
        self.list(key.kind, Bound::Included(key)).next().filter(|listed| listed.key == *key)
    }

    /// The entries in force of a kind, in the order of their keys.
    pub(crate) fn list<'a>(
        &'a self,
        kind: Kind,
        from: Bound<&EntryKey>,
    ) -> impl Iterator<Item = Listed> + 'a {
        let least = EntryKey { kind, scope: String::new(), name: String::new() };
        let from = if from == Bound::Unbounded { Bound::Included(&least) } else { from };
        let mut fixed = self.fixed_of(kind).range((from, Bound::Unbounded)).peekable();
        let stored = self.stored.as_ref().map(|stored| stored.range((from, Bound::Unbounded)));
        let mut stored = stored.into_iter().flatten().peekable();
        let next = move || {
            let (one, other) = (fixed.peek().copied(), stored.peek().copied());
            let both = one.map(|(key, _)| key) == other.map(|(key, _)| key);
            let fixed_first = match (one, other) {
                (Some((_, (origin, _))), _) if both => *origin == Origin::File,
                (Some((fixed, _)), Some((stored, _))) => fixed < stored,
                (one, _) => one.is_some(),
            };
            if fixed_first || both {
                fixed.next();
            }
            if !fixed_first || both {
                stored.next();
            }
            match (one, other) {
                (Some((key, (origin, at))), _) if fixed_first => {
                    Some(self.listed_fixed(key, *origin, *at, both))
                }
                (_, other) => other.map(|(key, entry)| listed_stored(key, entry)),
            }
        };
        std::iter::from_fn(next).take_while(move |listed| listed.key.kind == kind)
    }

    fn build_noting(&mut self, faults: &mut Faults) {
        for entry in self.stored.iter().flat_map(BTreeMap::values) {
            if let Err(found) = &entry.parsed {
                faults.0.extend(found.iter().cloned());
            }
        }
        let merged = merge(&self.built_in, self.stored_entries().as_ref(), &self.file, faults);
        let Some(set) = merged.build(self.replicas, faults) else { return };
        let overrides = self.file.overrides.iter().enumerate();
        let keys = overrides.filter_map(|(at, of)| Some((of.entry_key(&set)?, (Origin::File, at))));
        self.fixed_overrides = Arc::new(keys.collect());
        self.built = Some(set.with_fingerprint(self.fingerprint));
    }

    fn stored_entries(&self) -> Option<StoredEntries<'_>> {
        let mut entries = StoredEntries::default();
        for entry in self.stored.as_ref()?.values() {
            match &entry.parsed {
                Ok(Parsed::Policy(policy)) => entries.policies.push(policy),
                Ok(Parsed::Plan(plan)) => entries.plans.push(plan),
                Ok(Parsed::Assignment(assignment)) => entries.assignments.push(assignment),
                Ok(Parsed::Override(entry)) => entries.overrides.push(entry),
                Ok(Parsed::Removal) | Err(_) => {}
            }
        }
        Some(entries)
    }

    fn fixed_of(&self, kind: Kind) -> &Fixed {
        if kind == Kind::Override { &self.fixed_overrides } else { &self.fixed }
    }

    fn index(&mut self) {
        self.fixed.clear();
        for (file, origin) in [(&self.built_in, Origin::BuiltIn), (&self.file, Origin::File)] {
            for (position, plan) in file.plans.iter().enumerate() {
                let key = EntryKey::plan(plan.name.as_deref().unwrap_or_default());
                self.fixed.insert(key, (origin, position));
            }
            let policies = file.policies.iter().enumerate();
            for (position, policy) in policies.filter(|_| origin == Origin::File || self.file.builtin) {
                let namespace = policy.namespace.as_deref().unwrap_or_default();
                let key = EntryKey::policy(namespace, policy.name.as_deref().unwrap_or_default());
                self.fixed.insert(key, (origin, position));
            }
            for (position, assignment) in file.assignments.iter().enumerate() {
                let key = EntryKey::assignment(&assignment.attribute, &assignment.value);
                self.fixed.insert(key, (origin, position));
            }
        }
    }

    fn listed_fixed(&self, key: &EntryKey, origin: Origin, position: usize, hides_stored: bool) -> Listed {
        let file = if origin == Origin::File { &self.file } else { &self.built_in };
        let mut fields = match key.kind {
            Kind::Policy => from_json(&file.policies[position].source),
            Kind::Plan => from_json(&file.plans[position].source),
            Kind::Assignment => {
                let plan = file.assignments[position].plan.clone();
                [("plan".to_owned(), plan.into())].into_iter().collect()
            }
            Kind::Override => {
                let entry = &file.overrides[position];
                entry.fields(key, self.built.as_ref().and_then(|set| entry.policy_in(set)))
            }
        };
        if key.kind == Kind::Policy {
            // As [defaults] of the file say.
            let policy = &file.policies[position];
            fields.insert("enforcement".to_owned(), policy.enforcement.as_str().into());
            fields.insert("failure_mode".to_owned(), policy.failure_mode.as_str().into());
            fields.insert("on_data_loss".to_owned(), policy.on_data_loss.as_str().into());
        }
        Listed { key: key.clone(), origin, stored: None, fields, hides_stored }
    }
}

fn listed_stored(key: &EntryKey, entry: &Arc<StoredEntry>) -> Listed {
    Listed {
        key: key.clone(),
        origin: Origin::Database,
        fields: from_json(entry.entry.body.as_deref().unwrap_or_default()),
        stored: Some(Arc::clone(entry)),
        hides_stored: false,
    }
}

/// A table that was written as JSON by this service.
fn from_json(text: &str) -> toml::Table {
    serde_json::from_str(text).unwrap_or_default()
}
