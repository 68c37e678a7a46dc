//! Layers that change: what is stored comes and goes.

use std::sync::Arc;

use super::{Fixed, Layers};
use crate::{
    domain::{OverrideChange, PolicySet},
    policies::{PolicyError, reader::Faults, stored::StoredEntry},
    store::catalog::Kind,
};

/// What layers would make if they were changed.
#[derive(Debug)]
pub(crate) struct Trial {
    set: PolicySet,
    fixed_overrides: Arc<Fixed>,
}

impl Layers {
    /// Takes in stored entries and removals, in order. If they are overrides alone, what the layers make is changed by no more than that.
    pub(crate) fn put(&mut self, entries: impl IntoIterator<Item = Arc<StoredEntry>>) {
        let mut changes = Vec::new();
        for entry in entries {
            let change = self.built.as_ref().map(|set| self.change_of(set, &entry, &mut Faults::default()));
            match change {
                Some(Some(change)) => changes.extend(change),
                // Something that touches more than itself, or what does not fit: it is told when everything is put together.
                Some(None) => self.built = None,
                None => {}
            }
            self.put_one(entry);
        }
        let Some(set) = self.built.take() else { return };
        let (set, faults) = set.with_overrides(changes);
        self.built = Some(set).filter(|_| faults.is_empty());
    }

    /// What the layers make with these entries, whose keys differ. The layers stay as they are.
    ///
    /// # Errors
    ///
    /// Every fault.
    pub(crate) fn try_with(&mut self, entries: &[Arc<StoredEntry>]) -> Result<Trial, Vec<PolicyError>> {
        // Where nothing is built, what does not fit may be just what is to be replaced.
        if let Some(set) = &self.built
            && entries.iter().all(|entry| entry.entry.key.kind == Kind::Override && entry.parsed.is_ok())
        {
            return self.try_overrides(set, entries);
        }
        let built = self.built.take();
        let fixed_overrides = Arc::clone(&self.fixed_overrides);
        let before: Vec<_> = entries.iter().map(|entry| self.put_one(Arc::clone(entry))).collect();
        let tried = self.build();
        for (entry, before) in entries.iter().zip(before) {
            let stored = self.stored.get_or_insert_default();
            match before {
                Some(before) => drop(stored.insert(entry.entry.key.clone(), before)),
                None => drop(stored.remove(&entry.entry.key)),
            }
        }
        self.built = built;
        let fixed_overrides = std::mem::replace(&mut self.fixed_overrides, fixed_overrides);
        tried.map(|set| Trial { set, fixed_overrides })
    }

    /// As [`put`](Self::put) does, of entries that were [tried](Self::try_with) since the last change.
    pub(crate) fn put_tried(&mut self, entries: impl IntoIterator<Item = Arc<StoredEntry>>, trial: Trial) {
        entries.into_iter().for_each(|entry| drop(self.put_one(entry)));
        self.built = Some(trial.set);
        self.fixed_overrides = trial.fixed_overrides;
    }

    fn try_overrides(
        &self,
        set: &PolicySet,
        entries: &[Arc<StoredEntry>],
    ) -> Result<Trial, Vec<PolicyError>> {
        let mut faults = Faults::default();
        let (mut changes, mut places) = (Vec::new(), Vec::new());
        for entry in entries {
            let change = self.change_of(set, entry, &mut faults).flatten();
            places.extend(change.as_ref().map(|_| entry));
            changes.extend(change);
        }
        let (set, found) = set.with_overrides(changes);
        for fault in found {
            if let Some(entry) = places[fault.index].as_override() {
                entry.note(&fault, &mut faults);
            }
        }
        let fixed_overrides = Arc::clone(&self.fixed_overrides);
        if faults.0.is_empty() { Ok(Trial { set, fixed_overrides }) } else { Err(faults.0) }
    }

    /// What an entry changes in `set`, which the layers make, if it touches nothing but itself; of an override that the file has too, nothing.
    fn change_of(
        &self,
        set: &PolicySet,
        entry: &StoredEntry,
        faults: &mut Faults,
    ) -> Option<Option<OverrideChange>> {
        let key = &entry.entry.key;
        // One that cannot be read is told when everything is put together; it is not the end of what was there.
        if key.kind != Kind::Override || entry.parsed.is_err() {
            return None;
        }
        if self.fixed_overrides.contains_key(key) {
            return Some(None);
        }
        let before = self.stored(key).map(|before| before.as_override()?.resolve(set, faults));
        match (entry.as_override(), before) {
            (Some(new), _) => new.resolve(set, faults).map(|set| Some(OverrideChange::Set(set))),
            (None, Some(before)) => before.map(|before| Some(OverrideChange::Remove(before.target))),
            // The end of one that is not known.
            (None, None) => Some(None),
        }
    }

    /// So that everything is put together anew.
    #[cfg(test)]
    pub(crate) fn forget_what_is_built(&mut self) {
        self.built = None;
    }

    fn put_one(&mut self, entry: Arc<StoredEntry>) -> Option<Arc<StoredEntry>> {
        let stored = self.stored.get_or_insert_default();
        match entry.is_removal() {
            true => stored.remove(&entry.entry.key),
            false => stored.insert(entry.entry.key.clone(), entry),
        }
    }
}
