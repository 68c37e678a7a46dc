//! What stands before every route: the limit for callers without credentials, by address, decided by the rate-limit service.
//! Which callers those are, `access` says; a caller with credentials that no service accepts turns out to be one afterwards.

use std::thread;

use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue};
use tidegate_chassis::auth::GATEWAY_NAMESPACE;
use tidegate_proto::ratelimit::v1::{CheckRequest, check_request::AttributesEntry};
use tokio::runtime::Handle;

use crate::{
    access::{self, Admission},
    app::App,
    edge::{RequestContext, Route, Speaker},
    metrics::AnonymousOutcome,
    problem::Problem,
    rate_limit,
};

/// Namespace of the policies that limit the gateway's own callers.
pub(crate) const NAMESPACE: &str = GATEWAY_NAMESPACE;
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
    // Below the path by which proxies ask there is whatever was asked of them.
    let route = match path.as_ref().map_or(UNMATCHED, MatchedPath::as_str) {
        route if access::is_of_proxy(route) => access::FORWARD_AUTH,
        route => route,
    };
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
    let mut pending = Pending { app, route, context, shown: shown.filter(|_| !is_counted) };
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
    // What fails for a server's fault says nothing of the caller.
    let is_charged = !response.status().is_server_error() && pending.is_of_stranger();
    pending.shown = None;
    if is_charged {
        match limit(app, route, context).await {
            Ok(headers) => limit_headers = headers,
            // What was done is told.
            Err(_denied) if response.status().is_success() => {}
            Err(denied) => return denied.into_response(),
        }
    }
    add_missing(&mut response, limit_headers);
    response
}

/// A call with credentials that is under way. If the caller hangs up before it is known whether they are good, it is counted all
/// the same: whoever tries out tokens need not wait for the answers.
struct Pending<'a> {
    app: &'a App,
    route: &'a str,
    context: &'a RequestContext,
    shown: Option<HeaderValue>,
}

impl Pending<'_> {
    fn is_of_stranger(&self) -> bool {
        let is_accepted = |shown: &HeaderValue| self.app.shared.reputation.is_accepted(shown.as_bytes());
        // Of this call first: meanwhile others may have shown the same.
        let is_good = |shown| self.context.verdict().unwrap_or_else(|| is_accepted(shown));
        !self.shown.as_ref().is_none_or(is_good)
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if self.is_of_stranger() {
            charge(self.app, self.route, self.context);
        }
    }
}

/// Counts a call whose caller does not wait for that. A panic is no fault of the caller.
pub(crate) fn charge(app: &App, route: &str, context: &RequestContext) {
    let Ok(runtime) = Handle::try_current() else { return };
    if thread::panicking() {
        return;
    }
    let (app, route, context) = (app.clone(), route.to_owned(), context.clone());
    runtime.spawn(async move { limit(&app, &route, &context).await.map(drop) });
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
