//! Views of use as answers.

use std::cmp::Reverse;

use tidegate_chassis::error::Violations;
use tidegate_proto::ratelimit::v1 as pb;
use tonic::Status;

use super::{error::invalid, parse::is_namespace};
use crate::usage::{
    Counts, KeyAttribute, KeyKind, PolicyCounts, PolicyUse, Seen, TopKey, TopKeys, Usage, Window,
};

const DEFAULT_LIMIT: u32 = 50;
const MAX_KEYS: u32 = 1_000;
const MAX_POLICIES: u32 = 10_000;
const MAX_NAME_BYTES: usize = 128;

/// The heaviest keys, as asked.
///
/// # Errors
///
/// `INVALID_REQUEST` with every wrong field.
pub(super) fn top_keys(
    usage: &Usage,
    request: &pb::ListTopKeysRequest,
) -> Result<pb::ListTopKeysResponse, Status> {
    let mut violations = Violations::default();
    check_names(&request.namespace, &request.policy, &mut violations);
    let kind = match pb::TopKeyKind::try_from(request.kind) {
        Ok(pb::TopKeyKind::Unspecified | pb::TopKeyKind::Hot) => KeyKind::Hot,
        Ok(pb::TopKeyKind::Denied) => KeyKind::Denied,
        Ok(pb::TopKeyKind::NearLimit) => KeyKind::NearLimit,
        Ok(pb::TopKeyKind::ShadowDenied) => KeyKind::ShadowDenied,
        Err(_) => {
            violations.add("kind", format!("is no kind of keys: {}", request.kind));
            KeyKind::Hot
        }
    };
    let window = window(request.window, &mut violations);
    let limit = limit(request.limit, MAX_KEYS, &mut violations);
    if !violations.is_empty() {
        return Err(invalid(violations));
    }
    let found = usage.top_keys(kind, window, limit, asked(&request.namespace, &request.policy));
    Ok(render_keys(&found))
}

/// What policies said, as asked.
///
/// # Errors
///
/// `INVALID_REQUEST` with every wrong field.
pub(super) fn policy_stats(
    usage: &Usage,
    request: &pb::ListPolicyStatsRequest,
) -> Result<pb::ListPolicyStatsResponse, Status> {
    let mut violations = Violations::default();
    check_names(&request.namespace, &request.policy, &mut violations);
    let window = window(request.window, &mut violations);
    let limit = limit(request.limit, MAX_POLICIES, &mut violations);
    let rank: fn(&Counts) -> u64 = match pb::PolicyStatsOrder::try_from(request.order_by) {
        Ok(pb::PolicyStatsOrder::Unspecified | pb::PolicyStatsOrder::Checks) => |counts| counts.checks,
        Ok(pb::PolicyStatsOrder::Denied) => |counts| counts.denied,
        Ok(pb::PolicyStatsOrder::NearLimit) => |counts| counts.near_limit,
        Ok(pb::PolicyStatsOrder::ShadowDenied) => |counts| counts.shadow_denied,
        Err(_) => {
            violations.add("order_by", format!("is no order of policies: {}", request.order_by));
            |counts| counts.checks
        }
    };
    if !violations.is_empty() {
        return Err(invalid(violations));
    }
    let (seen, mut policies, others) = usage.policies(window, asked(&request.namespace, &request.policy));
    let total_policies = u32::try_from(policies.len()).unwrap_or(u32::MAX);
    policies.sort_by(|a, b| {
        let key = |policy: &PolicyUse| Reverse(rank(&policy.counts.in_window));
        (key(a), &a.namespace, &a.name).cmp(&(key(b), &b.namespace, &b.name))
    });
    policies.truncate(limit);
    Ok(pb::ListPolicyStatsResponse {
        replica: Some(replica(&seen)),
        policies: policies
            .iter()
            .map(|policy| stats(&policy.namespace, &policy.name, &policy.counts))
            .collect(),
        others: Some(stats("", "", &others)),
        total_policies,
    })
}

fn check_names(namespace: &str, policy: &str, violations: &mut Violations) {
    if !is_namespace(namespace) {
        violations.add("namespace", format!("must be at most {MAX_NAME_BYTES} of A-Z a-z 0-9 . _ / -"));
    }
    if policy.len() > MAX_NAME_BYTES {
        violations.add("policy", format!("must be at most {MAX_NAME_BYTES} bytes, is {}", policy.len()));
    }
}

fn window(window: i32, violations: &mut Violations) -> Window {
    match pb::UsageWindow::try_from(window) {
        Ok(pb::UsageWindow::Unspecified | pb::UsageWindow::Recent) => Window::Recent,
        Ok(pb::UsageWindow::Hour) => Window::Hour,
        Err(_) => {
            violations.add("window", format!("is no window: {window}"));
            Window::Recent
        }
    }
}

fn limit(limit: u32, most: u32, violations: &mut Violations) -> usize {
    if limit > most {
        violations.add("limit", format!("must be at most {most}, is {limit}"));
    }
    let limit = if limit == 0 { DEFAULT_LIMIT } else { limit };
    usize::try_from(limit).expect("at most 10,000, or not used")
}

/// Whether a policy is among those asked for.
fn asked(namespace: &str, policy: &str) -> impl Fn(&str, &str) -> bool {
    move |of, name| (namespace.is_empty() || namespace == of) && (policy.is_empty() || policy == name)
}

fn render_keys(found: &TopKeys) -> pb::ListTopKeysResponse {
    pb::ListTopKeysResponse {
        replica: Some(replica(&found.seen)),
        keys: found.keys.iter().map(|key| render_key(key, found.total)).collect(),
        total: found.total,
        unlisted_at_most: found.unlisted_at_most,
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share is shown with a few digits")]
fn render_key(key: &TopKey, total: u64) -> pb::TopKey {
    let attributes = key.subject.attributes.iter();
    pb::TopKey {
        namespace: key.subject.namespace.as_ref().to_owned(),
        policy: key.subject.policy.as_ref().to_owned(),
        attributes: attributes
            .map(|KeyAttribute { name, value, is_cut }| pb::KeyAttribute {
                name: name.as_ref().to_owned(),
                value: value.as_ref().to_owned(),
                cut: *is_cut,
            })
            .collect(),
        count: key.count,
        overcount: key.over,
        standard_error: key.variance.isqrt(),
        share: (key.count as f64 / total.max(1) as f64).min(1.0),
    }
}

fn replica(seen: &Seen) -> pb::ReplicaView {
    pb::ReplicaView {
        instance_id: seen.instance.to_vec().into(),
        started_at_ms: seen.started_us / 1_000,
        window_start_ms: seen.since_us / 1_000,
        at_ms: seen.at_us / 1_000,
    }
}

fn stats(namespace: &str, policy: &str, counts: &PolicyCounts) -> pb::PolicyStats {
    pb::PolicyStats {
        namespace: namespace.to_owned(),
        policy: policy.to_owned(),
        since_start: Some(render_counts(&counts.since_start)),
        in_window: Some(render_counts(&counts.in_window)),
    }
}

fn render_counts(counts: &Counts) -> pb::CheckCounts {
    pb::CheckCounts {
        checks: counts.checks,
        admitted: counts.admitted,
        denied: counts.denied,
        near_limit: counts.near_limit,
        shadow_denied: counts.shadow_denied,
    }
}
