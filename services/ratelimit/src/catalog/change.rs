//! What is asked for, and whether it can be done.

use std::sync::Arc;

use tidegate_chassis::clock::{Clock, Random, uuid_v7};

use crate::{
    policies::{Layers, Origin, PolicyError, StoredEntry, Trial},
    store::catalog::{CatalogError, Entry, EntryKey, Kind},
};

/// One entry that is to become something else.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    /// Which.
    pub(crate) key: EntryKey,
    /// Its fields as in the policy file; nothing if it is to be removed.
    pub(crate) fields: Option<toml::Table>,
    /// What must be there before.
    pub(crate) expected: Expected,
    /// The version that must be there before, if that matters.
    pub(crate) version: Option<u64>,
    /// Where its fields stand in the request.
    pub(crate) path: String,
}

/// What must be there before a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// Nothing.
    Absent,
    /// Something.
    Present,
    /// No matter.
    Any,
}

/// Why a change was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ChangeError {
    /// There is nothing to change it in.
    #[error(
        "policies are changed in the policy file, since no database is configured (database.url, DATABASE_URL)"
    )]
    NoDatabase,
    /// Faults of the request.
    #[error("the entry has faults")]
    Invalid(Vec<PolicyError>),
    /// There is no such entry.
    #[error("there is no {0}")]
    NotFound(EntryKey),
    /// There is one already.
    #[error("there is already a {0}, from layer {from}", from = .1.as_str())]
    Exists(EntryKey, Origin),
    /// It is not of the database.
    #[error("{0} is read-only: it comes from layer {from}", from = .1.as_str())]
    ReadOnly(EntryKey, Origin),
    /// It has changed since.
    #[error("{0} has changed since this etag was given out")]
    Etag(EntryKey),
    /// Other entries would be left with faults.
    #[error("other entries need it as it is")]
    InUse(Vec<PolicyError>),
    /// The database moved on again and again.
    #[error("too much is being changed at the same time")]
    Contended,
    /// The database did not do it, or it cannot be told whether it did.
    #[error(transparent)]
    Store(#[from] CatalogError),
}

/// What is to be written for wishes, and what is then in force.
pub(super) struct Prepared {
    pub(super) entries: Vec<Arc<StoredEntry>>,
    pub(super) trial: Trial,
}

/// Finds out whether `wishes` can be fulfilled, and what is to be written. `layers` are as they were when this returns.
///
/// # Errors
///
/// All but those of the store.
pub(super) fn prepare(
    layers: &mut Layers,
    wishes: &[Wish],
    clock: &Clock,
    random: &Random,
) -> Result<Prepared, ChangeError> {
    let now_us = clock.now_us();
    let mut faults = Vec::new();
    let mut entries = Vec::new();
    for wish in wishes {
        let stored = layers.stored(&wish.key).map(|stored| &stored.entry);
        let entry = Entry {
            key: wish.key.clone(),
            id: stored.map_or_else(|| uuid_v7(now_us, random), |stored| stored.id),
            body: wish.fields.as_ref().map(|fields| serde_json::to_string(fields).unwrap_or_default()),
            version: 0,
            created_us: stored.map_or(now_us, |stored| stored.created_us),
            changed_us: now_us,
        };
        match &wish.fields {
            Some(fields) => match StoredEntry::new(entry, &wish.path, fields.clone()) {
                Ok(entry) => entries.push(Arc::new(entry)),
                Err(found) => faults.extend(found),
            },
            None => entries.push(Arc::new(StoredEntry::removal(entry))),
        }
    }
    if !faults.is_empty() {
        return Err(ChangeError::Invalid(faults));
    }
    if wishes.iter().any(|wish| wish.key.kind == Kind::Override) {
        // So that it is known under which names the file has overrides now. What does not fit is told below.
        drop(layers.build());
    }
    wishes.iter().try_for_each(|wish| expect(layers, wish))?;
    let trial = layers.try_with(&entries).map_err(|faults| refusal(faults, wishes))?;
    Ok(Prepared { entries, trial })
}

fn expect(layers: &Layers, wish: &Wish) -> Result<(), ChangeError> {
    let key = || wish.key.clone();
    let fixed = layers.fixed_origin(&wish.key);
    let stored = layers.stored(&wish.key);
    match (wish.expected, fixed, stored) {
        (Expected::Absent, Some(Origin::File), _) => Err(ChangeError::Exists(key(), Origin::File)),
        (Expected::Absent, _, Some(_)) => Err(ChangeError::Exists(key(), Origin::Database)),
        (Expected::Present | Expected::Any, Some(Origin::File), _) => {
            Err(ChangeError::ReadOnly(key(), Origin::File))
        }
        (Expected::Present, Some(origin), None) => Err(ChangeError::ReadOnly(key(), origin)),
        (Expected::Present, None, None) => Err(ChangeError::NotFound(key())),
        (_, _, stored) => match (wish.version, stored.map(|stored| stored.entry.version)) {
            (Some(wanted), there) if there != Some(wanted) => Err(ChangeError::Etag(key())),
            _ => Ok(()),
        },
    }
}

/// Why everything does not fit together with what is to be written.
fn refusal(faults: Vec<PolicyError>, wishes: &[Wish]) -> ChangeError {
    // What is wrong with an entry of the request itself is told by its place there.
    let (own, others): (Vec<_>, Vec<_>) = faults
        .into_iter()
        .map(|fault| wishes.iter().find_map(|wish| in_request(&fault, wish)).ok_or(fault))
        .partition(Result::is_ok);
    match own.is_empty() {
        true => ChangeError::InUse(others.into_iter().filter_map(Result::err).collect()),
        false => ChangeError::Invalid(own.into_iter().filter_map(Result::ok).collect()),
    }
}

fn in_request(fault: &PolicyError, wish: &Wish) -> Option<PolicyError> {
    wish.fields.as_ref()?;
    let rest = fault.path.strip_prefix(&wish.key.to_string())?;
    let own = rest.is_empty() || rest.starts_with('.');
    own.then(|| PolicyError { path: format!("{}{rest}", wish.path), description: fault.description.clone() })
}
