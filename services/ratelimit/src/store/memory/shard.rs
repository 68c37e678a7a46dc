//! One shard of the memory store: an index of fingerprints over slabs of equal slots.

use std::sync::atomic::AtomicI64;

use hashbrown::HashTable;
use prometheus_client::metrics::{counter::Counter, gauge::Gauge};
use tidegate_chassis::{clock::Clock, metrics::Metrics};

use super::slab::{HEADER_WORDS, IDLE_AT, Slab, Slot, SlotCell};
use crate::domain::Layout;

/// Words of an idempotency record: the digest, and the id of the lease that was taken, or 0.
const RECORD_WORDS: usize = 3;
pub(super) const RECORD_LEASE: usize = 2;
/// The part of the bound that records may take: they are many and long-lived, and must not crowd out counters.
const RECORD_SHARE: usize = 4;
/// Slots looked at for each new key. More than one, so that a stream of new keys frees faster than it
/// fills; few, so that no check pays for a scan.
const SWEEP_SLOTS: usize = 4;
/// Slots looked at before a new key is refused.
const LAST_SWEEP_SLOTS: usize = 256;
/// By how much the times of two checks may be in another order than the checks, in microseconds. Beyond that the clock
/// is asked whether it was set back.
const REORDERED_US: u64 = 1_000_000;

/// What all shards count together.
#[derive(Clone)]
pub(super) struct ShardMetrics {
    keys: Gauge<i64, AtomicI64>,
    bytes: Gauge<i64, AtomicI64>,
    expired: Counter,
    refused: Counter,
    records_dropped: Counter,
}

impl ShardMetrics {
    pub(super) fn register(metrics: &Metrics) -> Self {
        let (keys, bytes) = (Gauge::default(), Gauge::default());
        let (expired, refused, records_dropped) =
            (Counter::default(), Counter::default(), Counter::default());
        metrics.register("tidegate_ratelimit_memory_keys", "Keys held in memory", keys.clone());
        metrics.register(
            "tidegate_ratelimit_memory_bytes",
            "Bytes allocated for keys in memory",
            bytes.clone(),
        );
        metrics.register(
            "tidegate_ratelimit_memory_expired",
            "Keys forgotten because they were idle",
            expired.clone(),
        );
        metrics.register(
            "tidegate_ratelimit_memory_refused",
            "New keys refused at the memory bound",
            refused.clone(),
        );
        metrics.register(
            "tidegate_ratelimit_memory_records_dropped",
            "Idempotency keys that are not remembered for want of room: their retries are charged",
            records_dropped.clone(),
        );
        Self { keys, bytes, expired, refused, records_dropped }
    }
}

/// Index and slabs under one lock.
pub(super) struct Shard {
    index: HashTable<Slot>,
    slabs: Vec<Slab>,
    max_bytes: usize,
    bytes: usize,
    /// Where the sweep goes on.
    hand: Slot,
    /// Time of the last check.
    latest_us: u64,
    metrics: ShardMetrics,
}

impl Shard {
    pub(super) fn new(max_bytes: usize, metrics: ShardMetrics) -> Self {
        Self {
            index: HashTable::new(),
            slabs: Vec::new(),
            max_bytes,
            bytes: 0,
            hand: Slot { slab: 0, index: 0 },
            latest_us: 0,
            metrics,
        }
    }

    /// The time of a check that read `clock` at `now_us`, in Unix microseconds: never before that of the check before it,
    /// which may have been the later one to read the clock. What it swept was idle then, and must not have counted at a time
    /// before. Only if the clock was set back does time go on from where it stands.
    #[inline]
    pub(super) fn not_before_latest(&self, now_us: u64, clock: &Clock) -> u64 {
        if now_us >= self.latest_us { now_us } else { self.catch_up(now_us, clock) }
    }

    #[cold]
    fn catch_up(&self, now_us: u64, clock: &Clock) -> u64 {
        let is_behind = |at_us: u64| at_us + REORDERED_US < self.latest_us;
        // A check that is far behind may have been kept waiting for its turn.
        if is_behind(now_us) && is_behind(clock.now_us()) { now_us } else { self.latest_us }
    }

    /// Notes the time of a check.
    #[inline]
    pub(super) fn set_latest(&mut self, now_us: u64) {
        self.latest_us = now_us;
    }

    /// The slot of a key.
    #[inline]
    pub(super) fn find(&self, fingerprint: [u64; 2]) -> Option<Slot> {
        self.index
            .find(fingerprint[0], |slot| self.slabs[usize::from(slot.slab)].fingerprint(*slot) == fingerprint)
            .copied()
    }

    /// A slot as the only cell of a check.
    #[inline]
    pub(super) fn cell(&mut self, slot: Slot) -> SlotCell<'_> {
        SlotCell(self.slabs[usize::from(slot.slab)].words_mut(slot))
    }

    /// State of a slot.
    #[inline]
    pub(super) fn state(&self, slot: Slot) -> &[u64] {
        &self.slabs[usize::from(slot.slab)].words(slot)[HEADER_WORDS..]
    }

    /// State of a slot.
    #[inline]
    pub(super) fn state_mut(&mut self, slot: Slot) -> &mut [u64] {
        &mut self.slabs[usize::from(slot.slab)].words_mut(slot)[HEADER_WORDS..]
    }

    /// When the key in a slot is as good as new, in Unix microseconds.
    pub(super) fn idle_at(&self, slot: Slot) -> u64 {
        self.slabs[usize::from(slot.slab)].words(slot)[IDLE_AT]
    }

    /// Sets [`idle_at`](Self::idle_at).
    #[inline]
    pub(super) fn set_idle_at(&mut self, slot: Slot, idle_at_us: u64) {
        self.slabs[usize::from(slot.slab)].words_mut(slot)[IDLE_AT] = idle_at_us;
    }

    /// Makes a key with state of zeros, idle already. `None` at the memory bound, after a last look
    /// for idle keys other than `pinned`.
    pub(super) fn insert(
        &mut self,
        fingerprint: [u64; 2],
        words: usize,
        now_us: u64,
        pinned: &[Slot],
    ) -> Option<Slot> {
        let slab = self.slab_of(words);
        if self.slabs[slab].free.is_empty() && !self.grow(slab) {
            self.sweep_slots(now_us, LAST_SWEEP_SLOTS, pinned);
            self.drop_empty_slabs();
            if self.slabs[slab].free.is_empty() && !self.grow(slab) {
                return None;
            }
        }
        let index = self.slabs[slab].free.pop().expect("a free slot was just found or made");
        let slot = Slot { slab: u16::try_from(slab).expect("layouts have few sizes"), index };
        let words = self.slabs[slab].words_mut(slot);
        words.fill(0);
        words[..2].copy_from_slice(&fingerprint);
        let slabs = &self.slabs;
        self.index
            .insert_unique(fingerprint[0], slot, |slot| slabs[usize::from(slot.slab)].fingerprint(*slot)[0]);
        self.metrics.keys.inc();
        Some(slot)
    }

    /// A new slot for an idempotency record, or `None` (and counted) if records have their share of the
    /// bound or there is no room at all.
    pub(super) fn insert_record(&mut self, fingerprint: [u64; 2], now_us: u64) -> Option<Slot> {
        let slab = self.slab_of(RECORD_WORDS);
        let has_share = |slab: &Slab| slab.bytes() + slab.chunk_bytes() <= self.max_bytes / RECORD_SHARE;
        let slot = if self.slabs[slab].free.is_empty() && !has_share(&self.slabs[slab]) {
            self.sweep_slots(now_us, LAST_SWEEP_SLOTS, &[]);
            let freed = !self.slabs[slab].free.is_empty();
            freed.then(|| self.insert(fingerprint, RECORD_WORDS, now_us, &[])).flatten()
        } else {
            self.insert(fingerprint, RECORD_WORDS, now_us, &[])
        };
        if slot.is_none() {
            self.metrics.records_dropped.inc();
        }
        slot
    }

    /// Counts a key that found no room.
    pub(super) fn count_refused(&self) {
        self.metrics.refused.inc();
    }

    /// Forgets a key.
    pub(super) fn remove(&mut self, slot: Slot) {
        let slab = &mut self.slabs[usize::from(slot.slab)];
        let fingerprint = slab.fingerprint(slot);
        slab.words_mut(slot).fill(0);
        slab.free.push(slot.index);
        if let Ok(entry) = self.index.find_entry(fingerprint[0], |other| *other == slot) {
            entry.remove();
        }
        self.metrics.keys.dec();
    }

    /// The slot itself, or, if the limits of its policy have changed so that the state has other
    /// sizes, a new slot that carries it over. May exceed the memory bound by that one slot.
    #[inline]
    pub(super) fn fit(&mut self, slot: Slot, layout: &Layout) -> Slot {
        let slab = &self.slabs[usize::from(slot.slab)];
        if slab.state_words == layout.words() && layout.fits(&slab.words(slot)[HEADER_WORDS..]) {
            slot
        } else {
            self.carry(slot, layout)
        }
    }

    /// Looks at a few slots and forgets the idle ones.
    pub(super) fn sweep(&mut self, now_us: u64) {
        self.sweep_slots(now_us, SWEEP_SLOTS, &[]);
    }

    fn carry(&mut self, slot: Slot, layout: &Layout) -> Slot {
        let old = self.slabs[usize::from(slot.slab)].words(slot).to_vec();
        self.remove(slot);
        let slab = self.slab_of(layout.words());
        if self.slabs[slab].free.is_empty() {
            self.add_chunk(slab);
        }
        let made = self.insert([old[0], old[1]], layout.words(), 0, &[]).expect("a free slot was just made");
        layout.carry(&old[HEADER_WORDS..], self.state_mut(made));
        self.set_idle_at(made, old[IDLE_AT]);
        made
    }

    fn slab_of(&mut self, state_words: usize) -> usize {
        self.slabs.iter().position(|slab| slab.state_words == state_words).unwrap_or_else(|| {
            self.slabs.push(Slab::new(state_words));
            self.slabs.len() - 1
        })
    }

    /// Adds a chunk if the bound allows it.
    fn grow(&mut self, slab: usize) -> bool {
        let allowed = self.bytes + self.slabs[slab].chunk_bytes() <= self.max_bytes;
        if allowed {
            self.add_chunk(slab);
        }
        allowed
    }

    fn add_chunk(&mut self, slab: usize) {
        let bytes = self.slabs[slab].chunk_bytes();
        self.slabs[slab].add_chunk();
        self.bytes += bytes;
        self.metrics.bytes.inc_by(bytes as i64);
    }

    /// Gives back the memory of sizes that no key has any more, as after a change of policies.
    fn drop_empty_slabs(&mut self) {
        for slab in &mut self.slabs {
            if slab.slots() > 0 && slab.free.len() == slab.slots() {
                let bytes = slab.bytes();
                slab.clear();
                self.bytes -= bytes;
                self.metrics.bytes.dec_by(bytes as i64);
            }
        }
    }

    fn sweep_slots(&mut self, now_us: u64, slots: usize, pinned: &[Slot]) {
        for _ in 0..slots {
            let Some(slot) = self.advance_hand() else { return };
            let words = self.slabs[usize::from(slot.slab)].words(slot);
            let used = words[0] != 0 || words[1] != 0;
            if used && words[IDLE_AT] <= now_us && !pinned.contains(&slot) {
                self.remove(slot);
                self.metrics.expired.inc();
            }
        }
    }

    /// The slot under the hand, which moves on; `None` if there are no slots.
    fn advance_hand(&mut self) -> Option<Slot> {
        for _ in 0..=self.slabs.len() {
            let slab = self.slabs.get(usize::from(self.hand.slab));
            if slab.is_some_and(|slab| (self.hand.index as usize) < slab.slots()) {
                let slot = self.hand;
                self.hand.index += 1;
                return Some(slot);
            }
            let next = usize::from(self.hand.slab) + 1;
            let next = if next < self.slabs.len() { next } else { 0 };
            self.hand = Slot { slab: u16::try_from(next).expect("layouts have few sizes"), index: 0 };
        }
        None
    }
}

#[cfg(test)]
impl Shard {
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn latest_us(&self) -> u64 {
        self.latest_us
    }
}
