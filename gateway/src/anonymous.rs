//! The limit for callers without credentials, by address, decided by the rate-limit service. And
//! who may call the rest: until there is identity, only this machine.

use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode, header};
use tidegate_proto::ratelimit::v1::{CheckRequest, check_request::AttributesEntry};

use crate::{
    app::App,
    edge::{RequestContext, Route},
    metrics::AnonymousOutcome,
    problem::{BEARER, Problem},
    rate_limit,
};

/// Namespace of the policies that limit the gateway's own callers.
const NAMESPACE: &str = "gateway";
/// The `route` of a path that there is not.
const UNMATCHED: &str = "unmatched";
/// Never limited: whoever watches the gateway must not be turned away.
const EXEMPT: [&str; 3] = ["/health/live", "/health/ready", "/openapi.json"];
/// Routes that are open to callers on this machine only begin with this.
const LOCAL_ONLY: &str = "/v1/";

/// Stands before every route, unknown paths included.
pub(crate) async fn guard(
    State(app): State<App>,
    path: Option<MatchedPath>,
    context: RequestContext,
    request: Request,
    next: Next,
) -> Response {
    let route = path.as_ref().map_or(UNMATCHED, MatchedPath::as_str);
    let mut response = admit(&app, route, &context, request, next).await;
    response.extensions_mut().insert(Route(route.into()));
    response
}

async fn admit(app: &App, route: &str, context: &RequestContext, request: Request, next: Next) -> Response {
    let is_local_only = route.starts_with(LOCAL_ONLY);
    if EXEMPT.contains(&route) || (is_local_only && context.client.is_local) {
        return next.run(request).await;
    }
    let limit_headers = match limit(app, route, context).await {
        Ok(headers) => headers,
        Err(denied) => return denied.into_response(),
    };
    let mut response =
        if is_local_only { unauthenticated().into_response() } else { next.run(request).await };
    add_missing(&mut response, limit_headers);
    response
}

/// The headers of the limit, or the denial. Fails open: an outage of the limits must not take
/// everything else with it.
async fn limit(app: &App, route: &str, context: &RequestContext) -> Result<HeaderMap, Box<Problem>> {
    let mut headers = HeaderMap::new();
    let config = &app.shared.config.anonymous;
    if !config.enabled {
        return Ok(headers);
    }
    let attribute = |key: &str, value: String| AttributesEntry { key: key.to_owned(), value };
    let check = CheckRequest {
        namespace: NAMESPACE.to_owned(),
        attributes: vec![attribute("ip", context.client.key()), attribute("route", route.to_owned())],
        ..CheckRequest::default()
    };
    let decision = app.ratelimit.check(check, context, config.deadline.get()).await;
    let now_us = app.shared.clock.now_us();
    match decision {
        Ok(decision) if decision.allowed => {
            app.shared.metrics.anonymous(AnonymousOutcome::Allowed);
            rate_limit::write_headers(&mut headers, &decision, now_us);
            Ok(headers)
        }
        Ok(decision) => {
            app.shared.metrics.anonymous(AnonymousOutcome::Denied);
            Err(Box::new(rate_limit::denied(&decision, now_us)))
        }
        Err(status) => {
            app.shared.metrics.anonymous(AnonymousOutcome::FailedOpen);
            tracing::debug!(error = ?status, "an anonymous caller could not be limited");
            Ok(headers)
        }
    }
}

fn unauthenticated() -> Problem {
    Problem::new(
        StatusCode::UNAUTHORIZED,
        "unauthenticated",
        "Until identity exists, this call is open on loopback only: to callers on this machine, by the \
         name localhost or a loopback address",
    )
    .with_header(header::WWW_AUTHENTICATE, BEARER)
}

fn add_missing(response: &mut Response, headers: HeaderMap) {
    for (name, value) in headers {
        if let Some(name) = name {
            response.headers_mut().entry(name).or_insert(value);
        }
    }
}

#[cfg(test)]
mod tests;
