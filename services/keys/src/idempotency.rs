//! Requests that come again are answered what they were answered, and nothing is done again.
//!
//! The sealed answer is written in the transaction of what was done. Of two that come at the same time, one loses the insert of its
//! record, and with it everything that it wrote; it gives the answer of the other.

use std::{fmt, sync::Arc};

use zeroize::Zeroizing;

use crate::{
    error::KeysError,
    sealing::{Purpose, Sealing},
    store::{IdempotencyRecord, KeysStore, StoreError, Unique},
};

/// How long an answer is kept.
const KEPT_US: u64 = 24 * 60 * 60 * 1_000_000;

/// A request that has an idempotency key.
#[derive(Clone)]
pub struct Once {
    sealing: Arc<Sealing>,
    caller: String,
    /// The same under the secret before, of a caller that is nobody; none if there is no such secret.
    before: Option<String>,
    key: String,
    parts: [Zeroizing<Vec<u8>>; 2],
}

impl Once {
    /// The request `encoded` to `method`, which `caller` sent with an idempotency key.
    ///
    /// Callers that are nobody share no keys: theirs is told apart by the whole request, so that nobody's key is used up, and
    /// nobody's answer found, by another who happens to say the same key. That is by a digest under the secret of the settings; under the
    /// one before it is looked for too.
    #[must_use]
    pub fn new(
        sealing: Arc<Sealing>,
        caller: Option<&str>,
        key: &str,
        method: &str,
        encoded: Vec<u8>,
    ) -> Self {
        let parts = [method.as_bytes().to_vec(), encoded].map(Zeroizing::new);
        let anonymous = |digest: [u8; 32]| {
            let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("anonymous/{hex}")
        };
        let of_request = || parts.iter().map(|part| part.as_slice());
        let (caller, before) = match caller {
            Some(caller) => (caller.to_owned(), None),
            None => (
                anonymous(sealing.digest(Purpose::Requests, of_request())),
                sealing.digest_before(Purpose::Requests, of_request()).map(anonymous),
            ),
        };
        Self { sealing, caller, before, key: key.to_owned(), parts }
    }

    /// What was answered to it before; none if it is new.
    ///
    /// # Errors
    ///
    /// [`KeysError::IdempotencyKeyReused`] if the key was used for another request.
    pub async fn answered(
        &self,
        store: &dyn KeysStore,
        now_us: u64,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, KeysError> {
        let mut found = store.idempotent(&self.caller, &self.key, now_us).await?;
        if let (None, Some(before)) = (&found, &self.before) {
            found = store.idempotent(before, &self.key, now_us).await?;
        }
        let Some(record) = found else { return Ok(None) };
        let parts = [self.parts[0].as_slice(), self.parts[1].as_slice()];
        if !self.sealing.is_digest(Purpose::Requests, &parts, &record.request) {
            return Err(KeysError::IdempotencyKeyReused);
        }
        let place = place(&record.caller, &self.key);
        let opened = self.sealing.open(Purpose::Answers, &place, &record.sealed_answer);
        opened.map(Some).map_err(|error| KeysError::Internal(format!("an answer that was kept: {error}")))
    }

    /// The record of its answer.
    #[must_use]
    pub fn record(&self, answer: &[u8], now_us: u64) -> IdempotencyRecord {
        IdempotencyRecord {
            caller: self.caller.clone(),
            key: self.key.clone(),
            request: self.sealing.digest(Purpose::Requests, self.parts.iter().map(|part| part.as_slice())),
            sealed_answer: self.sealing.seal(Purpose::Answers, &place(&self.caller, &self.key), answer),
            expires_us: now_us.saturating_add(KEPT_US),
        }
    }
}

/// Where an answer lies.
fn place(caller: &str, key: &str) -> Vec<u8> {
    [caller.as_bytes(), b"\0", key.as_bytes()].concat()
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Once").finish_non_exhaustive()
    }
}

/// What a use case puts into its write, so that its outcome is kept as the answer.
pub struct Keep<T>(Option<Kept<T>>);

struct Kept<T> {
    once: Once,
    encode: Box<Encode<T>>,
}

type Encode<T> = dyn Fn(&T) -> Vec<u8> + Send + Sync;

impl<T> Keep<T> {
    /// The answer is kept as `encode` gives it.
    pub fn answer(once: Once, encode: impl Fn(&T) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self(Some(Kept { once, encode: Box::new(encode) }))
    }

    /// The request has no idempotency key.
    #[must_use]
    pub fn nothing() -> Self {
        Self(None)
    }

    /// Fails if the same request was answered since it was looked for: what it finds done, it may have done itself.
    ///
    /// # Errors
    ///
    /// One that [`was_lost`] knows; or those of [`Once::answered`].
    pub async fn fail_if_answered(&self, store: &dyn KeysStore, now_us: u64) -> Result<(), KeysError> {
        let Some(kept) = &self.0 else { return Ok(()) };
        match kept.once.answered(store, now_us).await? {
            Some(_) => Err(StoreError::Taken(Unique::IdempotencyKey).into()),
            None => Ok(()),
        }
    }

    /// For [`crate::store::Write::idempotency`].
    #[must_use]
    pub fn record(&self, outcome: &T, now_us: u64) -> Option<IdempotencyRecord> {
        let kept = self.0.as_ref()?;
        Some(kept.once.record(&Zeroizing::new((kept.encode)(outcome)), now_us))
    }
}

/// Whether the same request was answered at the same time, so that its answer is there now.
#[must_use]
pub fn was_lost(error: &KeysError) -> bool {
    matches!(error, KeysError::Store(StoreError::Taken(Unique::IdempotencyKey)))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::{
        store::Write,
        tests::{NOW_US, sqlite},
    };

    const OLD: &str = "the secret before, which is long enough";
    const NEW: &str = "the secret of now, which is long enough";

    fn once(sealing: Sealing, caller: Option<&str>, request: &[u8]) -> Once {
        Once::new(Arc::new(sealing), caller, "key", "KeysService.CreateApiKey", request.to_vec())
    }

    #[rstest]
    #[case::of_an_account(Some("user/1"))]
    #[case::of_nobody(None)]
    #[tokio::test]
    async fn an_answer_is_found_after_the_secret_was_changed_as_long_as_the_one_before_is_known(
        #[case] caller: Option<&str>,
    ) {
        let store = sqlite().await;
        let before = once(Sealing::new(OLD, ""), caller, b"request");
        let idempotency = Some(before.record(b"answer", NOW_US));
        store.write(&Write { at_us: NOW_US, idempotency, ..Write::default() }).await.expect("written");
        let answered = async |sealing, request: &[u8]| {
            let found = once(sealing, caller, request).answered(store.as_ref(), NOW_US).await;
            found.map(|answer| answer.map(|answer| answer.to_vec()))
        };
        let found = answered(Sealing::new(NEW, OLD), b"request").await.expect("asked");
        assert_eq!(found.as_deref(), Some(&b"answer"[..]));
        let (other, forgotten) = (
            answered(Sealing::new(NEW, OLD), b"other").await,
            answered(Sealing::new(NEW, ""), b"request").await,
        );
        if caller.is_some() {
            // Whether it is the same request nobody can tell then, and nothing is done twice.
            for refused in [other, forgotten] {
                assert!(matches!(refused, Err(KeysError::IdempotencyKeyReused)), "{refused:?}");
            }
        } else {
            for new in [other, forgotten] {
                assert_eq!(new.expect("asked"), None);
            }
        }
    }
}
