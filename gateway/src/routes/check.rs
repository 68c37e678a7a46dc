//! The check: may this request go on?

pub(crate) mod answer;
pub(super) mod request;
mod schema;

#[cfg(test)]
mod tests;

use axum::{
    extract::{Request, State},
    response::Response,
};
use http::{HeaderMap, HeaderValue, Uri};

use self::{
    answer::{BatchAnswer, BrokenAnswer, CheckAnswer, knows_key},
    request::IDEMPOTENCY_KEY,
    schema::{BatchBody, CheckBody},
};
use super::{failed, json, problems::CallProblems, query::Parameters, read_body};
use crate::{
    app::App,
    edge::RequestContext,
    problem::{Problem, ProblemDocument, Violations},
    rate_limit,
};

/// Decide one request
///
/// Against every limit of every matching policy, together: it is admitted by all of them and charged
/// to all of them, or charged to none. A denial is a 200 with `allowed: false`, unless `enforce=true`.
#[utoipa::path(
    post,
    path = "/v1/check",
    tag = "check",
    params(
        ("enforce" = Option<bool>, Query, description = "Answer a denial by 429 (or 503 if the limits \
            cannot be checked) instead of a 200 with `allowed: false`"),
        ("Idempotency-Key" = Option<String>, Header, description = "Used as `idempotency_key` if the \
            body has none")
    ),
    request_body = CheckBody,
    responses(
        (status = 200, description = "The decision", body = CheckAnswer, headers(
            ("X-RateLimit-Limit" = u64, description = "Tokens per period of the binding limit"),
            ("X-RateLimit-Remaining" = u64, description = "Tokens left in it"),
            ("X-RateLimit-Reset" = u64, description = "When it is wholly unused again, in Unix seconds"),
            ("RateLimit-Policy" = String, description = "Every limit: `\"free/minute\";q=10;w=60, …`"),
            ("RateLimit" = String, description = "The binding limit: `\"free/minute\";r=7;t=42`"),
            ("Retry-After" = u64, description = "Denials only: whole seconds, at least 1")
        )),
        (status = 404, description = "No such namespace",
            body = ProblemDocument, content_type = "application/problem+json"),
        (status = 422, description = "The idempotency key was used for another check",
            body = ProblemDocument, content_type = "application/problem+json"),
        (status = 429, description = "Denied, with `enforce=true`; or an anonymous caller is over its limit",
            body = ProblemDocument, content_type = "application/problem+json", headers(
            ("X-RateLimit-Limit" = u64, description = "Tokens per period of the binding limit"),
            ("X-RateLimit-Remaining" = u64, description = "Tokens left in it"),
            ("X-RateLimit-Reset" = u64, description = "When it is wholly unused again, in Unix seconds"),
            ("RateLimit-Policy" = String, description = "Every limit"),
            ("RateLimit" = String, description = "The binding limit"),
            ("Retry-After" = u64, description = "Whole seconds, at least 1")
        )),
        CallProblems
    )
)]
pub(crate) async fn check(
    State(app): State<App>,
    context: RequestContext,
    request: Request,
) -> Result<Response, Box<Problem>> {
    let mut violations = Violations::default();
    let enforce = read_enforce(request.uri(), &mut violations);
    let key = idempotency_key(request.headers(), &mut violations);
    let body = read_body(&app, request, &mut violations).await?;
    let check = request::one(body, key.as_ref(), violations)?;
    let names_key = !check.api_key.is_empty();
    let decision = app.ratelimit.check(check, &context, app.shared.config.upstreams.deadline.get()).await;
    let decision = decision.map_err(|status| failed(&status, &context))?;
    knows_key(names_key, &decision).map_err(|error| broken(&error, &context))?;
    let now_us = app.shared.clock.now_us();
    if enforce && !decision.allowed {
        return Err(Box::new(rate_limit::denied(&decision, now_us)));
    }
    let answer = CheckAnswer::new(&decision, now_us).map_err(|error| broken(&error, &context))?;
    let mut response = json(&answer)?;
    rate_limit::write_headers(response.headers_mut(), &decision, now_us);
    Ok(response)
}

/// Decide up to 100 requests
///
/// Each on its own; the answers keep the order of the checks. All fields are validated before
/// anything is charged, and one wrong field refuses the batch. A check that is well formed but cannot
/// be decided (an unknown namespace, say) has an `error` in its place and does not spoil the others.
#[utoipa::path(
    post,
    path = "/v1/check:batch",
    tag = "check",
    request_body = BatchBody,
    responses(
        (status = 200, description = "The decisions, in order", body = BatchAnswer),
        (status = 429, description = "An anonymous caller is over its limit",
            body = ProblemDocument, content_type = "application/problem+json"),
        CallProblems
    )
)]
pub(crate) async fn check_batch(
    State(app): State<App>,
    context: RequestContext,
    request: Request,
) -> Result<Response, Box<Problem>> {
    let mut violations = Violations::default();
    Parameters::of(request.uri(), &mut violations).finish(&mut violations);
    let key = idempotency_key(request.headers(), &mut violations);
    let body = read_body(&app, request, &mut violations).await?;
    let batch = request::batch(body, key.as_ref(), violations)?;
    let names_key: Vec<_> = batch.checks.iter().map(|check| !check.api_key.is_empty()).collect();
    let decisions = app.ratelimit.check_batch(batch, &context).await;
    let decisions = decisions.map_err(|status| failed(&status, &context))?;
    let answer = BatchAnswer::new(&decisions, &names_key, app.shared.clock.now_us());
    json(&answer.map_err(|error| broken(&error, &context))?)
}

/// The value of `Idempotency-Key`.
pub(super) fn idempotency_key(headers: &HeaderMap, violations: &mut Violations) -> Option<HeaderValue> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let key = values.next().cloned();
    if values.next().is_some() {
        violations.add(IDEMPOTENCY_KEY, "is given more than once");
    }
    key
}

fn read_enforce(uri: &Uri, violations: &mut Violations) -> bool {
    let mut parameters = Parameters::of(uri, violations);
    let enforce = parameters.boolean("enforce", violations);
    parameters.finish(violations);
    enforce.unwrap_or(false)
}

/// The service has answered what a decision cannot be.
pub(super) fn broken(error: &BrokenAnswer, context: &RequestContext) -> Box<Problem> {
    tracing::error!(%error, request_id = context.request_id(), "a decision could not be passed on");
    Box::new(Problem::internal())
}
