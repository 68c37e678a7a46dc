//! The keys that sign tokens.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use arc_swap::ArcSwap;
use jsonwebtoken::{Algorithm, DecodingKey};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, timeout},
};

use super::{AuthConfig, AuthError, internal};

/// Between look-ups of the keys while nobody asks for one that is not known.
const REFRESH_EVERY: Duration = Duration::from_secs(30);
/// The same while the last one failed.
const RETRY_EVERY: Duration = Duration::from_secs(5);
/// After a look-up: until then an unknown key is none. It bounds what tokens with invented keys cost the keys service.
const COOLDOWN: Duration = Duration::from_secs(1);
/// For one look-up.
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(2);
/// Calls that may wait for a look-up at a time; each holds its place among the calls in flight.
const MAX_WAITING: usize = 256;

/// The public half of an Ed25519 key that signs tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyingKey {
    /// The `kid` of tokens that it signed.
    pub kid: String,
    /// The key itself.
    pub public_key: [u8; 32],
}

/// Where the keys are known that sign tokens.
#[tonic::async_trait]
pub trait SigningKeySource: Send + Sync + 'static {
    /// Lists all keys that a token may refer to now.
    ///
    /// # Errors
    ///
    /// They cannot be had; those that were known stay.
    async fn list(&self) -> anyhow::Result<Vec<VerifyingKey>>;
}

/// A key, and the one algorithm that it is for: what a token says of its algorithm decides nothing.
pub(super) struct Key {
    pub(super) algorithm: Algorithm,
    pub(super) decoding: DecodingKey,
    /// Whether it is the one of tokens among Tidegate's own services.
    pub(super) is_internal: bool,
}

/// A look-up of the keys that has ended.
#[derive(Clone, Copy, Debug, Default)]
struct LookUp {
    ended: Option<Instant>,
    is_good: bool,
}

/// All keys by their `kid`.
pub(super) struct Keys {
    /// From the settings; these are never covered by others.
    set: HashMap<String, Arc<Key>>,
    found: ArcSwap<Found>,
    source: Option<Arc<dyn SigningKeySource>>,
    /// Raised whenever what was good may be so no longer.
    epoch: Arc<AtomicU64>,
    wanted: Notify,
    look_ups: watch::Sender<LookUp>,
    waiting: AtomicUsize,
}

#[derive(Default)]
struct Found {
    listed: Vec<VerifyingKey>,
    by_kid: HashMap<String, Arc<Key>>,
}

impl Keys {
    pub(super) fn new(
        config: &AuthConfig,
        source: Option<Arc<dyn SigningKeySource>>,
        epoch: Arc<AtomicU64>,
    ) -> Self {
        let shared = |secret: &str, is_internal| {
            let decoding = DecodingKey::from_secret(secret.as_bytes());
            Arc::new(Key { algorithm: Algorithm::HS256, decoding, is_internal })
        };
        let mut set: HashMap<_, _> = config
            .hs256_secrets
            .iter()
            .map(|(kid, secret)| (kid.clone(), shared(secret.expose(), false)))
            .collect();
        // Without a secret there is no such key: an empty one would be everybody's.
        set.remove(internal::KID);
        if !config.internal_secret.is_empty() {
            set.insert(internal::KID.to_owned(), shared(config.internal_secret.expose(), true));
        }
        Self {
            set,
            found: ArcSwap::default(),
            source,
            epoch,
            wanted: Notify::new(),
            look_ups: watch::Sender::new(LookUp::default()),
            waiting: AtomicUsize::new(0),
        }
    }

    /// The key of a token, if it is known now.
    pub(super) fn get(&self, kid: &str) -> Option<Arc<Key>> {
        self.set.get(kid).or(self.found.load().by_kid.get(kid)).cloned()
    }

    /// The key of a token; looked up if it is not known, unless that was just done.
    ///
    /// # Errors
    ///
    /// There is no such key, or nobody can say.
    pub(super) async fn look_up(&self, kid: &str) -> Result<Arc<Key>, AuthError> {
        let mut look_ups = self.look_ups.subscribe();
        // Read before the keys are: what a look-up found that ends in between must not be taken for what it did not find.
        let last = *look_ups.borrow_and_update();
        if let Some(key) = self.get(kid) {
            return Ok(key);
        }
        let is_recent = last.ended.is_some_and(|ended| ended.elapsed() < COOLDOWN);
        if self.source.is_none() || kid == internal::KID || is_recent {
            return Err(self.unknown(last));
        }
        let Some(_place) = Place::take(&self.waiting) else { return Err(self.unknown(last)) };
        self.wanted.notify_one();
        // Nobody looks if the server has ended.
        let _ = timeout(LOOK_UP_TIMEOUT, look_ups.changed()).await;
        let last = *look_ups.borrow();
        self.get(kid).ok_or_else(|| self.unknown(last))
    }

    fn unknown(&self, last: LookUp) -> AuthError {
        if self.source.is_none() || last.is_good {
            AuthError::Invalid("signed by a key that is not known")
        } else {
            AuthError::KeysUnavailable
        }
    }

    /// Looks the keys up, now and again, and when one is wanted that is not known.
    pub(super) async fn keep(&self) {
        let Some(source) = &self.source else { return };
        let mut was_good = true;
        loop {
            let listed = timeout(LOOK_UP_TIMEOUT, source.list()).await.context("no answer in time");
            let is_good = match listed.and_then(|listed| listed) {
                Ok(listed) => {
                    self.replace(listed);
                    true
                }
                Err(error) => {
                    if was_good {
                        let error = format!("{error:#}");
                        tracing::warn!(
                            error,
                            "the keys that sign tokens cannot be looked up, those known stay"
                        );
                    }
                    false
                }
            };
            if is_good && !was_good {
                tracing::info!("the keys that sign tokens can be looked up again");
            }
            was_good = is_good;
            self.look_ups.send_replace(LookUp { ended: Some(Instant::now()), is_good });
            sleep(COOLDOWN).await;
            let pause = if is_good { REFRESH_EVERY } else { RETRY_EVERY };
            tokio::select! {
                () = sleep(pause - COOLDOWN) => {}
                () = self.wanted.notified() => {}
            }
        }
    }

    fn replace(&self, mut listed: Vec<VerifyingKey>) {
        listed.sort_by(|a, b| a.kid.cmp(&b.kid));
        if self.found.load().listed == listed {
            return;
        }
        let key = |key: &VerifyingKey| {
            let decoding = DecodingKey::from_ed_der(&key.public_key);
            (key.kid.clone(), Arc::new(Key { algorithm: Algorithm::EdDSA, decoding, is_internal: false }))
        };
        let by_kid = listed.iter().map(key).collect();
        self.found.store(Arc::new(Found { listed, by_kid }));
        self.epoch.fetch_add(1, Ordering::Release);
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("set", &self.set.keys()).finish_non_exhaustive()
    }
}

/// One of those that wait.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize) -> Option<Self> {
        let place = Self(waiting);
        (waiting.fetch_add(1, Ordering::Relaxed) < MAX_WAITING).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
