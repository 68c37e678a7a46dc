//! The counts of policies as metrics.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::MetricType,
};

use super::{Counts, Usage, Window};

/// Both labels of the policies that are not told apart; no policy can be called so.
const OTHERS: &str = "(other)";

type Read = fn(&Counts) -> u64;

/// Labels are names of policies and namespaces from the configuration, a bounded number of them. What comes with requests is
/// none.
#[derive(Debug)]
pub(super) struct UsageCollector(pub(super) Usage);

impl UsageCollector {
    /// What was counted of each policy that is told apart, and of all others together.
    fn rows(&self) -> Vec<([(&'static str, String); 2], Counts)> {
        let (_, policies, others) = self.0.policies(Window::Recent, |_, _| true);
        let labels = |namespace: &str, policy: &str| {
            [("namespace", namespace.to_owned()), ("policy", policy.to_owned())]
        };
        let mut rest = others.since_start;
        let mut rows = Vec::new();
        for (index, policy) in policies.iter().enumerate() {
            if index < self.0.0.labelled {
                rows.push((labels(&policy.namespace, &policy.name), policy.counts.since_start));
            } else {
                rest += policy.counts.since_start;
            }
        }
        rows.push((labels(OTHERS, OTHERS), rest));
        rows
    }
}

impl Collector for UsageCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let rows = self.rows();
        let mut checks = encoder.encode_descriptor(
            "tidegate_ratelimit_policy_checks",
            "Checks that a policy applied to, by what became of them: admitted, denied by it, or denied by others only",
            None,
            MetricType::Counter,
        )?;
        for ([namespace, policy], counts) in &rows {
            for (outcome, count) in [
                ("admitted", counts.admitted),
                ("denied", counts.denied),
                ("denied_elsewhere", counts.denied_elsewhere()),
            ] {
                let outcome = ("outcome", outcome.to_owned());
                checks
                    .encode_family(&[namespace.clone(), policy.clone(), outcome])?
                    .encode_counter::<NoLabelSet, _, u64>(&count, None)?;
            }
        }
        let of: [(&str, &str, Read); 2] = [
            (
                "tidegate_ratelimit_policy_near_limit",
                "Checks admitted that left less than usage.near_percent of a limit of the policy",
                |counts| counts.near_limit,
            ),
            (
                "tidegate_ratelimit_policy_shadow_denied",
                "Checks admitted that the policy would have denied were it not in shadow",
                |counts| counts.shadow_denied,
            ),
        ];
        for (name, help, count) in of {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (labels, counts) in &rows {
                family.encode_family(labels)?.encode_counter::<NoLabelSet, _, u64>(&count(counts), None)?;
            }
        }
        Ok(())
    }
}
