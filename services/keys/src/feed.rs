//! The feed of changes: one task of each replica follows it, for all who want to know.
//!
//! The follower reads the feed when the store tells that it has grown, now and then by itself, and when somebody has to be sure to
//! know all there is. So what the database is asked does not grow with those who ask.

mod log;

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use prometheus_client::metrics::counter::Counter;
use tidegate_chassis::{clock::Random, metrics::Metrics};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until, timeout},
};

use self::log::Log;
pub use self::log::{Changed, Since};
use crate::{
    domain::OrganizationId,
    hashes::KnownHashes,
    store::{KeysStore, StoreError},
};

/// Entries that are read at a time.
const PAGE: u32 = 1_000;
/// Revisions before the start that are read, so that replicas which were away for a moment need not forget everything.
const BACKLOG: u64 = 5_000;
/// Between two rounds that somebody wants, at least.
const MIN_BETWEEN: Duration = Duration::from_millis(5);
/// For one round; one that takes longer has failed.
const ROUND_TIMEOUT: Duration = Duration::from_secs(5);
/// What was read so long ago, at most, is as good as what is there now.
const FRESH: Duration = Duration::from_secs(2);

/// What this replica knows of the feed. Clones are the same.
#[derive(Clone)]
pub struct Feed(Arc<Inner>);

struct Inner {
    store: Arc<dyn KeysStore>,
    hashes: KnownHashes,
    log: Log,
    /// The last round that has begun; those who come later need a later one.
    begun: AtomicU64,
    ended: watch::Sender<Round>,
    /// When the last good round began.
    read_at: Mutex<Instant>,
    wanted: Notify,
    failures: Counter,
}

/// A round that has ended.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    number: u64,
    is_good: bool,
}

impl Feed {
    /// Reads all hashes, and what the feed told lately.
    ///
    /// Registers `tidegate_keys_feed_failures_total` and `tidegate_keys_known_hashes`.
    ///
    /// # Errors
    ///
    /// What the store says.
    pub async fn load(store: Arc<dyn KeysStore>, metrics: &Metrics) -> Result<Self, StoreError> {
        // Before the hashes: what is written meanwhile is found again.
        let revision = store.revision().await?;
        let hashes = KnownHashes::load(store.as_ref()).await?;
        let start = revision.saturating_sub(BACKLOG);
        let log = Log::new(start.max(store.feed(start, 1).await?.complete_after));
        let failures = Counter::default();
        metrics.register(
            "tidegate_keys_feed_failures",
            "Times that the feed of changes could not be read",
            failures.clone(),
        );
        metrics.register_collector(HashCount(hashes.clone()));
        let inner = Inner {
            store,
            hashes,
            log,
            begun: 0.into(),
            ended: watch::Sender::default(),
            read_at: Mutex::new(Instant::now()),
            wanted: Notify::new(),
            failures,
        };
        let feed = Self(Arc::new(inner));
        feed.read().await?;
        Ok(feed)
    }

    /// Which hashes there are.
    #[must_use]
    pub fn hashes(&self) -> &KnownHashes {
        &self.0.hashes
    }

    /// The revision as of which everything is known here.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.0.log.revision()
    }

    /// What has changed since a revision.
    #[must_use]
    pub fn since(&self, revision: u64) -> Since {
        self.0.log.since(revision)
    }

    /// How often the feed was read.
    #[cfg(test)]
    pub(crate) fn rounds(&self) -> u64 {
        self.0.begun.load(Ordering::Acquire)
    }

    /// Organizations that changed lately, with their highest generations.
    pub(crate) fn generations(&self) -> HashMap<OrganizationId, u64> {
        self.0.log.generations()
    }

    /// Waits until something is known that is later than `revision`.
    pub async fn later_than(&self, revision: u64) {
        self.0.log.later_than(revision).await;
    }

    /// Whether all is known here that was written until a moment ago: it is not while the database cannot be read.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.0.read_at.lock().unwrap_or_else(PoisonError::into_inner).elapsed() < FRESH
    }

    /// Returns once everything is known that was written before it was called. All who call it at the same time wait for the same
    /// question to the database, and there are at most 200 of those in a second.
    ///
    /// # Errors
    ///
    /// The database cannot be asked.
    pub async fn catch_up(&self) -> Result<(), StoreError> {
        let needed = self.0.begun.load(Ordering::Acquire) + 1;
        let mut ended = self.0.ended.subscribe();
        self.0.wanted.notify_one();
        let gone = |_| StoreError::Unavailable("the service is leaving".to_owned());
        let round = *ended.wait_for(|round| round.number >= needed).await.map_err(gone)?;
        if round.is_good {
            Ok(())
        } else {
            Err(StoreError::Unavailable("the feed of changes cannot be read".to_owned()))
        }
    }

    /// Follows the feed for as long as it is polled, asking every `poll_every`, give or take 20 %.
    pub async fn follow(&self, poll_every: Duration, random: &Random) -> Infallible {
        let inner = &self.0;
        let mut begun_at = Instant::now();
        loop {
            let poll_at = Instant::now() + poll_every.mul_f64(0.8 + 0.4 * random.unit_f64());
            tokio::select! {
                () = inner.store.pushed() => {}
                () = inner.wanted.notified() => {}
                () = sleep_until(poll_at) => {}
            }
            sleep_until(begun_at + MIN_BETWEEN).await;
            begun_at = Instant::now();
            let number = inner.begun.fetch_add(1, Ordering::AcqRel) + 1;
            let late = |_| Err(StoreError::Unavailable("the feed was not read in time".to_owned()));
            let read = timeout(ROUND_TIMEOUT, self.read()).await.unwrap_or_else(late);
            if read.is_ok() {
                *inner.read_at.lock().unwrap_or_else(PoisonError::into_inner) = begun_at;
            }
            if let Err(error) = &read {
                inner.failures.inc();
                if inner.ended.borrow().is_good {
                    tracing::warn!(%error, "the feed of changes cannot be read; it is tried again");
                }
            }
            inner.ended.send_replace(Round { number, is_good: read.is_ok() });
        }
    }

    /// Reads until there is no more.
    async fn read(&self) -> Result<(), StoreError> {
        loop {
            let after = self.0.log.revision();
            let page = self.0.store.feed(after, PAGE).await?;
            for (_, entry) in &page.entries {
                self.0.hashes.add(&entry.new_hashes);
            }
            let is_last = page.entries.len() < PAGE as usize;
            if page.complete_after > after {
                // What was forgotten cannot be told any more, and its hashes can be found only among all of them.
                self.0.hashes.add_all_of(self.0.store.as_ref()).await?;
                self.0.log.restart(page.complete_after);
                continue;
            }
            self.0.log.append(page.entries);
            if is_last {
                return Ok(());
            }
        }
    }
}

#[derive(Debug)]
struct HashCount(KnownHashes);

impl prometheus_client::collector::Collector for HashCount {
    fn encode(
        &self,
        mut encoder: prometheus_client::encoding::DescriptorEncoder<'_>,
    ) -> Result<(), std::fmt::Error> {
        let count = i64::try_from(self.0.len()).unwrap_or(i64::MAX);
        let gauge = prometheus_client::metrics::gauge::ConstGauge::new(count);
        let encoder = encoder.encode_descriptor(
            "tidegate_keys_known_hashes",
            "Hashes of keys that are known in memory",
            None,
            prometheus_client::metrics::MetricType::Gauge,
        )?;
        prometheus_client::encoding::EncodeMetric::encode(&gauge, encoder)
    }
}
