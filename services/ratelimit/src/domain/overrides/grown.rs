//! A map that only grows.

use std::sync::OnceLock;

/// A map whose values stay where they are: it is added to through a shared reference, and read without a lock.
///
/// A tree: each node has one key, and sixteen ways on by four bits of the hash. A map of one key is one node.
#[derive(Debug)]
pub(super) struct Grown<K, V> {
    root: Slot<K, V>,
}

type Slot<K, V> = OnceLock<Box<Node<K, V>>>;

#[derive(Debug)]
struct Node<K, V> {
    key: K,
    value: V,
    next: OnceLock<Box<[Slot<K, V>; 16]>>,
}

impl<K: Eq + Clone, V> Grown<K, V> {
    /// The value of `key`, whose hash is `hash`: made now if it is not there. Who asks for it meanwhile waits.
    #[inline]
    pub(super) fn get_or_make(&self, key: &K, mut hash: u64, make: impl Fn() -> V) -> &V {
        let mut slot = &self.root;
        loop {
            let node = slot
                .get_or_init(|| Box::new(Node { key: key.clone(), value: make(), next: OnceLock::new() }));
            if node.key == *key {
                return &node.value;
            }
            slot = &node.next.get_or_init(Box::default)[usize::from(hash.to_le_bytes()[0] & 15)];
            hash = hash.rotate_right(4);
        }
    }
}

impl<K, V> Default for Grown<K, V> {
    fn default() -> Self {
        Self { root: OnceLock::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_the_value_that_was_made_first_whatever_its_hash() {
        for hash in [|key: usize| key as u64, |_: usize| 7, |key: usize| (key as u64) << 40] {
            let map = Grown::default();
            for round in 0..2 {
                for key in 0..200 {
                    assert_eq!(*map.get_or_make(&key, hash(key), || (key, round)), (key, 0));
                }
            }
        }
    }
}
