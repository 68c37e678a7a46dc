//! What stands before every route: the limit for callers without credentials, by address, decided by the rate-limit service.
//! Which callers those are, `access` says.

use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::HeaderMap;
use tidegate_proto::ratelimit::v1::{CheckRequest, check_request::AttributesEntry};

use crate::{
    access::{self, Admission},
    app::App,
    edge::{RequestContext, Route, Speaker},
    metrics::AnonymousOutcome,
    problem::Problem,
    rate_limit,
};

/// Namespace of the policies that limit the gateway's own callers.
const NAMESPACE: &str = "gateway";
/// The `route` of a path that there is not.
const UNMATCHED: &str = "unmatched";
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

async fn admit(
    app: &App,
    route: &str,
    context: &RequestContext,
    mut request: Request,
    next: Next,
) -> Response {
    let shared = &app.shared;
    let admission =
        access::judge(route, context, request.headers(), app.keys.is_some(), &shared.config.forward_auth);
    let (speaker, limit_headers) = match admission {
        Admission::Free(speaker) => (Ok(speaker), HeaderMap::new()),
        Admission::Counted(speaker) => match limit(app, route, context).await {
            Ok(headers) => (speaker, headers),
            Err(denied) => return denied.into_response(),
        },
    };
    let mut response = match speaker {
        Ok(speaker) => {
            request.extensions_mut().insert(context.speaking(speaker));
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    };
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
    let context = context.speaking(Speaker::Gateway);
    let decision = app.ratelimit.check(check, &context, config.deadline.get()).await;
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

fn add_missing(response: &mut Response, headers: HeaderMap) {
    for (name, value) in headers {
        if let Some(name) = name {
            response.headers_mut().entry(name).or_insert(value);
        }
    }
}

#[cfg(test)]
mod tests;
