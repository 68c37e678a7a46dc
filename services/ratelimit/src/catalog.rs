//! The use case of policies that change: what is asked over the API is checked as a whole, written, put in force, and
//! what other replicas wrote is fetched.
//!
//! One task, the keeper, does all of it, one thing after another. It runs on the control plane of the process and
//! computes on threads for blocking work, so no worker of the hot path waits for it.

mod change;
mod keeper;
mod metrics;

use std::{ops::Bound, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use tidegate_chassis::{
    clock::{Clock, Random},
    metrics::Metrics,
};
use tokio::sync::{RwLock, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

pub(crate) use self::change::{ChangeError, Expected, Wish};
use self::keeper::{Command, Keeper};
use crate::{
    domain::PolicySet,
    policies::{Layers, Listed, PolicyErrors},
    store::catalog::{CatalogError, CatalogStore, Entry, EntryKey, Kind},
};

/// Commands that wait for the keeper; who has more waits for room.
const QUEUE: usize = 1_024;

/// How the keeper works.
#[derive(Clone, Debug)]
pub(crate) struct CatalogSettings {
    /// How often the revision is asked.
    pub(crate) poll_every: Duration,
    /// From asking the database to its answer.
    pub(crate) query_timeout: Duration,
    /// Name of the policy file, for faults.
    pub(crate) origin: String,
}

/// The policies of a process, and the way to change them. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Catalog {
    layers: Arc<RwLock<Layers>>,
    policies: Arc<ArcSwap<PolicySet>>,
    commands: mpsc::Sender<Command>,
    has_database: bool,
}

impl Catalog {
    /// Loads what is stored on top of `layers`, and starts the keeper on the current runtime, until `stop`.
    ///
    /// # Errors
    ///
    /// The database cannot be read, or what is in it does not fit the policy file: every fault is named.
    pub(crate) async fn start(
        mut layers: Layers,
        store: Option<Arc<dyn CatalogStore>>,
        settings: CatalogSettings,
        (clock, random): (Clock, Random),
        metrics: &Metrics,
        stop: CancellationToken,
    ) -> anyhow::Result<Self> {
        let mut revision = 0;
        if let Some(store) = &store {
            let snapshot = store.load().await?;
            revision = snapshot.revision;
            layers = tokio::task::spawn_blocking(move || {
                let mut layers = layers.with_database();
                layers.replace_stored(snapshot.entries);
                layers
            })
            .await?;
        }
        let set = layers.build().map_err(|faults| PolicyErrors::of(&settings.origin, faults))?;
        let layers = Arc::new(RwLock::new(layers));
        let policies = Arc::new(ArcSwap::from_pointee(set));
        let (commands, queue) = mpsc::channel(QUEUE);
        let has_database = store.is_some();
        let catalog = Self { layers, policies, commands, has_database };
        let keeper = Keeper::new(&catalog, store, revision, settings, (clock, random), metrics).await;
        tokio::spawn(keeper.run(queue, stop));
        Ok(catalog)
    }

    /// Policies that nobody changes.
    #[cfg(test)]
    pub(crate) fn of(set: PolicySet) -> Self {
        Self::without_keeper(Layers::built_in(1), set)
    }

    /// Layers that nobody changes.
    #[cfg(test)]
    pub(crate) fn without_keeper(layers: Layers, set: PolicySet) -> Self {
        let (commands, _) = mpsc::channel(1);
        let policies = Arc::new(ArcSwap::from_pointee(set));
        Self { layers: Arc::new(RwLock::new(layers)), policies, commands, has_database: false }
    }

    /// The policies in force.
    pub(crate) fn policies(&self) -> &Arc<ArcSwap<PolicySet>> {
        &self.policies
    }

    /// Makes a change, or finds out only whether it could be made. All wishes are fulfilled or none. When this returns it is in
    /// force in this process. Gives the entries as they are now, in the order of the wishes.
    ///
    /// # Errors
    ///
    /// [`ChangeError`].
    pub(crate) async fn change(
        &self,
        wishes: Vec<Wish>,
        validate_only: bool,
    ) -> Result<Vec<Entry>, ChangeError> {
        if !self.has_database {
            return Err(ChangeError::NoDatabase);
        }
        self.ask(|done| Command::Change { wishes, validate_only, done })
            .await
            .unwrap_or_else(|| Err(ended().into()))
    }

    /// The versions of an entry below `below`, the newest first, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`ChangeError::NoDatabase`], or the database does not answer.
    pub(crate) async fn history(
        &self,
        key: EntryKey,
        below: u64,
        limit: u32,
    ) -> Result<Vec<Entry>, ChangeError> {
        if !self.has_database {
            return Err(ChangeError::NoDatabase);
        }
        let answer = self.ask(|done| Command::History { key, below, limit, done }).await;
        answer.unwrap_or_else(|| Err(ended())).map_err(ChangeError::from)
    }

    /// The entry in force of a key.
    pub(crate) async fn get(&self, key: &EntryKey) -> Option<Listed> {
        self.catch_up().await;
        self.layers.read().await.get(key)
    }

    /// The entries in force of a kind after `after`, in the order of their keys, at most `limit`; only those of a scope if one is named,
    /// and of it only those whose names begin with `names`.
    pub(crate) async fn list(
        &self,
        kind: Kind,
        scope: Option<&str>,
        names: &str,
        after: Option<&EntryKey>,
        limit: usize,
    ) -> Vec<Listed> {
        self.catch_up().await;
        let layers = self.layers.read().await;
        let first = EntryKey { kind, scope: scope.unwrap_or_default().to_owned(), name: names.to_owned() };
        let from = after.map_or(Bound::Included(&first), Bound::Excluded);
        let listed = layers.list(kind, from).take_while(|Listed { key, .. }| {
            scope.is_none_or(|scope| key.scope == scope && key.name.starts_with(names))
        });
        listed.take(limit).collect()
    }

    /// Puts another policy file in force, from a thread for blocking work.
    ///
    /// # Errors
    ///
    /// Every fault; then what was in force stays.
    pub(crate) fn replace_file(&self, bytes: Vec<u8>) -> Result<Arc<PolicySet>, PolicyErrors> {
        let (done, answer) = oneshot::channel();
        // A keeper that has ended leaves with the process; the file is as it was.
        let _ = self.commands.blocking_send(Command::File { bytes, done });
        answer.blocking_recv().unwrap_or_else(|_| Ok(self.policies.load_full()))
    }

    /// Takes in what other replicas have written. If the database does not answer, what is known is what there is: that is
    /// told by the metrics of the keeper.
    async fn catch_up(&self) {
        if self.has_database {
            self.ask(|done| Command::CatchUp { done }).await;
        }
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (done, answer) = oneshot::channel();
        self.commands.send(command(done)).await.ok()?;
        answer.await.ok()
    }
}

fn ended() -> CatalogError {
    CatalogError::Unavailable("the service is leaving".to_owned())
}

#[cfg(test)]
mod tests;
