//! What one worker sees.

use std::{
    hash::Hasher,
    ptr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use siphasher::sip128::{Hasher128, SipHasher13};

use super::{
    KeyKind, Met, Settings,
    counts::{Cell, Places},
    sampler::{Countdown, Pace},
    space_saving::SpaceSaving,
    subject::Subject,
    window::{Generations, Window},
};
use crate::{
    domain::{Attributes, Policy},
    limiter::{LimitVerdict, Verdict},
};

/// The summaries of one kind of keys, by windows.
pub(super) type Summaries = [Generations<SpaceSaving<Arc<Subject>>>; Window::ALL.len()];

/// What one worker counts. Only that worker writes.
#[derive(Debug)]
pub(super) struct Tallies {
    settings: Settings,
    places: Arc<Places>,
    cells: Box<[Cell]>,
    countdowns: [Countdown; KeyKind::ALL.len()],
    /// Locked for samples, and by who reads.
    samples: Mutex<Samples>,
}

#[derive(Debug)]
pub(super) struct Samples {
    paces: [Pace; KeyKind::ALL.len()],
    pub(super) summaries: [Summaries; KeyKind::ALL.len()],
}

impl Tallies {
    pub(super) fn new(settings: &Settings, places: Arc<Places>) -> Self {
        let summary = || SpaceSaving::new(settings.keys);
        let samples = Samples {
            paces: KeyKind::ALL.map(|_| Pace::new(settings.samples_per_second)),
            summaries: KeyKind::ALL
                .map(|_| Window::ALL.map(|_| Generations { previous: summary(), current: summary() })),
        };
        Self {
            settings: settings.clone(),
            cells: (0..places.len()).map(|_| Cell::default()).collect(),
            places,
            countdowns: Default::default(),
            samples: Mutex::new(samples),
        }
    }

    /// Counts a decision; `attributes`, of which it was made, are asked for if it is a sample.
    #[inline]
    pub(super) fn record<A: Attributes>(&self, verdict: &Verdict<'_>, attributes: impl Fn() -> A) -> Met {
        let mut met = Met::default();
        for (first, limits) in by_policy(verdict) {
            let of_policy = self.met(verdict, first, limits);
            self.cells[self.places.of(limits[0].policy)].add(verdict.allowed, of_policy);
            met |= of_policy;
        }
        if verdict.limits.is_empty() {
            return met;
        }
        if self.countdowns[KeyKind::Hot as usize].is_over() {
            self.sample(KeyKind::Hot, verdict, &attributes());
        }
        if met.is_any() {
            let others = KeyKind::ALL.into_iter().filter(|kind| *kind != KeyKind::Hot && met.is(*kind));
            for kind in others.filter(|kind| self.countdowns[*kind as usize].is_over()) {
                self.sample(kind, verdict, &attributes());
            }
        }
        met
    }

    pub(super) fn cells(&self) -> &[Cell] {
        &self.cells
    }

    pub(super) fn samples(&self) -> MutexGuard<'_, Samples> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the limits of one policy met, the first of which is `verdict.limits[first]`.
    #[inline]
    fn met(&self, verdict: &Verdict<'_>, first: usize, limits: &[LimitVerdict<'_>]) -> Met {
        let mut met = Met::default();
        for (index, limit) in (first..).zip(limits) {
            let is_exceeded = limit.outcome.exceeded();
            if verdict.allowed {
                met.shadow_denied |= is_exceeded && limit.is_shadow();
                // The share of one replica says nothing of the whole.
                met.near_limit |= !is_exceeded && !verdict.degraded && self.is_near(limit);
            } else {
                // What could never be admitted binds without being exceeded.
                met.denied |= !limit.is_shadow() && (is_exceeded || verdict.binding == Some(index));
            }
        }
        met
    }

    #[inline]
    fn is_near(&self, limit: &LimitVerdict<'_>) -> bool {
        let capacity = limit.limit.limit.rule.capacity();
        limit.outcome.remaining * 100 < capacity * u64::from(self.settings.near_percent)
    }

    /// Adds the subjects of a decision to the summaries of `kind`.
    #[cold]
    fn sample<A: Attributes>(&self, kind: KeyKind, verdict: &Verdict<'_>, attributes: &A) {
        let mut samples = self.samples();
        let samples = &mut *samples;
        let (weight, gap) = samples.paces[kind as usize].take(verdict.at_us, &self.settings.random);
        self.countdowns[kind as usize].restart(gap);
        for (first, limits) in by_policy(verdict) {
            if !self.met(verdict, first, limits).is(kind) {
                continue;
            }
            let policy = limits[0].policy;
            let id = id(policy, attributes);
            let mut subject = None;
            for generations in &mut samples.summaries[kind as usize] {
                generations.current.add(id, weight, weight * (weight - 1), || {
                    Arc::clone(subject.get_or_insert_with(|| Arc::new(Subject::new(policy, attributes))))
                });
            }
        }
    }
}

/// The limits of each policy, with the place of the first one.
#[inline]
fn by_policy<'v, 'p>(
    verdict: &'v Verdict<'p>,
) -> impl Iterator<Item = (usize, &'v [LimitVerdict<'p>])> + use<'v, 'p> {
    let of_policies = verdict.limits.chunk_by(|a, b| ptr::eq(a.policy, b.policy));
    of_policies.scan(0, |next, limits| {
        let first = *next;
        *next += limits.len();
        Some((first, limits))
    })
}

/// Tells the subject of a policy from all others.
fn id<A: Attributes>(policy: &Policy, attributes: &A) -> u128 {
    let mut hasher = SipHasher13::new();
    let mut write = |text: &str| {
        hasher.write(&(text.len() as u64).to_le_bytes());
        hasher.write(text.as_bytes());
    };
    write(&policy.namespace);
    write(&policy.name);
    policy.key_values(attributes).for_each(write);
    hasher.finish128().as_u128()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{POLICIES, Replica, config};

    #[test]
    fn check_that_is_no_sample_allocates_nothing() {
        let replica = Replica::new(POLICIES, &config());
        let worker = replica.usage.for_worker();
        let attributes = [("user", "ada"), ("path", "/")];
        replica.check(&worker, "shop", &attributes);
        worker.tallies.countdowns.iter().for_each(|countdown| countdown.restart(100));
        let mut met = Vec::with_capacity(100);
        let info = allocation_counter::measure(|| {
            met.extend((0..100).map(|_| replica.check(&worker, "shop", &attributes).1));
        });
        // Denials, shadows and what is near a limit were all among them.
        assert!(
            met.iter().any(|met| met.denied) && met.iter().any(|met| met.near_limit && met.shadow_denied)
        );
        assert_eq!(info.count_total, 0, "{info:?}");
        let info = allocation_counter::measure(|| {
            replica.check(&worker, "shop", &[("user", "bob"), ("path", "/")]);
        });
        assert!(info.count_total > 0, "the next one is a sample");
    }
}
