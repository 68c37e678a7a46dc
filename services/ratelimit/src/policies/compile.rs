//! From entries to the policies in force: what they say of each other is checked, plans are found by name, keys and
//! layouts are computed.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, OnceLock},
};

use super::{
    file::{AssignmentEntry, NamespaceEntry, PlanEntry, PolicyEntry, PolicyFile, TariffEntry},
    overrides::{self, OverrideEntry},
    reader::Faults,
};
use crate::domain::{Assignments, Bundle, Names, Plan, PlanChoice, PlanNames, Policy, PolicySet, Tariff};

/// The most pairs of a plan and a policy that takes its plan from an attribute: for each the limits and the
/// beginning of the keys are kept ready, some 150 bytes.
const MAX_PAIRS: usize = 1_000_000;

/// What one database holds, entry by entry.
#[derive(Default)]
pub(super) struct StoredEntries<'a> {
    pub(super) plans: Vec<&'a PlanEntry>,
    pub(super) policies: Vec<&'a PolicyEntry>,
    pub(super) assignments: Vec<&'a AssignmentEntry>,
    pub(super) overrides: Vec<&'a OverrideEntry>,
}

/// Everything in force, one layer on top of the other: what is built in, what is stored, the file. An entry takes the place of
/// one of the same name in a layer below.
pub(super) struct Merged<'a> {
    built_in: &'a PolicyFile,
    plans: Vec<&'a PlanEntry>,
    names: PlanNames,
    policies: Vec<&'a PolicyEntry>,
    assignments: Assignments,
    namespaces: &'a [NamespaceEntry],
    /// Those that are stored, and those of the file.
    overrides: [Vec<&'a OverrideEntry>; 2],
}

/// Puts the layers on top of each other, and notes what does not fit together. Faults are noted for the file and for what is stored, since
/// what is built in has none. `stored` is absent if there is no database.
pub(super) fn merge<'a>(
    built_in: &'a PolicyFile,
    stored: Option<&StoredEntries<'a>>,
    file: &'a PolicyFile,
    faults: &mut Faults,
) -> Merged<'a> {
    check_plan_names(&file.plans, faults);
    check_policy_names(&file.policies, faults);
    let (plans, names) = merge_plans(built_in, stored, file);
    let policies = merge_policies(built_in, stored, file);
    for policy in &policies {
        check_plan_of(policy, &names, faults);
        check_upgrade_of(policy, &names, faults);
    }
    check_replaces(&policies, faults);
    check_replaces_in_circles(&policies, faults);
    check_pairs(&plans, &policies, faults);
    let mut assignments = Assignments::new();
    let below = stored.iter().flat_map(|stored| stored.assignments.iter().copied());
    for entry in below.chain(&file.assignments) {
        let Some(position) = names.get(&*entry.plan) else {
            faults.add(entry.path.as_str(), unknown_plan(&entry.plan, &names));
            continue;
        };
        assignments.entry_ref(&*entry.attribute).or_default().insert(entry.value.as_str().into(), *position);
    }
    // What a file alone would not mean may well be meant together with policies that come and go.
    if stored.is_none() {
        check_assignments_are_used(&assignments, &policies, faults);
        check_namespaces_are_used(&file.namespaces, &policies, faults);
    }
    let overrides =
        [stored.map(|stored| stored.overrides.clone()).unwrap_or_default(), file.overrides.iter().collect()];
    Merged { built_in, plans, names, policies, assignments, namespaces: &file.namespaces, overrides }
}

/// The first of a name keeps its place in the order.
fn merge_plans<'a>(
    built_in: &'a PolicyFile,
    stored: Option<&StoredEntries<'a>>,
    file: &'a PolicyFile,
) -> (Vec<&'a PlanEntry>, PlanNames) {
    let mut plans: Vec<&PlanEntry> = Vec::new();
    let mut names = PlanNames::new();
    let stored = stored.iter().flat_map(|stored| stored.plans.iter().copied());
    for plan in built_in.plans.iter().chain(stored).chain(&file.plans) {
        let Some(name) = plan.name.as_deref() else { continue };
        let position = *names.entry_ref(name).or_insert(plans.len());
        if position == plans.len() {
            plans.push(plan);
        } else {
            plans[position] = plan;
        }
    }
    (plans, names)
}

fn merge_policies<'a>(
    built_in: &'a PolicyFile,
    stored: Option<&StoredEntries<'a>>,
    file: &'a PolicyFile,
) -> Vec<&'a PolicyEntry> {
    // Those of the file all, also where two have one name: that is told as a fault.
    let mut policies: Vec<&PolicyEntry> = file.policies.iter().collect();
    let name = |policy: &'a PolicyEntry| (policy.namespace.as_deref(), policy.name.as_deref());
    let mut taken: HashSet<_> = policies.iter().map(|policy| name(policy)).collect();
    let stored = stored.iter().flat_map(|stored| stored.policies.iter().copied());
    let built_in = built_in.policies.iter().filter(|_| file.builtin);
    policies.extend(stored.chain(built_in).filter(|policy| taken.insert(name(policy))));
    policies
}

impl Merged<'_> {
    /// The policies in force. Nothing if a fault was noted, or is found in overrides: those are looked at last, and all the same if there
    /// is a fault elsewhere, but for those of policies that have one.
    pub(super) fn build(self, replicas: u32, faults: &mut Faults) -> Option<PolicySet> {
        if faults.0.is_empty() {
            let Self { plans, names, policies, assignments, namespaces, overrides, .. } = self;
            let set = policy_set(&plans, (names, assignments), &policies, namespaces, replicas);
            return overrides::apply(set, &overrides.each_ref().map(|of| &of[..]), faults);
        }
        if self.overrides.iter().any(|of| !of.is_empty()) {
            self.check_overrides(replicas, faults);
        }
        None
    }

    /// Holds overrides against the policies that have no fault.
    fn check_overrides(self, replicas: u32, faults: &mut Faults) {
        let faulty: HashSet<&str> = faults.0.iter().flat_map(|fault| beginnings(&fault.path)).collect();
        if faulty.contains("policies") {
            // There are too many to be built.
            return;
        }
        let plans_are_sound = self.plans.iter().all(|plan| !faulty.contains(&*plan.path));
        let is_sound = |policy: &&PolicyEntry| {
            let is_built_in = || self.built_in.policies.iter().any(|of| std::ptr::eq(of, *policy));
            let has_own_limits = matches!(policy.tariff, Some(TariffEntry::Limits(_)));
            (has_own_limits || plans_are_sound) && (!faulty.contains(&*policy.path) || is_built_in())
        };
        let (sound, left_out): (Vec<_>, Vec<_>) = self.policies.iter().copied().partition(is_sound);
        let left_out: HashSet<_> =
            left_out.iter().map(|policy| (policy.namespace.as_deref(), policy.name.as_deref())).collect();
        let mut overrides = self.overrides;
        for entries in &mut overrides {
            entries.retain(|of| !left_out.contains(&(of.namespace.as_deref(), of.policy.as_deref())));
        }
        let set = policy_set(&self.plans, (self.names, self.assignments), &sound, self.namespaces, replicas);
        overrides::apply(set, &overrides.each_ref().map(|of| &of[..]), faults);
    }
}

/// A path and all that it lies in.
fn beginnings(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('.').map(|(at, _)| &path[..at]).chain([path])
}

fn policy_set(
    plans: &[&PlanEntry],
    (names, assignments): (PlanNames, Assignments),
    policies: &[&PolicyEntry],
    namespaces: &[NamespaceEntry],
    replicas: u32,
) -> PolicySet {
    let settings = namespaces.iter().map(|entry| (entry.name.clone(), entry.settings.clone())).collect();
    let plans: Vec<_> = plans.iter().map(|plan| Arc::new(build_plan(plan, replicas))).collect();
    let (names, assignments) = (Arc::new(names.into()), Arc::new(assignments));
    let shared = Shared { plans: &plans, names, assignments, replicas };
    let policies: Vec<_> = policies.iter().map(|policy| shared.build_policy(policy)).collect();
    PolicySet::new(policies, plans, &settings)
}

fn check_plan_names(plans: &[PlanEntry], faults: &mut Faults) {
    let mut seen = HashSet::new();
    for plan in plans {
        if let Some(name) = plan.name.as_deref().filter(|name| !seen.insert(*name)) {
            faults.add(format!("{}.name", plan.path), format!("there is already a plan {name:?}"));
        }
    }
}

fn check_policy_names(policies: &[PolicyEntry], faults: &mut Faults) {
    let mut seen = HashSet::new();
    for policy in policies {
        let (Some(namespace), Some(name)) = (&policy.namespace, &policy.name) else { continue };
        if !seen.insert((namespace, name)) {
            let description = format!("there is already a policy {name:?} in namespace {namespace:?}");
            faults.add(format!("{}.name", policy.path), description);
        }
    }
}

fn check_plan_of(policy: &PolicyEntry, names: &PlanNames, faults: &mut Faults) {
    let (plan, path) = match &policy.tariff {
        Some(TariffEntry::Plan(plan)) => (plan, format!("{}.plan", policy.path)),
        Some(TariffEntry::PlanOf { default, .. }) => (default, format!("{}.plan.default", policy.path)),
        Some(TariffEntry::Limits(_)) | None => return,
    };
    if !names.contains_key(&**plan) {
        faults.add(path, unknown_plan(plan, names));
    }
}

/// Policies that are replaced must be there, and be for descriptors: a name that means nothing is most likely misspelt.
fn check_replaces(policies: &[&PolicyEntry], faults: &mut Faults) {
    if policies.iter().all(|policy| policy.replaces.is_empty()) {
        return;
    }
    let with_descriptor: HashSet<_> = policies
        .iter()
        .filter(|policy| policy.descriptor.is_some())
        .map(|policy| (policy.namespace.as_deref(), policy.name.as_deref()))
        .collect();
    for policy in policies {
        for (index, name) in policy.replaces.iter().enumerate() {
            let other = (policy.namespace.as_deref(), Some(&**name));
            if policy.name.as_deref() == Some(&**name) || !with_descriptor.contains(&other) {
                let description =
                    format!("there is no other policy {name:?} with a descriptor in its namespace");
                faults.add(format!("{}.replaces[{index}]", policy.path), description);
            }
        }
    }
}

/// Where policies take the place of each other none is left.
fn check_replaces_in_circles(policies: &[&PolicyEntry], faults: &mut Faults) {
    let of = |policy: &PolicyEntry, name: &str| Some((policy.namespace.clone()?, name.to_owned()));
    let replacing = policies.iter().filter(|policy| !policy.replaces.is_empty());
    let replacing: HashMap<_, _> =
        replacing.filter_map(|policy| Some((of(policy, policy.name.as_deref()?)?, policy))).collect();
    for policy in policies {
        let Some(own) = policy.name.as_deref() else { continue };
        for (index, name) in policy.replaces.iter().enumerate() {
            let (mut seen, mut ahead) = (HashSet::new(), vec![name.as_str()]);
            while let Some(next) = ahead.pop().filter(|next| *next != own) {
                let further =
                    of(policy, next).and_then(|key| replacing.get(&key)).filter(|_| seen.insert(next));
                ahead.extend(further.iter().flat_map(|further| &further.replaces).map(String::as_str));
                if ahead.contains(&own) {
                    let description =
                        format!("{name:?} takes the place of {own:?} in turn, so neither would apply");
                    faults.add(format!("{}.replaces[{index}]", policy.path), description);
                    break;
                }
            }
        }
    }
}

fn check_upgrade_of(policy: &PolicyEntry, names: &PlanNames, faults: &mut Faults) {
    let Some(plan) = &policy.upgrade_plan else { return };
    let path = format!("{}.on_limit.upgrade_plan", policy.path);
    if !matches!(policy.tariff, None | Some(TariffEntry::PlanOf { .. })) {
        faults.add(path, "is only for a policy that takes its plan from an attribute");
    } else if !names.contains_key(&**plan) {
        faults.add(path, unknown_plan(plan, names));
    }
}

fn check_pairs(plans: &[&PlanEntry], policies: &[&PolicyEntry], faults: &mut Faults) {
    let takers = policies.iter().filter(|policy| matches!(policy.tariff, Some(TariffEntry::PlanOf { .. })));
    let takers = takers.count();
    if takers.saturating_mul(plans.len()) > MAX_PAIRS {
        let description = format!(
            "at most {MAX_PAIRS} pairs of a plan and a policy that takes its plan from an attribute, are {takers} × {}",
            plans.len()
        );
        faults.add("policies", description);
    }
}

/// An assignment that no policy looks at is most likely a misspelt attribute.
fn check_assignments_are_used(assignments: &Assignments, policies: &[&PolicyEntry], faults: &mut Faults) {
    let keyed: HashSet<_> = policies
        .iter()
        .filter(|policy| matches!(policy.tariff, Some(TariffEntry::PlanOf { .. })))
        .flat_map(|policy| {
            let levels = policy.descriptor.iter().flatten().map(|level| &*level.key);
            levels.chain(policy.key_by.iter().map(String::as_str))
        })
        .collect();
    let mut unused: Vec<_> = assignments.keys().filter(|attribute| !keyed.contains(&***attribute)).collect();
    unused.sort();
    for attribute in unused {
        faults.add(
            format!("assignments.{attribute}"),
            format!("no policy that takes its plan from an attribute has {attribute:?} in key_by"),
        );
    }
}

fn check_namespaces_are_used(namespaces: &[NamespaceEntry], policies: &[&PolicyEntry], faults: &mut Faults) {
    let used: HashSet<_> = policies.iter().filter_map(|policy| policy.namespace.as_deref()).collect();
    for NamespaceEntry { path, name, .. } in namespaces {
        if !used.contains(&**name) {
            faults.add(path.as_str(), format!("no policy is declared in namespace {name:?}"));
        }
    }
}

fn unknown_plan(plan: &str, names: &PlanNames) -> String {
    let mut known: Vec<_> = names.keys().map(|name| &**name).collect();
    known.sort_unstable();
    format!("there is no plan {plan:?}; plans are {}", known.join(", "))
}

fn build_plan(entry: &PlanEntry, replicas: u32) -> Plan {
    Plan::new(sound(entry.name.as_deref()), &entry.limits, replicas)
}

/// What all policies of a set have in common.
struct Shared<'a> {
    plans: &'a [Arc<Plan>],
    names: Arc<Names<usize>>,
    assignments: Arc<Assignments>,
    replicas: u32,
}

impl Shared<'_> {
    fn build_policy(&self, entry: &PolicyEntry) -> Policy {
        let (namespace, name) = (sound(entry.namespace.as_deref()), sound(entry.name.as_deref()));
        let levels = entry.descriptor.iter().flatten().map(|level| &*level.key);
        let key_by: Vec<_> = levels.chain(entry.key_by.iter().map(String::as_str)).collect();
        let bundle = |plan: &Plan| Bundle::new(namespace, name, &key_by, plan);
        let tariff = match sound(entry.tariff.as_ref()) {
            TariffEntry::Limits(limits) => Tariff::Fixed(bundle(&Plan::new(name, limits, self.replicas))),
            TariffEntry::Plan(plan) => Tariff::Fixed(bundle(&self.plans[self.position(plan)])),
            TariffEntry::PlanOf { attribute, default } => Tariff::ByPlan(PlanChoice {
                attribute: attribute.as_str().into(),
                default: self.position(default),
                bundles: self.plans.iter().map(|plan| bundle(plan)).collect(),
                names: Arc::clone(&self.names),
                assignments: Arc::clone(&self.assignments),
            }),
        };
        Policy {
            name: name.into(),
            namespace: namespace.into(),
            descriptor: entry.descriptor.clone().map(Into::into),
            replaces: entry.replaces.iter().map(|name| name.as_str().into()).collect(),
            conditions: entry.conditions.clone().into(),
            when: entry.when.clone(),
            key_by: key_by.into_iter().map(Into::into).collect(),
            enforcement: entry.enforcement,
            failure_mode: entry.failure_mode,
            on_data_loss: entry.on_data_loss,
            tariff,
            upgrade_plan: entry.upgrade_plan.as_deref().map(Into::into),
            subject: None,
            usage_place: OnceLock::new(),
        }
    }

    fn position(&self, plan: &str) -> usize {
        self.names.get(plan).copied().expect("every plan that is named was looked up when faults were sought")
    }
}

fn sound<T>(field: Option<T>) -> T {
    field.expect("a field is absent only with a fault, and a file with a fault is not built")
}
