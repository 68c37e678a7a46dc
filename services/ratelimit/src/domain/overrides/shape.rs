//! Entries whose patterns are of the same kinds and lengths, found by one look-up.

use std::{
    cmp::{Ordering, Reverse},
    hash::{BuildHasher, Hash},
    sync::Arc,
};

use hashbrown::{DefaultHashBuilder, HashTable};

use super::Entry;
use crate::domain::Pattern;

/// So many entries in a shard on average make twice as many shards: a shard is what a change has to copy.
const FULL: usize = 1_024;

/// The entries of one shape. Copies share what they hold.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    parts: Box<[Part]>,
    hasher: DefaultHashBuilder,
    /// A power of two of them.
    shards: Vec<Arc<HashTable<Arc<Entry>>>>,
    len: usize,
}

/// What all patterns at one place of the key have in common; the lesser is the more specific.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Exact,
    /// Its length in bytes.
    Prefix(Reverse<usize>),
    Any,
}

impl Part {
    fn of(pattern: &Pattern) -> Self {
        match pattern {
            Pattern::Exact(_) => Self::Exact,
            Pattern::Prefix(prefix) => Self::Prefix(Reverse(prefix.len())),
            Pattern::Present => Self::Any,
        }
    }

    /// The text of a pattern of this kind that matches `value`, if one can.
    #[inline]
    fn text(self, value: &str) -> Option<&str> {
        match self {
            Self::Exact => Some(value),
            // Nothing if it would split a character: no prefix ends inside one.
            Self::Prefix(Reverse(length)) => value.get(..length),
            Self::Any => Some(""),
        }
    }
}

impl Shape {
    /// The shape of `key`, without entries.
    pub(super) fn of(key: &[Pattern]) -> Self {
        Self {
            parts: key.iter().map(Part::of).collect(),
            hasher: DefaultHashBuilder::default(),
            shards: vec![Arc::default()],
            len: 0,
        }
    }

    /// Whether it is more specific than the shape of `key` (less), that shape (equal), or less specific (greater).
    pub(super) fn cmp_to(&self, key: &[Pattern]) -> Ordering {
        self.parts.iter().copied().cmp(key.iter().map(Part::of))
    }

    /// Whether there is no entry.
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Every entry, in no particular order.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.shards.iter().flat_map(|shard| shard.iter()).map(|entry| &**entry)
    }

    /// The entry for a subject with these values, of which there are as many as attributes in the key.
    #[inline]
    pub(super) fn find(&self, values: &[&str]) -> Option<&Entry> {
        let mut hasher = self.hasher.build_hasher();
        for (part, value) in self.parts.iter().zip(values) {
            part.text(value)?.hash(&mut hasher);
        }
        let hash = std::hash::Hasher::finish(&hasher);
        let matches = |entry: &Arc<Entry>| entry.key.iter().zip(values).all(|(of, value)| of.matches(value));
        self.shards[place(hash, self.shards.len())].find(hash, matches).map(|entry| &**entry)
    }

    /// Puts an entry of this shape in, whose key is in none.
    pub(super) fn insert(&mut self, entry: Arc<Entry>) {
        if self.len >= FULL * self.shards.len() {
            let shards = vec![Arc::default(); 2 * self.shards.len()];
            for shard in std::mem::replace(&mut self.shards, shards) {
                shard.iter().for_each(|entry| self.file(Arc::clone(entry)));
            }
        }
        self.file(entry);
        self.len += 1;
    }

    /// Takes the entry with this key out.
    pub(super) fn remove(&mut self, key: &[Pattern]) -> Option<Arc<Entry>> {
        let hash = hash_of(&self.hasher, key);
        let place = place(hash, self.shards.len());
        let shard = Arc::make_mut(&mut self.shards[place]);
        let (entry, _) = shard.find_entry(hash, |entry| *entry.key == *key).ok()?.remove();
        self.len -= 1;
        Some(entry)
    }

    fn file(&mut self, entry: Arc<Entry>) {
        let hash = hash_of(&self.hasher, &entry.key);
        let place = place(hash, self.shards.len());
        let shard = Arc::make_mut(&mut self.shards[place]);
        shard.insert_unique(hash, entry, |entry| hash_of(&self.hasher, &entry.key));
    }
}

fn hash_of(hasher: &DefaultHashBuilder, key: &[Pattern]) -> u64 {
    let mut hasher = hasher.build_hasher();
    key.iter().for_each(|pattern| pattern.text().hash(&mut hasher));
    std::hash::Hasher::finish(&hasher)
}

/// By other bits of the hash than tables use.
fn place(hash: u64, shards: usize) -> usize {
    usize::try_from((hash >> 32) & 0xFFFF).expect("16 bits fit") & (shards - 1)
}
