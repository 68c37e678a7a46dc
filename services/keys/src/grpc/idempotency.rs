//! Answers requests that come again: reads the metadata `idempotency-key`, and keeps the answer encoded.

use std::sync::Arc;

use prost::Message;
use tidegate_chassis::clock::Clock;
use tonic::metadata::MetadataMap;

use crate::{
    error::KeysError,
    idempotency::{Keep, Once, was_lost},
    sealing::Sealing,
    store::KeysStore,
};

const HEADER: &str = "idempotency-key";
const MAX_KEY_BYTES: usize = 128;

/// Does what is asked once for each idempotency key. Cheap to clone.
#[derive(Clone)]
pub struct Idempotency {
    store: Arc<dyn KeysStore>,
    sealing: Arc<Sealing>,
    clock: Clock,
}

/// What is asked: by whom (none for a caller without credentials), of which method, with which metadata.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// Who asks, so that no two callers share keys.
    pub caller: Option<&'a str>,
    /// The method, as `KeysService.CreateApiKey`.
    pub method: &'static str,
    /// What was sent along.
    pub metadata: &'a MetadataMap,
}

impl Idempotency {
    /// Answers are kept in `store`, sealed by `sealing`.
    #[must_use]
    pub fn new(store: Arc<dyn KeysStore>, sealing: Arc<Sealing>, clock: Clock) -> Self {
        Self { store, sealing, clock }
    }

    /// Answers `request` by what `act` does, or by what was answered before. `act` must put what [`Keep::record`] gives into
    /// the write that does it.
    ///
    /// # Errors
    ///
    /// Those of `act`; a key that is not well formed, or was used for another request.
    pub async fn run<T, A, F>(
        &self,
        asked: Asked<'_>,
        request: &impl Message,
        render: fn(&T) -> A,
        act: impl FnOnce(Keep<T>) -> F,
    ) -> Result<A, KeysError>
    where
        T: 'static,
        A: Message + Default + 'static,
        F: Future<Output = Result<T, KeysError>>,
    {
        self.run_in_force(asked, request, render, act, async || Ok(())).await
    }

    /// As [`Self::run`], for what is in force as soon as it is answered: before an answer is given again, `again` puts what was
    /// written in force once more, since whoever wrote it may have been stopped before, or may not have come so far yet.
    ///
    /// # Errors
    ///
    /// As [`Self::run`], and those of `again`.
    pub async fn run_in_force<T, A, F>(
        &self,
        asked: Asked<'_>,
        request: &impl Message,
        render: fn(&T) -> A,
        act: impl FnOnce(Keep<T>) -> F,
        again: impl AsyncFnOnce() -> Result<(), KeysError>,
    ) -> Result<A, KeysError>
    where
        T: 'static,
        A: Message + Default + 'static,
        F: Future<Output = Result<T, KeysError>>,
    {
        let Some(key) = key(asked.metadata)? else { return Ok(render(&act(Keep::nothing()).await?)) };
        let sealing = Arc::clone(&self.sealing);
        let once = Once::new(sealing, asked.caller, key, asked.method, request.encode_to_vec());
        if let Some(answer) = self.answered(&once).await? {
            again().await?;
            return Ok(answer);
        }
        let answer = match act(Keep::answer(once.clone(), move |outcome| render(outcome).encode_to_vec()))
            .await
        {
            Ok(outcome) => return Ok(render(&outcome)),
            // An answer that is gone again by now was forgotten: its time is over.
            Err(error) if was_lost(&error) => self.answered(&once).await?.ok_or(KeysError::ConcurrentChanges),
            // Whoever finds no room is turned away at no more cost.
            Err(KeysError::Overloaded) => Err(KeysError::Overloaded),
            // It may have failed for what the same request has done since, as an address that is taken now.
            Err(error) => self.answered(&once).await?.ok_or(error),
        }?;
        again().await?;
        Ok(answer)
    }

    async fn answered<A: Message + Default>(&self, once: &Once) -> Result<Option<A>, KeysError> {
        let Some(bytes) = once.answered(self.store.as_ref(), self.clock.now_us()).await? else {
            return Ok(None);
        };
        let answer = A::decode(bytes.as_slice());
        answer.map(Some).map_err(|error| KeysError::Internal(format!("an answer that was kept: {error}")))
    }
}

fn key(metadata: &MetadataMap) -> Result<Option<&str>, KeysError> {
    let Some(value) = metadata.get(HEADER) else { return Ok(None) };
    let is_key = |key: &&str| {
        (1..=MAX_KEY_BYTES).contains(&key.len()) && key.bytes().all(|byte| (b' '..=b'~').contains(&byte))
    };
    let wrong = || KeysError::field(HEADER, "must be 1 to 128 printable ASCII characters");
    value.to_str().ok().filter(is_key).map(Some).ok_or_else(wrong)
}
