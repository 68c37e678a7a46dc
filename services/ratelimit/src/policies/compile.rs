//! From the file to the policies in force: what its parts say of each other is checked, plans are found
//! by name, keys and layouts are computed.

use std::{
    collections::HashSet,
    sync::{Arc, OnceLock},
};

use super::{
    file::{NamespaceEntry, PlanEntry, PolicyEntry, PolicyFile, TariffEntry},
    overrides,
    reader::Faults,
};
use crate::domain::{Assignments, Bundle, Names, Plan, PlanChoice, PlanNames, Policy, PolicySet, Tariff};

/// The most pairs of a plan and a policy that takes its plan from an attribute: for each the limits and the
/// beginning of the keys are kept ready, some 150 bytes.
const MAX_PAIRS: usize = 1_000_000;

/// Puts `file` on top of what is built in: its plans and policies take the place of built-in ones of the
/// same name. Faults are noted for `file` only, since what is built in has none.
///
/// Gives nothing if there is any fault, be it one that was noted before.
pub(super) fn compile(
    built_in: PolicyFile,
    file: PolicyFile,
    replicas: u32,
    faults: &mut Faults,
) -> Option<PolicySet> {
    check_plan_names(&file.plans, faults);
    check_policy_names(&file.policies, faults);

    let mut plans = built_in.plans;
    let mut names = PlanNames::new();
    for (position, plan) in plans.iter().enumerate() {
        names.insert(sound(plan.name.as_deref()).into(), position);
    }
    for plan in file.plans {
        let Some(name) = plan.name.as_deref() else { continue };
        let position = *names.entry_ref(name).or_insert(plans.len());
        if position == plans.len() {
            plans.push(plan);
        } else {
            plans[position] = plan;
        }
    }
    for policy in &file.policies {
        check_plan_of(policy, &names, faults);
        check_replaces(policy, &file.policies, faults);
        check_upgrade_of(policy, &names, faults);
    }

    let mut policies = file.policies;
    if file.builtin {
        for policy in built_in.policies {
            let taken =
                |other: &PolicyEntry| other.namespace == policy.namespace && other.name == policy.name;
            if !policies.iter().any(taken) {
                policies.push(policy);
            }
        }
    }
    check_pairs(&plans, &policies, faults);
    let mut assignments = Assignments::new();
    for entry in file.assignments {
        let Some(position) = names.get(&*entry.plan) else {
            faults.add(entry.path, unknown_plan(&entry.plan, &names));
            continue;
        };
        assignments.entry_ref(&*entry.attribute).or_default().insert(entry.value.into(), *position);
    }
    check_assignments_are_used(&assignments, &policies, faults);
    check_namespaces_are_used(&file.namespaces, &policies, faults);
    let settings = file.namespaces.into_iter().map(|entry| (entry.name, entry.settings)).collect();

    if !faults.0.is_empty() {
        return None;
    }
    let plans: Vec<_> = plans.iter().map(|plan| Arc::new(build_plan(plan, replicas))).collect();
    let shared =
        Shared { plans: &plans, names: Arc::new(names.into()), assignments: Arc::new(assignments), replicas };
    let policies: Vec<_> = policies.into_iter().map(|policy| shared.build_policy(policy)).collect();
    overrides::apply(PolicySet::new(policies, plans, &settings), file.overrides, faults)
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
fn check_replaces(policy: &PolicyEntry, policies: &[PolicyEntry], faults: &mut Faults) {
    for (index, name) in policy.replaces.iter().enumerate() {
        let mut others = policies.iter().filter(|other| other.path != policy.path);
        let is_there = others.any(|other| {
            other.name.as_ref() == Some(name)
                && other.namespace == policy.namespace
                && other.descriptor.is_some()
        });
        if !is_there {
            let description = format!("there is no other policy {name:?} with a descriptor in its namespace");
            faults.add(format!("{}.replaces[{index}]", policy.path), description);
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

fn check_pairs(plans: &[PlanEntry], policies: &[PolicyEntry], faults: &mut Faults) {
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
fn check_assignments_are_used(assignments: &Assignments, policies: &[PolicyEntry], faults: &mut Faults) {
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

fn check_namespaces_are_used(namespaces: &[NamespaceEntry], policies: &[PolicyEntry], faults: &mut Faults) {
    for NamespaceEntry { path, name, .. } in namespaces {
        if !policies.iter().any(|policy| policy.namespace.as_ref() == Some(name)) {
            faults.add(path, format!("no policy is declared in namespace {name:?}"));
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
    fn build_policy(&self, entry: PolicyEntry) -> Policy {
        let (namespace, name) = (sound(entry.namespace), sound(entry.name));
        let levels = entry.descriptor.iter().flatten().map(|level| level.key.to_string());
        let key_by: Vec<_> = levels.chain(entry.key_by).collect();
        let bundle = |plan: &Plan| Bundle::new(&namespace, &name, &key_by, plan);
        let tariff = match sound(entry.tariff) {
            TariffEntry::Limits(limits) => Tariff::Fixed(bundle(&Plan::new(&name, &limits, self.replicas))),
            TariffEntry::Plan(plan) => Tariff::Fixed(bundle(&self.plans[self.position(&plan)])),
            TariffEntry::PlanOf { attribute, default } => Tariff::ByPlan(PlanChoice {
                attribute: attribute.into(),
                default: self.position(&default),
                bundles: self.plans.iter().map(|plan| bundle(plan)).collect(),
                names: Arc::clone(&self.names),
                assignments: Arc::clone(&self.assignments),
            }),
        };
        Policy {
            name: name.into(),
            namespace: namespace.into(),
            descriptor: entry.descriptor.map(Into::into),
            replaces: entry.replaces.into_iter().map(Into::into).collect(),
            conditions: entry.conditions.into(),
            when: entry.when.map(Box::new),
            key_by: key_by.into_iter().map(Into::into).collect(),
            enforcement: entry.enforcement,
            failure_mode: entry.failure_mode,
            tariff,
            upgrade_plan: entry.upgrade_plan.map(Into::into),
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
