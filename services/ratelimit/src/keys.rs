//! Whose an API key is, known here without asking each time.
//!
//! What the keys service said of a key is remembered for as long as its feed tells of changes, and for a bounded time when that is lost.
//! A change that takes effect at once raises the generation of the organization; what was remembered by a lower one is asked for again
//! before it is acted on. This process learns of it from [`Keys::fence`], from the feed, or from the counter store, which
//! compares the generation in each decision.

mod cache;
mod client;
mod config;
mod credits;
mod feed;
mod floors;
mod lookup;
mod metrics;
mod quota;
mod record;
mod report;
#[cfg(test)]
pub(crate) mod tests;
mod used;

use std::{
    hash::Hasher,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hashbrown::HashMap;
use siphasher::sip128::{Hasher128, SipHasher13};
use tidegate_chassis::{
    auth::InternalTokens,
    clock::{Clock, Random},
    metrics::Metrics,
};
use tidegate_credentials::{KeyShape, key_shape};
use tokio::{runtime::Handle, sync::Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::config::{KeysConfig, KeysTlsConfig};
use self::{
    cache::Cache, client::Client, credits::Credits, floors::Floors, lookup::Flight, metrics::KeyMetrics,
    used::Used,
};
pub(crate) use self::{
    credits::{Paid, Payment},
    lookup::KeysError,
    record::Record,
};
use crate::domain::Fence;

/// While the feed is silent a denial by what is remembered of a key is compared with the counter store this often.
const ASKED_EVERY: Duration = Duration::from_secs(1);

/// Told the id of each service token that was revoked.
pub(crate) type OnRevoked = Arc<dyn Fn(&str) + Send + Sync>;

/// Whose keys are, shared by all workers.
#[derive(Clone)]
pub(crate) struct Keys(Arc<Inner>);

/// Whose a key is.
#[derive(Clone, Debug)]
pub(crate) enum Found {
    /// Somebody's.
    Key(Arc<Record>),
    /// Nobody's.
    Nobody,
}

/// What is remembered of a value that nothing can be done with.
#[derive(Clone, Copy)]
struct Blank {
    /// By the steady clock.
    until_us: u64,
    what: Result<Nobody, KeysError>,
}

/// Whose such a value is.
#[derive(Clone, Copy)]
struct Nobody;

/// Where the values and clocks of the keys come from.
pub(crate) struct Sources {
    pub(crate) clock: Clock,
    pub(crate) random: Random,
    /// Shown to the keys service.
    pub(crate) tokens: Option<InternalTokens>,
    pub(crate) on_revoked: OnRevoked,
    /// How many replicas share a limit when each has to count by itself.
    pub(crate) replicas: u32,
}

struct Inner {
    config: KeysConfig,
    client: Client,
    /// A value is known by its hash under this secret, so that nobody can choose two that meet, and none is kept.
    secret: (u64, u64),
    known: Cache<Arc<Record>>,
    /// Values that are no key, or of which cannot be read what they are.
    unknown: Cache<Blank>,
    floors: Floors,
    /// When the feed last said something, by the steady clock; 0 for never.
    heard_us: AtomicU64,
    /// Counts what makes answers that are under way not worth remembering.
    epoch: AtomicU64,
    /// Counts the floors that were raised: what was asked before one may be answered by what was true before it.
    raised: AtomicU64,
    /// By value, and as of which floors they began.
    flights: Mutex<HashMap<(u128, u64), Flight>>,
    credits: Credits,
    /// Look-ups that may be under way for who looks at limits or clears them.
    views: Semaphore,
    used: Used,
    runtime: Handle,
    replicas: u32,
    clock: Clock,
    random: Random,
    metrics: KeyMetrics,
}

impl Keys {
    /// Asks the keys service that the settings name, and follows its feed until `stop`, on the current runtime; nothing if they
    /// name none. What is left to be told of use is told then; `tracker` knows when it was.
    ///
    /// # Errors
    ///
    /// The URL or the files of the settings cannot be used.
    pub(crate) fn start(
        config: &KeysConfig,
        sources: Sources,
        metrics: &Metrics,
        stop: &CancellationToken,
        tracker: &TaskTracker,
    ) -> anyhow::Result<Option<Self>> {
        if config.url.is_empty() {
            return Ok(None);
        }
        let Sources { clock, random, tokens, on_revoked, replicas } = sources;
        let metrics = KeyMetrics::register(metrics);
        let keys = Self(Arc::new(Inner {
            client: Client::new(config, tokens)?,
            secret: (random.u64(), random.u64()),
            known: Cache::weighing(config.max_keys, |record: &Arc<Record>| record.weight()),
            unknown: Cache::new(config.max_unknown),
            floors: Floors::default(),
            heard_us: AtomicU64::new(0),
            epoch: AtomicU64::new(0),
            raised: AtomicU64::new(0),
            flights: Mutex::default(),
            credits: Credits::new(config.max_keys, config.max_lookups),
            views: Semaphore::new(config.max_lookups),
            used: Used::new(config.max_used, metrics.unreported.clone()),
            runtime: Handle::current(),
            replicas,
            config: config.clone(),
            clock,
            random,
            metrics,
        }));
        tracker.spawn(feed::follow(keys.clone(), on_revoked, stop.clone()));
        tracker.spawn(report::keep_reporting(keys.clone(), stop.clone()));
        Ok(Some(keys))
    }

    /// Whose a key is, or that it cannot be told, if that is known here and now.
    #[inline]
    pub(crate) fn at_once(&self, value: &str) -> Option<Result<Found, KeysError>> {
        match key_shape(value) {
            KeyShape::BadChecksum | KeyShape::Impossible => Some(Ok(Found::Nobody)),
            KeyShape::Ours | KeyShape::Foreign => self.0.remembered(self.fingerprint(value)),
        }
    }

    /// Whose a key is. What somebody else asked before an organization changed is waited for no longer, but what was asked here may be
    /// answered by what was true before: [`Record::is_of_now`] tells.
    ///
    /// # Errors
    ///
    /// It is not known here, and the keys service cannot be asked.
    pub(crate) async fn find(&self, value: &str) -> Result<Found, KeysError> {
        match self.at_once(value) {
            Some(found) => found,
            None => self.look_up(value, self.fingerprint(value)).await,
        }
    }

    /// Whose a key is, by the keys service, whatever is remembered.
    ///
    /// # Errors
    ///
    /// The keys service cannot be asked.
    pub(crate) async fn find_anew(&self, value: &str) -> Result<Found, KeysError> {
        self.look_up(value, self.fingerprint(value)).await
    }

    /// Believes nothing any more that is remembered of the organization by a lower generation.
    pub(crate) fn fence(&self, fence: Fence) {
        self.0.floors.raise(fence, self.0.clock.steady_us());
        self.0.raised.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether what is remembered of a key denies a check without a word of the counter store. Nobody is admitted by that, so it may be a
    /// moment late: a dead key must cost the store nothing, or whoever has one could load it. While the feed is heard it tells when the key is
    /// good again. Without it one check of a key each [`ASKED_EVERY`] asks.
    pub(crate) fn denies_by(&self, record: &Record) -> bool {
        let now_us = self.0.clock.steady_us();
        let heard_us = self.0.heard_us.load(Ordering::Acquire);
        let is_heard = heard_us > 0 && now_us.saturating_sub(heard_us) <= micros(feed::SILENCE);
        is_heard || !record.is_to_be_compared(now_us, micros(ASKED_EVERY))
    }

    /// Counts that a key was used, and how that ended.
    #[inline]
    pub(crate) fn used(&self, record: &Record, outcome: &'static str, now_us: u64) {
        self.0.used.count(record, outcome, now_us);
    }

    fn fingerprint(&self, value: &str) -> u128 {
        let mut hasher = SipHasher13::new_with_keys(self.0.secret.0, self.0.secret.1);
        hasher.write(value.as_bytes());
        hasher.finish128().as_u128()
    }
}

impl Inner {
    /// What is remembered, and may still be believed.
    #[inline]
    fn remembered(&self, fingerprint: u128) -> Option<Result<Found, KeysError>> {
        let now_us = self.clock.steady_us();
        if let Some(record) = self.known.get(fingerprint)
            && self.is_believed(&record, now_us)
        {
            return Some(Ok(Found::Key(record)));
        }
        let Blank { until_us, what } = self.unknown.get(fingerprint)?;
        (now_us < until_us).then(|| what.map(|Nobody| Found::Nobody))
    }

    fn is_believed(&self, record: &Record, now_us: u64) -> bool {
        let heard_us = self.heard_us.load(Ordering::Acquire).max(record.resolved_us);
        record.is_of_now()
            && now_us.saturating_sub(heard_us) <= micros(self.config.stale_for.get())
            && now_us.saturating_sub(record.resolved_us) <= micros(self.config.max_age.get())
    }

    /// Forgets everything.
    fn reset(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
        self.known.clear();
        self.unknown.clear();
    }

    /// Forgets which values are nobody's.
    fn forget_unknown(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
        self.unknown.clear();
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
