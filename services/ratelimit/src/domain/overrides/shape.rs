//! Entries whose patterns are of the same kinds and lengths, found by one look-up.

use std::{
    cmp::{Ordering, Reverse},
    sync::Arc,
};

use smallvec::SmallVec;

use super::{Entry, sharded::Sharded};
use crate::domain::Pattern;

/// The texts of a key, each after its length: so no two keys of a shape are the same.
type Key = SmallVec<[u8; 64]>;

/// Bytes of a length.
const LENGTH: usize = 4;

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

    /// The entry for a subject with these values, of which there are as many as attributes in the key.
    #[inline]
    pub(super) fn find(&self, values: &[&str]) -> Option<&Entry> {
        let mut key = Key::new();
        for (part, value) in self.parts.iter().zip(values) {
            push(&mut key, part.text(value)?);
        }
        self.entries.find(&key[..], |entry| *entry.key == key[..])
    }

    /// Takes the entry with this key of its shape out, if there is one.
    pub(super) fn remove(&mut self, key: &[Pattern]) -> Option<Entry> {
        let key = encoded(key);
        self.entries.remove(&key[..], |entry| *entry.key == key[..])
    }

    /// Puts an entry in for a key of this shape that has none.
    pub(super) fn insert(&mut self, key: &[Pattern], entry: impl FnOnce(Arc<[u8]>) -> Entry) {
        self.entries.insert(entry(Arc::from(&encoded(key)[..])));
    }

    fn patterns(&self, mut key: &[u8]) -> Box<[Pattern]> {
        let mut next = || {
            let (length, rest) = key.split_first_chunk::<LENGTH>().expect("a key has a length for each part");
            let length = usize::try_from(u32::from_le_bytes(*length)).expect("it was the length of a text");
            let (text, rest) = rest.split_at(length);
            key = rest;
            std::str::from_utf8(text).expect("it was a text")
        };
        self.parts.iter().map(|part| part.pattern(next())).collect()
    }
}

fn encoded(key: &[Pattern]) -> Key {
    let mut bytes = Key::new();
    key.iter().for_each(|pattern| push(&mut bytes, pattern.text()));
    bytes
}

#[inline]
fn push(key: &mut Key, text: &str) {
    let length = u32::try_from(text.len()).expect("no attribute has 4 GiB");
    key.extend_from_slice(&length.to_le_bytes());
    key.extend_from_slice(text.as_bytes());
}
