//! Asking the keys service whose a key is: once for all who want to know, and not by too many at a time.

use std::{
    sync::{Arc, MutexGuard, PoisonError, atomic::Ordering},
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use hashbrown::HashMap;
use tidegate_credentials::{KeyHash, key_hash};
use tidegate_proto::keys::v1::ResolveKeyRequest;
use tokio::time::timeout;

use super::{Blank, Found, Inner, Keys, Nobody, Record, micros};

/// For so long a key is not asked for again of which cannot be read what was said of it.
const UNREADABLE_FOR: Duration = Duration::from_secs(1);

/// A look-up that is under way, for all who wait for it.
pub(super) type Flight = Shared<BoxFuture<'static, Result<Found, KeysError>>>;

/// Why it is not known whose a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeysError {
    /// No keys service is set.
    #[error("the check names an API key, and no keys service is set (keys.url)")]
    NotConfigured,
    /// The keys service does not answer, or answers what cannot be read.
    #[error("the API key is not known here, and the keys service cannot be asked")]
    Unavailable,
    /// Nobody has it, or nobody of whom the caller may know.
    #[error("nobody has the API key")]
    NotFound,
    /// Too many are being asked for.
    #[error("the API key is not known here, and too many keys are being asked for")]
    Busy,
    /// It is not known which quota an organization has.
    #[error("the quota of the organization is not known, and the keys service cannot be asked")]
    QuotaUnknown,
    /// The organization keeps changing.
    #[error("the organization of the API key has changed, and its new state is not known yet")]
    Changing,
}

impl Keys {
    /// Asks the keys service, or waits for who does already.
    pub(super) async fn look_up(&self, value: &str, fingerprint: u128) -> Result<Found, KeysError> {
        let is_known = self.0.known.get(fingerprint).is_some();
        let flight = {
            let mut flights = self.0.flights();
            // Nobody waits for an answer that may be older than a change made known since.
            let name = (fingerprint, self.0.raised.load(Ordering::Acquire));
            match flights.get(&name) {
                Some(flight) => flight.clone(),
                None if flights.len() >= self.0.most_lookups(is_known) => {
                    self.0.metrics.refused.inc();
                    return Err(KeysError::Busy);
                }
                None => {
                    let flight = self.take_off(name, key_hash(value));
                    flights.insert(name, flight.clone());
                    flight
                }
            }
        };
        flight.await
    }

    /// It goes on when nobody waits any more, and on the runtime of the connection.
    fn take_off(&self, name: (u128, u64), hash: KeyHash) -> Flight {
        let inner = Arc::clone(&self.0);
        let task = self.0.runtime.spawn(async move {
            // Made here, since a task that is dropped before it began would be dropped under the lock.
            let under_way = UnderWay { inner, name };
            under_way.inner.ask(name.0, hash).await
        });
        task.map(|done| done.unwrap_or(Err(KeysError::Unavailable))).boxed().shared()
    }
}

/// Makes place for another look-up when one has ended, however it did.
struct UnderWay {
    inner: Arc<Inner>,
    name: (u128, u64),
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.inner.flights().remove(&self.name);
    }
}

impl Inner {
    /// So many look-ups may be under way for another to begin. A quarter is for keys that were somebody's when they were last asked
    /// for, so that a flood of values that nobody has leaves place for them.
    fn most_lookups(&self, is_known: bool) -> usize {
        let most = self.config.max_lookups;
        if is_known { most } else { most - most / 4 }
    }

    async fn ask(&self, fingerprint: u128, hash: KeyHash) -> Result<Found, KeysError> {
        self.metrics.lookups.inc();
        let epoch = self.epoch.load(Ordering::Acquire);
        let request = ResolveKeyRequest { key_sha256: hash.to_vec().into() };
        let mut client = self.client.get();
        let answered = timeout(self.config.deadline.get(), client.resolve_key(request)).await;
        let failed = |what: String| {
            self.metrics.failures.inc();
            tracing::debug!(what, "the keys service did not say whose a key is");
            KeysError::Unavailable
        };
        let answer = answered
            .map_err(|_| failed("it took too long".to_owned()))?
            .map_err(|status| failed(status.to_string()))?
            .into_inner();
        let now_us = self.clock.steady_us();
        let is_current = || self.epoch.load(Ordering::Acquire) == epoch;
        let blank = |what, lasting| {
            self.known.remove(fingerprint);
            let until_us = now_us.saturating_add(micros(lasting));
            self.unknown.put_if(fingerprint, Blank { until_us, what }, is_current);
        };
        let Some(key) = answer.key else {
            blank(Ok(Nobody), self.config.unknown_ttl.get());
            return Ok(Found::Nobody);
        };
        let record = Record::read(key, &self.floors, self.replicas, now_us).map_err(|what| {
            tracing::error!(what, "the keys service said of a key what cannot be read; its checks fail");
            blank(Err(KeysError::Unavailable), UNREADABLE_FOR);
            failed(what)
        })?;
        let record = Arc::new(record);
        self.known.put_if(fingerprint, Arc::clone(&record), is_current);
        Ok(Found::Key(record))
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<(u128, u64), Flight>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
