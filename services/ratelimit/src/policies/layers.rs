//! What is built in, what is stored in a database, and the policy file, one on top of the other.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

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

/// All entries of all layers.
#[derive(Debug)]
pub(crate) struct Layers {
    built_in: PolicyFile,
    file: PolicyFile,
    fingerprint: u128,
    /// Which of the two an entry is in, and at which position.
    fixed: BTreeMap<EntryKey, (Origin, usize)>,
    stored: Option<BTreeMap<EntryKey, Arc<StoredEntry>>>,
    replicas: u32,
}

impl Layers {
    /// What is built in, without a file.
    pub(crate) fn built_in(replicas: u32) -> Self {
        let nothing = PolicyFile::read(toml::Table::new(), &mut Faults::default());
        Self::new(nothing, 0, replicas)
    }

    /// A policy file on top of what is built in. Whether its parts fit together is told by [`check`](Self::check).
    ///
    /// # Errors
    ///
    /// Every fault of a field.
    pub(crate) fn of_text(text: &str, origin: &str, replicas: u32) -> Result<Self, PolicyErrors> {
        let mut faults = Faults::default();
        match read(text, &mut faults) {
            Some(file) => {
                let layers = Self::new(file, fingerprint(text.as_bytes()), replicas);
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
        };
        layers.index();
        layers
    }

    /// The same with what is stored, of which nothing is known yet.
    #[must_use]
    pub(crate) fn with_database(self) -> Self {
        Self { stored: Some(BTreeMap::new()), ..self }
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
        let merged = merge(&self.built_in, self.stored_entries().as_ref(), &file, &mut faults);
        merged.build(self.replicas, &mut faults);
        faults.none_or(origin)?;
        self.file = file;
        self.fingerprint = fingerprint(bytes);
        self.index();
        Ok(())
    }

    /// Puts what is stored in the place of what was known of it.
    pub(crate) fn replace_stored(&mut self, entries: Vec<Entry>) {
        self.stored = Some(BTreeMap::new());
        for entry in entries {
            self.put(Arc::new(StoredEntry::read(entry)));
        }
    }

    /// Takes in a stored entry, or its removal. Gives what was there.
    pub(crate) fn put(&mut self, entry: Arc<StoredEntry>) -> Option<Arc<StoredEntry>> {
        let stored = self.stored.get_or_insert_default();
        match entry.is_removal() {
            true => stored.remove(&entry.entry.key),
            false => stored.insert(entry.entry.key.clone(), entry),
        }
    }

    /// Takes back that an entry was taken in, if there was none before.
    pub(crate) fn forget(&mut self, key: &EntryKey) {
        self.stored.as_mut().and_then(|stored| stored.remove(key));
    }

    /// What is stored under a key.
    pub(crate) fn stored(&self, key: &EntryKey) -> Option<&Arc<StoredEntry>> {
        self.stored.as_ref()?.get(key)
    }

    /// Whether an entry is in the file, or built in.
    pub(crate) fn fixed_origin(&self, key: &EntryKey) -> Option<Origin> {
        self.fixed.get(key).map(|(origin, _)| *origin)
    }

    /// Stored entries that have no effect, since the file has one of the same name.
    pub(crate) fn hidden(&self) -> impl Iterator<Item = &EntryKey> {
        let stored = self.stored.iter().flat_map(BTreeMap::keys);
        stored.filter(|key| self.fixed_origin(key) == Some(Origin::File))
    }

    /// Everything that does not fit together.
    pub(crate) fn check(&self) -> Vec<PolicyError> {
        let mut faults = Faults::default();
        let merged = self.note_faults(&mut faults);
        if merged.has_overrides() {
            // They are held against what the policies are made into.
            merged.build(self.replicas, &mut faults);
        }
        faults.0
    }

    /// The policies in force.
    ///
    /// # Errors
    ///
    /// As [`check`](Self::check).
    pub(crate) fn build(&self) -> Result<PolicySet, Vec<PolicyError>> {
        let mut faults = Faults::default();
        self.build_noting(&mut faults).ok_or(faults.0)
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
        let mut fixed = self.fixed.range((from, Bound::Unbounded)).peekable();
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

    fn build_noting(&self, faults: &mut Faults) -> Option<PolicySet> {
        let set = self.note_faults(faults).build(self.replicas, faults)?;
        Some(set.with_fingerprint(self.fingerprint))
    }

    fn note_faults<'a>(&'a self, faults: &mut Faults) -> super::compile::Merged<'a> {
        for entry in self.stored.iter().flat_map(BTreeMap::values) {
            if let Err(found) = &entry.parsed {
                faults.0.extend(found.iter().cloned());
            }
        }
        merge(&self.built_in, self.stored_entries().as_ref(), &self.file, faults)
    }

    fn stored_entries(&self) -> Option<StoredEntries<'_>> {
        let mut entries = StoredEntries::default();
        for entry in self.stored.as_ref()?.values() {
            match &entry.parsed {
                Ok(Parsed::Policy(policy)) => entries.policies.push(policy),
                Ok(Parsed::Plan(plan)) => entries.plans.push(plan),
                Ok(Parsed::Assignment(assignment)) => entries.assignments.push(assignment),
                Ok(Parsed::Removal) | Err(_) => {}
            }
        }
        Some(entries)
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
            Kind::Override => toml::Table::new(),
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
