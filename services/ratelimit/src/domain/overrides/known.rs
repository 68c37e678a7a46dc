//! What of a policy can be overridden.

use std::sync::Arc;

use hashbrown::HashMap;

use super::{Fault, Override};
use crate::domain::{Bundle, Limit, LimitError, Policy, Tariff};

/// The limits that the plans of a policy have, by name.
#[derive(Debug)]
pub(super) struct KnownLimits(HashMap<Arc<str>, Known>);

#[derive(Debug)]
struct Known {
    /// Bit in sets of names; those beyond share the last.
    bit: u64,
    /// One for each algorithm and period that plans have it with: numbers that fit these fit all.
    forms: Vec<Limit>,
}

/// Stands for all names that have no bit of their own.
const OTHERS: u64 = 1 << 63;

impl KnownLimits {
    pub(super) fn of(bundles: &[Bundle]) -> Self {
        let mut known: HashMap<Arc<str>, Known> = HashMap::new();
        for limit in bundles.iter().flat_map(|bundle| bundle.limits.iter()).map(|limit| &limit.limit) {
            let bit =
                u32::try_from(known.len()).ok().and_then(|place| 1_u64.checked_shl(place)).unwrap_or(OTHERS);
            let of = known.entry(Arc::clone(&limit.name)).or_insert_with(|| Known { bit, forms: Vec::new() });
            let is_known = |form: &Limit| (form.algorithm, form.period) == (limit.algorithm, limit.period);
            if !of.forms.iter().any(is_known) {
                of.forms.push(limit.clone());
            }
        }
        Self(known)
    }

    /// The limit's name as plans share it, and the sets of names that an override of it touches, and covers whatever the plan is.
    pub(super) fn name(&self, name: &str) -> Option<(&Arc<str>, u64, u64)> {
        let (name, known) = self.0.get_key_value(name)?;
        Some((name, known.bit, known.bit & !OTHERS))
    }

    /// What is wrong with the limit that an override names, or with its numbers.
    pub(super) fn faults(&self, policy: &Policy, set: &Override) -> Vec<Fault> {
        let forms = match split(&set.target.limit) {
            (None, name) => match self.0.get(name) {
                Some(known) => &known.forms[..],
                None => {
                    let known = sorted(self.0.keys());
                    let description =
                        format!("no plan of policy {:?} has a limit {name:?}; {known}", policy.name);
                    return vec![("limit", description)];
                }
            },
            (Some(plan), name) => {
                let Some(bundle) = bundle_of(&policy.tariff, plan) else {
                    return vec![("limit", format!("policy {:?} has no plan {plan:?}", policy.name))];
                };
                match bundle.limits.iter().find(|limit| *limit.limit.name == *name) {
                    Some(limit) => std::slice::from_ref(&limit.limit),
                    None => {
                        let known = sorted(bundle.limits.iter().map(|limit| &limit.limit.name));
                        return vec![("limit", format!("plan {plan:?} has no limit {name:?}; {known}"))];
                    }
                }
            }
        };
        let mut faults: Vec<Fault> = Vec::new();
        for LimitError { field, description } in
            forms.iter().filter_map(|form| set.numbers.applied_to(form).err()).flatten()
        {
            let fault = (if field == "limit" { "tokens" } else { field }, description);
            if !faults.contains(&fault) {
                faults.push(fault);
            }
        }
        faults
    }
}

/// The limits of a plan, if the policy can choose it.
pub(super) fn bundle_of<'p>(tariff: &'p Tariff, plan: &str) -> Option<&'p Bundle> {
    match tariff {
        Tariff::Fixed(bundle) => Some(bundle).filter(|bundle| *bundle.plan == *plan),
        Tariff::ByPlan(choice) => choice.names.get(plan).map(|position| &choice.bundles[*position]),
    }
}

/// The plan, if the name of a limit has one, and the name within it.
pub(super) fn split(limit: &str) -> (Option<&str>, &str) {
    limit.split_once('/').map_or((None, limit), |(plan, name)| (Some(plan), name))
}

fn sorted<'n>(names: impl Iterator<Item = &'n Arc<str>>) -> String {
    let mut names: Vec<_> = names.map(|name| &**name).collect();
    names.sort_unstable();
    if names.is_empty() { "it has none".to_owned() } else { format!("limits are {}", names.join(", ")) }
}
