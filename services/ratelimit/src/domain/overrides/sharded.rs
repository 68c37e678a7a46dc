//! Sets that are changed by copies which share nearly everything.

use std::{
    hash::{BuildHasher, Hasher},
    sync::Arc,
};

use hashbrown::DefaultHashBuilder;

/// Slots of a shard, unless hashes are very much alike: a shard is what a change has to copy.
const MOST_SLOTS: usize = 512;

/// A set in shards, each an open-addressed table with linear probing. Copies share what they hold.
///
/// Whoever looks for an item waits for one line of memory: it is in the slot that its hash says, or in one of the next. A table that
/// keeps its hashes apart, as `hashbrown` does, has two, the second known only after the first was read.
#[derive(Clone, Debug)]
pub(super) struct Sharded<T> {
    hasher: DefaultHashBuilder,
    /// A power of two of them, all with the same power of two of slots. Half of all slots are free, and one in each shard.
    shards: Vec<Arc<[Slot<T>]>>,
    len: usize,
}

/// Room for an item. One of 56 bytes fills a line of the processor's caches.
#[derive(Clone, Debug)]
#[repr(align(64))]
struct Slot<T> {
    hash: u64,
    item: Option<T>,
}

impl<T> Slot<T> {
    const FREE: Self = Self { hash: 0, item: None };
}

/// A search that has begun.
pub(super) struct Search<'s, T> {
    hash: u64,
    shard: &'s [Slot<T>],
    is_first_taken: bool,
}

impl<'s, T> Search<'s, T> {
    /// The item that `is_it`.
    #[inline]
    pub(super) fn finish(self, is_it: impl Fn(&T) -> bool) -> Option<&'s T> {
        let shard = self.shard;
        shard[self.slot(is_it)?].item.as_ref()
    }

    /// The slot of the item that `is_it`.
    #[inline]
    fn slot(self, is_it: impl Fn(&T) -> bool) -> Option<usize> {
        if !self.is_first_taken {
            return None;
        }
        let mask = self.shard.len() - 1;
        let mut place = home(self.hash, mask);
        loop {
            let Slot { hash, item } = &self.shard[place];
            let item = item.as_ref()?;
            if *hash == self.hash && is_it(item) {
                return Some(place);
            }
            place = (place + 1) & mask;
        }
    }
}

impl<T: Clone> Sharded<T> {
    /// Whether there is no item.
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Every item, in no particular order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.shards.iter().flat_map(|shard| shard.iter()).filter_map(|slot| slot.item.as_ref())
    }

    /// What computes the hash of a key, by which an item is put in and found.
    #[inline]
    pub(super) fn hasher(&self) -> impl Hasher + use<T> {
        self.hasher.build_hasher()
    }

    /// Begins to look for an item whose key has this hash. Memory that is asked for in several searches comes sooner if all are begun before
    /// one is finished.
    #[inline]
    pub(super) fn search(&self, hash: u64) -> Search<'_, T> {
        let shard = &*self.shards[place(hash, self.shards.len())];
        let is_first_taken = shard[home(hash, shard.len() - 1)].item.is_some();
        Search { hash, shard, is_first_taken }
    }

    /// Puts an item in, which is in none and whose key has this hash.
    pub(super) fn insert(&mut self, hash: u64, item: T) {
        // A search ends at a free slot, so none fills the last, however alike the hashes are.
        let has_room = |set: &Self| {
            let shard = &set.shards[place(hash, set.shards.len())];
            shard.iter().filter(|slot| slot.item.is_none()).nth(1).is_some()
        };
        while self.is_full() || !has_room(self) {
            self.grow();
        }
        self.file(hash, item);
    }

    /// Takes the item out that `is_it`, whose key has this hash.
    pub(super) fn remove(&mut self, hash: u64, is_it: impl Fn(&T) -> bool) -> Option<T> {
        let found = self.search(hash).slot(is_it)?;
        let place = place(hash, self.shards.len());
        let shard = Arc::make_mut(&mut self.shards[place]);
        let mask = shard.len() - 1;
        let removed = std::mem::replace(&mut shard[found], Slot::FREE).item;
        // What would not be found behind the gap moves into it: Knuth, TAOCP volume 3, 6.4, algorithm R.
        let (mut gap, mut next) = (found, (found + 1) & mask);
        while shard[next].item.is_some() {
            let steps_from = |start: usize| next.wrapping_sub(start) & mask;
            if steps_from(home(shard[next].hash, mask)) >= steps_from(gap) {
                shard.swap(gap, next);
                gap = next;
            }
            next = (next + 1) & mask;
        }
        self.len -= 1;
        removed
    }

    /// Takes out what `keep` does not want, if the next item would make the set grow.
    pub(super) fn retain_if_full(&mut self, keep: impl Fn(&T) -> bool) {
        if self.is_full() {
            let before = self.len;
            self.rebuild(self.shards.len(), self.slots(), keep);
            // Or every few items would make everything be filed again.
            if 8 * self.len > 7 * before {
                self.grow();
            }
        }
    }

    /// Whether one more item would take a slot that is to stay free: half of them are, so that most of what is not there is missed at
    /// the first glance.
    fn is_full(&self) -> bool {
        2 * (self.len + 1) > self.shards.len() * self.slots()
    }

    /// Slots of each shard.
    fn slots(&self) -> usize {
        self.shards[0].len()
    }

    fn grow(&mut self) {
        let (shards, slots) = (self.shards.len(), self.slots());
        // More shards do not part hashes that are alike, however many there are.
        let is_uneven = 8 * self.len < shards * slots;
        let larger_shards = slots < MOST_SLOTS || is_uneven;
        let (shards, slots) = if larger_shards { (shards, 2 * slots) } else { (2 * shards, slots) };
        self.rebuild(shards, slots, |_| true);
    }

    /// Files what `keep` wants in as many shards as there are or more, with as many slots or more.
    fn rebuild(&mut self, shards: usize, slots: usize, keep: impl Fn(&T) -> bool) {
        let old = std::mem::replace(&mut self.shards, empty(shards, slots));
        self.len = 0;
        for Slot { hash, item } in old.iter().flat_map(|shard| shard.iter()) {
            if let Some(item) = item.as_ref().filter(|item| keep(item)) {
                self.file(*hash, item.clone());
            }
        }
    }

    /// Puts an item into its shard, which has room.
    fn file(&mut self, hash: u64, item: T) {
        let place = place(hash, self.shards.len());
        let shard = Arc::make_mut(&mut self.shards[place]);
        let mask = shard.len() - 1;
        let mut free = home(hash, mask);
        while shard[free].item.is_some() {
            free = (free + 1) & mask;
        }
        shard[free] = Slot { hash, item: Some(item) };
        self.len += 1;
    }
}

impl<T: Clone> Default for Sharded<T> {
    fn default() -> Self {
        Self { hasher: DefaultHashBuilder::default(), shards: empty(1, 2), len: 0 }
    }
}

fn empty<T: Clone>(shards: usize, slots: usize) -> Vec<Arc<[Slot<T>]>> {
    (0..shards).map(|_| std::iter::repeat_n(Slot::FREE, slots).collect()).collect()
}

/// The shard of a hash, by other bits than those of its slot.
fn place(hash: u64, shards: usize) -> usize {
    low_bits(hash >> 32, shards - 1)
}

/// The slot in which an item is if no other was there before it.
fn home(hash: u64, mask: usize) -> usize {
    low_bits(hash, mask)
}

#[expect(clippy::cast_possible_truncation, reason = "the mask keeps fewer bits than are cut off")]
fn low_bits(hash: u64, mask: usize) -> usize {
    hash as usize & mask
}

#[cfg(test)]
mod tests {
    use hashbrown::HashSet;
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// Hashes of which many share a shard, a slot, or everything.
    fn hash_of(key: u16) -> u64 {
        let key = u64::from(key);
        ((key % 3) << 32) | ((key % 7) * 500)
    }

    proptest! {
        #[test]
        fn it_is_a_set_and_copies_stay_as_they_were(
            steps in vec((0_u16..700, prop::bool::weighted(0.7)), 0..1_500),
        ) {
            let (mut set, mut expected) = (Sharded::default(), HashSet::new());
            let mut copies = Vec::new();
            for (number, (key, puts_in)) in steps.into_iter().enumerate() {
                let hash = hash_of(key);
                let is_there = set.search(hash).finish(|other| *other == key).is_some();
                prop_assert_eq!(is_there, expected.contains(&key));
                if puts_in && !is_there {
                    set.insert(hash, key);
                    expected.insert(key);
                } else if !puts_in {
                    prop_assert_eq!(set.remove(hash, |other| *other == key), expected.take(&key));
                }
                if number % 400 == 0 {
                    copies.push((set.clone(), expected.clone()));
                }
            }
            copies.push((set, expected));
            for (set, expected) in copies {
                prop_assert_eq!(set.iter().copied().collect::<HashSet<_>>(), expected.clone());
                prop_assert_eq!(set.is_empty(), expected.is_empty());
                for key in 0..700 {
                    let found = set.search(hash_of(key)).finish(|other| *other == key);
                    prop_assert_eq!(found.copied(), expected.get(&key).copied());
                }
            }
        }
    }

    #[test]
    fn hashes_may_be_alike() {
        let mut set = Sharded::default();
        (0..600).for_each(|key: u64| set.insert(7, key));
        (0..600).for_each(|key: u64| set.insert(key << 40, key));
        let found = |hash, key| set.search(hash).finish(|other| *other == key).copied();
        assert!((0..600).all(|key| found(7, key) == Some(key) && found(key << 40, key) == Some(key)));
        assert!(set.slots() * set.shards.len() <= 1 << 16);
    }

    #[test]
    fn a_sweep_that_frees_little_makes_it_grow() {
        let mut set = Sharded::default();
        (0..256).for_each(|key: u64| set.insert(key, key));
        let full = set.slots() * set.shards.len();
        set.retain_if_full(|key| *key > 0);
        assert_eq!((set.iter().count(), set.slots() * set.shards.len()), (255, 2 * full));
    }

    #[test]
    fn it_grows_only_if_what_is_not_wanted_does_not_make_room() {
        let mut set = Sharded::default();
        (0..256).for_each(|key: u64| set.insert(key, key));
        let full = set.slots() * set.shards.len();
        set.retain_if_full(|key| key % 2 == 0);
        assert_eq!(set.iter().count(), 128);
        (0..128).for_each(|key| set.insert(key, key));
        assert_eq!(set.slots() * set.shards.len(), full);
        set.insert(1_000, 1_000);
        assert_eq!((set.iter().count(), set.slots() * set.shards.len()), (257, 2 * full));
    }
}
