//! What every request has in common, whatever becomes of it: an id, a client address, a look at its
//! size; and for its answer the security headers, one shape of errors, and the metrics.

mod client_address;
mod host;
mod request_id;
mod security;

#[cfg(test)]
mod tests;

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    panic::AssertUnwindSafe,
    sync::{Arc, OnceLock},
    time::Instant,
};

use axum::{
    Router,
    extract::{FromRequestParts, Request},
    response::{IntoResponse, Response},
};
use futures_util::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header, request::Parts};
use tidegate_chassis::trace::{self, TraceParent};
use tower::ServiceExt;
use tracing::{Instrument, Span};

pub(crate) use self::client_address::ClientAddress;
use crate::{
    app::{App, Shared},
    config::LimitsConfig,
    metrics,
    problem::Problem,
};

/// Names a request to its caller, in logs and in traces.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Goes with `traceparent` (W3C Trace Context).
pub(crate) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// What is known of a request before it is routed. An extractor for handlers.
#[derive(Clone, Debug)]
pub(crate) struct RequestContext {
    request_id: HeaderValue,
    /// The other end of the connection, which may be a proxy; never an IPv4-mapped IPv6 address.
    pub peer: IpAddr,
    /// Who is calling.
    pub client: ClientAddress,
    /// What the caller says it is.
    pub user_agent: Option<HeaderValue>,
    /// In whose name services are called.
    pub speaker: Speaker,
    /// Whether the service that was asked first took the speaker's credentials for good; shared by all copies.
    verdict: Arc<OnceLock<bool>>,
    /// By which a service knows the repetition of a change.
    pub idempotency_key: Option<HeaderValue>,
    /// The caller's place in a trace.
    pub traceparent: Option<TraceParent>,
    /// What tracing systems of the caller add to it; means nothing without it.
    pub tracestate: Vec<HeaderValue>,
}

/// In whose name a service is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Speaker {
    /// Nobody's: without credentials, and the service believes of it what its settings say.
    Nobody,
    /// The caller's, by the credentials that came with the request.
    Caller(HeaderValue),
    /// The gateway's own.
    Gateway,
}

/// Extension of an answer: the template of the route that gave it.
#[derive(Clone, Debug)]
pub(crate) struct Route(pub Arc<str>);

/// Extension of an answer with an error status that brings its own body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OwnBody;

/// Takes requests off the connections of one worker.
#[derive(Clone, Debug)]
pub(crate) struct Edge {
    router: Router,
    shared: Arc<Shared>,
}

impl RequestContext {
    /// Of a request with `headers` on a connection from `peer`.
    #[must_use]
    pub(crate) fn new(peer: SocketAddr, headers: &HeaderMap, shared: &Shared) -> Self {
        let traceparent = TraceParent::from_headers(headers);
        let tracestate = match traceparent {
            Some(_) => headers.get_all(TRACESTATE).iter().cloned().collect(),
            None => Vec::new(),
        };
        Self {
            request_id: request_id::accept_or_new(headers, &shared.clock, &shared.random),
            peer: peer.ip().to_canonical(),
            client: ClientAddress::of(peer, headers, &shared.config.proxies),
            user_agent: headers.get(header::USER_AGENT).cloned(),
            speaker: Speaker::Nobody,
            verdict: Arc::default(),
            idempotency_key: None,
            traceparent,
            tracestate,
        }
    }

    /// The same, in the name of another.
    #[must_use]
    pub(crate) fn speaking(&self, speaker: Speaker) -> Self {
        Self { speaker, ..self.clone() }
    }

    /// The same, by a caller whom the other end names.
    #[must_use]
    pub(crate) fn called_by(&self, client: ClientAddress) -> Self {
        Self { client, ..self.clone() }
    }

    /// What a service said of the speaker's credentials, if it did.
    pub(crate) fn learn(&self, is_good: Option<bool>) {
        if let Some(is_good) = is_good {
            self.verdict.get_or_init(|| is_good);
        }
    }

    /// What a service said of the speaker's credentials, in this call.
    #[must_use]
    pub(crate) fn verdict(&self) -> Option<bool> {
        self.verdict.get().copied()
    }

    /// The id, ASCII.
    #[must_use]
    pub(crate) fn request_id(&self) -> &str {
        self.request_id.to_str().expect("ids are of letters, digits and . _ -")
    }

    /// The id as it is passed on.
    #[must_use]
    pub(crate) fn request_id_header(&self) -> HeaderValue {
        self.request_id.clone()
    }
}

impl<S: Sync> FromRequestParts<S> for RequestContext {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().cloned().ok_or_else(Problem::internal)
    }
}

impl Edge {
    /// Before the routes of `app`.
    #[must_use]
    pub(crate) fn new(app: &App) -> Self {
        Self { router: app.router(), shared: Arc::clone(&app.shared) }
    }

    /// The routes, for tests of them.
    #[cfg(test)]
    pub(crate) fn router(&self) -> &Router {
        &self.router
    }

    /// The answer to one request of the connection from `peer`. Never fails: a panic is a 500.
    pub(crate) async fn answer(&self, peer: SocketAddr, mut request: Request) -> Response {
        let started = Instant::now();
        let Shared { config, random, metrics, .. } = &*self.shared;
        let mut context = RequestContext::new(peer, request.headers(), &self.shared);
        let (method, uri) = (metrics::known(request.method()), request.uri().clone());
        let span = trace::request_span(request.headers(), method, random).unwrap_or_else(Span::none);
        span.record("request_id", context.request_id());
        let fit = measure(&request, &config.limits).and_then(|()| host::names_loopback(&request));
        let response = match fit {
            Err(problem) => problem.into_response(),
            Ok(names_loopback) => {
                context.client.is_local &= names_loopback;
                request.extensions_mut().insert(context.clone());
                self.routed(request, &context).instrument(span.clone()).await
            }
        };
        let mut response = finish(response, &uri, &context);
        security::write_headers(response.headers_mut(), context.client.is_https);
        response.headers_mut().insert(X_REQUEST_ID, context.request_id_header());
        let route = response.extensions_mut().remove::<Route>();
        let route = route.map_or_else(|| Arc::from("unmatched"), |Route(template)| template);
        let (status, took) = (response.status(), started.elapsed());
        if !span.is_none() {
            span.record("otel.name", format!("{method} {route}"));
            if status.is_server_error() {
                span.record("otel.status_code", "ERROR");
            }
        }
        tracing::debug!(
            method,
            route = &*route,
            status = status.as_u16(),
            ?took,
            request_id = context.request_id(),
            "answered"
        );
        metrics.request(method, route, status, took);
        response
    }

    async fn routed(&self, request: Request, context: &RequestContext) -> Response {
        match AssertUnwindSafe(self.router.clone().oneshot(request)).catch_unwind().await {
            Ok(Ok(response)) => response,
            Ok(Err(never)) => match never as Infallible {},
            Err(_panic) => {
                // What panicked, and where, the hook of the process has logged.
                tracing::error!(request_id = context.request_id(), "a handler panicked");
                Problem::internal().into_response()
            }
        }
    }
}

/// Names and values of all headers, and path and query, within bounds.
fn measure(request: &Request, limits: &LimitsConfig) -> Result<(), Box<Problem>> {
    let length = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
    if length > limits.uri_bytes {
        let detail = format!("Path and query are longer than {} bytes", limits.uri_bytes);
        return Err(Box::new(Problem::new(StatusCode::URI_TOO_LONG, "uri_too_long", detail)));
    }
    let headers = request.headers();
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if bytes > limits.header_bytes || headers.len() > limits.headers {
        let (most, bytes) = (limits.headers, limits.header_bytes);
        let detail = format!("More than {most} headers, or {bytes} bytes of them");
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        return Err(Box::new(Problem::new(status, "headers_too_large", detail)));
    }
    Ok(())
}

/// Every error becomes a problem document. What the answer already carries (`Allow`, the headers of
/// a limit) stays; a body that is not ours goes.
fn finish(mut response: Response, uri: &Uri, context: &RequestContext) -> Response {
    let status = response.status();
    let problem = response.extensions_mut().remove::<Box<Problem>>();
    let is_error = status.is_client_error() || status.is_server_error();
    let problem = match problem {
        Some(problem) => *problem,
        None if is_error && response.extensions().get::<OwnBody>().is_none() => Problem::of_status(status),
        None => return response,
    };
    let mut rendered = problem.render(uri.path(), context.request_id());
    keep_headers(rendered.headers_mut(), response.headers());
    *rendered.extensions_mut() = std::mem::take(response.extensions_mut());
    rendered
}

fn keep_headers(kept: &mut HeaderMap, headers: &HeaderMap) {
    for name in headers.keys() {
        let describes_body = name == header::CONTENT_TYPE || name == header::CONTENT_LENGTH;
        if !describes_body && !kept.contains_key(name) {
            kept.extend(headers.get_all(name).iter().map(|value| (name.clone(), value.clone())));
        }
    }
}
