//! The one task that changes what is in force.

use std::{collections::VecDeque, future::Future, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use tidegate_chassis::{
    clock::{Clock, Random},
    metrics::Metrics,
};
use tokio::{
    sync::{RwLock, mpsc, oneshot},
    task::spawn_blocking,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Catalog, CatalogSettings, ChangeError, Wish,
    change::{Prepared, prepare},
    metrics::KeeperMetrics,
};
use crate::{
    domain::PolicySet,
    policies::{Layers, PolicyErrors, StoredEntry, log_faults},
    store::catalog::{CatalogError, CatalogStore, Entry, EntryKey},
};

/// Changes that are put in force together.
const AT_ONCE: usize = 64;

/// How often a change is checked and written again because another one came first.
const ATTEMPTS: u32 = 16;

/// Further behind than this, everything is loaded again.
const FAR_BEHIND: u64 = 1_000;

/// Loading everything may take so many times as long as another question.
const LOADING: u32 = 10;

/// The longest pause between questions to a database that does not answer.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// What the keeper is asked.
pub(super) enum Command {
    /// To make a change.
    Change { wishes: Vec<Wish>, validate_only: bool, done: oneshot::Sender<Result<Vec<Entry>, ChangeError>> },
    /// What an entry was.
    History { key: EntryKey, below: u64, limit: u32, done: oneshot::Sender<Result<Vec<Entry>, CatalogError>> },
    /// To take in what others wrote.
    CatchUp { done: oneshot::Sender<()> },
    /// To put another file in force.
    File { bytes: Vec<u8>, done: oneshot::Sender<Result<Arc<PolicySet>, PolicyErrors>> },
}

/// See the module.
pub(super) struct Keeper {
    layers: Arc<RwLock<Layers>>,
    policies: Arc<ArcSwap<PolicySet>>,
    store: Option<Arc<dyn CatalogStore>>,
    /// What is in `layers`.
    revision: u64,
    settings: CatalogSettings,
    clock: Clock,
    random: Random,
    metrics: KeeperMetrics,
    /// Questions in a row that the database did not answer.
    failures: u32,
    /// Sets that are no longer in force, kept until nobody uses them: a worker is not to be held up by taking one down.
    retired: VecDeque<Arc<PolicySet>>,
}

/// Answers that are due when what was changed is in force.
type Due = Vec<Box<dyn FnOnce() + Send>>;

impl Keeper {
    pub(super) async fn new(
        catalog: &Catalog,
        store: Option<Arc<dyn CatalogStore>>,
        revision: u64,
        settings: CatalogSettings,
        (clock, random): (Clock, Random),
        metrics: &Metrics,
    ) -> Self {
        let keeper = Self {
            layers: Arc::clone(&catalog.layers),
            policies: Arc::clone(&catalog.policies),
            metrics: KeeperMetrics::register(metrics, store.is_some()),
            store,
            revision,
            settings,
            clock,
            random,
            failures: 0,
            retired: VecDeque::new(),
        };
        keeper.metrics.synced(revision, keeper.clock.now_us());
        keeper.warn_of_hidden().await;
        keeper
    }

    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Command>, stop: CancellationToken) {
        let mut commands = Vec::new();
        // Commands do not put it off, however many there are.
        let mut next = Instant::now() + self.pause();
        loop {
            let pushed = async {
                match &self.store {
                    // A database that does not answer has nothing to tell.
                    Some(store) if self.failures == 0 => store.pushed().await,
                    _ => std::future::pending().await,
                }
            };
            let asked = tokio::select! {
                () = stop.cancelled() => return,
                count = queue.recv_many(&mut commands, AT_ONCE) => match count {
                    0 => return,
                    _ => true,
                },
                () = pushed => false,
                () = sleep_until(next), if self.store.is_some() => false,
            };
            // What was asked before this is answered by this; a database that does not answer is not waited for each time.
            let mut dirty = false;
            if !asked || self.failures == 0 || Instant::now() >= next {
                dirty = self.catch_up().await.unwrap_or_default();
                next = Instant::now() + self.pause();
            }
            let mut due = Due::new();
            for command in commands.drain(..) {
                dirty |= self.obey(command, &mut due).await;
            }
            if dirty {
                self.put_in_force().await;
            }
            due.into_iter().for_each(|answer| answer());
            self.retired.retain(|set| Arc::strong_count(set) > 1);
        }
    }

    /// Until the revision is asked again: some 20 % more or less, so that replicas do not ask all at once, and longer the longer
    /// there was no answer.
    fn pause(&self) -> Duration {
        let grown = self.settings.poll_every * 2_u32.saturating_pow(self.failures.min(10));
        let pause = grown.min(MAX_PAUSE.max(self.settings.poll_every));
        pause.mul_f64(0.8 + 0.2 * self.random.unit_f64())
    }

    /// Does what a command says. Tells whether there is something to be put in force.
    async fn obey(&mut self, command: Command, due: &mut Due) -> bool {
        match command {
            Command::Change { wishes, validate_only, done } => {
                let before = self.revision;
                let changed = self.change(wishes, validate_only).await;
                due.push(Box::new(move || drop(done.send(changed))));
                self.revision != before
            }
            Command::History { key, below, limit, done } => {
                if let Some(store) = self.store.clone() {
                    let within = self.settings.query_timeout;
                    // Nobody else need wait for it.
                    tokio::spawn(async move {
                        let _ = done.send(within_time(within, store.history(&key, below, limit)).await);
                    });
                }
                false
            }
            Command::CatchUp { done } => {
                due.push(Box::new(move || {
                    // Who asked may have given up.
                    let _ = done.send(());
                }));
                false
            }
            Command::File { bytes, done } => {
                let replaced = self.replace_file(bytes).await;
                let dirty = replaced.is_ok();
                let policies = Arc::clone(&self.policies);
                let answer = move || drop(done.send(replaced.map(|()| policies.load_full())));
                due.push(Box::new(answer));
                dirty
            }
        }
    }

    async fn change(&mut self, wishes: Vec<Wish>, validate_only: bool) -> Result<Vec<Entry>, ChangeError> {
        let Some(store) = self.store.clone() else { return Err(ChangeError::NoDatabase) };
        if self.failures > 0 {
            return Err(
                CatalogError::Unavailable("it did not answer when it was last asked".to_owned()).into()
            );
        }
        let wishes = Arc::new(wishes);
        for _ in 0..ATTEMPTS {
            let (asked, clock, random) = (Arc::clone(&wishes), self.clock.clone(), self.random.clone());
            let Prepared { entries: prepared, trial } =
                self.with_layers(move |layers| prepare(layers, &asked, &clock, &random)).await?;
            let entries: Vec<_> = prepared.iter().map(|stored| stored.entry.clone()).collect();
            if validate_only {
                return Ok(entries);
            }
            match within_time(self.settings.query_timeout, store.write(self.revision, &entries)).await {
                Ok(revision) => {
                    self.with_layers(move |layers| {
                        let written = prepared.into_iter().map(|entry| {
                            let entry =
                                Arc::into_inner(entry).expect("it was taken out again when it was tried");
                            Arc::new(entry.at_version(revision))
                        });
                        layers.put_tried(written, trial);
                    })
                    .await;
                    self.revision = revision;
                    self.metrics.synced(revision, self.clock.now_us());
                    return Ok(entries
                        .into_iter()
                        .map(|entry| Entry { version: revision, ..entry })
                        .collect());
                }
                Err(CatalogError::Moved) => {
                    self.catch_up().await?;
                }
                Err(error) => {
                    self.metrics.failed("write");
                    tracing::warn!(%error, "a change could not be written");
                    return Err(error.into());
                }
            }
        }
        Err(ChangeError::Contended)
    }

    /// Takes in what others wrote. Tells whether there was something.
    async fn catch_up(&mut self) -> Result<bool, CatalogError> {
        let Some(store) = self.store.clone() else { return Ok(false) };
        let fetched = self.fetch(&*store).await;
        match &fetched {
            Ok(_) => {
                if self.failures > 0 {
                    tracing::info!(revision = self.revision, "the database answers again");
                }
                self.failures = 0;
                self.metrics.synced(self.revision, self.clock.now_us());
            }
            Err(error) => {
                self.metrics.failed("read");
                if self.failures == 0 {
                    tracing::warn!(%error, "changes cannot be fetched; the policies in force stay as they are");
                }
                self.failures = self.failures.saturating_add(1);
            }
        }
        fetched
    }

    async fn fetch(&mut self, store: &dyn CatalogStore) -> Result<bool, CatalogError> {
        let within = self.settings.query_timeout;
        let revision = within_time(within, store.revision()).await?;
        if revision == self.revision {
            return Ok(false);
        }
        // A database that was put back to what it was has fewer.
        if revision < self.revision || revision - self.revision > FAR_BEHIND {
            let snapshot = within_time(within * LOADING, store.load()).await?;
            self.with_layers(move |layers| layers.replace_stored(snapshot.entries)).await;
            self.revision = snapshot.revision;
        } else {
            let changes = within_time(within * LOADING, store.changes(self.revision, revision)).await?;
            self.with_layers(move |layers| {
                layers.put(changes.into_iter().map(|entry| Arc::new(StoredEntry::read(entry))));
            })
            .await;
            self.revision = revision;
        }
        Ok(true)
    }

    async fn replace_file(&self, bytes: Vec<u8>) -> Result<(), PolicyErrors> {
        let origin = self.settings.origin.clone();
        self.with_layers(move |layers| layers.replace_file(&bytes, &origin)).await?;
        self.warn_of_hidden().await;
        Ok(())
    }

    /// Compiles what is there, and swaps it in.
    async fn put_in_force(&mut self) {
        match self.with_layers(Layers::build).await {
            Ok(set) => {
                let before = self.policies.load_full();
                let set = set.with_version(before.version() + 1);
                tracing::info!(
                    version = set.version(),
                    revision = self.revision,
                    policies = set.len(),
                    plans = set.plans().len(),
                    "new policies are in force"
                );
                self.policies.store(Arc::new(set));
                self.retired.push_back(before);
                self.metrics.valid(true);
            }
            Err(faults) => {
                self.metrics.valid(false);
                log_faults(&faults, |fault| {
                    tracing::error!(%fault, revision = self.revision, "the policies of the database do not fit the file of this replica; those in force stay as they are");
                });
            }
        }
    }

    async fn with_layers<T: Send + 'static>(&self, act: impl FnOnce(&mut Layers) -> T + Send + 'static) -> T {
        let mut layers = Arc::clone(&self.layers).write_owned().await;
        let acted = spawn_blocking(move || act(&mut layers)).await;
        acted.expect("entries are read without a panic")
    }

    async fn warn_of_hidden(&self) {
        for key in self.layers.read().await.hidden() {
            tracing::warn!(entry = %key, "the policy file has an entry of this name, so the one of the database has no effect");
        }
    }
}

async fn within_time<T>(
    within: Duration,
    question: impl Future<Output = Result<T, CatalogError>>,
) -> Result<T, CatalogError> {
    let late = || CatalogError::Unavailable(format!("no answer within {within:?}"));
    timeout(within, question).await.unwrap_or_else(|_| Err(late()))
}
