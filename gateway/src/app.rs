//! What the handlers share, and the router they hang on.

use std::{ops::Deref, sync::Arc};

use axum::{Router, middleware};
use bytes::Bytes;
use http::{HeaderName, Method, header};
use tidegate_chassis::clock::{Clock, Random};
use tower_http::cors::CorsLayer;

use crate::{
    anonymous,
    config::{Config, CorsConfig, Origin},
    metrics::GatewayMetrics,
    readiness::Readiness,
    routes,
    upstream::RateLimit,
};

/// What is the same in every worker.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The settings.
    pub config: Config,
    /// The wall clock.
    pub clock: Clock,
    /// For request ids and the choice among equal addresses.
    pub random: Random,
    /// What is counted.
    pub metrics: Arc<GatewayMetrics>,
    /// Whether the services behind answer.
    pub readiness: Readiness,
    /// The rendered OpenAPI document.
    pub openapi: Bytes,
}

/// What the handlers of one worker share. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct App(Arc<State>);

/// See [`App`].
#[derive(Debug)]
pub(crate) struct State {
    /// What this worker has in common with the others.
    pub shared: Arc<Shared>,
    /// The rate-limit service, by connections of this worker.
    pub ratelimit: RateLimit,
}

impl App {
    /// For one worker, on its runtime.
    #[must_use]
    pub(crate) fn new(shared: Arc<Shared>, ratelimit: RateLimit) -> Self {
        Self(Arc::new(State { shared, ratelimit }))
    }

    /// Every route, with what stands before all of them.
    pub(crate) fn router(&self) -> Router {
        let (routes, _openapi) = routes::all().split_for_parts();
        let guarded = routes.layer(middleware::from_fn_with_state(self.clone(), anonymous::guard));
        let router = guarded.with_state(self.clone());
        match cors(&self.shared.config.cors) {
            Some(cors) => router.layer(cors),
            None => router,
        }
    }
}

impl Deref for App {
    type Target = State;

    fn deref(&self) -> &State {
        &self.0
    }
}

fn cors(config: &CorsConfig) -> Option<CorsLayer> {
    const ASKED: [HeaderName; 7] = [
        header::AUTHORIZATION,
        header::CONTENT_TYPE,
        header::IF_MATCH,
        HeaderName::from_static("idempotency-key"),
        HeaderName::from_static("traceparent"),
        HeaderName::from_static("x-api-key"),
        HeaderName::from_static("x-request-id"),
    ];
    const SHOWN: [HeaderName; 8] = [
        header::ETAG,
        header::RETRY_AFTER,
        HeaderName::from_static("ratelimit"),
        HeaderName::from_static("ratelimit-policy"),
        HeaderName::from_static("x-ratelimit-limit"),
        HeaderName::from_static("x-ratelimit-remaining"),
        HeaderName::from_static("x-ratelimit-reset"),
        HeaderName::from_static("x-request-id"),
    ];
    if config.origins.is_empty() {
        return None;
    }
    let origins: Vec<_> = config.origins.iter().map(Origin::header).collect();
    let cors = CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers(ASKED)
        .expose_headers(SHOWN)
        .max_age(config.max_age.get());
    Some(cors)
}
