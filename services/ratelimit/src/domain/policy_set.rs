//! Every policy in force.

use std::sync::{Arc, atomic::Ordering};

use hashbrown::HashMap;

use super::{
    Names, Namespace, NamespaceSettings, Override, OverrideChange, OverrideFault, Plan, Policy,
    overrides::{CombinedCount, MAX_COMBINED},
};

/// Every policy in force, as one immutable value: a reload makes a new one. Copies share what they hold.
#[derive(Clone, Debug, Default)]
pub struct PolicySet {
    namespaces: Names<Namespace>,
    plans: Vec<Arc<Plan>>,
    version: u64,
    fingerprint: u128,
    /// How often limits were put together of several overrides since that was begun anew.
    combined: CombinedCount,
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
        Self { namespaces: namespaces.into(), plans, version: 1, fingerprint: 0, combined: Arc::default() }
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
        self.namespaces.iter().map(|(_, namespace)| namespace.policies().len()).sum()
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

    /// The same set with overrides put in, taken out, or replaced by others of the same target, in the order of `changes`. What does not change is shared
    /// with this set: a change costs some microseconds, however many overrides there are. A change that is faulty is left out, and told.
    #[must_use]
    pub fn with_overrides(
        &self,
        changes: impl IntoIterator<Item = OverrideChange>,
    ) -> (Self, Vec<OverrideFault>) {
        let mut set = self.clone();
        let mut faults = Vec::new();
        for (index, change) in changes.into_iter().enumerate() {
            let target = change.target();
            let unknown = |field, description| OverrideFault { index, field, description };
            let Some(namespace) = set.namespaces.get_mut(&target.namespace) else {
                let description = format!("no policy is declared in namespace {:?}", target.namespace);
                faults.push(unknown("namespace", description));
                continue;
            };
            let Some(position) = namespace.position(&target.policy) else {
                let description =
                    format!("there is no policy {:?} in namespace {:?}", target.policy, target.namespace);
                faults.push(unknown("policy", description));
                continue;
            };
            let found = namespace.change(position, change, &set.combined);
            faults.extend(found.into_iter().map(|(field, description)| OverrideFault {
                index,
                field,
                description,
            }));
        }
        (set, faults)
    }

    /// Whether so many different overrides met in checks that what they make together takes much memory, some 64 MB.
    #[inline]
    pub fn has_much_combined(&self) -> bool {
        self.combined.load(Ordering::Relaxed) >= MAX_COMBINED
    }

    /// The same set, which has forgotten what overrides make together: that is put together again when it is asked for. Everything else is shared.
    #[must_use]
    pub fn with_nothing_combined(&self) -> Self {
        let mut set = Self { combined: Arc::default(), ..self.clone() };
        let Self { namespaces, combined, .. } = &mut set;
        namespaces.values_mut().for_each(|namespace| namespace.begin_anew(combined));
        set
    }

    /// Every override, in no particular order.
    pub fn overrides(&self) -> impl Iterator<Item = Override> {
        self.namespaces.iter().flat_map(|(_, namespace)| namespace.overrides())
    }

    /// Number of overrides of all policies.
    pub fn overrides_len(&self) -> usize {
        self.namespaces.iter().map(|(_, namespace)| namespace.overrides_len()).sum()
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
