//! What several replicas saw, as one.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use tidegate_proto::ratelimit::v1::{
    self as pb, CheckCounts as Counts, ListPolicyStatsResponse, ListTopKeysResponse, PolicyStatsOrder,
};

use super::{
    KeyAttributeAnswer, PoliciesAnswer, PolicyAnswer, PolicyCounts, ReplicaAnswer, TopKeyAnswer,
    TopKeysAnswer,
};

/// Namespace, policy and attributes of a key, each with whether its value goes on.
type KeyName = (String, String, Vec<(String, String, bool)>);

/// What is known of one key.
#[derive(Default)]
struct Known {
    count: u64,
    overcount: u64,
    variance: u64,
    /// What those replicas say at most of keys that they do not list, which list this one.
    listed: u64,
}

/// Adds keys up. Where a replica does not list a key it may still have seen it, as often as it says at most.
pub(super) fn top_keys(answers: Vec<ListTopKeysResponse>, limit: usize, unreachable: usize) -> TopKeysAnswer {
    let (answers, replicas) = once(answers, |answer| answer.replica.as_ref());
    let total: u64 = answers.iter().map(|answer| answer.total).sum();
    let unlisted: u64 = answers.iter().map(|answer| answer.unlisted_at_most).sum();
    let mut known: BTreeMap<KeyName, Known> = BTreeMap::new();
    for answer in answers {
        let mut here = BTreeSet::new();
        for key in answer.keys {
            let attributes = key.attributes.into_iter().map(|of| (of.name, of.value, of.cut));
            let name = (key.namespace, key.policy, attributes.collect());
            let sum = known.entry(name.clone()).or_default();
            sum.count += key.count;
            sum.overcount += key.overcount;
            sum.variance = sum.variance.saturating_add(key.standard_error.saturating_pow(2));
            // Two that differ only in what is cut off are shown as one.
            if here.insert(name) {
                sum.listed += answer.unlisted_at_most;
            }
        }
    }
    let mut keys: Vec<_> = known
        .into_iter()
        .map(|((namespace, policy, attributes), sum)| {
            let unseen = unlisted.saturating_sub(sum.listed);
            let count = sum.count + unseen;
            TopKeyAnswer {
                namespace,
                policy,
                attributes: attributes
                    .into_iter()
                    .map(|(name, value, cut)| KeyAttributeAnswer { name, value, cut })
                    .collect(),
                count,
                overcount: sum.overcount + unseen,
                standard_error: sum.variance.isqrt(),
                share: share(count, total),
            }
        })
        .collect();
    // Stable: equals stay in the order of their names.
    keys.sort_by_key(|key| Reverse(key.count));
    let unlisted_at_most = keys.get(limit).map_or(unlisted, |key| key.count.max(unlisted));
    keys.truncate(limit);
    TopKeysAnswer { keys, total, unlisted_at_most, replicas, unreachable_replicas: unreachable }
}

/// Adds policies up.
pub(super) fn policies(
    answers: Vec<ListPolicyStatsResponse>,
    order: PolicyStatsOrder,
    limit: usize,
    unreachable: usize,
) -> PoliciesAnswer {
    let (answers, replicas) = once(answers, |answer| answer.replica.as_ref());
    let mut known: BTreeMap<(String, String), PolicyCounts> = BTreeMap::new();
    let mut others = PolicyCounts::default();
    for answer in answers {
        for policy in answer.policies {
            known
                .entry((policy.namespace, policy.policy))
                .or_default()
                .add(policy.since_start.as_ref(), policy.in_window.as_ref());
        }
        if let Some(of_others) = answer.others {
            others.add(of_others.since_start.as_ref(), of_others.in_window.as_ref());
        }
    }
    let mut policies: Vec<_> = known
        .into_iter()
        .map(|((namespace, policy), counts)| PolicyAnswer { namespace, policy, counts })
        .collect();
    policies.sort_by_key(|policy| {
        let counts = &policy.counts.in_window;
        Reverse(match order {
            PolicyStatsOrder::Unspecified | PolicyStatsOrder::Checks => counts.checks,
            PolicyStatsOrder::Denied => counts.denied,
            PolicyStatsOrder::NearLimit => counts.near_limit,
            PolicyStatsOrder::ShadowDenied => counts.shadow_denied,
        })
    });
    policies.truncate(limit);
    PoliciesAnswer { policies, others, replicas, unreachable_replicas: unreachable }
}

/// The answers of each replica once: it may be known by several addresses.
fn once<T>(
    answers: Vec<T>,
    replica: impl Fn(&T) -> Option<&pb::ReplicaView>,
) -> (Vec<T>, Vec<ReplicaAnswer>) {
    let mut seen = BTreeSet::new();
    let mut replicas = Vec::new();
    let answers = answers.into_iter().filter(|answer| {
        let Some(view) = replica(answer) else { return true };
        let is_new = seen.insert(view.instance_id.clone());
        if is_new {
            replicas.push(ReplicaAnswer::new(view));
        }
        is_new
    });
    (answers.collect(), replicas)
}

#[expect(clippy::cast_precision_loss, reason = "a share is shown with a few digits")]
fn share(count: u64, total: u64) -> f64 {
    (count as f64 / total.max(1) as f64).min(1.0)
}

impl PolicyCounts {
    fn add(&mut self, since_start: Option<&Counts>, in_window: Option<&Counts>) {
        for (sum, counts) in [(&mut self.since_start, since_start), (&mut self.in_window, in_window)] {
            let counts = counts.copied().unwrap_or_default();
            sum.checks += counts.checks;
            sum.admitted += counts.admitted;
            sum.denied += counts.denied;
            sum.near_limit += counts.near_limit;
            sum.shadow_denied += counts.shadow_denied;
        }
    }
}
