//! Other numbers for the limits of single subjects.
//!
//! An override names a limit of a policy and says, by a pattern for each attribute of the policy's key, for whom its numbers are
//! replaced. Of several that match a subject the most specific one wins, limit by limit: the attributes are compared in the order of
//! the key, an exact value goes before a longer prefix, that before a shorter one, and that before any value.
//! With the same patterns the one for the caller's plan goes before the one for every plan.
//!
//! A check looks once for each *shape* of patterns that the policy's overrides have (which attributes are exact, how long the prefixes are),
//! however many overrides there are. The limits of a subject are put together when they are first asked for.

mod entry;
mod grown;
mod known;
mod shape;
mod sharded;

use std::{
    hash::{BuildHasher, Hash, Hasher},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use hashbrown::DefaultHashBuilder;
use smallvec::SmallVec;

use self::{
    entry::{Entry, Replacement, Variant},
    grown::Grown,
    known::KnownLimits,
    shape::Shape,
    sharded::Sharded,
};
use super::{Bundle, Limit, LimitError, LimitSpec, Pattern, Period, Plan, Policy, matcher::Attributes};

/// The most shapes of patterns among the overrides of one policy, since each costs every check a look-up.
const MAX_SHAPES: usize = 64;

/// So many shapes are searched at the same time.
const AT_ONCE: usize = 4;

/// Other numbers for one limit of the subjects that match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// Which limit, and whose.
    pub target: OverrideTarget,
    /// The numbers.
    pub numbers: Numbers,
}

/// What tells an override from others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OverrideTarget {
    /// Namespace of the policy.
    pub namespace: Arc<str>,
    /// Name of the policy.
    pub policy: Arc<str>,
    /// Name of the limit, as `minute`; or with that of the plan, as `free/minute`: then it counts only while the
    /// caller is on that plan.
    pub limit: Arc<str>,
    /// Whom it is for: a pattern for each attribute of the policy's key, in its order.
    pub key: Box<[Pattern]>,
}

/// Numbers in place of those of a limit. Name and algorithm stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Numbers {
    /// Tokens per period.
    pub tokens: u64,
    /// Another period. It makes the subject's counters begin anew, those of all limits of the policy, as it does in a policy.
    pub period: Option<Period>,
    /// Tokens that can be saved up, as many as `tokens` if absent. Only for token buckets.
    pub burst: Option<u64>,
}

impl Numbers {
    /// The limit `base` with these numbers.
    ///
    /// # Errors
    ///
    /// What is wrong with them.
    pub fn applied_to(&self, base: &Limit) -> Result<Limit, Vec<LimitError>> {
        Limit::new(LimitSpec {
            name: base.name.to_string(),
            algorithm: base.algorithm,
            limit: self.tokens,
            period: self.period.unwrap_or(base.period),
            burst: self.burst,
        })
    }
}

/// One step from some overrides to others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OverrideChange {
    /// This one is in force, in place of one with the same target.
    Set(Override),
    /// The one with this target is not, if there was one.
    Remove(OverrideTarget),
}

impl OverrideChange {
    /// The target of the override.
    pub fn target(&self) -> &OverrideTarget {
        match self {
            Self::Set(set) => &set.target,
            Self::Remove(target) => target,
        }
    }
}

/// What is wrong with a change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {description}")]
pub struct OverrideFault {
    /// Which of the changes, from 0.
    pub index: usize,
    /// `namespace`, `policy`, `limit`, `key`, `tokens`, `period` or `burst`.
    pub field: &'static str,
    /// What is wrong.
    pub description: String,
}

/// A field of a change and what is wrong with it.
pub(super) type Fault = (&'static str, String);

/// How many limits that several overrides make together are kept for all policies of a set. Callers choose which are met, so one that has as
/// many is due to be [begun anew](super::PolicySet::with_nothing_combined).
pub(super) const MAX_COMBINED: usize = 65_536;

/// Counts what is combined in the policies of a set.
pub(super) type CombinedCount = Arc<AtomicUsize>;

/// The overrides of the policies of a namespace, by the positions of the policies. Copies share what they hold.
#[derive(Clone, Debug, Default)]
pub(super) struct NamespaceOverrides(Arc<[Option<Arc<PolicyOverrides>>]>);

impl NamespaceOverrides {
    /// Those of the policy at a position, if it has any.
    #[inline]
    pub(super) fn of(&self, position: usize) -> Option<&PolicyOverrides> {
        self.0.get(position)?.as_deref()
    }

    /// Makes a change to those of the policy at `position` among `policies`, or tells what is wrong with it.
    pub(super) fn change(
        &mut self,
        policies: &[Policy],
        position: usize,
        change: OverrideChange,
        count: &CombinedCount,
    ) -> Vec<Fault> {
        if self.0.is_empty() {
            self.0 = vec![None; policies.len()].into();
        }
        let policy = &policies[position];
        let place = &mut Arc::make_mut(&mut self.0)[position];
        match change {
            OverrideChange::Set(set) => {
                let overrides =
                    place.get_or_insert_with(|| Arc::new(PolicyOverrides::none_of(policy, count)));
                let faults = overrides.faults(policy, &set);
                if faults.is_empty() {
                    Arc::make_mut(overrides).set(policy, set);
                }
                if !faults.is_empty() && overrides.shapes.is_empty() {
                    *place = None;
                }
                faults
            }
            OverrideChange::Remove(target) => {
                if let Some(overrides) = place {
                    Arc::make_mut(overrides).remove(&target);
                    if overrides.shapes.is_empty() {
                        *place = None;
                    }
                }
                Vec::new()
            }
        }
    }

    /// Forgets what several overrides make together, which is then counted in `count`.
    pub(super) fn begin_anew(&mut self, count: &CombinedCount) {
        if self.0.iter().any(Option::is_some) {
            for overrides in Arc::make_mut(&mut self.0).iter_mut().flatten() {
                Arc::make_mut(overrides).combined = Arc::new(Combined::counted_in(count));
            }
        }
    }

    /// Every override of `policies`.
    pub(super) fn iter<'o>(&'o self, policies: &'o [Policy]) -> impl Iterator<Item = Override> + 'o {
        let with_any = policies.iter().zip(&*self.0).filter_map(|(policy, of)| Some((policy, of.as_ref()?)));
        with_any.flat_map(|(policy, of)| {
            of.shapes
                .iter()
                .flat_map(Shape::entries)
                .flat_map(|(key, entry)| entry.says.overrides(policy, key))
        })
    }

    /// Number of overrides.
    pub(super) fn len(&self) -> usize {
        let shapes = self.0.iter().flatten().flat_map(|of| &of.shapes);
        shapes.map(Shape::overrides_len).sum()
    }
}

/// The numbers of several variants, the most specific first, and the position of a plan.
type Combination = (SmallVec<[u64; 4]>, usize);

/// The overrides of one policy. Copies share what they hold.
#[derive(Clone, Debug)]
pub(super) struct PolicyOverrides {
    known: Arc<KnownLimits>,
    /// The most specific first.
    shapes: Vec<Shape>,
    /// What entries say, each but once.
    variants: Sharded<Arc<Variant>>,
    /// Variants made so far.
    made: u64,
    /// Begun anew with every change, so that it holds nothing of variants that are gone.
    combined: Arc<Combined>,
}

/// Limits that several variants of a policy make together.
#[derive(Debug)]
struct Combined {
    bundles: Grown<Combination, Option<Bundle>>,
    hasher: DefaultHashBuilder,
    /// Those of all policies of the set.
    count: CombinedCount,
}

impl Combined {
    fn counted_in(count: &CombinedCount) -> Self {
        Self { bundles: Grown::default(), hasher: DefaultHashBuilder::default(), count: Arc::clone(count) }
    }
}

impl PolicyOverrides {
    fn none_of(policy: &Policy, count: &CombinedCount) -> Self {
        Self {
            known: Arc::new(KnownLimits::of(policy.tariff.bundles())),
            shapes: Vec::new(),
            variants: Sharded::default(),
            made: 0,
            combined: Arc::new(Combined::counted_in(count)),
        }
    }

    /// The limits of the plan at position `plan` for the subject of a request to which `policy` applies.
    pub(super) fn bundle<'p, A: Attributes + ?Sized>(
        &'p self,
        policy: &'p Policy,
        plan: usize,
        attributes: &A,
    ) -> &'p Bundle {
        let base = &policy.tariff.bundles()[plan];
        if base.unlimited {
            return base;
        }
        let values: SmallVec<[&str; 8]> = policy.key_values(attributes).collect();
        let mut variants = SmallVec::<[&Variant; 4]>::new();
        let mut covered = 0;
        for shapes in self.shapes.chunks(AT_ONCE) {
            let searches: SmallVec<[_; AT_ONCE]> = shapes.iter().map(|shape| shape.search(&values)).collect();
            let found = shapes.iter().zip(searches);
            for Entry { says, .. } in found.filter_map(|(shape, search)| shape.finish(search?, &values)) {
                // One whose limits are all replaced by more specific ones has no say, and makes no combination of its own.
                if says.touches & !covered != 0 {
                    covered |= says.covers;
                    variants.push(says);
                }
            }
        }
        let made = match variants[..] {
            [] => return base,
            [variant] => {
                variant.bundles.get_or_make(&plan, plan as u64, || overridden(policy, base, &variants))
            }
            _ => {
                let numbers: SmallVec<[u64; 4]> = variants.iter().map(|variant| variant.number).collect();
                let Combined { bundles, hasher, count } = &*self.combined;
                let hash = hasher.hash_one((&numbers, plan));
                bundles.get_or_make(&(numbers, plan), hash, || {
                    count.fetch_add(1, Ordering::Relaxed);
                    overridden(policy, base, &variants)
                })
            }
        };
        made.as_ref().unwrap_or(base)
    }

    fn faults(&self, policy: &Policy, set: &Override) -> Vec<Fault> {
        let mut faults = self.known.faults(policy, set);
        let key = &set.target.key;
        if key.len() != policy.key_by.len() {
            let names = policy.key_by.join(", ");
            let description = format!(
                "must have a pattern for each of {} attributes of the key ({names}), has {}",
                policy.key_by.len(),
                key.len()
            );
            faults.push(("key", description));
        } else if self.shapes.len() == MAX_SHAPES && self.position(key).is_err() {
            let description = format!(
                "at most {MAX_SHAPES} shapes of keys in one policy: each way in which attributes are exact, prefixes of some length, or anything"
            );
            faults.push(("key", description));
        }
        faults
    }

    fn set(&mut self, policy: &Policy, set: Override) {
        let Override { target: OverrideTarget { limit, key, .. }, numbers } = set;
        let place = self.position(&key).unwrap_or_else(|place| {
            self.shapes.insert(place, Shape::of(&key));
            place
        });
        let old = self.shapes[place].remove(&key);
        let said = old.as_ref().map_or(&[][..], |old| &old.says.replacements);
        let says = self.variant(entry::with(said, &self.known, policy, &limit, numbers));
        self.shapes[place].insert(&key, says);
        self.combined = Arc::new(Combined::counted_in(&self.combined.count));
    }

    fn remove(&mut self, target: &OverrideTarget) {
        let Ok(place) = self.position(&target.key) else { return };
        let Some(old) = self.shapes[place].remove(&target.key) else { return };
        let rest = entry::without(&old.says.replacements, &target.limit);
        if !rest.is_empty() {
            let says = self.variant(rest);
            self.shapes[place].insert(&target.key, says);
        }
        if self.shapes[place].is_empty() {
            self.shapes.remove(place);
        }
        self.combined = Arc::new(Combined::counted_in(&self.combined.count));
    }

    /// The variant that says this; made if there is none.
    fn variant(&mut self, replacements: Box<[Replacement]>) -> Arc<Variant> {
        let mut hasher = self.variants.hasher();
        replacements.hash(&mut hasher);
        let hash = hasher.finish();
        let there = self.variants.search(hash).finish(|of| of.replacements == replacements);
        if let Some(variant) = there {
            return Arc::clone(variant);
        }
        // Those that nothing but a set of variants holds are of no entry any more.
        self.variants.retain_if_full(|variant| Arc::strong_count(variant) > 1);
        self.made += 1;
        let variant = Arc::new(Variant::new(self.made, replacements, &self.known));
        self.variants.insert(hash, Arc::clone(&variant));
        variant
    }

    /// Where the shape of that key is, or belongs.
    fn position(&self, key: &[Pattern]) -> Result<usize, usize> {
        self.shapes.binary_search_by(|shape| shape.cmp_to(key))
    }
}

/// What `variants`, the most specific first, make of the limits of `base`; nothing if none is meant.
fn overridden(policy: &Policy, base: &Bundle, variants: &[&Variant]) -> Option<Bundle> {
    let mut is_changed = false;
    let limits = base.limits.iter().map(|limit| {
        let limit = &limit.limit;
        let winner = variants.iter().find_map(|variant| variant.numbers(&limit.name, &base.plan));
        winner.map_or_else(
            || limit.clone(),
            |numbers| {
                is_changed = true;
                numbers
                    .applied_to(limit)
                    .expect("it was applied to every limit that it is for when it was set")
            },
        )
    });
    let limits: Vec<_> = limits.collect();
    let plan = || Plan::new(&base.plan, &limits, base.replicas);
    is_changed.then(|| Bundle::new(&policy.namespace, &policy.name, &policy.key_by, &plan()))
}

#[cfg(test)]
mod tests;
