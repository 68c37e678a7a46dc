//! A tower layer that lets only those requests through to a backend that Tidegate admits.
//!
//! Five lines protect an axum backend:
//!
//! ```no_run
//! # use axum::{Router, routing::post};
//! # use http::Method;
//! # use tidegate_client::{Client, KeyIdentity, layer::ProtectLayer};
//! # async fn validate(axum::Extension(key): axum::Extension<KeyIdentity>) -> String { key.organization_name }
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let tidegate = Client::builder("http://127.0.0.1:8081").service_token_file("token").build().await?;
//! let protect = ProtectLayer::new(tidegate)
//!     .check(|request, check| check.attribute("path", request.uri.path()))
//!     .required_scopes(|request| (request.method == Method::POST).then_some("validate:write"));
//! let app: Router = Router::new().route("/v1/validate", post(validate)).layer(protect);
//! # Ok(())
//! # }
//! ```
//!
//! And a tonic backend:
//!
//! ```no_run
//! # use tidegate_client::{Client, layer::ProtectLayer};
//! # async fn run(routes: tonic::service::Routes) -> Result<(), Box<dyn std::error::Error>> {
//! let tidegate = Client::builder("http://127.0.0.1:8081").service_token_file("token").build().await?;
//! let protect = ProtectLayer::new(tidegate)
//!     .check(|request, check| check.attribute("method", request.uri.path()))
//!     .exempt(|request| request.uri.path().starts_with("/grpc.health.v1.Health/"));
//! tonic::transport::Server::builder().layer(protect).add_routes(routes).serve("[::1]:50051".parse()?).await?;
//! # Ok(())
//! # }
//! ```
//!
//! Who is admitted: handlers find a [`KeyIdentity`](crate::KeyIdentity) among the extensions of the request, and the answer carries the
//! rate-limit headers. Places of concurrency limits are held until the body of the answer has been sent. Who is not: the answer is
//! 401, 403, 429 or 503 with `application/problem+json`, as that of the gateway, or for `application/grpc` the status
//! `UNAUTHENTICATED`, `PERMISSION_DENIED`, `RESOURCE_EXHAUSTED` or `UNAVAILABLE`.

mod body;
mod credentials;
mod denial;
mod headers;
mod rules;

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response, request::Parts};
use http_body::Body;
use tower::{Layer, Service};

pub use self::body::ProtectedBody;
use self::{denial::Denial, rules::Rules};
use crate::{Check, Client};

/// Protects a service. Every request needs an API key, as `X-API-Key` or `Authorization: Bearer`, unless
/// [`anonymous`](Self::anonymous) is set. Cheap to clone.
#[derive(Clone)]
#[must_use]
pub struct ProtectLayer(Arc<Rules>);

impl ProtectLayer {
    /// Asks `client` of every request, with no attributes but those that Tidegate knows of the key.
    pub fn new(client: Client) -> Self {
        Self(Arc::new(Rules::new(client)))
    }

    /// What is asked of a request: attributes for policies to match, and whatever else a [`Check`] can say, as from which address
    /// it came (for keys that may be used from some networks only) or what it costs. An address must be one that can be believed:
    /// of the connection, or what a proxy of your own says. A path should be given as its template (of axum, `MatchedPath` among
    /// the extensions), or else every id has a counter of its own.
    pub fn check(self, describe: impl Fn(&Parts, Check) -> Check + Send + Sync + 'static) -> Self {
        self.with(|rules| rules.describe = Box::new(describe))
    }

    /// Which scopes a key needs for a request, as "invoices:read and (invoices:write or admin)".
    pub fn required_scopes<S: Into<String>>(
        self,
        scopes: impl Fn(&Parts) -> Option<S> + Send + Sync + 'static,
    ) -> Self {
        self.with(|rules| rules.scopes = Box::new(move |request| scopes(request).map(Into::into)))
    }

    /// Requests that pass unasked: health checks, preflights.
    pub fn exempt(self, exempt: impl Fn(&Parts) -> bool + Send + Sync + 'static) -> Self {
        self.with(|rules| rules.exempt = Box::new(exempt))
    }

    /// Lets requests without an API key be decided by their attributes alone, unless they need scopes.
    pub fn anonymous(self) -> Self {
        self.with(|rules| rules.needs_key = false)
    }

    fn with(mut self, change: impl FnOnce(&mut Rules)) -> Self {
        change(Arc::get_mut(&mut self.0).expect("a layer is not shared before it is finished"));
        self
    }
}

impl<S> Layer<S> for ProtectLayer {
    type Service = Protect<S>;

    fn layer(&self, inner: S) -> Protect<S> {
        Protect { inner, rules: Arc::clone(&self.0) }
    }
}

impl fmt::Debug for ProtectLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ProtectLayer").field(&self.0).finish()
    }
}

/// A service behind Tidegate; [`ProtectLayer`] makes it.
#[derive(Clone, Debug)]
pub struct Protect<S> {
    inner: S,
    rules: Arc<Rules>,
}

impl<S, B, R> Service<Request<B>> for Protect<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
    R: Body<Data = Bytes>,
{
    type Response = Response<ProtectedBody<R>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The one that is ready is called; its clone may not be.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        let rules = Arc::clone(&self.rules);
        Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            if (rules.exempt)(&parts) {
                let response = inner.call(Request::from_parts(parts, body)).await?;
                return Ok(response.map(|body| ProtectedBody::passed(body, None)));
            }
            let mut decision = match rules.decide(&parts).await {
                Ok(decision) => decision,
                Err(denial) => return Ok(denial.answer(&parts)),
            };
            if !decision.allowed {
                return Ok(Denial::of(&decision).answer(&parts));
            }
            // Nobody else speaks for the key, whatever was there before.
            parts.extensions.remove::<crate::KeyIdentity>();
            if let Some(key) = decision.key.take() {
                parts.extensions.insert(key);
            }
            let mut response = inner.call(Request::from_parts(parts, body)).await?;
            headers::write(response.headers_mut(), &decision);
            Ok(response.map(|body| ProtectedBody::passed(body, decision.lease)))
        })
    }
}

impl<S: tonic::server::NamedService> tonic::server::NamedService for Protect<S> {
    const NAME: &'static str = S::NAME;
}
