//! Policies.

pub(super) mod answer;
pub(super) mod request;
mod words;

#[cfg(test)]
mod tests;

use axum::{
    extract::{Path, Request, State},
    response::Response,
};
use http::StatusCode;
use serde::Serialize;
use tidegate_proto::ratelimit::v1::{
    CreatePolicyRequest, DeletePolicyRequest, GetPolicyRequest, ListPoliciesRequest,
    ListPolicyVersionsRequest, Policy, RollbackPolicyRequest, UpdatePolicyRequest,
};
use utoipa::ToSchema;

use self::answer::{PolicyAnswer, PolicyBody, VersionAnswer};
use super::{
    entries::{self, call, gone, merged, not_found},
    etag, json,
    problems::CallProblems,
    query::Parameters,
    read_body,
};
use crate::{
    app::App,
    body::fields::{number, object, unknown},
    edge::RequestContext,
    problem::{Problem, ProblemDocument, Violations},
    upstream::RateLimitClient,
};

/// The field of requests that holds the policy.
const ENTRY: &str = "policy";

/// List policies
///
/// Those in force by namespace and name, wherever they come from, those that are off included.
#[utoipa::path(
    get,
    path = "/v1/policies",
    tag = "policies",
    params(
        ("namespace" = Option<String>, Query, description = "Only those of this namespace"),
        ("page_size" = Option<u32>, Query, description = "At most so many, up to 100; absent or 0 means 50"),
        ("page_token" = Option<String>, Query, description = "`next_page_token` of the page before")
    ),
    responses((status = 200, description = "One page", body = PoliciesAnswer), CallProblems)
)]
pub(crate) async fn list(
    State(app): State<App>,
    context: RequestContext,
    request: Request,
) -> Result<Response, Box<Problem>> {
    let mut violations = Violations::default();
    let mut parameters = Parameters::of(request.uri(), &mut violations);
    let namespace = parameters.text("namespace", &mut violations).unwrap_or_default();
    let (page_size, page_token) = parameters.page(&mut violations);
    parameters.finish(&mut violations);
    violations.into_result()?;
    let asked = ListPoliciesRequest { namespace, page_size, page_token };
    let send = |mut client: RateLimitClient, asked| async move { client.list_policies(asked).await };
    let page = call(&app, &context, "", asked, send).await?;
    let policies = page.policies.iter().map(PolicyAnswer::new).collect();
    json(&PoliciesAnswer { policies, next_page_token: page.next_page_token })
}

/// Create a policy
///
/// It is kept in the database. One of the same name that is built in is covered by it; one of the policy file is in its way.
#[utoipa::path(
    post,
    path = "/v1/policies",
    tag = "policies",
    params(("validate_only" = Option<bool>, Query, description = "Find out only whether it could be created: 200, and \
        nothing changes")),
    request_body = PolicyBody,
    responses(
        (status = 201, description = "The policy", body = PolicyAnswer, headers(("ETag" = String, description = "Its etag"))),
        (status = 200, description = "With `validate_only`: it could be created", body = PolicyAnswer),
        (status = 409, description = "There is one of that name, or no database",
            body = ProblemDocument, content_type = "application/problem+json"),
        CallProblems
    )
)]
pub(crate) async fn create(
    State(app): State<App>,
    context: RequestContext,
    request: Request,
) -> Result<Response, Box<Problem>> {
    let mut violations = Violations::default();
    let validate_only = validate_only(&request, &mut violations);
    let body = read_body(&app, request, &mut violations).await?;
    let policy = request::policy(body, &mut violations);
    violations.into_result()?;
    let asked = CreatePolicyRequest { policy: Some(policy), validate_only };
    let send = |mut client: RateLimitClient, asked| async move { client.create_policy(asked).await };
    let created = call(&app, &context, ENTRY, asked, send).await?;
    let status = if validate_only { StatusCode::OK } else { StatusCode::CREATED };
    shown(status, created.policy)
}

/// Show a policy
#[utoipa::path(
    get,
    path = "/v1/policies/{id}",
    tag = "policies",
    params(
        ("id" = String, Path, description = "`namespace:name`, percent-encoded"),
        ("version" = Option<u64>, Query, description = "That version, be it still in force or not")
    ),
    responses(
        (status = 200, description = "The policy", body = PolicyAnswer, headers(("ETag" = String, description = "Its etag"))),
        (status = 404, description = "No such policy, or no such version",
            body = ProblemDocument, content_type = "application/problem+json"),
        CallProblems
    )
)]
pub(crate) async fn get(
    State(app): State<App>,
    context: RequestContext,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Box<Problem>> {
    let mut violations = Violations::default();
    let mut parameters = Parameters::of(request.uri(), &mut violations);
    let version = parameters.number("version", &mut violations).unwrap_or_default();
    parameters.finish(&mut violations);
    violations.into_result()?;
    shown(StatusCode::OK, current(&app, &context, &id, version).await?)
}

/// Change a policy
///
/// Fields of the body take the place of those of the policy, each as a whole; null takes one away. The policy that comes of it is
/// checked as a whole, and is not changed if it changed meanwhile. Limits that are lowered keep what was counted.
#[utoipa::path(
    patch,
    path = "/v1/policies/{id}",
    tag = "policies",
    params(
        ("id" = String, Path, description = "`namespace:name`, percent-encoded"),
        ("If-Match" = Option<String>, Header, description = "The etag that it must have"),
        ("validate_only" = Option<bool>, Query, description = "Find out only whether it could be changed")
    ),
    request_body = PolicyBody,
    responses(
        (status = 200, description = "The policy as it is now", body = PolicyAnswer,
            headers(("ETag" = String, description = "Its etag"))),
        (status = 404, description = "No such policy",
            body = ProblemDocument, content_type = "application/problem+json"),
        (status = 409, description = "It is built in or of the policy file, or there is no database",
            body = ProblemDocument, content_type = "application/problem+json"),
        (status = 412, description = "It has changed since the etag was given out",
            body = ProblemDocument, content_type = "application/problem+json"),
        CallProblems
    )
)]
pub(crate) async fn update(
    State(app): State<App>,
    context: RequestContext,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Box<Problem>> {
    let mut violations = Violations::default();
    let validate_only = validate_only(&request, &mut violations);
    let asked_etag = etag::asked(request.headers(), &mut violations);
    let patch = read_body(&app, request, &mut violations).await?;
    let before = current(&app, &context, &id, 0).await?.unwrap_or_default();
    let body = merged(&PolicyBody::new(&before), patch, &["namespace", "name"], &mut violations);
    let policy = request::policy(body, &mut violations);
    violations.into_result()?;
    let known = before.meta.unwrap_or_default().etag;
    let etag = if asked_etag.is_empty() { known } else { asked_etag };
    let asked = UpdatePolicyRequest { policy: Some(policy), etag, validate_only };
    let send = |mut client: RateLimitClient, asked| async move { client.update_policy(asked).await };
    shown(StatusCode::OK, call(&app, &context, ENTRY, asked, send).await?.policy)
}

/// Delete a policy
///
/// One of the same name that is built in is in force again. Its versions stay.
#[utoipa::path(
    delete,
    path = "/v1/policies/{id}",
    tag = "policies",
    params(
        ("id" = String, Path, description = "`namespace:name`, percent-encoded"),
        ("If-Match" = Option<String>, Header, description = "The etag that it must have"),
        ("validate_only" = Option<bool>, Query, description = "Find out only whether it could be deleted")
    ),
    responses(
        (status = 204, description = "It is gone"),
        (status = 404, description = "No such policy",
            body = ProblemDocument, content_type = "application/problem+json"),
        (status = 409, description = "It is built in or of the policy file, it is needed, or there is no database",
            body = ProblemDocument, content_type = "application/problem+json"),
        (status = 412, description = "It has changed since the etag was given out",
            body = ProblemDocument, content_type = "application/problem+json"),
        CallProblems
    )
)]
pub(crate) async fn delete(
    State(app): State<App>,
    context: RequestContext,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Box<Problem>> {
    let mut violations = Violations::default();
    let validate_only = validate_only(&request, &mut violations);
    let etag = etag::asked(request.headers(), &mut violations);
    violations.into_result()?;
    let (namespace, name) = parts(&id)?;
    let asked = DeletePolicyRequest { namespace, name, etag, validate_only };
    let send = |mut client: RateLimitClient, asked| async move { client.delete_policy(asked).await };
    call(&app, &context, "", asked, send).await?;
    Ok(gone())
}

/// List the versions of a policy
///
/// The newest first, be the policy still there or not.
#[utoipa::path(
    get,
    path = "/v1/policies/{id}/versions",
    tag = "policies",
    params(
        ("id" = String, Path, description = "`namespace:name`, percent-encoded"),
        ("page_size" = Option<u32>, Query, description = "At most so many, up to 100; absent or 0 means 50"),
        ("page_token" = Option<String>, Query, description = "`next_page_token` of the page before")
    ),
    responses(
        (status = 200, description = "One page", body = VersionsAnswer),
        (status = 404, description = "The database never had such a policy",
            body = ProblemDocument, content_type = "application/problem+json"),
        CallProblems
    )
)]
pub(crate) async fn versions(
    State(app): State<App>,
    context: RequestContext,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Box<Problem>> {
    let mut violations = Violations::default();
    let mut parameters = Parameters::of(request.uri(), &mut violations);
    let (page_size, page_token) = parameters.page(&mut violations);
    parameters.finish(&mut violations);
    violations.into_result()?;
    let (namespace, name) = parts(&id)?;
    let asked = ListPolicyVersionsRequest { namespace, name, page_size, page_token };
    let send = |mut client: RateLimitClient, asked| async move { client.list_policy_versions(asked).await };
    let page = call(&app, &context, "", asked, send).await?;
    let versions = page.versions.iter().map(VersionAnswer::new).collect();
    json(&VersionsAnswer { versions, next_page_token: page.next_page_token })
}

/// Roll a policy back
///
/// It becomes what it was in an earlier version, as a new version. One that was deleted is created again.
#[utoipa::path(
    post,
    path = "/v1/policies/{id}/rollback",
    tag = "policies",
    params(
        ("id" = String, Path, description = "`namespace:name`, percent-encoded"),
        ("If-Match" = Option<String>, Header, description = "The etag that it must have"),
        ("validate_only" = Option<bool>, Query, description = "Find out only whether it could be done")
    ),
    request_body = RollbackBody,
    responses(
        (status = 200, description = "The policy as it is now", body = PolicyAnswer,
            headers(("ETag" = String, description = "Its etag"))),
        (status = 404, description = "No such policy, or no such version",
            body = ProblemDocument, content_type = "application/problem+json"),
        (status = 409, description = "There is one of that name in the policy file, or no database",
            body = ProblemDocument, content_type = "application/problem+json"),
        (status = 412, description = "It has changed since the etag was given out",
            body = ProblemDocument, content_type = "application/problem+json"),
        CallProblems
    )
)]
pub(crate) async fn rollback(
    State(app): State<App>,
    context: RequestContext,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Box<Problem>> {
    let mut violations = Violations::default();
    let validate_only = validate_only(&request, &mut violations);
    let etag = etag::asked(request.headers(), &mut violations);
    let body = read_body(&app, request, &mut violations).await?;
    let mut version = None;
    if let Some(mut fields) = object(body, "", &mut violations) {
        if !fields.contains_key("version") {
            violations.add("version", "is required");
        }
        version = number(&mut fields, "", "version", &mut violations);
        unknown(&fields, "", &mut violations);
    }
    violations.into_result()?;
    let (namespace, name) = parts(&id)?;
    let version = version.unwrap_or_default();
    let asked = RollbackPolicyRequest { namespace, name, version, etag, validate_only };
    let send = |mut client: RateLimitClient, asked| async move { client.rollback_policy(asked).await };
    shown(StatusCode::OK, call(&app, &context, ENTRY, asked, send).await?.policy)
}

async fn current(
    app: &App,
    context: &RequestContext,
    id: &str,
    version: u64,
) -> Result<Option<Policy>, Box<Problem>> {
    let (namespace, name) = parts(id)?;
    let asked = GetPolicyRequest { namespace, name, version };
    let send = |mut client: RateLimitClient, asked| async move { client.get_policy(asked).await };
    Ok(call(app, context, "", asked, send).await?.policy)
}

fn shown(status: StatusCode, policy: Option<Policy>) -> Result<Response, Box<Problem>> {
    let policy = policy.unwrap_or_default();
    let etag = policy.meta.as_ref().map_or("", |meta| &meta.etag);
    entries::answer(status, &PolicyAnswer::new(&policy), etag)
}

/// Namespace and name. Neither has a colon in it.
fn parts(id: &str) -> Result<(String, String), Box<Problem>> {
    let (namespace, name) = id.split_once(':').ok_or_else(|| not_found("policy"))?;
    Ok((namespace.to_owned(), name.to_owned()))
}

/// The only parameter of calls that change something.
pub(super) fn validate_only(request: &Request, violations: &mut Violations) -> bool {
    let mut parameters = Parameters::of(request.uri(), violations);
    let validate_only = parameters.boolean("validate_only", violations).unwrap_or_default();
    parameters.finish(violations);
    validate_only
}

/// One page of policies.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Policies)]
struct PoliciesAnswer {
    /// By namespace and name.
    policies: Vec<PolicyAnswer>,
    /// Asks for the next page; empty if this is the last.
    next_page_token: String,
}

/// One page of versions.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PolicyVersions)]
struct VersionsAnswer {
    /// The newest first.
    versions: Vec<VersionAnswer>,
    /// Asks for the next page; empty if this is the last.
    next_page_token: String,
}

/// Which version a policy is to become.
#[derive(ToSchema)]
#[schema(as = RollbackPolicy)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema is used")]
struct RollbackBody {
    /// Its number.
    version: u64,
}
