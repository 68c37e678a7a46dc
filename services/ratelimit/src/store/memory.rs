//! Counters in the memory of this process.

mod leases;
mod shard;
mod slab;

use std::sync::{Mutex, MutexGuard, PoisonError};

use garde::Validate;
use serde::{Deserialize, Serialize};
use siphasher::sip128::{Hasher128, SipHasher13};
use smallvec::SmallVec;
use std::hash::Hasher;
use tidegate_chassis::{
    clock::{Clock, Random},
    metrics::Metrics,
};

use self::{
    shard::{RECORD_LEASE, Shard, ShardMetrics},
    slab::Slot,
};
use super::{Answer, CellLease, CellRefund, CellReset, CounterStore, StoreError};
use crate::domain::{CellCheck, Cells, Check, Decision, Fence, LeaseId, Replay, decide};

/// Independent parts, each with its own lock.
const SHARDS: usize = 128;

/// As many words as any layout has: 16 limits of the most leases.
static UNUSED_STATE: [u64; 16 * 2_001] = [0; 16 * 2_001];

/// Settings of the [`MemoryStore`].
#[derive(Clone, Debug, Deserialize, Serialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct MemoryStoreConfig {
    /// The most bytes that counters and their index may take, at least 1 MiB.
    #[garde(range(min = 1_048_576))]
    pub max_bytes: u64,
}

/// Counters in memory: sharded, expiring, bounded.
///
/// Keys are known by a 128-bit SipHash-1-3 under a random secret, so no caller can make two keys meet.
/// A key idle for as long as its limits look back is forgotten, a few at each new key. At the memory
/// bound a *new* key is refused with [`StoreError::Full`] and the policy's failure mode speaks;
/// counters that still count are never dropped to make room, because that would admit too much.
/// Idempotency keys take at most a quarter of the bound; beyond it they are not remembered.
pub struct MemoryStore {
    shards: Box<[Mutex<Shard>]>,
    secret: (u64, u64),
    clock: Clock,
}

impl MemoryStore {
    /// An empty store.
    pub fn new(config: &MemoryStoreConfig, clock: Clock, random: &Random, metrics: &Metrics) -> Self {
        let metrics = ShardMetrics::register(metrics);
        let share = usize::try_from(config.max_bytes).unwrap_or(usize::MAX) / SHARDS;
        Self {
            shards: (0..SHARDS).map(|_| Mutex::new(Shard::new(share, metrics.clone()))).collect(),
            secret: (random.u64(), random.u64()),
            clock,
        }
    }

    /// Decides `check` at `now_us`, in Unix microseconds: when it was taken up, which may be a little before another
    /// check that was decided sooner. Nothing is waited for but the locks of its shards.
    ///
    /// # Errors
    ///
    /// [`StoreError::Full`].
    pub(crate) fn decide_at(&self, check: &Check<'_>, now_us: u64) -> Result<Decision, StoreError> {
        match (&check.cells[..], &check.idempotency) {
            ([cell], None) => self.decide_one(check, cell, now_us),
            _ => self.decide_many(check, now_us),
        }
    }

    /// Decides a check of one cell, as most are: one lock, one slot.
    #[inline]
    fn decide_one(
        &self,
        check: &Check<'_>,
        cell: &CellCheck<'_>,
        now_us: u64,
    ) -> Result<Decision, StoreError> {
        let place = self.place(&cell.key);
        let mut shard = self.shard(place);
        let now_us = shard.not_before_latest(now_us, &self.clock);
        shard.set_latest(now_us);
        if let Some(slot) = shard.find(place.fingerprint) {
            let slot = shard.fit(slot, cell.layout);
            return Ok(decide(check, &mut shard.cell(slot), now_us, None));
        }
        if !check.charge {
            return Ok(decide(check, &mut UnusedCell, now_us, None));
        }
        let made = shard.insert(place.fingerprint, cell.layout.words(), now_us, &[]);
        let slot = made.ok_or(StoreError::Full).inspect_err(|_| shard.count_refused())?;
        cell.layout.prepare(shard.state_mut(slot));
        let decision = decide(check, &mut shard.cell(slot), now_us, None);
        if decision.admitted {
            shard.sweep(now_us);
        } else {
            shard.remove(slot);
        }
        Ok(decision)
    }

    /// Decides any check: all of its shards are locked together.
    fn decide_many(&self, check: &Check<'_>, now_us: u64) -> Result<Decision, StoreError> {
        let mut locked = self.lock(check);
        let now_us = locked.agree_on_time(now_us, &self.clock);

        let record = match locked.record {
            Some(place) => locked.shard(place).find(place.fingerprint),
            None => None,
        };
        let mut replay = None;
        if let (Some(slot), Some(place), Some(idempotency)) = (record, locked.record, &check.idempotency) {
            let shard = locked.shard(place);
            if shard.idle_at(slot) > now_us {
                if shard.state(slot)[..2] != digest_words(idempotency.digest) {
                    return Ok(Decision::of_reused_key());
                }
                replay = Some(Replay { lease: LeaseId::new(shard.state(slot)[RECORD_LEASE]) });
            }
        }

        let charging = check.charge && replay.is_none();
        locked.find_slots(check, charging, now_us)?;
        let decision = decide(check, &mut locked, now_us, replay);
        let charged = charging && decision.admitted;
        if charged {
            locked.keep_record(check, now_us);
        } else {
            locked.release_created();
        }
        locked.sweep(now_us);
        Ok(decision)
    }

    fn reset_now(&self, cells: &[CellReset]) {
        for cell in cells {
            let place = self.place(&cell.key);
            let mut shard = self.shard(place);
            let Some(slot) = shard.find(place.fingerprint) else { continue };
            match cell.rule {
                None => shard.remove(slot),
                Some(rule) => {
                    let slot = shard.fit(slot, &cell.layout);
                    cell.layout.clear_rule(rule, shard.state_mut(slot));
                }
            }
        }
    }

    fn refund_now(&self, cells: &[CellRefund]) {
        for cell in cells {
            let place = self.place(&cell.key);
            let mut shard = self.shard(place);
            let now_us = shard.not_before_latest(self.clock.now_us(), &self.clock);
            shard.set_latest(now_us);
            let Some(slot) = shard.find(place.fingerprint) else { continue };
            let slot = shard.fit(slot, &cell.layout);
            cell.layout.refund(shard.state_mut(slot), cell.tokens, now_us);
        }
    }

    fn place(&self, key: &[u8]) -> Place {
        let mut hasher = SipHasher13::new_with_keys(self.secret.0, self.secret.1);
        hasher.write(key);
        let hash = hasher.finish128();
        #[expect(clippy::cast_possible_truncation, reason = "a remainder of the number of shards")]
        Place { shard: (hash.h2 % SHARDS as u64) as usize, fingerprint: [hash.h1, hash.h2] }
    }

    #[inline]
    fn shard(&self, place: Place) -> MutexGuard<'_, Shard> {
        self.shards[place.shard].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks the shards of all cells, in the order of their numbers so that no two checks wait for
    /// each other.
    fn lock(&self, check: &Check<'_>) -> Locked<'_> {
        let places: SmallVec<[Place; 3]> = check.cells.iter().map(|cell| self.place(&cell.key)).collect();
        let record = check.idempotency.as_ref().map(|idempotency| self.place(&idempotency.key));
        let mut numbers: SmallVec<[usize; 3]> =
            places.iter().chain(&record).map(|place| place.shard).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let guards = numbers
            .into_iter()
            .map(|number| (number, self.shards[number].lock().unwrap_or_else(PoisonError::into_inner)))
            .collect();
        Locked { guards, places, record, slots: SmallVec::new(), created: SmallVec::new() }
    }
}

impl CounterStore for MemoryStore {
    #[inline]
    fn decide(&self, check: &Check<'_>) -> Answer<'static, Decision> {
        Answer::Ready(self.decide_at(check, self.clock.now_us()))
    }

    fn reset<'a>(&'a self, cells: &'a [CellReset]) -> Answer<'a, ()> {
        self.reset_now(cells);
        Answer::Ready(Ok(()))
    }

    fn refund<'a>(&'a self, cells: &'a [CellRefund]) -> Answer<'a, ()> {
        self.refund_now(cells);
        Answer::Ready(Ok(()))
    }

    fn renew<'a>(&'a self, cells: &'a [CellLease], ttl_us: u64) -> Answer<'a, bool> {
        Answer::Ready(Ok(self.renew_now(cells, ttl_us)))
    }

    fn release<'a>(&'a self, cells: &'a [CellLease]) -> Answer<'a, bool> {
        Answer::Ready(Ok(self.release_now(cells)))
    }

    fn fence(&self, _: Fence) -> Answer<'_, bool> {
        Answer::Ready(Ok(false))
    }

    /// It is lost with the process only, and nobody is left to ask then.
    fn complete_for_us(&self, _: &[u8]) -> u64 {
        u64::MAX
    }
}

/// Where a key lies.
#[derive(Clone, Copy)]
struct Place {
    shard: usize,
    fingerprint: [u64; 2],
}

/// The shards of one check, locked for its decision.
struct Locked<'a> {
    guards: SmallVec<[(usize, MutexGuard<'a, Shard>); 3]>,
    places: SmallVec<[Place; 3]>,
    record: Option<Place>,
    /// One per cell; absent for a new key that is only looked at.
    slots: SmallVec<[Option<Slot>; 3]>,
    /// New keys made for this check: shard and slot.
    created: SmallVec<[(Place, Slot); 3]>,
}

impl Locked<'_> {
    #[inline]
    fn shard(&mut self, place: Place) -> &mut Shard {
        let (_, guard) = self
            .guards
            .iter_mut()
            .find(|(number, _)| *number == place.shard)
            .expect("the shards of every place were locked");
        guard
    }

    /// The time of the check: not before that of the last one in any of the shards.
    fn agree_on_time(&mut self, mut now_us: u64, clock: &Clock) -> u64 {
        // What one shard adds may bring the time of another within reach.
        while let Some(later) =
            self.guards.iter().map(|(_, shard)| shard.not_before_latest(now_us, clock)).max()
            && later > now_us
        {
            now_us = later;
        }
        for (_, shard) in &mut self.guards {
            shard.set_latest(now_us);
        }
        now_us
    }

    /// Finds the slot of each cell; if they are to be `charged`, makes the missing ones, so that a full
    /// store is noticed before anything has changed.
    fn find_slots(&mut self, check: &Check<'_>, charged: bool, now_us: u64) -> Result<(), StoreError> {
        for index in 0..check.cells.len() {
            let place = self.places[index];
            let layout = check.cells[index].layout;
            let slot = match self.shard(place).find(place.fingerprint) {
                Some(slot) => Some(self.shard(place).fit(slot, layout)),
                None if charged => {
                    let slot = self.create(place, layout.words(), now_us)?;
                    layout.prepare(self.shard(place).state_mut(slot));
                    Some(slot)
                }
                None => None,
            };
            self.slots.push(slot);
        }
        Ok(())
    }

    fn create(&mut self, place: Place, words: usize, now_us: u64) -> Result<Slot, StoreError> {
        // Slots already found for this check must survive the sweep that makes room.
        let pinned: SmallVec<[Slot; 3]> = self
            .slots
            .iter()
            .zip(&self.places)
            .filter(|(_, other)| other.shard == place.shard)
            .filter_map(|(slot, _)| *slot)
            .collect();
        match self.shard(place).insert(place.fingerprint, words, now_us, &pinned) {
            Some(slot) => {
                self.created.push((place, slot));
                Ok(slot)
            }
            None => {
                self.shard(place).count_refused();
                self.release_created();
                Err(StoreError::Full)
            }
        }
    }

    fn release_created(&mut self) {
        for (place, slot) in std::mem::take(&mut self.created) {
            self.shard(place).remove(slot);
        }
    }

    /// Remembers the admission of a check. Without room it is not remembered, and a retry is charged: too
    /// little is admitted then, never too much.
    fn keep_record(&mut self, check: &Check<'_>, now_us: u64) {
        let (Some(place), Some(idempotency)) = (self.record, &check.idempotency) else { return };
        let shard = self.shard(place);
        let known = shard.find(place.fingerprint);
        let Some(slot) = known.or_else(|| shard.insert_record(place.fingerprint, now_us)) else { return };
        let state = shard.state_mut(slot);
        state[..2].copy_from_slice(&digest_words(idempotency.digest));
        state[RECORD_LEASE] = check.lease.map_or(0, |lease| lease.id.get());
        shard.set_idle_at(slot, now_us + idempotency.ttl_us);
    }

    /// Forgets a few idle keys if new ones were made.
    fn sweep(&mut self, now_us: u64) {
        for (place, _) in std::mem::take(&mut self.created) {
            self.shard(place).sweep(now_us);
        }
    }
}

impl Cells for Locked<'_> {
    #[inline]
    fn peek(&mut self, cell: usize) -> &[u64] {
        let place = self.places[cell];
        match self.slots[cell] {
            Some(slot) => self.shard(place).state(slot),
            None => &UNUSED_STATE,
        }
    }

    #[inline]
    fn update(&mut self, cell: usize) -> &mut [u64] {
        let place = self.places[cell];
        let slot = self.slots[cell].expect("find_slots made every cell that is charged");
        self.shard(place).state_mut(slot)
    }

    #[inline]
    fn keep_until(&mut self, cell: usize, idle_at_us: u64) {
        let place = self.places[cell];
        if let Some(slot) = self.slots[cell] {
            let shard = self.shard(place);
            shard.set_idle_at(slot, idle_at_us.max(shard.idle_at(slot)));
        }
    }
}

/// A cell that is only looked at, and new.
struct UnusedCell;

impl Cells for UnusedCell {
    fn peek(&mut self, _: usize) -> &[u64] {
        &UNUSED_STATE
    }

    fn update(&mut self, _: usize) -> &mut [u64] {
        unreachable!("a check that charges makes its cell")
    }

    fn keep_until(&mut self, _: usize, _: u64) {}
}

#[expect(clippy::cast_possible_truncation, reason = "the halves are what is asked for")]
fn digest_words(digest: u128) -> [u64; 2] {
    [digest as u64, (digest >> 64) as u64]
}

#[cfg(test)]
mod tests;
