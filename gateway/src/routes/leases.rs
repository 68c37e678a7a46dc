//! Leases of concurrency limits. Their ids are long, and whoever has one can end the lease, so they travel in bodies and not in
//! paths, which are logged.

mod request;
mod schema;

#[cfg(test)]
mod tests;

use axum::{
    extract::{Request, State},
    response::Response,
};
use http::StatusCode;
use serde::Serialize;
use tidegate_proto::ratelimit::v1::{Lease, ReleaseLeaseRequest, RenewLeaseRequest};
use utoipa::ToSchema;

use self::schema::{AcquireBody, ReleaseBody, RenewBody};
use super::{
    check::{
        self,
        answer::{BrokenAnswer, CheckAnswer, LeaseAnswer},
    },
    entries::call,
    json,
    problems::CallProblems,
    query::Parameters,
    read_body,
};
use crate::{
    app::App,
    edge::RequestContext,
    problem::{Problem, ProblemDocument, Violations},
    rate_limit,
    upstream::RateLimitClient,
};

/// Take a lease
///
/// Decides as a check does, of attributes to which a concurrency limit applies, and takes a lease if all limits admit: rates and concurrency
/// together, or nothing. A lease holds `cost` places of every concurrency limit until it is released or expires.
#[utoipa::path(
    post,
    path = "/v1/leases",
    tag = "leases",
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "Used as `idempotency_key` if the body has none")
    ),
    request_body = AcquireBody,
    responses(
        (status = 201, description = "Admitted, and `lease` is there", body = CheckAnswer, headers(
            ("X-RateLimit-Limit" = u64, description = "Tokens of the binding limit, of concurrency those held at once"),
            ("X-RateLimit-Remaining" = u64, description = "Tokens left in it"),
            ("X-RateLimit-Reset" = u64, description = "When it is wholly unused again, in Unix seconds"),
            ("RateLimit-Policy" = String, description = "Every limit: `\"jobs/running\";q=20;qu=\"concurrent-requests\"`"),
            ("RateLimit" = String, description = "The binding limit: `\"jobs/running\";r=7;t=30`")
        )),
        (status = 200, description = "Admitted without a lease: nothing limits the caller, or the store is gone and the failure mode is \
            `open`", body = CheckAnswer),
        (status = 404, description = "No such namespace, or no concurrency limit applies; `lease_not_found`: the lease that the \
            idempotency key took before has ended", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 422, description = "The idempotency key was used for another check",
            body = ProblemDocument, content_type = "application/problem+json"),
        (status = 429, description = "Denied", body = ProblemDocument, content_type = "application/problem+json", headers(
            ("X-RateLimit-Limit" = u64, description = "Tokens of the binding limit, of concurrency those held at once"),
            ("X-RateLimit-Remaining" = u64, description = "Tokens left in it"),
            ("X-RateLimit-Reset" = u64, description = "When it is wholly unused again, in Unix seconds"),
            ("RateLimit-Policy" = String, description = "Every limit"),
            ("RateLimit" = String, description = "The binding limit"),
            ("Retry-After" = u64, description = "Whole seconds, at least 1; sooner if a lease is released")
        )),
        CallProblems
    )
)]
pub(crate) async fn acquire(
    State(app): State<App>,
    context: RequestContext,
    request: Request,
) -> Result<Response, Box<Problem>> {
    let mut violations = Violations::default();
    Parameters::of(request.uri(), &mut violations).finish(&mut violations);
    let key = check::idempotency_key(request.headers(), &mut violations);
    let body = read_body(&app, request, &mut violations).await?;
    let asked = request::acquire(body, key.as_ref(), violations)?;
    let send = |mut client: RateLimitClient, asked| async move { client.acquire_lease(asked).await };
    let decision = call(&app, &context, "", asked, send).await?.result;
    let decision = decision.ok_or_else(|| check::broken(&BrokenAnswer("it has no result"), &context))?;
    let now_us = app.shared.clock.now_us();
    if !decision.allowed {
        return Err(Box::new(rate_limit::denied(&decision, now_us)));
    }
    let answer = CheckAnswer::new(&decision, now_us).map_err(|error| check::broken(&error, &context))?;
    let mut response = json(&answer)?;
    if decision.lease.is_some() {
        *response.status_mut() = StatusCode::CREATED;
    }
    rate_limit::write_headers(response.headers_mut(), &decision, now_us);
    Ok(response)
}

/// Let a lease last longer
///
/// Counted from now. A lease that has ended stays so (`lease_not_found`): whoever held it must stop. If the store cannot be reached, nobody
/// knows whether it was renewed, and it expires when it would have; renewing again is safe.
#[utoipa::path(
    post,
    path = "/v1/leases:renew",
    tag = "leases",
    request_body = RenewBody,
    responses(
        (status = 200, description = "The lease, with the same id", body = RenewAnswer),
        (status = 404, description = "It has expired, was released or was cleared",
            body = ProblemDocument, content_type = "application/problem+json"),
        CallProblems
    )
)]
pub(crate) async fn renew(
    State(app): State<App>,
    context: RequestContext,
    request: Request,
) -> Result<Response, Box<Problem>> {
    let mut violations = Violations::default();
    Parameters::of(request.uri(), &mut violations).finish(&mut violations);
    let body = read_body(&app, request, &mut violations).await?;
    let (lease_id, ttl_ms) = request::renew(body, violations)?;
    let asked = RenewLeaseRequest { lease_id, ttl_ms };
    let send = |mut client: RateLimitClient, asked| async move { client.renew_lease(asked).await };
    let lease: Option<Lease> = call(&app, &context, "", asked, send).await?.lease;
    let lease = lease.ok_or_else(|| check::broken(&BrokenAnswer("it has no lease"), &context))?;
    json(&RenewAnswer { lease: LeaseAnswer::new(&lease) })
}

/// Give a lease back
///
/// At once. Releasing a lease that has ended succeeds and frees nothing. If the store cannot be reached, the lease expires by
/// itself.
#[utoipa::path(
    post,
    path = "/v1/leases:release",
    tag = "leases",
    request_body = ReleaseBody,
    responses(
        (status = 200, description = "Whether it was held until now", body = ReleaseAnswer),
        CallProblems
    )
)]
pub(crate) async fn release(
    State(app): State<App>,
    context: RequestContext,
    request: Request,
) -> Result<Response, Box<Problem>> {
    let mut violations = Violations::default();
    Parameters::of(request.uri(), &mut violations).finish(&mut violations);
    let body = read_body(&app, request, &mut violations).await?;
    let lease_id = request::release(body, violations)?;
    let send = |mut client: RateLimitClient, asked| async move { client.release_lease(asked).await };
    let released = call(&app, &context, "", ReleaseLeaseRequest { lease_id }, send).await?.released;
    json(&ReleaseAnswer { released })
}

/// The lease that was renewed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LeaseRenewed)]
struct RenewAnswer {
    /// With the same id.
    lease: LeaseAnswer,
}

/// What came of a release.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LeaseReleased)]
struct ReleaseAnswer {
    /// Whether it was held until now; if not, it had ended before.
    released: bool,
}
