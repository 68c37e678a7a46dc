//! What one organization may do, and has done.

pub(super) mod overrides;
mod request;
pub(super) mod tenants;

#[cfg(test)]
mod tests;

use axum::{
    extract::{Path, Request, State},
    response::Response,
};
use serde::Serialize;
use tidegate_proto::ratelimit::v1::{GetUsageRequest, LimitUsage, ResetRequest};
use utoipa::ToSchema;

use self::request::{ResetBody, Scope};
use super::{
    check::answer::{algorithm, period_seconds, reset as reset_at},
    failed, json,
    problems::CallProblems,
    query::Parameters,
    read_body,
};
use crate::{
    app::App,
    body::fields::{object, unknown},
    edge::RequestContext,
    problem::{Problem, ProblemDocument, Violations},
};

/// Show the limits of an organization with their use
///
/// Every limit of every policy of the namespace that applies to a request of which nothing is known but the organization and,
/// if it is given, the plan. Nothing is charged.
#[utoipa::path(
    get,
    path = "/v1/organizations/{id}/limits",
    tag = "organizations",
    params(
        ("id" = String, Path, description = "The organization, 1 to 512 bytes"),
        ("namespace" = Option<String>, Query, description = "Namespace of the policies; `default` if absent"),
        ("plan" = Option<String>, Query, description = "The organization's plan, as a check would say it; absent \
            means the one assigned to it, or the default")
    ),
    responses(
        (status = 200, description = "The limits, in the order of policies", body = UsageAnswer),
        (status = 404, description = "No such namespace",
            body = ProblemDocument, content_type = "application/problem+json"),
        (status = 429, description = "An anonymous caller is over its limit",
            body = ProblemDocument, content_type = "application/problem+json"),
        CallProblems
    )
)]
pub(crate) async fn usage(
    State(app): State<App>,
    context: RequestContext,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Box<Problem>> {
    let mut violations = Violations::default();
    let mut parameters = Parameters::of(request.uri(), &mut violations);
    let scope = Scope::of_query(&id, &mut parameters, &mut violations);
    parameters.finish(&mut violations);
    violations.into_result()?;
    let asked = GetUsageRequest {
        namespace: scope.namespace.clone(),
        attributes: scope.usage_attributes(),
        ..GetUsageRequest::default()
    };
    let usage = app.ratelimit.get_usage(asked, &context).await;
    let usage = usage.map_err(|status| failed(&status, &context))?;
    let now_us = app.shared.clock.now_us();
    let limits = usage.limits.iter().map(|limit| LimitUsageAnswer::new(limit, now_us)).collect();
    json(&UsageAnswer { organization: id, limits })
}

/// Clear what an organization has used
///
/// Of every limit that applies, or of the one that is named.
#[utoipa::path(
    post,
    path = "/v1/organizations/{id}/limits:reset",
    tag = "organizations",
    params(("id" = String, Path, description = "The organization, 1 to 512 bytes")),
    request_body = ResetBody,
    responses(
        (status = 200, description = "What was cleared", body = ResetAnswer),
        (status = 404, description = "No such namespace, or no such limit applies",
            body = ProblemDocument, content_type = "application/problem+json"),
        (status = 429, description = "An anonymous caller is over its limit",
            body = ProblemDocument, content_type = "application/problem+json"),
        CallProblems
    )
)]
pub(crate) async fn reset(
    State(app): State<App>,
    context: RequestContext,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Box<Problem>> {
    let mut violations = Violations::default();
    Parameters::of(request.uri(), &mut violations).finish(&mut violations);
    let body = read_body(&app, request, &mut violations).await?;
    let mut asked = ResetRequest::default();
    if let Some(mut fields) = object(body, "", &mut violations) {
        let scope = Scope::of_body(&id, &mut fields, &mut violations);
        asked = ResetRequest {
            limit: request::text("limit", &mut fields, &mut violations).unwrap_or_default(),
            attributes: scope.reset_attributes(),
            namespace: scope.namespace,
            ..ResetRequest::default()
        };
        unknown(&fields, "", &mut violations);
    }
    violations.into_result()?;
    let cleared = app.ratelimit.reset(asked, &context).await;
    let cleared = cleared.map_err(|status| failed(&status, &context))?;
    json(&ResetAnswer { organization: id, limits: cleared.limits })
}

/// The limits of an organization.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OrganizationLimits)]
struct UsageAnswer {
    /// The organization.
    #[schema(example = "acme")]
    organization: String,
    /// Every limit that applies; empty if nothing limits it.
    limits: Vec<LimitUsageAnswer>,
}

/// One limit, and its use.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LimitUsage)]
struct LimitUsageAnswer {
    /// `plan/limit` or `policy/limit`.
    #[schema(example = "free/minute")]
    name: String,
    /// How it counts, as `sliding_window`.
    #[schema(example = "sliding_window")]
    algorithm: &'static str,
    /// Tokens per period.
    limit: u64,
    /// Tokens in use now.
    used: u64,
    /// Tokens left now.
    remaining: u64,
    /// The most that can be in use at once: the burst of a token bucket, else `limit`.
    capacity: u64,
    /// When the limit is wholly unused again if nothing more is charged, in Unix seconds.
    reset: u64,
    /// Length of the period; a fraction only if it is not whole seconds.
    #[schema(value_type = f64, example = 60)]
    period_seconds: serde_json::Number,
    /// Present and true if the limit only reports and never denies.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    shadow: bool,
}

impl LimitUsageAnswer {
    fn new(limit: &LimitUsage, now_us: u64) -> Self {
        Self {
            name: limit.name.clone(),
            algorithm: algorithm(limit.algorithm()),
            limit: limit.limit,
            used: limit.used,
            remaining: limit.remaining,
            capacity: limit.capacity,
            reset: reset_at(now_us, limit.reset_after_ms),
            period_seconds: period_seconds(limit.period_ms),
            shadow: limit.shadow,
        }
    }
}

/// What was cleared.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LimitsReset)]
struct ResetAnswer {
    /// The organization.
    #[schema(example = "acme")]
    organization: String,
    /// Names of the limits that were cleared.
    limits: Vec<String>,
}
