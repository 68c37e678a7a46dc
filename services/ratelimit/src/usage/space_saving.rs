//! The heaviest keys of a stream, in bounded memory.

use std::collections::BTreeSet;

use hashbrown::HashMap;

/// A summary of a stream of weighted keys by Space-Saving (Metwally, Agrawal, El Abbadi: "Efficient computation of
/// frequent and top-k elements in data streams", ICDT 2005).
///
/// With `k` slots and a total weight of `n`: what a key weighs lies in `count - over ..= count`, `over` is at most `n / k`, and every
/// key that weighs more than `n / k` is there. While no more than `k` keys were seen, every count is exact.
#[derive(Debug)]
pub(super) struct SpaceSaving<S> {
    capacity: usize,
    total: u64,
    slots: Vec<Counted<S>>,
    places: HashMap<u128, usize>,
    /// Slots by their counts, the least first.
    order: BTreeSet<(u64, usize)>,
}

/// One key of a summary.
#[derive(Clone, Debug)]
pub(super) struct Counted<S> {
    /// Tells the key from others.
    pub(super) id: u128,
    /// Who it is.
    pub(super) subject: S,
    /// The most that it weighs.
    pub(super) count: u64,
    /// By how much `count` may be too much.
    pub(super) over: u64,
    /// Variance of the weights that were added, if they come from a sample.
    pub(super) variance: u64,
}

impl<S> SpaceSaving<S> {
    /// A summary of at most `capacity` keys, at least 1. Memory is taken as keys come.
    pub(super) fn new(capacity: usize) -> Self {
        let capacity = capacity.max(1);
        Self { capacity, total: 0, slots: Vec::new(), places: HashMap::new(), order: BTreeSet::new() }
    }

    /// Adds `weight` to the key `id`; `subject` is asked for if it is not there yet. `variance` is that of the weight.
    pub(super) fn add(&mut self, id: u128, weight: u64, variance: u64, subject: impl FnOnce() -> S) {
        self.total = self.total.saturating_add(weight);
        if let Some(place) = self.places.get(&id).copied() {
            self.raise(place, weight, variance);
            return;
        }
        let place = self.slots.len();
        if place < self.capacity {
            self.slots.push(Counted { id, subject: subject(), count: weight, over: 0, variance });
            self.order.insert((weight, place));
            self.places.insert(id, place);
            return;
        }
        let (least, place) = *self.order.first().expect("a full summary has a least key");
        let slot = &mut self.slots[place];
        self.places.remove(&slot.id);
        *slot = Counted { id, subject: subject(), count: least, over: least, variance: 0 };
        self.places.insert(id, place);
        self.raise(place, weight, variance);
    }

    /// The most that a key can weigh which is not there.
    pub(super) fn floor(&self) -> u64 {
        match self.order.first() {
            Some((least, _)) if self.slots.len() == self.capacity => *least,
            _ => 0,
        }
    }

    /// Everything that was added.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// The keys, in no particular order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Counted<S>> {
        self.slots.iter()
    }

    /// Forgets everything; memory is kept.
    pub(super) fn clear(&mut self) {
        self.total = 0;
        self.slots.clear();
        self.places.clear();
        self.order.clear();
    }

    fn raise(&mut self, place: usize, weight: u64, variance: u64) {
        let slot = &mut self.slots[place];
        self.order.remove(&(slot.count, place));
        slot.count = slot.count.saturating_add(weight);
        slot.variance = slot.variance.saturating_add(variance);
        self.order.insert((slot.count, place));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn counts_are_within_their_bounds_and_no_heavy_key_is_missing(
            capacity in 1_usize..12,
            stream in prop::collection::vec((0_u128..30, 1_u64..9), 0..400),
        ) {
            let mut summary = SpaceSaving::new(capacity);
            let mut exact: HashMap<u128, u64> = HashMap::new();
            for (id, weight) in &stream {
                summary.add(*id, *weight, 0, || *id);
                *exact.entry(*id).or_default() += weight;
            }
            let total: u64 = exact.values().sum();
            prop_assert_eq!(summary.total(), total);
            prop_assert!(summary.iter().count() <= capacity);
            for key in summary.iter() {
                let truth = exact[&key.id];
                prop_assert_eq!(key.subject, key.id);
                prop_assert!(key.count - key.over <= truth && truth <= key.count, "{:?} of {}", key, truth);
                prop_assert!(key.over * capacity as u64 <= total);
            }
            let listed: Vec<_> = summary.iter().map(|key| key.id).collect();
            for (id, truth) in &exact {
                let is_heavy = truth * capacity as u64 > total;
                prop_assert!(!is_heavy || listed.contains(id), "{} weighs {} of {}", id, truth, total);
                prop_assert!(listed.contains(id) || *truth <= summary.floor());
            }
            if exact.len() <= capacity {
                prop_assert!(summary.iter().all(|key| key.over == 0) && listed.len() == exact.len());
            }
        }
    }

    #[test]
    fn cleared_summary_is_as_new() {
        let mut summary = SpaceSaving::new(1);
        summary.add(1, 5, 0, || ());
        summary.add(2, 5, 0, || ());
        assert_eq!((summary.floor(), summary.total()), (10, 10));
        summary.clear();
        assert_eq!((summary.floor(), summary.total(), summary.iter().count()), (0, 0, 0));
        summary.add(3, 1, 0, || ());
        assert!(summary.iter().all(|key| (key.id, key.count, key.over) == (3, 1, 0)));
    }
}
