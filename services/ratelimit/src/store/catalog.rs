//! Where policies, plans, overrides and assignments live that were set over the API. Every backend passes the same suite,
//! `store::catalog::conformance`.

#[cfg(test)]
pub(crate) mod conformance;
mod postgres;
mod sqlite;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use garde::Validate;
use serde::{Deserialize, Serialize};
use tidegate_chassis::config::{HumanDuration, Secret};
use tidegate_migrations::{Dialect, MigrationError};
use uuid::Uuid;

use self::{postgres::PostgresCatalog, sqlite::SqliteCatalog};
use crate::key::shortened;

/// Keeps entries, every version of them, and in which order they changed.
///
/// The whole has a *revision*: 0 at first, one more for each write. A write names the revision that it was checked
/// against, and fails if there has been another since: so what was true of everything when a change was checked is still true when it
/// is made, however many replicas write. Revisions become visible in their order.
#[async_trait]
pub trait CatalogStore: Send + Sync + 'static {
    /// Everything there is, as of one revision.
    ///
    /// # Errors
    ///
    /// [`CatalogError`].
    async fn load(&self) -> Result<Snapshot, CatalogError>;

    /// The revision now.
    ///
    /// # Errors
    ///
    /// [`CatalogError`].
    async fn revision(&self) -> Result<u64, CatalogError>;

    /// What was written by the revisions after `after` up to `upto`, in order; an entry that changed more than once is there more
    /// than once.
    ///
    /// # Errors
    ///
    /// [`CatalogError`].
    async fn changes(&self, after: u64, upto: u64) -> Result<Vec<Entry>, CatalogError>;

    /// Makes the revision after `expected` of `entries`: those with a body are put in place of what has the same key, those without
    /// are removed. Their keys differ, and [`Entry::version`] is not looked at. All is written or nothing, and it is on disk when
    /// this returns. Gives the new revision.
    ///
    /// # Errors
    ///
    /// [`CatalogError::Moved`] if the revision is another one; nothing is written. After `Unavailable` it may have been written.
    async fn write(&self, expected: u64, entries: &[Entry]) -> Result<u64, CatalogError>;

    /// The versions of one entry below `below`, the newest first, at most `limit`. Removals are versions without a body.
    ///
    /// # Errors
    ///
    /// [`CatalogError`].
    async fn history(&self, key: &EntryKey, below: u64, limit: u32) -> Result<Vec<Entry>, CatalogError>;

    /// Waits until the store tells that something changed. It may tell too often, and it may miss a change or never tell: so the
    /// revision is asked as well, now and then.
    async fn pushed(&self);
}

/// What an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A policy: its scope is the namespace.
    Policy,
    /// A plan: its scope is empty.
    Plan,
    /// Other numbers for a limit of a policy: its scope is the namespace, its name is made of policy, limit and key.
    Override,
    /// The plan of a caller: its scope is the attribute, its name the value.
    Assignment,
}

impl Kind {
    /// Each with the word that is stored for it.
    const WORDS: [(&'static str, Self); 4] = [
        ("policy", Self::Policy),
        ("plan", Self::Plan),
        ("override", Self::Override),
        ("assignment", Self::Assignment),
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Plan => "plan",
            Self::Override => "override",
            Self::Assignment => "assignment",
        }
    }

    fn from_stored(word: &str) -> Result<Self, CatalogError> {
        let found = Self::WORDS.iter().find(|(known, _)| *known == word);
        found.map(|(_, kind)| *kind).ok_or_else(|| CatalogError::Corrupt(format!("kind {word:?}")))
    }
}

/// What an entry is found by.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryKey {
    /// What it is about.
    pub kind: Kind,
    /// Where its name is unique.
    pub scope: String,
    /// Its name.
    pub name: String,
}

impl EntryKey {
    /// Of a policy.
    pub fn policy(namespace: &str, name: &str) -> Self {
        Self { kind: Kind::Policy, scope: namespace.to_owned(), name: name.to_owned() }
    }

    /// Of a plan.
    pub fn plan(name: &str) -> Self {
        Self { kind: Kind::Plan, scope: String::new(), name: name.to_owned() }
    }

    /// Of other numbers for a limit of a policy, for those whose attributes match the patterns of `key`, by the names of the attributes.
    /// A name that would be long is its beginning and a digest of all of it.
    pub fn of_override(namespace: &str, policy: &str, limit: &str, key: &BTreeMap<String, String>) -> Self {
        let key = serde_json::to_string(key).expect("texts are JSON");
        let name = shortened(&format!("{policy}/{limit}/{key}")).into_owned();
        Self { kind: Kind::Override, scope: namespace.to_owned(), name }
    }

    /// The patterns that the name of an override says, by the names of attributes; nothing of a name that is long.
    pub fn override_key(&self) -> Option<BTreeMap<String, String>> {
        serde_json::from_str(&self.name[self.name.find("/{")? + 1..]).ok()
    }

    /// Of the plan of a caller.
    pub fn assignment(attribute: &str, value: &str) -> Self {
        Self { kind: Kind::Assignment, scope: attribute.to_owned(), name: value.to_owned() }
    }
}

impl fmt::Display for EntryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, scope, name) = (self.kind.as_str(), &self.scope, &self.name);
        if scope.is_empty() { write!(f, "{kind} {name}") } else { write!(f, "{kind} {scope}/{name}") }
    }
}

/// One version of an entry, or its removal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is found by.
    pub key: EntryKey,
    /// Made when it was created; one that is created again after its removal has another.
    pub id: Uuid,
    /// JSON in the shape of the policy file's entry; nothing if this is a removal.
    pub body: Option<String>,
    /// The revision that made it.
    pub version: u64,
    /// When it was created, Unix µs by the clock of the replica that did.
    pub created_us: u64,
    /// When this version was made, likewise.
    pub changed_us: u64,
}

/// Everything at one time.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// As of this revision.
    pub revision: u64,
    /// In no particular order.
    pub entries: Vec<Entry>,
}

/// Why the store did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    /// There was another write in between; nothing was written.
    #[error("something else was changed at the same time")]
    Moved,
    /// It cannot be reached, or did not answer in time. A write may have happened.
    #[error("the database cannot be used: {0}")]
    Unavailable(String),
    /// What is stored was not written by this service.
    #[error("the database holds what it should not: {0}")]
    Corrupt(String),
}

/// Settings of the database, the `[database]` section.
#[derive(Clone, Debug, Deserialize, Serialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct DatabaseConfig {
    /// `postgres://` or `sqlite://`; empty = none.
    #[garde(custom(a_database_url))]
    pub url: Secret,
    /// Whether the tables are brought up to date at the start.
    #[garde(skip)]
    pub migrate: bool,
    /// Connections of this replica, 1 to 100.
    #[garde(range(min = 1, max = 100))]
    pub max_connections: u32,
    /// From wanting a connection to having one, 10 ms to 1 min.
    #[garde(custom(between(Duration::from_millis(10), Duration::from_secs(60))))]
    pub connect_timeout: HumanDuration,
    /// From asking to the answer, 10 ms to 10 min; loading everything may take ten times as long.
    #[garde(custom(between(Duration::from_millis(10), Duration::from_secs(600))))]
    pub query_timeout: HumanDuration,
    /// How often the revision is asked, 10 ms to 500 ms.
    #[garde(custom(between(Duration::from_millis(10), Duration::from_millis(500))))]
    pub poll_every: HumanDuration,
}

impl DatabaseConfig {
    /// Whether there is to be a database.
    pub fn is_set(&self) -> bool {
        !self.url.is_empty()
    }

    /// Connects, and brings the tables up to date if that is wanted.
    ///
    /// # Errors
    ///
    /// The database cannot be reached within `connect_timeout`, or its tables are not those of this release.
    pub async fn open(&self) -> anyhow::Result<Arc<dyn CatalogStore>> {
        Ok(match Dialect::of(self.url.expose())? {
            Dialect::Postgres => Arc::new(PostgresCatalog::open(self).await?),
            Dialect::Sqlite => Arc::new(SqliteCatalog::open(self).await?),
        })
    }
}

fn unavailable(error: impl Into<MigrationError>) -> CatalogError {
    CatalogError::Unavailable(match error.into() {
        MigrationError::Database(error) => error.to_string(),
        other => other.to_string(),
    })
}

/// Numbers are stored as signed ones; none of ours reaches 2^63.
fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn read(number: i64) -> Result<u64, CatalogError> {
    u64::try_from(number).map_err(|_| CatalogError::Corrupt(format!("number {number}")))
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that garde calls")]
fn a_database_url(url: &Secret, _: &()) -> garde::Result {
    if url.is_empty() || Dialect::of(url.expose()).is_ok() {
        Ok(())
    } else {
        Err(garde::Error::new("must begin with postgres:// or sqlite://"))
    }
}

fn between(least: Duration, most: Duration) -> impl FnOnce(&HumanDuration, &()) -> garde::Result {
    move |duration, _| {
        if (least..=most).contains(&duration.get()) {
            Ok(())
        } else {
            let (least, most) = (HumanDuration::from(least), HumanDuration::from(most));
            Err(garde::Error::new(format!("must be {least} to {most}")))
        }
    }
}
