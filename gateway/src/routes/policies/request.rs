//! JSON to policies and plans. Types are checked here; what the fields say is checked by the service, as a whole.

use serde_json::Value;
use tidegate_proto::ratelimit::v1::{
    Algorithm, DescriptorLevel, Enforcement, FailureMode, LimitSpec, OnDataLoss, Patterns, Plan, PlanOf,
    Policy, policy::MatchEntry,
};

use super::words::{ALGORITHMS, ENFORCEMENTS, FAILURE_MODES, ON_DATA_LOSS};
use crate::{
    body::fields::{
        Fields, flag, list, number, object, objects, path, text, texts, unknown, word, wrong_type,
    },
    problem::Violations,
};

/// Reads a policy.
pub(in crate::routes) fn policy(body: Value, violations: &mut Violations) -> Policy {
    let mut policy = Policy::default();
    let Some(mut fields) = object(body, "", violations) else { return policy };
    policy.namespace = text(&mut fields, "", "namespace", violations);
    policy.name = text(&mut fields, "", "name", violations);
    policy.r#match = conditions(&mut fields, violations);
    policy.when = text(&mut fields, "", "when", violations);
    policy.key_by = texts(&mut fields, "", "key_by", violations);
    policy.descriptor =
        objects(&mut fields, "descriptor", violations, |at, level, violations| DescriptorLevel {
            key: text(level, at, "key", violations),
            value: text(level, at, "value", violations),
            shared: flag(level, at, "shared", violations),
        });
    policy.replaces = texts(&mut fields, "", "replaces", violations);
    match fields.remove("plan") {
        None => {}
        Some(Value::String(plan)) => policy.plan = plan,
        Some(value @ Value::Object(_)) => {
            policy.plan_of = object(value, "plan", violations).map(|mut of| {
                let plan_of = PlanOf {
                    attribute: text(&mut of, "plan", "attribute", violations),
                    default: text(&mut of, "plan", "default", violations),
                };
                unknown(&of, "plan", violations);
                plan_of
            });
        }
        Some(other) => {
            let wanted = "a string, or an object of attribute and default";
            wrong_type("plan".to_owned(), wanted, &other, violations);
        }
    }
    if let Some(action) = fields.remove("on_limit")
        && let Some(mut action) = object(action, "on_limit", violations)
    {
        policy.upgrade_plan = text(&mut action, "on_limit", "upgrade_plan", violations);
        unknown(&action, "on_limit", violations);
    }
    (policy.limits, policy.unlimited) = limits(&mut fields, violations);
    policy.enforcement =
        word(&mut fields, "", "enforcement", &ENFORCEMENTS, violations).map_or(0, Enforcement::into);
    policy.failure_mode =
        word(&mut fields, "", "failure_mode", &FAILURE_MODES, violations).map_or(0, FailureMode::into);
    policy.on_data_loss =
        word(&mut fields, "", "on_data_loss", &ON_DATA_LOSS, violations).map_or(0, OnDataLoss::into);
    unknown(&fields, "", violations);
    policy
}

/// Reads a plan.
pub(in crate::routes) fn plan(body: Value, violations: &mut Violations) -> Plan {
    let mut plan = Plan::default();
    let Some(mut fields) = object(body, "", violations) else { return plan };
    plan.name = text(&mut fields, "", "name", violations);
    (plan.limits, plan.unlimited) = limits(&mut fields, violations);
    unknown(&fields, "", violations);
    plan
}

fn limits(fields: &mut Fields, violations: &mut Violations) -> (Vec<LimitSpec>, bool) {
    let limits = objects(fields, "limits", violations, |at, limit, violations| LimitSpec {
        name: text(limit, at, "name", violations),
        algorithm: word(limit, at, "algorithm", &ALGORITHMS, violations).map_or(0, Algorithm::into),
        limit: number(limit, at, "limit", violations).unwrap_or_default(),
        period: text(limit, at, "period", violations),
        burst: number(limit, at, "burst", violations).unwrap_or_default(),
        rate: text(limit, at, "rate", violations),
        lease: text(limit, at, "lease", violations),
    });
    (limits, flag(fields, "", "unlimited", violations))
}

fn conditions(fields: &mut Fields, violations: &mut Violations) -> Vec<MatchEntry> {
    let Some(value) = fields.remove("match") else { return Vec::new() };
    let conditions = object(value, "match", violations).unwrap_or_default();
    let entry = |(key, value): (String, Value)| {
        let at = path("match", &key);
        let values = match value {
            Value::String(text) => vec![text],
            other => list(other, &at, violations),
        };
        MatchEntry { key, value: Some(Patterns { values }) }
    };
    conditions.into_iter().map(entry).collect()
}
