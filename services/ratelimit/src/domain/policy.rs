//! What is limited, for whom, and by how much.

use std::sync::Arc;

use hashbrown::HashMap;
use smallvec::SmallVec;

use super::{
    Bundle, Derivation, Expression, Level, Names, Plan, Tariff, UnknownPlan,
    descriptor::Tree,
    matcher::{Attributes, Condition, Index},
};

/// Every policy in force, as one immutable value: a reload makes a new one.
#[derive(Debug, Default)]
pub struct PolicySet {
    namespaces: Names<Namespace>,
    plans: Vec<Arc<Plan>>,
    version: u64,
    fingerprint: u128,
}

impl PolicySet {
    /// Indexes `policies`; their names differ within a namespace. `plans` are those that can be named,
    /// in the order in which they are to be listed. `settings` are those of namespaces that have any. The version is 1.
    pub fn new(
        policies: impl IntoIterator<Item = Policy>,
        plans: Vec<Arc<Plan>>,
        settings: &HashMap<String, NamespaceSettings>,
    ) -> Self {
        let mut grouped: HashMap<Box<str>, Vec<Policy>> = HashMap::new();
        for policy in policies {
            grouped.entry_ref(&*policy.namespace).or_default().push(policy);
        }
        let namespaces: HashMap<_, _> = grouped
            .into_iter()
            .map(|(name, list)| {
                let settings = settings.get(&*name).cloned().unwrap_or_default();
                (name, Namespace::new(list, settings))
            })
            .collect();
        Self { namespaces: namespaces.into(), plans, version: 1, fingerprint: 0 }
    }

    /// The policies of a namespace, or nothing if none is declared in it.
    #[inline]
    pub fn namespace(&self, name: &str) -> Option<&Namespace> {
        self.namespaces.get(name)
    }

    /// Every namespace with its name, in no particular order.
    pub fn namespaces(&self) -> impl Iterator<Item = (&str, &Namespace)> {
        self.namespaces.iter()
    }

    /// The plans that can be named: the built-in ones first, then in the order of the file.
    pub fn plans(&self) -> &[Arc<Plan>] {
        &self.plans
    }

    /// Number of policies in all namespaces, those that are off included.
    pub fn len(&self) -> usize {
        self.namespaces.iter().map(|(_, namespace)| namespace.policies.len()).sum()
    }

    /// Whether there is no policy at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Counts the sets this process has had: 1 for the first, one more for each that replaced it.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The same set as the `version`-th of this process.
    #[must_use]
    pub fn with_version(self, version: u64) -> Self {
        Self { version, ..self }
    }

    /// Tells the text it was made from: equal for equal texts, on every replica. 0 if it was not made
    /// from one.
    pub fn fingerprint(&self) -> u128 {
        self.fingerprint
    }

    /// The same set as made from a text with this fingerprint.
    #[must_use]
    pub fn with_fingerprint(self, fingerprint: u128) -> Self {
        Self { fingerprint, ..self }
    }
}

/// The policies of one namespace.
#[derive(Debug)]
pub struct Namespace {
    policies: Box<[Policy]>,
    descriptors: Tree,
    settings: NamespaceSettings,
    /// Absent if every policy is looked at, since there are [few](FEW).
    index: Option<Index>,
}

/// So many policies are looked at sooner than those are found that may apply.
const FEW: usize = 4;

impl Namespace {
    fn new(mut policies: Vec<Policy>, settings: NamespaceSettings) -> Self {
        policies.sort_by(|a, b| a.name.cmp(&b.name));
        Self {
            descriptors: Tree::new(&policies),
            settings,
            index: (policies.len() > FEW).then(|| Index::new(&policies)),
            policies: policies.into(),
        }
    }

    /// What holds for the namespace as a whole.
    #[inline]
    pub fn settings(&self) -> &NamespaceSettings {
        &self.settings
    }

    /// Whether nothing limits a request with these attributes, whatever the policies say.
    #[inline]
    pub fn exempts<A: Attributes + ?Sized>(&self, attributes: &A) -> bool {
        let of = |conditions: &[Condition]| conditions.iter().all(|condition| condition.holds(attributes));
        self.settings.exempt.iter().any(|conditions| of(conditions))
    }

    /// Every policy, those that are off included, in the order of their names.
    pub fn policies(&self) -> &[Policy] {
        &self.policies
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
        for position in self.descriptors.find(entries) {
            let policy = &self.policies[*position as usize];
            found.push(Match { policy, bundle: policy.tariff.bundle(policy, entries)? });
        }
        self.matching(entries, cost, found)
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
        let mut look_at = |policy: &'p Policy| {
            if policy.applies(attributes, cost) {
                found.push(Match { policy, bundle: policy.tariff.bundle(policy, attributes)? });
            }
            Ok(())
        };
        let Some(index) = &self.index else { return self.policies.iter().try_for_each(look_at) };
        let mut candidates = SmallVec::<[u32; 16]>::new();
        index.candidates(attributes, &mut candidates);
        for position in candidates {
            look_at(&self.policies[position as usize])?;
        }
        Ok(())
    }
}

/// What holds for a namespace as a whole.
#[derive(Clone, Debug, Default)]
pub struct NamespaceSettings {
    /// Each descriptor of a request of Envoy's protocol is charged by itself, also if another one is over its limit. If not, all are
    /// charged or none.
    pub envoy_compatible: bool,
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

/// One policy.
#[derive(Debug)]
pub struct Policy {
    /// Name, unique within the namespace.
    pub name: Arc<str>,
    /// Where it is declared.
    pub namespace: Arc<str>,
    /// The descriptors that it is for, level by level. If there is one, it applies to requests of Envoy's protocol only, and the key is
    /// made of all values of the descriptor; conditions there are none.
    pub descriptor: Option<Box<[Level]>>,
    /// What must hold of a request, all of it.
    pub conditions: Box<[Condition]>,
    /// What must hold as well; asked last, since it is the dearest.
    pub when: Option<Box<Expression>>,
    /// Attributes whose values make the key that is counted under; all must be there. If there are
    /// none, the whole namespace is counted under one key.
    pub key_by: Box<[Box<str>]>,
    /// Whether it denies.
    pub enforcement: Enforcement,
    /// What it answers when the store is gone.
    pub failure_mode: FailureMode,
    /// Which limits it sets.
    pub tariff: Tariff,
}

impl Policy {
    /// Whether it came with a request, and not from who runs this.
    pub fn is_override(&self) -> bool {
        self.descriptor.as_deref().is_some_and(<[_]>::is_empty)
    }

    /// Whether it is on, every attribute of the key is there, and everything asked of a request holds.
    pub(super) fn applies<A: Attributes + ?Sized + Sync>(&self, attributes: &A, cost: u64) -> bool {
        self.enforcement != Enforcement::Off
            && self.descriptor.is_none()
            && self.key_by.iter().all(|name| attributes.find(name).is_some())
            && self.conditions.iter().all(|condition| condition.holds(attributes))
            && self.when.as_ref().is_none_or(|when| when.holds(attributes, cost))
    }
}

/// Whether a policy denies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Enforcement {
    /// It counts and denies.
    #[default]
    Enforce,
    /// It counts and reports, and never denies.
    Shadow,
    /// It does nothing, as if it were not there.
    Off,
}

impl Enforcement {
    /// Each with the word for it in policy files.
    pub const WORDS: [(&'static str, Self); 3] =
        [("enforce", Self::Enforce), ("shadow", Self::Shadow), ("off", Self::Off)];

    /// The word for it in policy files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Shadow => "shadow",
            Self::Off => "off",
        }
    }
}

/// What a policy answers when the store cannot be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum FailureMode {
    /// Deny.
    #[default]
    Closed,
    /// Admit, uncounted.
    Open,
    /// Count in this replica's own memory against this replica's share of each limit.
    Local,
}

impl FailureMode {
    /// Each with the word for it in policy files.
    pub const WORDS: [(&'static str, Self); 3] =
        [("closed", Self::Closed), ("open", Self::Open), ("local", Self::Local)];

    /// The word for it in policy files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::Local => "local",
        }
    }
}
