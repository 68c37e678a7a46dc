//! Policies in a few words each, for `tidegate policies validate` and for logs.

use super::period;
use crate::domain::{Algorithm, Bundle, Condition, Level, Limit, Policy, PolicySet, Rule, Tariff};

/// One policy, every field as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicySummary {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Conditions, as `method = POST, path = /v1/a | /v2/*, when cost > 100`; `-` if there are none.
    pub match_: String,
    /// Attributes of the key; `-` if the namespace is counted together.
    pub key_by: String,
    /// Limits, as `minute 10/1m, day 1000/1d fixed_window`, or where they come from.
    pub limits: String,
    /// `enforce`, `shadow` or `off`.
    pub enforcement: String,
    /// `closed`, `open` or `local`.
    pub failure_mode: String,
}

impl PolicySet {
    /// Every policy, ordered by namespace and name.
    pub fn summary(&self) -> Vec<PolicySummary> {
        let mut namespaces: Vec<_> = self.namespaces().collect();
        namespaces.sort_by_key(|(name, _)| *name);
        let policies = namespaces.into_iter().flat_map(|(_, namespace)| namespace.policies());
        policies.map(PolicySummary::of).collect()
    }
}

impl PolicySummary {
    fn of(policy: &Policy) -> Self {
        let when = policy.when.iter().map(|when| format!("when {}", when.text().trim()));
        Self {
            namespace: policy.namespace.to_string(),
            name: policy.name.to_string(),
            match_: match &policy.descriptor {
                Some(descriptor) => format!("descriptor {}", list(descriptor.iter().map(level), ", ")),
                None => list(policy.conditions.iter().map(condition).chain(when), ", "),
            },
            key_by: list(policy.key_by.iter().map(ToString::to_string), ", "),
            limits: limits(policy),
            enforcement: policy.enforcement.as_str().to_owned(),
            failure_mode: policy.failure_mode.as_str().to_owned(),
        }
    }
}

fn condition(condition: &Condition) -> String {
    format!(
        "{} = {}",
        condition.attribute(),
        list(condition.patterns().iter().map(ToString::to_string), " | ")
    )
}

fn level(level: &Level) -> String {
    let shared = if level.shared { " shared" } else { "" };
    format!("{} = {}{shared}", level.key, level.value.text())
}

fn limits(policy: &Policy) -> String {
    match &policy.tariff {
        Tariff::Fixed(bundle) if bundle.plan == policy.name => bundle_limits(bundle),
        Tariff::Fixed(bundle) => format!("plan {}: {}", bundle.plan, bundle_limits(bundle)),
        Tariff::ByPlan(choice) => {
            let default = &choice.bundles[choice.default];
            format!("plan by {}, else {}: {}", choice.attribute, default.plan, bundle_limits(default))
        }
    }
}

fn bundle_limits(bundle: &Bundle) -> String {
    if bundle.unlimited {
        return "unlimited".to_owned();
    }
    list(bundle.limits.iter().map(|limit| describe(&limit.limit)), ", ")
}

/// A limit in a few words: `minute 10/1m`, with the algorithm unless it is the default.
fn describe(limit: &Limit) -> String {
    let period = period::format(limit.period);
    if let Rule::Concurrency(_) = limit.rule {
        return format!("{} {} at once, leases of {period}", limit.name, limit.limit);
    }
    let mut text = format!("{} {}/{period}", limit.name, limit.limit);
    if limit.algorithm != Algorithm::default() {
        text.push(' ');
        text.push_str(limit.algorithm.as_str());
    }
    if let Rule::TokenBucket(bucket) = limit.rule {
        text.push_str(&format!(" burst {}", bucket.burst));
    }
    text
}

fn list(items: impl Iterator<Item = String>, separator: &str) -> String {
    let items: Vec<_> = items.collect();
    if items.is_empty() { "-".to_owned() } else { items.join(separator) }
}
