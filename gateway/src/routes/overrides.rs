//! Overrides. What finds one is too long for a path, so it travels in queries and bodies.

mod body;

#[cfg(test)]
mod tests;

use axum::{
    extract::{Request, State},
    response::Response,
};
use serde::Serialize;
use tidegate_proto::ratelimit::v1::{
    DeleteOverrideRequest, ListOverridesRequest, SetOverridesRequest, delete_override_request,
};
use utoipa::ToSchema;

pub(super) use self::body::OverrideAnswer;
use self::body::{OverridesBody, TargetBody};
use super::{
    entries::{call, gone},
    etag, json,
    policies::validate_only,
    problems::CallProblems,
    query::Parameters,
    read_body,
};
use crate::{
    app::App,
    edge::RequestContext,
    problem::{Problem, ProblemDocument, Violations},
    upstream::RateLimitClient,
};

/// List overrides
///
/// By namespace, policy, limit and key, wherever they come from.
#[utoipa::path(
    get,
    path = "/v1/overrides",
    tag = "policies",
    params(
        ("namespace" = Option<String>, Query, description = "Only those of this namespace"),
        ("policy" = Option<String>, Query, description = "Only those of this policy of the namespace"),
        ("page_size" = Option<u32>, Query, description = "At most so many, up to 100; absent or 0 means 50"),
        ("page_token" = Option<String>, Query, description = "`next_page_token` of the page before")
    ),
    responses((status = 200, description = "One page", body = OverridesAnswer), CallProblems)
)]
pub(crate) async fn list(
    State(app): State<App>,
    context: RequestContext,
    request: Request,
) -> Result<Response, Box<Problem>> {
    let mut violations = Violations::default();
    let mut parameters = Parameters::of(request.uri(), &mut violations);
    let namespace = parameters.text("namespace", &mut violations).unwrap_or_default();
    let policy = parameters.text("policy", &mut violations).unwrap_or_default();
    let (page_size, page_token) = parameters.page(&mut violations);
    parameters.finish(&mut violations);
    violations.into_result()?;
    let asked = ListOverridesRequest { namespace, policy, page_size, page_token };
    let send = |mut client: RateLimitClient, asked| async move { client.list_overrides(asked).await };
    let page = call(&app, &context, "", asked, send).await?;
    let overrides = page.overrides.iter().map(OverrideAnswer::new).collect();
    json(&OverridesAnswer { overrides, next_page_token: Some(page.next_page_token) })
}

/// Set overrides
///
/// All of them or none. Each takes the place of the one of the same limit for the same key, if there is one.
#[utoipa::path(
    put,
    path = "/v1/overrides",
    tag = "policies",
    params(("validate_only" = Option<bool>, Query, description = "Find out only whether they could be set")),
    request_body = OverridesBody,
    responses(
        (status = 200, description = "The overrides as they are now, in the order of the request", body = OverridesAnswer),
        (status = 409, description = "One of them is of the policy file, or there is no database",
            body = ProblemDocument, content_type = "application/problem+json"),
        CallProblems
    )
)]
pub(crate) async fn set(
    State(app): State<App>,
    context: RequestContext,
    request: Request,
) -> Result<Response, Box<Problem>> {
    let mut violations = Violations::default();
    let validate_only = validate_only(&request, &mut violations);
    let body = read_body(&app, request, &mut violations).await?;
    let overrides = body::overrides(body, &mut violations);
    violations.into_result()?;
    let asked = SetOverridesRequest { overrides, validate_only };
    let send = |mut client: RateLimitClient, asked| async move { client.set_overrides(asked).await };
    let set = call(&app, &context, "", asked, send).await?;
    let overrides = set.overrides.iter().map(OverrideAnswer::new).collect();
    json(&OverridesAnswer { overrides, next_page_token: None })
}

/// Delete an override
///
/// The limit has its own numbers again, or those of an override that is less specific.
#[utoipa::path(
    post,
    path = "/v1/overrides:delete",
    tag = "policies",
    params(
        ("If-Match" = Option<String>, Header, description = "The etag that it must have"),
        ("validate_only" = Option<bool>, Query, description = "Find out only whether it could be deleted")
    ),
    request_body = TargetBody,
    responses(
        (status = 204, description = "It is gone"),
        (status = 404, description = "No such override",
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
    request: Request,
) -> Result<Response, Box<Problem>> {
    let mut violations = Violations::default();
    let validate_only = validate_only(&request, &mut violations);
    let etag = etag::asked(request.headers(), &mut violations);
    let body = read_body(&app, request, &mut violations).await?;
    let target = body::target(body, &mut violations);
    violations.into_result()?;
    let key = target.key.into_iter();
    let asked = DeleteOverrideRequest {
        namespace: target.namespace,
        policy: target.policy,
        limit: target.limit,
        key: key.map(|of| delete_override_request::KeyEntry { key: of.key, value: of.value }).collect(),
        etag,
        validate_only,
    };
    let send = |mut client: RateLimitClient, asked| async move { client.delete_override(asked).await };
    call(&app, &context, "", asked, send).await?;
    Ok(gone())
}

/// Some overrides.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Overrides)]
struct OverridesAnswer {
    /// The overrides.
    overrides: Vec<OverrideAnswer>,
    /// Of a list: asks for the next page; empty if this is the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    next_page_token: Option<String>,
}
