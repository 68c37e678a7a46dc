//! Overrides that are for the same subjects.

use std::sync::Arc;

use super::{
    Grown, KnownLimits, Numbers, Override, OverrideTarget,
    known::{bundle_of, split},
};
use crate::domain::{Bundle, Pattern, Policy};

/// The overrides of one policy with the same key, of which there is at least one.
#[derive(Debug)]
pub(super) struct Entry {
    /// Tells it from the other entries of the policy.
    pub(super) number: u64,
    pub(super) key: Box<[Pattern]>,
    /// Those for one plan before those for all.
    replacements: Box<[Replacement]>,
    /// Set of the names of limits that it replaces, on some plan.
    pub(super) touches: u64,
    /// Set of the names of limits that it replaces on every plan.
    pub(super) covers: u64,
    /// What it makes of the limits of each plan, by the plan's position.
    pub(super) bundles: Grown<usize, Option<Bundle>>,
}

#[derive(Clone, Debug)]
struct Replacement {
    plan: Option<Arc<str>>,
    limit: Arc<str>,
    numbers: Numbers,
}

impl Entry {
    /// What `old` says, and that `limit`, which the policy has, has these numbers.
    pub(super) fn new(
        number: u64,
        key: Box<[Pattern]>,
        old: Option<&Self>,
        known: &KnownLimits,
        policy: &Policy,
        limit: &str,
        numbers: Numbers,
    ) -> Self {
        let rest = old.map_or(&[][..], |old| &old.replacements).iter();
        let mut replacements: Vec<_> = rest.filter(|other| !other.is_of(limit)).cloned().collect();
        let (plan, name) = split(limit);
        let shared = "an override is set only if the policy has its limit";
        replacements.push(Replacement {
            plan: plan.map(|plan| Arc::clone(&bundle_of(&policy.tariff, plan).expect(shared).plan)),
            limit: Arc::clone(known.name(name).expect(shared).0),
            numbers,
        });
        replacements.sort_by_key(|replacement| replacement.plan.is_none());
        Self::of(number, key, replacements, known)
    }

    /// The same without what it says of `limit`; nothing if it says nothing else.
    pub(super) fn without(&self, number: u64, limit: &str, known: &KnownLimits) -> Option<Self> {
        let rest = self.replacements.iter().filter(|replacement| !replacement.is_of(limit));
        let rest: Vec<_> = rest.cloned().collect();
        (!rest.is_empty()).then(|| Self::of(number, self.key.clone(), rest, known))
    }

    fn of(number: u64, key: Box<[Pattern]>, replacements: Vec<Replacement>, known: &KnownLimits) -> Self {
        let (mut touches, mut covers) = (0, 0);
        for replacement in &replacements {
            let (_, touched, covered) = known.name(&replacement.limit).expect("its limit is known");
            touches |= touched;
            covers |= if replacement.plan.is_none() { covered } else { 0 };
        }
        Self { number, key, replacements: replacements.into(), touches, covers, bundles: Grown::default() }
    }

    /// The numbers of a limit on a plan, if it replaces them.
    pub(super) fn numbers(&self, limit: &str, plan: &str) -> Option<Numbers> {
        let replaces =
            |of: &&Replacement| *of.limit == *limit && of.plan.as_deref().is_none_or(|of| of == plan);
        self.replacements.iter().find(replaces).map(|replacement| replacement.numbers)
    }

    /// Number of overrides.
    pub(super) fn len(&self) -> usize {
        self.replacements.len()
    }

    /// The overrides themselves.
    pub(super) fn overrides<'o>(&'o self, policy: &'o Policy) -> impl Iterator<Item = Override> + 'o {
        self.replacements.iter().map(|replacement| Override {
            target: OverrideTarget {
                namespace: Arc::clone(&policy.namespace),
                policy: Arc::clone(&policy.name),
                limit: match &replacement.plan {
                    Some(plan) => format!("{plan}/{}", replacement.limit).into(),
                    None => Arc::clone(&replacement.limit),
                },
                key: self.key.clone(),
            },
            numbers: replacement.numbers,
        })
    }
}

impl Replacement {
    fn is_of(&self, limit: &str) -> bool {
        let (plan, name) = split(limit);
        self.plan.as_deref() == plan && *self.limit == *name
    }
}
