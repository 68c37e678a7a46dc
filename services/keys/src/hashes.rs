//! Which hashes there are, in memory: so that a key that nobody has is refused without asking the database.

use std::sync::{Arc, PoisonError, RwLock};

use hashbrown::HashSet;

use crate::{
    peppers::StoredHash,
    store::{KeysStore, StoreError},
};

/// How many are read at a time.
const PAGE: u32 = 10_000;

/// The first 8 bytes of every hash by which a key is found: some 10 to 20 bytes of memory a key. Clones are the same. One that is in it
/// may still be nobody's; one that is not was nobody's at the revision up to which the feed was followed.
#[derive(Clone, Debug, Default)]
pub struct KnownHashes(Arc<RwLock<HashSet<u64>>>);

impl KnownHashes {
    /// Reads all of them.
    ///
    /// # Errors
    ///
    /// What the store says.
    pub async fn load(store: &dyn KeysStore) -> Result<Self, StoreError> {
        let known = Self::default();
        known.add_all_of(store).await?;
        Ok(known)
    }

    /// Reads all of them once more.
    ///
    /// # Errors
    ///
    /// What the store says.
    pub async fn add_all_of(&self, store: &dyn KeysStore) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let page = store.key_hashes(after, PAGE).await?;
            self.add(&page);
            match page.last() {
                Some(last) if page.len() == PAGE as usize => after = Some(*last),
                _ => return Ok(()),
            }
        }
    }

    /// Takes in new ones.
    pub fn add<'h>(&self, hashes: impl IntoIterator<Item = &'h StoredHash>) {
        let mut hashes = hashes.into_iter().peekable();
        if hashes.peek().is_some() {
            self.0.write().unwrap_or_else(PoisonError::into_inner).extend(hashes.map(short));
        }
    }

    /// Whether one of these may be somebody's.
    #[must_use]
    pub fn may_have(&self, hashes: &[StoredHash]) -> bool {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        hashes.iter().any(|hash| known.contains(&short(hash)))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn short(hash: &StoredHash) -> u64 {
    let (first, _) = hash.split_first_chunk().expect("a hash has 32 bytes");
    u64::from_le_bytes(*first)
}
