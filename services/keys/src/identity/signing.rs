//! The keys that sign tokens. They lie in the database, private halves sealed, so that every replica signs with the same one.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use jsonwebtoken::{Algorithm, EncodingKey};
use tidegate_chassis::{
    auth::{SigningKeySource, VerifyingKey},
    clock::{Clock, Random, uuid_v7},
};

use crate::{
    domain::{Action, Event, ResourceType, SigningKey},
    error::{KeysError, until_written},
    idempotency::Keep,
    origin::{Actor, RequestOrigin},
    sealing::{Purpose, Sealing},
    store::{Change, KeysStore, StoreError, Write},
};

/// For so long a replica signs with the key that it read last.
const FRESH_US: u64 = 30_000_000;
/// A key that no longer signs is listed for longer than its tokens are good by so much, since replicas may not know yet: more
/// than `FRESH_US`, and by how much clocks may differ.
const SLACK_US: u64 = 5 * 60_000_000;
/// Service tokens that are looked at in one go.
const PAGE: u32 = 100;

/// Signs, and tells what verifies. Clones are the same.
#[derive(Clone)]
pub struct SigningKeys(Arc<Inner>);

struct Inner {
    store: Arc<dyn KeysStore>,
    sealing: Arc<Sealing>,
    clock: Clock,
    random: Random,
    access_ttl_us: u64,
    current: ArcSwapOption<Current>,
}

struct Current {
    signer: Signer,
    read_us: u64,
}

/// One key that signs.
#[derive(Clone)]
pub struct Signer {
    /// The `kid` of its tokens.
    pub kid: String,
    /// For the header.
    pub(super) algorithm: Algorithm,
    pub(super) key: EncodingKey,
    /// The row of it; none for a secret of the settings.
    row: Option<SigningKey>,
}

impl Signer {
    /// A shared secret of the settings.
    pub(super) fn shared(kid: &str, secret: &str) -> Self {
        let key = EncodingKey::from_secret(secret.as_bytes());
        Self { kid: kid.to_owned(), algorithm: Algorithm::HS256, key, row: None }
    }

    /// A change of nothing, which fails the write that it is in if the key no longer signs.
    pub(super) fn still_signs(&self) -> Option<Change> {
        self.row.clone().map(Change::SigningKey)
    }
}

impl SigningKeys {
    /// Keeps keys in `store`; tokens of accounts that they sign are good for `access_ttl_us`.
    #[must_use]
    pub fn new(
        store: Arc<dyn KeysStore>,
        sealing: Arc<Sealing>,
        (clock, random): (Clock, Random),
        access_ttl_us: u64,
    ) -> Self {
        let current = ArcSwapOption::empty();
        Self(Arc::new(Inner { store, sealing, clock, random, access_ttl_us, current }))
    }

    /// Makes the first key if there is none. Of replicas that start together one makes it.
    ///
    /// # Errors
    ///
    /// The database, or a key that was sealed under another secret.
    pub async fn ensure(&self) -> Result<(), KeysError> {
        until_written(|| async {
            if self.0.store.signing_keys().await?.is_empty() {
                let origin = RequestOrigin::default();
                self.add(&[], (Actor::system(), &origin), &Keep::nothing()).await?;
            }
            self.read().await.map(drop)
        })
        .await
    }

    /// The key that signs now, as it was read within the last half minute.
    ///
    /// # Errors
    ///
    /// As [`Self::ensure`].
    pub(super) async fn current(&self) -> Result<Signer, KeysError> {
        let now_us = self.0.clock.now_us();
        match &*self.0.current.load() {
            Some(current) if now_us.abs_diff(current.read_us) < FRESH_US => Ok(current.signer.clone()),
            _ => self.read().await,
        }
    }

    /// The key that signs now, read just now.
    pub(super) async fn read(&self) -> Result<Signer, KeysError> {
        let read_us = self.0.clock.now_us();
        // Not the newest: the clock of the replica that made it may be behind that of another.
        let signing = self.0.store.signing_keys().await?.into_iter().find(|key| key.retired_us.is_none());
        let row = signing.ok_or_else(|| KeysError::Internal("there is no key that signs".to_owned()))?;
        let private =
            self.0.sealing.open(Purpose::SigningKeys, row.kid.as_bytes(), &row.sealed_private_key).map_err(
                |_| {
                    KeysError::Internal(format!(
                        "the key {:?} was sealed under another secret than identity.secret and identity.previous_secret",
                        row.kid
                    ))
                },
            )?;
        let signer = Signer {
            kid: row.kid.clone(),
            algorithm: Algorithm::EdDSA,
            key: EncodingKey::from_ed_der(&private),
            row: Some(row),
        };
        self.0.current.store(Some(Arc::new(Current { signer: signer.clone(), read_us })));
        Ok(signer)
    }

    /// All keys that tokens may refer to, the newest first.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn list(&self) -> Result<Vec<SigningKey>, StoreError> {
        let now_us = self.0.clock.now_us();
        let keys = self.0.store.signing_keys().await?.into_iter();
        Ok(keys.filter(|key| key.retired_us.is_none_or(|retired_us| retired_us > now_us)).collect())
    }

    /// Makes a new key, which signs from now on. The one before is listed until the last token that it signed has expired.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn rotate(
        &self,
        actor: &Actor,
        origin: &RequestOrigin,
        keep: &Keep<SigningKey>,
    ) -> Result<SigningKey, KeysError> {
        until_written(|| async {
            let keys = self.0.store.signing_keys().await?;
            self.add(&keys, (actor.clone(), origin), keep).await
        })
        .await
    }

    async fn add(
        &self,
        before: &[SigningKey],
        (actor, origin): (Actor, &RequestOrigin),
        keep: &Keep<SigningKey>,
    ) -> Result<SigningKey, KeysError> {
        let now_us = self.0.clock.now_us();
        let mut changes = Vec::new();
        if let Some(signing) = before.iter().find(|key| key.retired_us.is_none()) {
            let retired_us = Some(self.last_token_expires(now_us).await?.saturating_add(SLACK_US));
            changes.push(Change::SigningKey(SigningKey { retired_us, ..signing.clone() }));
        }
        // Told by a number, so that of two that are made at the same time only one can be written.
        let number = before.iter().filter_map(|key| key.kid.strip_prefix("ed-")?.parse().ok()).max();
        let kid = format!("ed-{}", number.unwrap_or(0_u64) + 1);
        let key = self.generate(kid, now_us)?;
        changes.push(Change::SigningKey(key.clone()));
        let events = vec![self.event(&key, now_us, actor, origin)];
        let idempotency = keep.record(&key, now_us);
        let write = Write { at_us: now_us, changes, events, idempotency, ..Write::default() };
        self.0.store.write(&write).await?;
        self.0.current.store(None);
        Ok(key)
    }

    fn generate(&self, kid: String, created_us: u64) -> Result<SigningKey, KeysError> {
        let defect = |what: &str| KeysError::Internal(format!("a new key that signs: {what}"));
        let pair = Ed25519KeyPair::generate().map_err(|_| defect("no randomness"))?;
        let private = pair.to_pkcs8v1().map_err(|_| defect("no PKCS #8"))?;
        let public_key = pair.public_key().as_ref().try_into().map_err(|_| defect("not 32 bytes"))?;
        let sealed_private_key = self.0.sealing.seal(Purpose::SigningKeys, kid.as_bytes(), private.as_ref());
        Ok(SigningKey { kid, public_key, sealed_private_key, created_us, retired_us: None, version: 0 })
    }

    /// When the last token expires that was signed until now.
    async fn last_token_expires(&self, now_us: u64) -> Result<u64, KeysError> {
        let mut last_us = now_us.saturating_add(self.0.access_ttl_us);
        let mut after = None;
        loop {
            let page = self.0.store.service_tokens(None, after, PAGE).await?;
            let good = page.iter().filter(|token| token.revoked_us.is_none());
            last_us = good.map(|token| token.expires_us).fold(last_us, u64::max);
            after = page.last().map(|token| token.id);
            if page.len() < PAGE as usize {
                return Ok(last_us);
            }
        }
    }

    fn event(&self, key: &SigningKey, at_us: u64, actor: Actor, origin: &RequestOrigin) -> Event {
        let id = uuid_v7(at_us, &self.0.random);
        origin.event(
            (id, at_us),
            actor,
            Action::SigningKeyRotate,
            (ResourceType::SigningKey, key.kid.clone()),
        )
    }
}

/// The keys service believes the tokens that it signed.
#[async_trait]
impl SigningKeySource for SigningKeys {
    async fn list(&self) -> anyhow::Result<Vec<VerifyingKey>> {
        let keys = Self::list(self).await?.into_iter();
        Ok(keys.map(|key| VerifyingKey { kid: key.kid, public_key: key.public_key }).collect())
    }
}

#[cfg(test)]
mod tests;
