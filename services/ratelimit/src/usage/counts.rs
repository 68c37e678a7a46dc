//! How often each policy was asked, and what it said.

use std::{
    ops::{AddAssign, Sub},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use hashbrown::HashMap;
use tidegate_chassis::metrics::WorkerCounter;

use super::{
    Met,
    window::{Generations, Window},
};
use crate::domain::Policy;

/// What one policy said to the checks it applied to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Checks that it applied to.
    pub(crate) checks: u64,
    /// Of these, those that were admitted.
    pub(crate) admitted: u64,
    /// Those that it denied; the rest was denied by other policies alone.
    pub(crate) denied: u64,
    /// Those that were admitted and left little of one of its limits.
    pub(crate) near_limit: u64,
    /// Those that were admitted, and which it would have denied were it not in shadow.
    pub(crate) shadow_denied: u64,
}

impl Counts {
    /// Those that other policies alone denied.
    pub(crate) fn denied_elsewhere(&self) -> u64 {
        self.checks.saturating_sub(self.admitted + self.denied)
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.checks += other.checks;
        self.admitted += other.admitted;
        self.denied += other.denied;
        self.near_limit += other.near_limit;
        self.shadow_denied += other.shadow_denied;
    }
}

impl Sub for Counts {
    type Output = Self;

    /// What was counted since `earlier`.
    fn sub(self, earlier: Self) -> Self {
        Self {
            checks: self.checks.saturating_sub(earlier.checks),
            admitted: self.admitted.saturating_sub(earlier.admitted),
            denied: self.denied.saturating_sub(earlier.denied),
            near_limit: self.near_limit.saturating_sub(earlier.near_limit),
            shadow_denied: self.shadow_denied.saturating_sub(earlier.shadow_denied),
        }
    }
}

/// What one worker counted of one policy.
#[derive(Debug, Default)]
pub(super) struct Cell {
    checks: WorkerCounter,
    admitted: WorkerCounter,
    denied: WorkerCounter,
    near_limit: WorkerCounter,
    shadow_denied: WorkerCounter,
}

impl Cell {
    #[inline]
    pub(super) fn add(&self, admitted: bool, met: Met) {
        self.checks.add(1);
        self.admitted.add(admitted.into());
        if met.is_any() {
            self.denied.add(met.denied.into());
            self.near_limit.add(met.near_limit.into());
            self.shadow_denied.add(met.shadow_denied.into());
        }
    }

    pub(super) fn counts(&self) -> Counts {
        Counts {
            checks: self.checks.get(),
            admitted: self.admitted.get(),
            denied: self.denied.get(),
            near_limit: self.near_limit.get(),
            shadow_denied: self.shadow_denied.get(),
        }
    }
}

/// The place at which policies are counted that have none of their own.
pub(super) const OTHERS: u32 = 0;

/// Which policies have a place of their own: the first ones in use.
#[derive(Debug)]
pub(super) struct Places {
    max: usize,
    named: Mutex<Named>,
}

#[derive(Debug, Default)]
struct Named {
    /// The policy at each place; the first place is that of the others.
    names: Vec<PolicyName>,
    places: HashMap<PolicyName, u32>,
}

/// Namespace and name of a policy.
pub(super) type PolicyName = (Arc<str>, Arc<str>);

impl Places {
    /// So many, besides that of the others.
    pub(super) fn new(max: usize) -> Self {
        Self { max, named: Mutex::default() }
    }

    /// Number of places.
    pub(super) fn len(&self) -> usize {
        self.max + 1
    }

    /// The place of `policy`.
    #[inline]
    pub(super) fn of(&self, policy: &Policy) -> usize {
        *policy.usage_place.get_or_init(|| self.give(policy)) as usize
    }

    /// The policies with a place of their own, by their places less one.
    pub(super) fn names(&self) -> Vec<PolicyName> {
        self.named().names.clone()
    }

    #[cold]
    fn give(&self, policy: &Policy) -> u32 {
        // What comes with requests is without number.
        if policy.came_with_request() {
            return OTHERS;
        }
        let mut named = self.named();
        let name = (Arc::clone(&policy.namespace), Arc::clone(&policy.name));
        if let Some(place) = named.places.get(&name) {
            return *place;
        }
        if named.names.len() >= self.max {
            return OTHERS;
        }
        named.names.push(name.clone());
        let place = u32::try_from(named.names.len()).expect("the setting is at most 65,536");
        named.places.insert(name, place);
        place
    }

    fn named(&self) -> MutexGuard<'_, Named> {
        self.named.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What had been counted when the generations of each window began, place by place.
#[derive(Debug)]
pub(super) struct Marks([Generations<Vec<Counts>>; Window::ALL.len()]);

impl Marks {
    pub(super) fn new() -> Self {
        Self(Window::ALL.map(|_| Generations { previous: Vec::new(), current: Vec::new() }))
    }

    /// Begins a generation of `window`, when so much has been counted.
    pub(super) fn turn(&mut self, window: Window, counted: &[Counts]) {
        self.0[window as usize].turn(|current| {
            current.clear();
            current.extend_from_slice(counted);
        });
    }

    /// What had been counted at `place` when `window` began.
    pub(super) fn at(&self, window: Window, place: usize) -> Counts {
        self.0[window as usize].previous.get(place).copied().unwrap_or_default()
    }
}
