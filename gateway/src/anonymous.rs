//! What stands before every route: the limit for callers without credentials, by address, decided by the rate-limit service.
//! Which callers those are, `access` says; a caller with credentials that no service accepts turns out to be one afterwards.

use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue};
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
pub(crate) const NAMESPACE: &str = "gateway";
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
    let mut admission =
        access::judge(route, context, request.headers(), app.keys.is_some(), &shared.config.forward_auth);
    let shown = match &admission {
        Admission::Free(Speaker::Caller(shown)) => Some(shown.clone()),
        Admission::Free(Speaker::Nobody | Speaker::Gateway) | Admission::Counted(_) => None,
    };
    let address = context.client.key();
    let doubtful = shown.as_ref().filter(|shown| shared.reputation.is_doubtful(&address, shown.as_bytes()));
    if let Some(shown) = doubtful {
        admission = Admission::Counted(Ok(Speaker::Caller(shown.clone())));
    }
    let is_counted = matches!(admission, Admission::Counted(_));
    let (speaker, mut limit_headers) = match admission {
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
    let is_accepted = |shown: HeaderValue| shared.reputation.is_accepted(shown.as_bytes());
    // What fails for a server's fault says nothing of the caller.
    let may_be_good = response.status().is_server_error() || shown.is_none_or(is_accepted);
    if !is_counted && !may_be_good {
        match limit(app, route, context).await {
            Ok(headers) => limit_headers = headers,
            Err(denied) => return denied.into_response(),
        }
    }
    add_missing(&mut response, limit_headers);
    response
}

/// The headers of the limit, or the denial. Fails open: an outage of the limits must not take
/// everything else with it.
pub(crate) async fn limit(
    app: &App,
    route: &str,
    context: &RequestContext,
) -> Result<HeaderMap, Box<Problem>> {
    let mut headers = HeaderMap::new();
    let config = &app.shared.config.anonymous;
    if !config.enabled {
        return Ok(headers);
    }
    let address = context.client.key();
    let attribute = |key: &str, value: String| AttributesEntry { key: key.to_owned(), value };
    let check = CheckRequest {
        namespace: NAMESPACE.to_owned(),
        attributes: vec![attribute("ip", address.clone()), attribute("route", route.to_owned())],
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
            app.shared.reputation.exhaust(&address, decision.retry_after_ms);
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
