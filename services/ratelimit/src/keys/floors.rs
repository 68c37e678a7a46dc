//! Below which generation nothing is believed any more, by organization.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hashbrown::HashMap;
use uuid::Uuid;

use super::micros;
use crate::domain::Fence;

/// How long a floor is kept that no record asks for: longer than a look-up that began before it was raised can be under way.
const KEPT: Duration = Duration::from_secs(120);

/// Below so many floors nothing is tidied up.
const FEW: usize = 1_024;

/// The floor of one organization, which its records hold.
#[derive(Debug, Default)]
pub(super) struct Floor {
    generation: AtomicU64,
    raised_us: AtomicU64,
}

impl Floor {
    /// Whether what was said by that generation is still to be believed.
    #[inline]
    pub(super) fn admits(&self, generation: u64) -> bool {
        self.generation.load(Ordering::Acquire) <= generation
    }
}

#[derive(Debug, Default)]
pub(super) struct Floors(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    floors: HashMap<Uuid, Arc<Floor>>,
    /// Tidied up at so many.
    tidy_at: usize,
}

impl Floors {
    /// The floor of an organization.
    pub(super) fn of(&self, organization: Uuid, now_us: u64) -> Arc<Floor> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let State { floors, tidy_at } = &mut *state;
        if floors.len() >= (*tidy_at).max(FEW) && !floors.contains_key(&organization) {
            floors.retain(|_, floor| {
                let raised_us = floor.raised_us.load(Ordering::Relaxed);
                Arc::strong_count(floor) > 1 || now_us.saturating_sub(raised_us) < micros(KEPT)
            });
            *tidy_at = 2 * floors.len();
        }
        Arc::clone(floors.entry(organization).or_default())
    }

    /// Raises the floor of an organization; it never goes down.
    pub(super) fn raise(&self, fence: Fence, now_us: u64) {
        let floor = self.of(fence.organization, now_us);
        floor.raised_us.store(now_us, Ordering::Relaxed);
        floor.generation.fetch_max(fence.generation, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floor_is_raised_and_never_lowered() {
        let floors = Floors::default();
        let organization = Uuid::from_u128(7);
        let floor = floors.of(organization, 0);
        assert!(floor.admits(0));
        floors.raise(Fence { organization, generation: 5 }, 1);
        floors.raise(Fence { organization, generation: 3 }, 2);
        assert!(floor.admits(5) && !floor.admits(4));
    }

    #[test]
    fn floors_that_nobody_holds_are_forgotten_after_a_while_only() {
        let floors = Floors::default();
        let held = floors.of(Uuid::from_u128(0), 0);
        for number in 1..3 * FEW as u128 {
            floors.raise(Fence { organization: Uuid::from_u128(number), generation: 9 }, 1_000);
        }
        assert!(!floors.of(Uuid::from_u128(5), 2_000).admits(8), "a look-up may be under way");
        let later_us = 1_000 + micros(KEPT);
        for number in 0..4 * FEW as u128 {
            floors.raise(Fence { organization: Uuid::from_u128(1 << 64 | number), generation: 1 }, later_us);
        }
        assert!(floors.of(Uuid::from_u128(5), later_us).admits(0), "forgotten");
        assert!(Arc::ptr_eq(&held, &floors.of(Uuid::from_u128(0), later_us)), "held by a record");
    }
}
