//! Values of which the last are kept.

use std::{borrow::Borrow, hash::Hash};

use hashbrown::HashMap;

/// A map of a bounded size that forgets what was not asked for lately.
///
/// It has two generations. When the young one is full it becomes the old one, and what was old is forgotten; what is found among the old
/// is young again. So of the keys asked for last at least half as many are there as there is room for, and nothing is ever searched through.
#[derive(Debug)]
pub(crate) struct Recent<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    half: usize,
}

impl<K: Eq + Hash, V> Recent<K, V> {
    /// An empty one with room for `most` keys, at least 2.
    pub(crate) fn new(most: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), half: most / 2 }
    }

    /// The value of a key, if it is remembered.
    pub(crate) fn get<Q>(&mut self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        if let Some((key, value)) = self.old.remove_entry(key) {
            self.put(key, value);
        }
        self.young.get(key)
    }

    /// Remembers the value of a key, in place of another of the same.
    pub(crate) fn put(&mut self, key: K, value: V) {
        if self.young.len() >= self.half && !self.young.contains_key(&key) {
            // What grew once need not grow again.
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        self.old.remove(&key);
        self.young.insert(key, value);
    }

    /// Forgets a key.
    pub(crate) fn remove<Q>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.young.remove(key);
        self.old.remove(key);
    }

    /// Forgets every key.
    pub(crate) fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
    }

    /// Number of keys.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_lately_is_there_and_never_more_than_there_is_room_for() {
        let mut recent = Recent::new(8);
        for key in 0_u32..100 {
            recent.put(key, key * 10);
            assert!(recent.len() <= 8);
            for late in key.saturating_sub(3)..=key {
                assert_eq!(recent.get(&late), Some(&(late * 10)));
            }
            assert_eq!(recent.get(&0), Some(&0), "asked for each time");
        }
        assert_eq!(recent.get(&50), None);
        recent.put(99, 1);
        assert_eq!(recent.get(&99), Some(&1), "the value put last");
        recent.remove(&99);
        assert_eq!(recent.get(&99), None);
        assert_eq!(recent.get(&98), Some(&980));
        recent.clear();
        assert_eq!(recent.len(), 0);
    }
}
