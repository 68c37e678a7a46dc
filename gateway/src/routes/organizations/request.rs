//! Whose limits are meant, and which.

use serde_json::{Map, Value};
use tidegate_proto::ratelimit::v1::{get_usage_request, reset_request};
use utoipa::ToSchema;

use crate::{body::fields::wrong_type, problem::Violations, routes::query::Parameters};

/// The attribute that names an organization in a check.
pub(super) const ORGANIZATION: &str = "organization";
/// The attribute that names its plan.
const PLAN: &str = "plan";
const LONGEST_VALUE: usize = 512;

/// Whose limits, and of which policies.
pub(super) struct Scope {
    /// Empty for the default.
    pub(super) namespace: String,
    attributes: Vec<(&'static str, String)>,
}

impl Scope {
    /// An organization, with what the query says beside it. What does not fit is for the service to refuse, but for the id.
    pub(super) fn of_query(id: &str, parameters: &mut Parameters, violations: &mut Violations) -> Self {
        let namespace = parameters.text("namespace", violations);
        Self::of(id, namespace, parameters.text(PLAN, violations), violations)
    }

    /// An organization, with what the body says beside it.
    pub(super) fn of_body(id: &str, fields: &mut Map<String, Value>, violations: &mut Violations) -> Self {
        let namespace = text("namespace", fields, violations);
        Self::of(id, namespace, text(PLAN, fields, violations), violations)
    }

    fn of(id: &str, namespace: Option<String>, plan: Option<String>, violations: &mut Violations) -> Self {
        check_id(id, violations);
        let plan = plan.map(|plan| (PLAN, plan));
        let attributes = [(ORGANIZATION, id.to_owned())].into_iter().chain(plan).collect();
        Self { namespace: namespace.unwrap_or_default(), attributes }
    }

    pub(super) fn usage_attributes(&self) -> Vec<get_usage_request::AttributesEntry> {
        let entry = |(key, value): &(&str, String)| get_usage_request::AttributesEntry {
            key: (*key).to_owned(),
            value: value.clone(),
        };
        self.attributes.iter().map(entry).collect()
    }

    pub(super) fn reset_attributes(&self) -> Vec<reset_request::AttributesEntry> {
        let entry = |(key, value): &(&str, String)| reset_request::AttributesEntry {
            key: (*key).to_owned(),
            value: value.clone(),
        };
        self.attributes.iter().map(entry).collect()
    }
}

/// Refuses an organization that no check could name.
pub(super) fn check_id(id: &str, violations: &mut Violations) {
    if !(1..=LONGEST_VALUE).contains(&id.len()) {
        violations.add("id", format!("must be 1 to {LONGEST_VALUE} bytes, has {}", id.len()));
    }
}

/// Takes a string, if it is there.
pub(super) fn text(
    name: &str,
    fields: &mut Map<String, Value>,
    violations: &mut Violations,
) -> Option<String> {
    match fields.remove(name)? {
        Value::String(text) => Some(text),
        other => {
            wrong_type(name.to_owned(), "a string", &other, violations);
            None
        }
    }
}

/// What is to be cleared.
#[derive(ToSchema)]
#[schema(as = ResetLimits)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema is used")]
pub(super) struct ResetBody {
    /// The one limit to clear, as `free/minute`; absent means all that apply.
    #[schema(nullable = false, example = "free/minute")]
    limit: Option<String>,
    /// Namespace of the policies; absent means `default`.
    #[schema(nullable = false)]
    namespace: Option<String>,
    /// The organization's plan, as a check would say it.
    #[schema(nullable = false)]
    plan: Option<String>,
}
