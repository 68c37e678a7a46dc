//! A check that outlives who asked it.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::domain::{CellCheck, Check, Idempotency, Layout};

/// What a [`Check`] says, kept for as long as it may have to be sent again.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) cells: SmallVec<[HeldCell; 2]>,
    pub(super) charge: bool,
    pub(super) idempotency: Option<Idempotency>,
}

/// A [`CellCheck`].
#[derive(Clone, Debug)]
pub(super) struct HeldCell {
    pub(super) key: SmallVec<[u8; 64]>,
    pub(super) layout: Arc<Layout>,
    pub(super) cost: u64,
    pub(super) enforced: bool,
}

impl From<&Check<'_>> for Held {
    fn from(check: &Check<'_>) -> Self {
        let cells = check.cells.iter().map(|cell| HeldCell {
            key: cell.key.clone(),
            layout: Arc::clone(cell.layout),
            cost: cell.cost,
            enforced: cell.enforced,
        });
        Self { cells: cells.collect(), charge: check.charge, idempotency: check.idempotency.clone() }
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
        Check { cells: cells.collect(), charge: self.charge, idempotency: self.idempotency.clone() }
    }
}
