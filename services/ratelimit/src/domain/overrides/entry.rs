//! Overrides that are for the same subjects, and what overrides say whoever they are for.

use std::{cmp::Reverse, sync::Arc};

use super::{
    Grown, KnownLimits, Numbers, Override, OverrideTarget,
    known::{bundle_of, split},
    shape::Key,
};
use crate::domain::{Bundle, Pattern, Policy};

/// The overrides of one policy with the same key, of which there is at least one.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// As the entry's shape writes it.
    pub(super) key: Key,
    pub(super) says: Arc<Variant>,
}

/// What the overrides with one key say. Those that say the same share it: however many subjects have other limits, they have few
/// different ones, which stay in the caches of the processor.
#[derive(Debug)]
pub(super) struct Variant {
    /// Tells it from the others of the policy.
    pub(super) number: u64,
    /// Those for one plan before those for all.
    pub(super) replacements: Box<[Replacement]>,
    /// Set of the names of limits that it replaces, on some plan.
    pub(super) touches: u64,
    /// Set of the names of limits that it replaces on every plan.
    pub(super) covers: u64,
    /// What it makes of the limits of each plan, by the plan's position.
    pub(super) bundles: Grown<usize, Option<Bundle>>,
}

/// Other numbers for one limit, on one plan or on all.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Replacement {
    /// None is all of them; but those for one come first.
    plan: Reverse<Option<Arc<str>>>,
    limit: Arc<str>,
    numbers: Numbers,
}

/// What `old` says, and that `limit`, which the policy has, has these numbers.
pub(super) fn with(
    old: &[Replacement],
    known: &KnownLimits,
    policy: &Policy,
    limit: &str,
    numbers: Numbers,
) -> Box<[Replacement]> {
    let (plan, name) = split(limit);
    let shared = "an override is set only if the policy has its limit";
    let plan = plan.map(|plan| Arc::clone(&bundle_of(&policy.tariff, plan).expect(shared).plan));
    let limit_name = Arc::clone(known.name(name).expect(shared).0);
    let new = Replacement { plan: Reverse(plan), limit: limit_name, numbers };
    let mut all: Vec<_> = old.iter().filter(|other| !other.is_of(limit)).cloned().chain([new]).collect();
    all.sort();
    all.into()
}

/// What `old` says but of `limit`.
pub(super) fn without(old: &[Replacement], limit: &str) -> Box<[Replacement]> {
    old.iter().filter(|other| !other.is_of(limit)).cloned().collect()
}

impl Variant {
    /// A variant that says `replacements`.
    pub(super) fn new(number: u64, replacements: Box<[Replacement]>, known: &KnownLimits) -> Self {
        let (mut touches, mut covers) = (0, 0);
        for replacement in &replacements {
            let (_, touched, covered) = known.name(&replacement.limit).expect("its limit is known");
            touches |= touched;
            covers |= if replacement.plan.0.is_none() { covered } else { 0 };
        }
        Self { number, replacements, touches, covers, bundles: Grown::default() }
    }

    /// The numbers of a limit on a plan, if it replaces them.
    pub(super) fn numbers(&self, limit: &str, plan: &str) -> Option<Numbers> {
        let replaces =
            |of: &&Replacement| *of.limit == *limit && of.plan.0.as_deref().is_none_or(|of| of == plan);
        self.replacements.iter().find(replaces).map(|replacement| replacement.numbers)
    }

    /// Number of overrides of one key.
    pub(super) fn len(&self) -> usize {
        self.replacements.len()
    }

    /// The overrides themselves.
    pub(super) fn overrides<'o>(
        &'o self,
        policy: &'o Policy,
        key: Box<[Pattern]>,
    ) -> impl Iterator<Item = Override> + 'o {
        self.replacements.iter().map(move |replacement| Override {
            target: OverrideTarget {
                namespace: Arc::clone(&policy.namespace),
                policy: Arc::clone(&policy.name),
                limit: match &replacement.plan.0 {
                    Some(plan) => format!("{plan}/{}", replacement.limit).into(),
                    None => Arc::clone(&replacement.limit),
                },
                key: key.clone(),
            },
            numbers: replacement.numbers,
        })
    }
}

impl Replacement {
    fn is_of(&self, limit: &str) -> bool {
        let (plan, name) = split(limit);
        self.plan.0.as_deref() == plan && *self.limit == *name
    }
}
