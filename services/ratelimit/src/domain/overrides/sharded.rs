//! Sets that are changed by copies which share nearly everything.

use std::{
    hash::{BuildHasher, Hash},
    sync::Arc,
};

use hashbrown::{DefaultHashBuilder, HashTable};

/// So many items in a shard on average make twice as many shards: a shard is what a change has to copy.
const FULL: usize = 1_024;

/// A set in shards. Copies share what they hold.
#[derive(Clone, Debug)]
pub(super) struct Sharded<T> {
    hasher: DefaultHashBuilder,
    /// A power of two of them.
    shards: Vec<Arc<HashTable<T>>>,
    len: usize,
}

impl<T: Hash + Clone> Sharded<T> {
    /// Whether there is no item.
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Every item, in no particular order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.shards.iter().flat_map(|shard| shard.iter())
    }

    /// The item that `is_it`, which hashes as `key` does.
    #[inline]
    pub(super) fn find<K: Hash + ?Sized>(&self, key: &K, is_it: impl Fn(&T) -> bool) -> Option<&T> {
        let hash = self.hasher.hash_one(key);
        self.shards[place(hash, self.shards.len())].find(hash, is_it)
    }

    /// Puts an item in, which is in none.
    pub(super) fn insert(&mut self, item: T) {
        if self.len >= FULL * self.shards.len() {
            let shards = vec![Arc::default(); 2 * self.shards.len()];
            for shard in std::mem::replace(&mut self.shards, shards) {
                shard.iter().for_each(|item| self.file(item.clone()));
            }
        }
        self.file(item);
        self.len += 1;
    }

    /// Takes the item out that `is_it`, which hashes as `key` does.
    pub(super) fn remove<K: Hash + ?Sized>(&mut self, key: &K, is_it: impl Fn(&T) -> bool) -> Option<T> {
        let hash = self.hasher.hash_one(key);
        let place = place(hash, self.shards.len());
        let shard = &mut self.shards[place];
        shard.find(hash, &is_it)?;
        let (item, _) = Arc::make_mut(shard).find_entry(hash, is_it).ok()?.remove();
        self.len -= 1;
        Some(item)
    }

    /// Takes out what `keep` does not want, if there are as many as the shards hold well.
    pub(super) fn retain_if_full(&mut self, keep: impl Fn(&T) -> bool) {
        if self.len >= FULL * self.shards.len() {
            for shard in &mut self.shards {
                Arc::make_mut(shard).retain(|item| keep(item));
            }
            self.len = self.shards.iter().map(|shard| shard.len()).sum();
        }
    }

    fn file(&mut self, item: T) {
        let hash = self.hasher.hash_one(&item);
        let place = place(hash, self.shards.len());
        let shard = Arc::make_mut(&mut self.shards[place]);
        shard.insert_unique(hash, item, |item| self.hasher.hash_one(item));
    }
}

impl<T> Default for Sharded<T> {
    fn default() -> Self {
        Self { hasher: DefaultHashBuilder::default(), shards: vec![Arc::default()], len: 0 }
    }
}

/// By other bits of the hash than tables use.
fn place(hash: u64, shards: usize) -> usize {
    usize::try_from((hash >> 32) & 0xFFFF).expect("16 bits fit") & (shards - 1)
}
