//! Entries whose patterns are of the same kinds and lengths, found by one look-up.

use std::{
    cmp::{Ordering, Reverse},
    hash::{Hash, Hasher},
    sync::Arc,
};

use smallvec::SmallVec;

use super::{
    Entry, Variant,
    sharded::{Search, Sharded},
};
use crate::domain::Pattern;

/// The texts of a key, each after its length: so no two keys of a shape are the same. Most lie where their entry does.
pub(super) type Key = SmallVec<[u8; 40]>;

// One word more, and each entry would take two lines of the processor's caches.
const _: () = assert!(size_of::<Option<Entry>>() == 56);

/// The entries of one shape. Copies share what they hold.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    parts: Box<[Part]>,
    entries: Sharded<Entry>,
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

    fn pattern(self, text: &str) -> Pattern {
        match self {
            Self::Exact => Pattern::Exact(text.into()),
            Self::Prefix(_) => Pattern::Prefix(text.into()),
            Self::Any => Pattern::Present,
        }
    }
}

impl Shape {
    /// The shape of `key`, without entries.
    pub(super) fn of(key: &[Pattern]) -> Self {
        Self { parts: key.iter().map(Part::of).collect(), entries: Sharded::default() }
    }

    /// Whether it is more specific than the shape of `key` (less), that shape (equal), or less specific (greater).
    pub(super) fn cmp_to(&self, key: &[Pattern]) -> Ordering {
        self.parts.iter().copied().cmp(key.iter().map(Part::of))
    }

    /// Whether there is no entry.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Number of overrides of all entries.
    pub(super) fn overrides_len(&self) -> usize {
        self.entries.iter().map(|entry| entry.says.len()).sum()
    }

    /// Every entry with its key, in no particular order.
    pub(super) fn entries(&self) -> impl Iterator<Item = (Box<[Pattern]>, &Entry)> {
        self.entries.iter().map(|entry| (self.patterns(&entry.key), entry))
    }

    /// Begins to look for the entry of a subject with these values, of which there are as many as attributes in the key. Nothing if none can
    /// be for it.
    #[inline]
    pub(super) fn search(&self, values: &[&str]) -> Option<Search<'_, Entry>> {
        let mut hasher = self.entries.hasher();
        for (part, value) in self.parts.iter().zip(values) {
            part.text(value)?.hash(&mut hasher);
        }
        Some(self.entries.search(hasher.finish()))
    }

    /// The entry of a subject with these values, for which `search` was begun.
    #[inline]
    pub(super) fn finish<'s>(&self, search: Search<'s, Entry>, values: &[&str]) -> Option<&'s Entry> {
        search.finish(|entry| {
            let mut rest = &entry.key[..];
            let mut parts = self.parts.iter().zip(values);
            parts.all(|(part, value)| part.text(value).is_some_and(|text| pop(&mut rest) == text.as_bytes()))
        })
    }

    /// Takes the entry with this key of its shape out, if there is one.
    pub(super) fn remove(&mut self, key: &[Pattern]) -> Option<Entry> {
        let hash = self.hash(key);
        let key = encoded(key);
        self.entries.remove(hash, |entry| entry.key == key)
    }

    /// Puts an entry in for a key of this shape that has none.
    pub(super) fn insert(&mut self, key: &[Pattern], says: Arc<Variant>) {
        self.entries.insert(self.hash(key), Entry { key: encoded(key), says });
    }

    /// As [`search`](Self::search) computes it of the values that this key is for.
    fn hash(&self, key: &[Pattern]) -> u64 {
        let mut hasher = self.entries.hasher();
        key.iter().for_each(|pattern| pattern.text().hash(&mut hasher));
        hasher.finish()
    }

    fn patterns(&self, mut key: &[u8]) -> Box<[Pattern]> {
        let mut text = || std::str::from_utf8(pop(&mut key)).expect("it was a text");
        self.parts.iter().map(|part| part.pattern(text())).collect()
    }
}

fn encoded(key: &[Pattern]) -> Key {
    let mut bytes = Key::new();
    for pattern in key {
        let text = pattern.text();
        let length = u32::try_from(text.len()).expect("no attribute has 4 GiB");
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(text.as_bytes());
    }
    bytes
}

/// Takes the next text off the rest of a key.
#[inline]
fn pop<'k>(rest: &mut &'k [u8]) -> &'k [u8] {
    let (length, behind) = rest.split_first_chunk().expect("a key has a length for each part");
    let length = usize::try_from(u32::from_le_bytes(*length)).expect("it was the length of a text");
    let (text, behind) = behind.split_at(length);
    *rest = behind;
    text
}
