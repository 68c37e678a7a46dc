//! Other numbers for one limit of one organization.

use axum::{
    extract::{Path, Request, State},
    response::Response,
};
use http::StatusCode;
use serde_json::{Map, Value};
use tidegate_proto::ratelimit::v1::{
    DeleteOverrideRequest, Override, SetOverrideRequest, delete_override_request, r#override::KeyEntry,
};
use utoipa::ToSchema;

use super::request::{ORGANIZATION, check_id, text};
use crate::{
    app::App,
    body::fields::{number, object, unknown},
    edge::RequestContext,
    problem::{Problem, ProblemDocument, Violations},
    routes::{
        entries::{self, call, gone},
        etag,
        overrides::OverrideAnswer,
        problems::CallProblems,
        query::Parameters,
        read_body,
    },
    upstream::RateLimitClient,
};

/// The policy that is meant where none is named: the one that is built in.
const NAMESPACE: &str = "default";
const POLICY: &str = "organization";

/// Set a limit of an organization
///
/// An override of the limit for this organization alone, in the database; what it has used stays counted.
#[utoipa::path(
    put,
    path = "/v1/organizations/{id}/limits/{name}",
    tag = "organizations",
    params(
        ("id" = String, Path, description = "The organization, 1 to 512 bytes"),
        ("name" = String, Path, description = "The limit, as `minute`; or with the plan, as `free%2Fminute`: then it counts while the \
            organization is on that plan"),
        ("If-Match" = Option<String>, Header, description = "The etag that it must have")
    ),
    request_body = LimitBody,
    responses(
        (status = 200, description = "The override as it is now", body = OverrideAnswer,
            headers(("ETag" = String, description = "Its etag"))),
        (status = 409, description = "It is of the policy file, or there is no database",
            body = ProblemDocument, content_type = "application/problem+json"),
        (status = 412, description = "It has changed since the etag was given out",
            body = ProblemDocument, content_type = "application/problem+json"),
        CallProblems
    )
)]
pub(crate) async fn set(
    State(app): State<App>,
    context: RequestContext,
    Path((id, name)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Box<Problem>> {
    let mut violations = Violations::default();
    Parameters::of(request.uri(), &mut violations).finish(&mut violations);
    let etag = etag::asked(request.headers(), &mut violations);
    let body = read_body(&app, request, &mut violations).await?;
    check_one(&id, &mut violations);
    let mut numbers = Override::default();
    if let Some(mut fields) = object(body, "", &mut violations) {
        numbers = numbers_of(&mut fields, &mut violations);
        unknown(&fields, "", &mut violations);
    }
    violations.into_result()?;
    let key = vec![KeyEntry { key: ORGANIZATION.to_owned(), value: id }];
    let asked = SetOverrideRequest {
        r#override: Some(Override { limit: name, key, ..numbers }),
        etag,
        validate_only: false,
    };
    let send = |mut client: RateLimitClient, asked| async move { client.set_override(asked).await };
    let set = call(&app, &context, "override", asked, send).await.map_err(in_terms_of_the_path)?;
    let set = set.r#override.unwrap_or_default();
    let etag = set.meta.as_ref().map_or("", |meta| &meta.etag);
    entries::answer(StatusCode::OK, &OverrideAnswer::new(&set), etag)
}

/// Give an organization the limit back that others have
#[utoipa::path(
    delete,
    path = "/v1/organizations/{id}/limits/{name}",
    tag = "organizations",
    params(
        ("id" = String, Path, description = "The organization, 1 to 512 bytes"),
        ("name" = String, Path, description = "The limit, as it was named when it was set"),
        ("namespace" = Option<String>, Query, description = "Namespace of the policy; `default` if absent"),
        ("policy" = Option<String>, Query, description = "The policy; `organization` if absent"),
        ("If-Match" = Option<String>, Header, description = "The etag that it must have")
    ),
    responses(
        (status = 204, description = "It is gone"),
        (status = 404, description = "The organization has no such limit of its own",
            body = ProblemDocument, content_type = "application/problem+json"),
        (status = 409, description = "It is of the policy file, or there is no database",
            body = ProblemDocument, content_type = "application/problem+json"),
        (status = 412, description = "It has changed since the etag was given out",
            body = ProblemDocument, content_type = "application/problem+json"),
        CallProblems
    )
)]
pub(crate) async fn delete(
    State(app): State<App>,
    context: RequestContext,
    Path((id, name)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Box<Problem>> {
    let mut violations = Violations::default();
    let mut parameters = Parameters::of(request.uri(), &mut violations);
    let namespace = parameters.text("namespace", &mut violations);
    let policy = parameters.text("policy", &mut violations);
    parameters.finish(&mut violations);
    let etag = etag::asked(request.headers(), &mut violations);
    check_one(&id, &mut violations);
    violations.into_result()?;
    let asked = DeleteOverrideRequest {
        namespace: namespace.unwrap_or_else(|| NAMESPACE.to_owned()),
        policy: policy.unwrap_or_else(|| POLICY.to_owned()),
        limit: name,
        key: vec![delete_override_request::KeyEntry { key: ORGANIZATION.to_owned(), value: id }],
        etag,
        validate_only: false,
    };
    let send = |mut client: RateLimitClient, asked| async move { client.delete_override(asked).await };
    call(&app, &context, "", asked, send).await.map_err(in_terms_of_the_path)?;
    Ok(gone())
}

/// Refuses what would be for more than one organization.
fn check_one(id: &str, violations: &mut Violations) {
    check_id(id, violations);
    if id.contains('*') {
        violations
            .add("id", "must not contain *, which in an override stands for other organizations as well");
    }
}

fn numbers_of(fields: &mut Map<String, Value>, violations: &mut Violations) -> Override {
    if !fields.contains_key("limit") {
        violations.add("limit", "is required");
    }
    let period = number(fields, "", "period_seconds", violations);
    Override {
        namespace: text("namespace", fields, violations).unwrap_or_else(|| NAMESPACE.to_owned()),
        policy: text("policy", fields, violations).unwrap_or_else(|| POLICY.to_owned()),
        tokens: number(fields, "", "limit", violations).unwrap_or_default(),
        period: period.map(|seconds| format!("{seconds}s")).unwrap_or_default(),
        burst: number(fields, "", "burst", violations).unwrap_or_default(),
        ..Override::default()
    }
}

/// What is wrong with a field of the override is wrong with what it was made of.
fn in_terms_of_the_path(mut problem: Box<Problem>) -> Box<Problem> {
    for violation in &mut problem.violations {
        let field = match &*violation.field {
            "limit" => "name",
            "tokens" => "limit",
            "period" => "period_seconds",
            // The policy has another key.
            "key" => "policy",
            field if field.starts_with("key.") => "id",
            _ => continue,
        };
        field.clone_into(&mut violation.field);
    }
    problem
}

/// Other numbers for a limit.
#[derive(ToSchema)]
#[schema(as = SetOrganizationLimit)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema is used")]
pub(super) struct LimitBody {
    /// Tokens per period.
    #[schema(example = 50)]
    limit: u64,
    /// Another period; absent means that of the limit. With another one the organization's counters of the policy begin anew.
    #[schema(nullable = false, example = 60)]
    period_seconds: Option<u64>,
    /// Token buckets only: the most tokens at once; absent means as many as `limit`.
    #[schema(nullable = false)]
    burst: Option<u64>,
    /// Namespace of the policy; absent means `default`.
    #[schema(nullable = false)]
    namespace: Option<String>,
    /// The policy, whose key is the attribute `organization` alone; absent means `organization`.
    #[schema(nullable = false)]
    policy: Option<String>,
}
