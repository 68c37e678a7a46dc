//! The routes, one file per resource. Each handler stands beside its description, so the OpenAPI
//! document cannot know other paths than the router.

pub(crate) mod check;
mod entries;
mod etag;
mod health;
mod leases;
mod organizations;
mod overrides;
mod plans;
mod policies;
mod problems;
mod query;
pub(crate) mod times;
mod usage;

use axum::{
    body::Body,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::Value;
use tonic::Status;
use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    app::App,
    body::{BodyLimits, read_json},
    edge::RequestContext,
    problem::{Problem, ProblemDocument, Violations, from_status},
};

/// Every route.
#[must_use]
pub(crate) fn all() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(check::check))
        .routes(routes!(check::check_batch))
        .routes(routes!(leases::acquire))
        .routes(routes!(leases::renew))
        .routes(routes!(leases::release))
        .routes(routes!(organizations::usage))
        .routes(routes!(organizations::reset))
        .routes(routes!(organizations::overrides::set, organizations::overrides::delete))
        .routes(routes!(usage::top_keys))
        .routes(routes!(usage::policies))
        .routes(routes!(policies::list, policies::create))
        .routes(routes!(policies::get, policies::update, policies::delete))
        .routes(routes!(policies::versions))
        .routes(routes!(policies::rollback))
        .routes(routes!(plans::list, plans::create))
        .routes(routes!(plans::get, plans::update, plans::delete))
        .routes(routes!(overrides::list, overrides::set))
        .routes(routes!(overrides::delete))
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(document))
}

/// The OpenAPI 3.1 document, as `/openapi.json` serves it.
#[must_use]
pub fn openapi() -> String {
    let document = all().to_openapi();
    document.to_pretty_json().expect("an OpenAPI document has string keys only")
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tidegate",
        description = "The REST front of Tidegate, a control plane for APIs. Every error is an \
            `application/problem+json` document (RFC 9457). Every answer carries `X-Request-Id`; \
            a caller may choose it (at most 128 of `A-Z a-z 0-9 . _ -`).",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    components(schemas(ProblemDocument)),
    tags(
        (name = "check", description = "May this request go on?"),
        (name = "leases", description = "How many at once: places that are taken, held and given back"),
        (name = "organizations", description = "What one organization may do, and has done"),
        (name = "usage", description = "Who asks, who is denied, and what the policies say"),
        (name = "policies", description = "What is limited, for whom, and by how much"),
        (name = "health", description = "Is the gateway well?")
    )
)]
struct Description;

/// This document
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "health",
    responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json"))
)]
async fn document(State(app): State<App>) -> Response {
    let json = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, json)], app.shared.openapi.clone()).into_response()
}

/// An answer of 200 with `value` as its body.
fn json(value: &impl Serialize) -> Result<Response, Box<Problem>> {
    let body = serde_json::to_vec(value).map_err(|error| {
        tracing::error!(%error, "an answer could not be written as JSON");
        Box::new(Problem::internal())
    })?;
    let mut response = Response::new(Body::from(body));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    Ok(response)
}

async fn read_body(app: &App, request: Request, violations: &mut Violations) -> Result<Value, Box<Problem>> {
    let limits = &app.shared.config.limits;
    let limits = BodyLimits { bytes: limits.body_bytes, timeout: limits.body_timeout.get() };
    read_json(request, limits, violations).await
}

/// An outage is counted and shows in the readiness; logged for each call it would flood the log.
fn failed(status: &Status, context: &RequestContext) -> Box<Problem> {
    let problem = from_status(status);
    let (code, message, request_id) = (status.code(), status.message(), context.request_id());
    match problem.status {
        StatusCode::INTERNAL_SERVER_ERROR => tracing::error!(?code, message, request_id, "a call failed"),
        _ => tracing::debug!(?code, message, request_id, "a call failed"),
    }
    Box::new(problem)
}

#[cfg(test)]
mod tests;
