//! Leases that are renewed and released: found again by what their holders know of them.

use std::ops::Range;

use smallvec::SmallVec;

use super::{MemoryStore, shard::Shard, slab::Slot};
use crate::{
    domain::{Concurrency, lease_parts},
    store::CellLease,
};

impl MemoryStore {
    pub(super) fn renew_now(&self, cells: &[CellLease], ttl_us: u64) -> bool {
        cells.iter().all(|cell| {
            let renewed = self.with_leases(cell, |shard, slot, parts, now_us| {
                let state = shard.state_mut(slot);
                let is_held = |part: &Range<usize>| {
                    Concurrency::expiry(&state[part.clone()], cell.id, now_us).is_some()
                };
                if cell.enforced && !parts.iter().all(is_held) {
                    return false;
                }
                for part in parts {
                    Concurrency::renew(&mut state[part], cell.id, ttl_us, now_us);
                }
                let idle_at_us = shard.idle_at(slot).max(now_us + ttl_us);
                shard.set_idle_at(slot, idle_at_us);
                true
            });
            renewed == Some(true) || !cell.enforced
        })
    }

    pub(super) fn release_now(&self, cells: &[CellLease]) -> bool {
        let mut was_held = false;
        for cell in cells {
            let released = self.with_leases(cell, |shard, slot, parts, now_us| {
                let state = shard.state_mut(slot);
                let mut is_held = false;
                for part in parts {
                    is_held |= Concurrency::release(&mut state[part], cell.id, now_us);
                }
                is_held
            });
            was_held |= released == Some(true);
        }
        was_held
    }

    /// Does something with the leases of a cell, wherever they lie in it, at the time of its shard. Nothing if there is no such
    /// cell.
    fn with_leases<T>(
        &self,
        cell: &CellLease,
        act: impl FnOnce(&mut Shard, Slot, SmallVec<[Range<usize>; 2]>, u64) -> T,
    ) -> Option<T> {
        let place = self.place(&cell.key);
        let mut shard = self.shard(place);
        let now_us = shard.not_before_latest(self.clock.now_us(), &self.clock);
        shard.set_latest(now_us);
        let slot = shard.find(place.fingerprint)?;
        let parts = lease_parts(&cell.algorithms, shard.state(slot))?;
        Some(act(&mut shard, slot, parts, now_us))
    }
}
