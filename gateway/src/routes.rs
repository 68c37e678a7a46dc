//! The routes, one file per resource. Each handler stands beside its description, so the OpenAPI
//! document cannot know other paths than the router.

mod accounts;
mod api_keys;
mod auth;
pub(crate) mod check;
mod entries;
mod etag;
mod form;
mod forward_auth;
mod health;
mod invitations;
mod keys;
mod leaked;
mod leases;
mod members;
mod organizations;
mod overrides;
mod plans;
mod policies;
mod problems;
mod query;
mod service_tokens;
pub(crate) mod times;
mod usage;

use std::sync::LazyLock;

use axum::{
    body::Body,
    extract::{Request, State},
    response::{IntoResponse, Response},
    routing::any,
};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::Value;
use tonic::Status;
use utoipa::{
    Modify, OpenApi,
    openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};
use utoipa_axum::{
    router::{OpenApiRouter, UtoipaMethodRouter},
    routes,
};

use crate::{
    access,
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
        .routes(forward_auth())
        .route(access::FORWARD_AUTH_ROOT, any(forward_auth::ask))
        .route(access::FORWARD_AUTH_BELOW, any(forward_auth::ask))
        .routes(routes!(leases::acquire))
        .routes(routes!(leases::renew))
        .routes(routes!(leases::release))
        .merge(identity())
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

/// Accounts, organizations and API keys, which the keys service knows.
fn identity() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(auth::sign_up))
        .routes(routes!(auth::log_in))
        .routes(routes!(auth::exchange))
        .routes(routes!(auth::refresh))
        .routes(routes!(auth::log_out))
        .routes(routes!(auth::account::me))
        .routes(routes!(auth::account::change_password))
        .routes(routes!(auth::account::reset_password))
        .routes(routes!(auth::account::accept_invitation))
        .routes(routes!(auth::signing_keys::list))
        .routes(routes!(auth::signing_keys::rotate))
        .routes(routes!(organizations::tenants::list, organizations::tenants::create))
        .routes(routes!(organizations::tenants::get, organizations::tenants::update))
        .routes(routes!(members::list, invitations::add_member))
        .routes(routes!(members::update, members::remove))
        .routes(routes!(members::reset_password))
        .routes(routes!(invitations::list, invitations::create))
        .routes(routes!(invitations::delete))
        .routes(routes!(api_keys::list, api_keys::create))
        .routes(routes!(api_keys::get, api_keys::change::update, api_keys::change::delete))
        .routes(routes!(api_keys::change::rotate))
        .routes(routes!(api_keys::change::revoke))
        .routes(routes!(api_keys::usage::show))
        .routes(routes!(api_keys::credits::show, api_keys::credits::grant))
        .routes(routes!(api_keys::import::import))
        .routes(routes!(leaked::report))
        .routes(routes!(service_tokens::list, service_tokens::create))
        .routes(routes!(service_tokens::revoke))
}

/// Described as GET, and served by any method, since some proxies ask by that of the original request.
fn forward_auth() -> UtoipaMethodRouter<App> {
    let (schemas, paths, router) = routes!(forward_auth::ask);
    (schemas, paths, router.fallback(forward_auth::ask))
}

/// The OpenAPI 3.1 document, as `/openapi.json` serves it. It is put together once: that takes a while.
#[must_use]
pub fn openapi() -> String {
    static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
        let document = all().to_openapi();
        document.to_pretty_json().expect("an OpenAPI document has string keys only")
    });
    DOCUMENT.clone()
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
    modifiers(&Bearer),
    security(("bearer" = [])),
    tags(
        (name = "check", description = "May this request go on?"),
        (name = "leases", description = "How many at once: places that are taken, held and given back"),
        (name = "auth", description = "How credentials are had"),
        (name = "organizations", description = "Organizations; what one may do, and has done"),
        (name = "members", description = "Who belongs to an organization, and how one comes to"),
        (name = "api-keys", description = "API keys: made, rotated, revoked, counted"),
        (name = "service-tokens", description = "Tokens by which backends show who they are"),
        (name = "usage", description = "Who asks, who is denied, and what the policies say"),
        (name = "policies", description = "What is limited, for whom, and by how much"),
        (name = "health", description = "Is the gateway well?")
    )
)]
struct Description;

/// A JWT in `Authorization`. What an API key is for, the routes that take one say.
struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let description = "An access token of a login, or a service token. Not needed on loopback while no keys service is configured";
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .bearer_format("JWT")
            .description(Some(description))
            .build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    }
}

/// This document
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "health",
    security(()),
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
