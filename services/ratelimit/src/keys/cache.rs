//! What is remembered, by fingerprints: bounded, and shared by all workers.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::limiter::Recent;

/// Independent parts, each with its own lock, so that workers seldom wait for each other.
const PARTS: usize = 64;

/// A bounded map that forgets what was not asked for lately.
pub(super) struct Cache<V> {
    parts: Box<[Mutex<Recent<u128, V>>]>,
}

impl<V: Clone> Cache<V> {
    /// An empty one with room for about so many.
    pub(super) fn new(most: usize) -> Self {
        Self::weighing(most, |_| 1)
    }

    /// An empty one with room for values that weigh about so much together.
    pub(super) fn weighing(most: usize, weigh: fn(&V) -> usize) -> Self {
        let share = most.div_ceil(PARTS).max(2);
        Self { parts: (0..PARTS).map(|_| Mutex::new(Recent::weighing(share, weigh))).collect() }
    }

    #[inline]
    pub(super) fn get(&self, fingerprint: u128) -> Option<V> {
        self.part(fingerprint).get(&fingerprint)
    }

    /// Remembers a value if it `is_current` at the moment at which it is there for others. What makes values outdated and
    /// then [clears](Self::clear) thereby leaves none of them, whenever they were asked for.
    pub(super) fn put_if(&self, fingerprint: u128, value: V, is_current: impl FnOnce() -> bool) {
        let mut part = self.part(fingerprint);
        if is_current() {
            part.put(fingerprint, value);
        }
    }

    /// The value of a fingerprint: the one that is there, or the one that is made.
    #[inline]
    pub(super) fn get_or_put(&self, fingerprint: u128, make: impl FnOnce() -> V) -> V {
        let mut part = self.part(fingerprint);
        if let Some(value) = part.get(&fingerprint) {
            return value;
        }
        let value = make();
        part.put(fingerprint, value.clone());
        value
    }

    pub(super) fn remove(&self, fingerprint: u128) {
        self.part(fingerprint).remove(&fingerprint);
    }

    pub(super) fn clear(&self) {
        for part in &self.parts {
            part.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.parts.iter().map(|part| part.lock().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }

    #[inline]
    fn part(&self, fingerprint: u128) -> MutexGuard<'_, Recent<u128, V>> {
        let part = (fingerprint % PARTS as u128) as usize;
        self.parts[part].lock().unwrap_or_else(PoisonError::into_inner)
    }
}
