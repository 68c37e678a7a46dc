//! The keys of an issuer, remembered: looked up when they are old, and when a token names one that is not known.

use std::sync::Arc;

use arc_swap::ArcSwap;
use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{Jwk, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;
use tidegate_chassis::clock::Clock;
use tokio::sync::Mutex;

use super::{FETCH_TIMEOUT, KeySets, OidcIssuerConfig};

/// After a look-up, whatever it gave: until then an unknown key is none. It bounds what tokens with invented keys cost the issuer.
const COOLDOWN_US: u64 = 30_000_000;
/// After this keys are looked up again, so that those that were withdrawn are forgotten.
const FRESH_US: u64 = 3_600_000_000;
/// After this they are forgotten even if the issuer cannot be asked.
const GOOD_US: u64 = 24 * 3_600_000_000;
/// More keys than an issuer has.
const MAX_KEYS: usize = 100;

pub(super) struct CachedKeys {
    config: OidcIssuerConfig,
    source: Arc<dyn KeySets>,
    clock: Clock,
    known: ArcSwap<Known>,
    /// When the last look-up ended; held during one, so that there is one at a time.
    looked_up_us: Mutex<Option<u64>>,
}

#[derive(Default)]
struct Known {
    keys: Vec<Key>,
    fetched_us: u64,
}

struct Key {
    kid: Option<String>,
    algorithm: Algorithm,
    decoding: DecodingKey,
}

#[derive(Deserialize)]
struct KeySet {
    /// Each is read by itself: one of a kind that is not known here does not hide the others.
    keys: Vec<Value>,
}

impl CachedKeys {
    pub(super) fn new(config: OidcIssuerConfig, source: Arc<dyn KeySets>, clock: Clock) -> Self {
        let (known, looked_up_us) = (ArcSwap::default(), Mutex::default());
        Self { config, source, clock, known, looked_up_us }
    }

    /// The key of a token. Without a `kid` it is the only one of the algorithm.
    pub(super) async fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Option<DecodingKey> {
        let known = self.known.load();
        let found = known.find(kid, algorithm);
        let age_us = self.clock.now_us().saturating_sub(known.fetched_us);
        match found {
            Some(key) if age_us < FRESH_US => return Some(key),
            _ => self.look_up().await,
        }
        let known = self.known.load();
        let is_good = self.clock.now_us().saturating_sub(known.fetched_us) < GOOD_US;
        known.find(kid, algorithm).filter(|_| is_good)
    }

    async fn look_up(&self) {
        let mut looked_up_us = self.looked_up_us.lock().await;
        let is_recent = |at_us: u64| self.clock.now_us().saturating_sub(at_us) < COOLDOWN_US;
        if looked_up_us.is_some_and(is_recent) {
            return;
        }
        let fetched = tokio::time::timeout(FETCH_TIMEOUT, self.source.fetch(&self.config)).await;
        let read = match fetched {
            Ok(Ok(bytes)) => read(&bytes, &self.config).map_err(|error| error.to_string()),
            Ok(Err(error)) => Err(format!("{error:#}")),
            Err(_elapsed) => Err("no answer in time".to_owned()),
        };
        let now_us = self.clock.now_us();
        match read {
            Ok(keys) => self.known.store(Arc::new(Known { keys, fetched_us: now_us })),
            Err(error) => {
                tracing::warn!(issuer = self.config.issuer, error, "the keys of an issuer cannot be had");
            }
        }
        *looked_up_us = Some(now_us);
    }
}

impl Known {
    fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Option<DecodingKey> {
        let mut fitting = self.keys.iter().filter(|key| key.algorithm == algorithm);
        let found = match kid {
            Some(kid) => fitting.find(|key| key.kid.as_deref() == Some(kid)),
            None => fitting.next().filter(|_| fitting.next().is_none()),
        };
        found.map(|key| key.decoding.clone())
    }
}

/// Keys that sign by one of the algorithms of the issuer; others are left out.
fn read(bytes: &[u8], config: &OidcIssuerConfig) -> serde_json::Result<Vec<Key>> {
    let set: KeySet = serde_json::from_slice(bytes)?;
    let jwks = set.keys.into_iter().take(MAX_KEYS).filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
    let key = |jwk: Jwk| {
        let is_for_signatures =
            jwk.common.public_key_use.as_ref().is_none_or(|r#use| *r#use == PublicKeyUse::Signature);
        let says = jwk.common.key_algorithm.map(|algorithm| algorithm.to_string());
        let decoding = DecodingKey::from_jwk(&jwk).ok().filter(|_| is_for_signatures)?;
        let mut pinned = config.algorithms.iter().map(|pinned| pinned.algorithm());
        let algorithm = pinned.find(|algorithm| {
            algorithm.family() == decoding.family()
                && says.as_ref().is_none_or(|says| *says == format!("{algorithm:?}"))
        })?;
        Some(Key { kid: jwk.common.key_id, algorithm, decoding })
    };
    Ok(jwks.filter_map(key).collect())
}
