//! The policies of one namespace, and which of them apply to a request.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{
    Bundle, Derivation, Override, OverrideChange, Policy, UnknownPlan,
    derivation::canonical,
    descriptor::Tree,
    matcher::{Attributes, Condition, Index},
    overrides::{CombinedCount, Fault, NamespaceOverrides},
};

/// The policies of one namespace. Copies share what they hold.
#[derive(Clone, Debug)]
pub struct Namespace {
    declared: Arc<Declared>,
    overrides: NamespaceOverrides,
}

/// What stays as it is when an override changes.
#[derive(Debug)]
struct Declared {
    policies: Box<[Policy]>,
    descriptors: Tree,
    settings: NamespaceSettings,
    /// Whether any policy takes the place of others.
    has_replacements: bool,
    /// Absent if every policy is looked at, since there are [few](FEW).
    index: Option<Index>,
}

/// So many policies are looked at sooner than those are found that may apply.
const FEW: usize = 4;

impl Namespace {
    pub(super) fn new(mut policies: Vec<Policy>, settings: NamespaceSettings) -> Self {
        policies.sort_by(|a, b| a.name.cmp(&b.name));
        let declared = Declared {
            descriptors: Tree::new(&policies),
            settings,
            has_replacements: policies.iter().any(|policy| !policy.replaces.is_empty()),
            index: (policies.len() > FEW).then(|| Index::new(&policies)),
            policies: policies.into(),
        };
        Self { declared: Arc::new(declared), overrides: NamespaceOverrides::default() }
    }

    /// What holds for the namespace as a whole.
    #[inline]
    pub fn settings(&self) -> &NamespaceSettings {
        &self.declared.settings
    }

    /// Whether any policy [replaces](Policy::replaces) others.
    #[inline]
    pub fn has_replacements(&self) -> bool {
        self.declared.has_replacements
    }

    /// Whether nothing limits a request with these attributes, whatever the policies say.
    #[inline]
    pub fn exempts<A: Attributes + ?Sized>(&self, attributes: &A) -> bool {
        let exempt = &self.declared.settings.exempt;
        exempt.iter().any(|conditions| conditions.iter().all(|condition| is_exempt(condition, attributes)))
    }

    /// Every policy, those that are off included, in the order of their names.
    pub fn policies(&self) -> &[Policy] {
        &self.declared.policies
    }

    /// The policy of that name.
    pub fn policy(&self, name: &str) -> Option<&Policy> {
        self.position(name).map(|position| &self.declared.policies[position])
    }

    pub(super) fn position(&self, name: &str) -> Option<usize> {
        self.declared.policies.binary_search_by(|policy| (*policy.name).cmp(name)).ok()
    }

    /// Makes a change to the overrides of the policy at a position, or tells what is wrong with it.
    pub(super) fn change(
        &mut self,
        position: usize,
        change: OverrideChange,
        count: &CombinedCount,
    ) -> Vec<Fault> {
        self.overrides.change(&self.declared.policies, position, change, count)
    }

    /// Forgets what several overrides make together, which is then counted in `count`.
    pub(super) fn begin_anew(&mut self, count: &CombinedCount) {
        self.overrides.begin_anew(count);
    }

    /// Every override, in no particular order.
    pub fn overrides(&self) -> impl Iterator<Item = Override> {
        self.overrides.iter(self.policies())
    }

    /// Number of overrides.
    pub fn overrides_len(&self) -> usize {
        self.overrides.len()
    }

    /// Appends every policy that applies to a descriptor of Envoy's protocol with these entries: those that name it, then those that
    /// apply to a check with the entries as its attributes.
    ///
    /// # Errors
    ///
    /// As [`matching`](Self::matching).
    pub fn matching_descriptor<'p, A: Attributes + ?Sized + Sync>(
        &'p self,
        entries: &A,
        cost: u64,
        found: &mut SmallVec<[Match<'p>; 4]>,
    ) -> Result<(), UnknownPlan> {
        for position in self.declared.descriptors.find(entries) {
            found.push(self.found(*position as usize, entries)?);
        }
        let own = found.len();
        self.matching(entries, cost, found)?;
        let derivations = &self.declared.settings.derivations;
        if !derivations.is_empty() {
            // Nothing is derived from entries, and what is called like a derived attribute is none.
            let is_derived = |name: &str| derivations.iter().any(|derivation| *derivation.attribute == *name);
            let mut index = 0;
            found.retain(|found| {
                index += 1;
                index <= own || !found.policy.asks_for(is_derived)
            });
        }
        Ok(())
    }

    /// Appends every policy that applies to a check of `cost`, in the order of names.
    ///
    /// A policy applies if it is not off, all attributes of its key are there, all its conditions hold
    /// and so does its expression. An attribute with an empty value counts as absent; of a repeated name
    /// the last counts.
    ///
    /// # Errors
    ///
    /// [`UnknownPlan`] if a matching policy takes its plan from an attribute that names none. What was
    /// found before stays in `found`.
    pub fn matching<'p, A: Attributes + ?Sized + Sync>(
        &'p self,
        attributes: &A,
        cost: u64,
        found: &mut SmallVec<[Match<'p>; 4]>,
    ) -> Result<(), UnknownPlan> {
        let policies = &self.declared.policies;
        let mut look_at = |position: usize| {
            if policies[position].applies(attributes, cost) {
                found.push(self.found(position, attributes)?);
            }
            Ok(())
        };
        let Some(index) = &self.declared.index else { return (0..policies.len()).try_for_each(look_at) };
        let mut candidates = SmallVec::<[u32; 16]>::new();
        index.candidates(attributes, &mut candidates);
        for position in candidates {
            look_at(position as usize)?;
        }
        Ok(())
    }

    /// A policy that applies, with the limits that it sets.
    #[inline]
    fn found<A: Attributes + ?Sized>(
        &self,
        position: usize,
        attributes: &A,
    ) -> Result<Match<'_>, UnknownPlan> {
        let policy = &self.declared.policies[position];
        let plan = policy.tariff.choose(policy, attributes)?;
        let bundle = match self.overrides.of(position) {
            None => &policy.tariff.bundles()[plan],
            Some(overrides) => overrides.bundle(policy, plan, attributes),
        };
        Ok(Match { policy, bundle })
    }
}

/// A path is held against the condition in the form in which servers read it, and exempts nothing if it has none.
fn is_exempt<A: Attributes + ?Sized>(condition: &Condition, attributes: &A) -> bool {
    match attributes.find(condition.attribute()) {
        Some(path) if path.starts_with('/') => canonical(path).is_some_and(|path| condition.admits(&path)),
        Some(value) => condition.admits(value),
        None => false,
    }
}

/// What holds for a namespace as a whole.
#[derive(Clone, Debug, Default)]
pub struct NamespaceSettings {
    /// Each descriptor of a request of Envoy's protocol is charged by itself, also if another one is over its limit. If not, all are
    /// charged or none.
    pub envoy_compatible: bool,
    /// Only the first descriptor of a request of Envoy's protocol is looked at; the others are admitted by no limit.
    pub first_descriptor_only: bool,
    /// Attributes that are worked out of others, in order.
    pub derivations: Box<[Derivation]>,
    /// Requests that nothing limits: those of which all conditions of one of these hold. None is empty.
    pub exempt: Box<[Box<[Condition]>]>,
}

/// A policy that applies to a check, with the limits it sets for it.
#[derive(Clone, Copy, Debug)]
pub struct Match<'p> {
    /// The policy.
    pub policy: &'p Policy,
    /// The limits: its own or those of the caller's plan.
    pub bundle: &'p Bundle,
}
