//! What the handlers share, and the router they hang on.

use std::{ops::Deref, sync::Arc};

use axum::{Router, extract::Request, middleware};
use bytes::Bytes;
use http::{HeaderName, Method, StatusCode, header};
use tidegate_chassis::{
    auth::InternalTokens,
    clock::{Clock, Random},
    config::HumanDuration,
};
use tower::{ServiceExt, service_fn};
use tower_http::cors::CorsLayer;

use crate::{
    access, anonymous,
    config::{Config, CorsConfig, Origin, UpstreamsConfig},
    metrics::GatewayMetrics,
    problem::Problem,
    readiness::Readiness,
    reputation::Reputation,
    routes,
    upstream::{Behind, Endpoints, Pool, RateLimit, Upstream},
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
    /// By which the gateway proves itself to services; none without `auth.internal_secret`.
    pub tokens: Option<InternalTokens>,
    /// Which callers showed what is good.
    pub reputation: Arc<Reputation>,
}

/// How the services behind are reached.
#[derive(Clone, Debug)]
pub(crate) struct ServiceEndpoints {
    /// The rate-limit service.
    pub ratelimit: Endpoints,
    /// The keys service, if one is configured.
    pub keys: Option<Endpoints>,
}

impl Shared {
    /// Settings with what comes of them.
    #[must_use]
    pub(crate) fn new(config: Config, clock: Clock, random: Random, metrics: Arc<GatewayMetrics>) -> Self {
        let tokens = config.auth.tokens(clock.clone());
        let openapi = Bytes::from(routes::openapi());
        let reputation = Arc::new(Reputation::new(clock.clone()));
        let readiness = Readiness::default();
        Self { config, clock, random, metrics, readiness, openapi, tokens, reputation }
    }
}

impl ServiceEndpoints {
    /// Reads the certificates, so that a wrong one stops the start.
    ///
    /// # Errors
    /// If a file cannot be read, or does not hold what it should.
    pub(crate) fn new(config: &UpstreamsConfig) -> anyhow::Result<Self> {
        let keys = (!config.keys.is_empty()).then(|| Endpoints::new(&config.keys, config));
        Ok(Self { ratelimit: Endpoints::new(&config.ratelimit, config)?, keys: keys.transpose()? })
    }
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
    /// The keys service, if one is configured.
    pub keys: Option<Upstream>,
}

impl App {
    /// For one worker, on its runtime.
    #[must_use]
    pub(crate) async fn open(shared: Arc<Shared>, endpoints: &ServiceEndpoints) -> Self {
        let upstreams = &shared.config.upstreams;
        let open = async |endpoints: &Endpoints, deadline: HumanDuration| {
            let pool = Pool::open(endpoints.clone(), shared.random.clone()).await;
            Upstream::new(pool, deadline.get(), &shared)
        };
        let ratelimit = RateLimit::new(open(&endpoints.ratelimit, upstreams.deadline).await);
        let keys = match &endpoints.keys {
            Some(keys) => Some(open(keys, upstreams.keys_deadline).await),
            None => None,
        };
        Self(Arc::new(State { shared: Arc::clone(&shared), ratelimit, keys }))
    }

    /// The service that knows the calls of a client.
    ///
    /// # Errors
    /// 503 if the keys service is meant, and none is configured.
    pub(crate) fn upstream(&self, of: Behind) -> Result<&Upstream, Box<Problem>> {
        match of {
            Behind::RateLimit => Ok(self.ratelimit.upstream()),
            Behind::Keys => self.keys.as_ref().ok_or_else(|| {
                let words = "No keys service is configured here, so there are neither accounts nor API keys";
                Box::new(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "keys_not_configured", words))
            }),
        }
    }

    /// Every route, with what stands before all of them.
    pub(crate) fn router(&self) -> Router {
        let (routes, _openapi) = routes::all().split_for_parts();
        let guarded = routes.layer(middleware::from_fn_with_state(self.clone(), anonymous::guard));
        let router = guarded.with_state(self.clone());
        match cors(&self.shared.config.cors) {
            // CORS answers every OPTIONS by itself. What a proxy asks is about a request of somebody else, whatever its method.
            Some(cors) => {
                let with_cors = router.clone().layer(cors);
                Router::new().fallback_service(service_fn(move |request: Request| {
                    let is_of_proxy = access::is_of_proxy(request.uri().path());
                    let router = if is_of_proxy { &router } else { &with_cors };
                    router.clone().oneshot(request)
                }))
            }
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
    const SHOWN: [HeaderName; 9] = [
        header::ETAG,
        header::WWW_AUTHENTICATE,
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
