//! Values of which the last are kept.

use std::{borrow::Borrow, hash::Hash};

use hashbrown::HashMap;

/// A map of a bounded size that forgets what was not asked for lately.
///
/// It has two generations. When the young one is full it becomes the old one, and what was old is forgotten; what is found among the old
/// is young again. So of the keys asked for last at least half as many are there as there is room for, and nothing is ever searched through.
#[derive(Debug)]
pub(crate) struct Recent<K, V> {
    young: Generation<K, V>,
    old: Generation<K, V>,
    half: usize,
    weigh: fn(&V) -> usize,
}

#[derive(Debug)]
struct Generation<K, V> {
    values: HashMap<K, V>,
    weight: usize,
}

impl<K: Eq + Hash, V: Clone> Recent<K, V> {
    /// An empty one with room for `most` keys, at least 2.
    pub(crate) fn new(most: usize) -> Self {
        Self::weighing(most, |_| 1)
    }

    /// An empty one with room for values that weigh `most` together, or for two that weigh more than half of it.
    pub(crate) fn weighing(most: usize, weigh: fn(&V) -> usize) -> Self {
        Self { young: Generation::new(), old: Generation::new(), half: most / 2, weigh }
    }

    /// The value of a key, if it is remembered.
    #[inline]
    pub(crate) fn get<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        if let Some(value) = self.young.values.get(key) {
            return Some(value.clone());
        }
        let (key, value) = self.old.values.remove_entry(key)?;
        self.old.weight -= (self.weigh)(&value);
        self.put(key, value.clone());
        Some(value)
    }

    /// Remembers the value of a key, in place of another of the same.
    pub(crate) fn put(&mut self, key: K, value: V) {
        self.remove(&key);
        let weight = (self.weigh)(&value);
        if self.young.weight > 0 && self.young.weight + weight > self.half {
            // What grew once need not grow again.
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        self.young.weight += weight;
        self.young.values.insert(key, value);
    }

    /// Forgets a key.
    pub(crate) fn remove<Q>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        for generation in [&mut self.young, &mut self.old] {
            if let Some(value) = generation.values.remove(key) {
                generation.weight -= (self.weigh)(&value);
            }
        }
    }

    /// Forgets every key.
    pub(crate) fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
    }

    /// The value of a key, which is not asked for by that.
    #[cfg(test)]
    fn peek(&self, key: &K) -> Option<V> {
        self.young.values.get(key).or_else(|| self.old.values.get(key)).cloned()
    }

    /// Number of keys.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.young.values.len() + self.old.values.len()
    }
}

impl<K, V> Generation<K, V> {
    fn new() -> Self {
        Self { values: HashMap::new(), weight: 0 }
    }

    fn clear(&mut self) {
        self.values.clear();
        self.weight = 0;
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
                assert_eq!(recent.get(&late), Some(late * 10));
            }
            assert_eq!(recent.get(&0), Some(0), "asked for each time");
        }
        assert_eq!(recent.get(&50), None);
        recent.put(99, 1);
        assert_eq!(recent.get(&99), Some(1), "the value put last");
        recent.remove(&99);
        assert_eq!(recent.get(&99), None);
        assert_eq!(recent.get(&98), Some(980));
        recent.clear();
        assert_eq!(recent.len(), 0);
    }
    #[test]
    fn heavy_values_take_the_room_of_several() {
        let mut recent = Recent::weighing(8, |weight: &usize| *weight);
        for key in 0..100 {
            recent.put(key, 1 + key % 4);
            let weight: usize = (0..=key).filter_map(|key| recent.peek(&key)).sum();
            assert!((1..=8).contains(&weight), "{weight}");
            assert_eq!(recent.get(&key), Some(1 + key % 4));
        }
        recent.put(7, 50);
        assert_eq!(recent.get(&7), Some(50), "one that fits nowhere is there until the next");
        recent.put(8, 1);
        recent.put(9, 4);
        assert_eq!((recent.get(&8), recent.get(&9), recent.len()), (Some(1), Some(4), 2));
        recent.put(9, 2);
        recent.remove(&8);
        recent.remove(&9);
        assert_eq!((recent.young.weight, recent.old.weight), (0, 0));
    }
}
