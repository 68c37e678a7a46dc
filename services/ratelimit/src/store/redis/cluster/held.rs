//! A check that outlives who asked it.

use std::sync::Arc;

use smallvec::SmallVec;

use super::super::fence;
use crate::{
    domain::{CellCheck, Check, Fence, Idempotency, Layout, Lease},
    key::slot,
};

/// What a [`Check`] says, kept for as long as it may have to be sent again.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) cells: SmallVec<[HeldCell; 2]>,
    pub(super) charge: bool,
    pub(super) idempotency: Option<Idempotency>,
    pub(super) lease: Option<Lease>,
    pub(super) fence: Option<Fence>,
}

/// A [`CellCheck`].
#[derive(Clone, Debug)]
pub(super) struct HeldCell {
    pub(super) key: SmallVec<[u8; 64]>,
    pub(super) layout: Arc<Layout>,
    pub(super) cost: u64,
    pub(super) enforced: bool,
}

/// That part of a check that one call can decide.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) slot: u16,
    /// Which cells of the check these are.
    pub(super) places: SmallVec<[usize; 4]>,
    pub(super) check: Held,
}

impl From<&Check<'_>> for Held {
    fn from(check: &Check<'_>) -> Self {
        let cells = check.cells.iter().map(|cell| HeldCell {
            key: cell.key.clone(),
            layout: Arc::clone(cell.layout),
            cost: cell.cost,
            enforced: cell.enforced,
        });
        Self {
            cells: cells.collect(),
            charge: check.charge,
            idempotency: check.idempotency.clone(),
            lease: check.lease,
            fence: check.fence,
        }
    }
}

impl Held {
    /// The check.
    pub(super) fn borrow(&self) -> Check<'_> {
        let cells = self.cells.iter().map(|cell| CellCheck {
            key: cell.key.clone(),
            layout: &cell.layout,
            cost: cell.cost,
            enforced: cell.enforced,
        });
        Check {
            cells: cells.collect(),
            charge: self.charge,
            idempotency: self.idempotency.clone(),
            lease: self.lease,
            fence: self.fence,
        }
    }

    /// How many keys it is about.
    pub(super) fn keys(&self) -> usize {
        self.cells.len() + usize::from(self.idempotency.is_some()) + usize::from(self.fence.is_some())
    }

    /// Its parts by slot, or each key for itself if they are `apart`. The one that has the idempotency record comes last. The fence goes
    /// with the first cell: while it is compared, all other parts are under way.
    pub(super) fn parts(&self, apart: bool) -> Vec<Part> {
        let mut parts: Vec<Part> = Vec::new();
        let new = |slot| Part {
            slot,
            places: SmallVec::new(),
            check: Self {
                cells: SmallVec::new(),
                charge: self.charge,
                idempotency: None,
                lease: self.lease,
                fence: None,
            },
        };
        if let (Some(fence), true) = (self.fence, apart || self.cells.is_empty()) {
            let mut alone = new(0);
            alone.check.fence = Some(fence);
            alone.slot = fence::slot_of(&alone.check.borrow(), fence);
            parts.push(alone);
        }
        for (place, cell) in self.cells.iter().enumerate() {
            let slot = slot(&cell.key);
            let known = parts.iter().position(|part| !apart && part.slot == slot).unwrap_or_else(|| {
                parts.push(new(slot));
                parts.len() - 1
            });
            if place == 0 && !apart {
                parts[known].check.fence = self.fence;
            }
            parts[known].places.push(place);
            parts[known].check.cells.push(cell.clone());
        }
        if let Some(record) = &self.idempotency {
            let slot = slot(&record.key);
            let known = parts.iter().position(|part| !apart && part.slot == slot);
            let mut last = known.map_or_else(|| new(slot), |known| parts.remove(known));
            last.check.idempotency = Some(record.clone());
            parts.push(last);
        }
        parts
    }
}
