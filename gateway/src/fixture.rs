//! What the tests of this crate share: settings, an app, and a small gRPC server in the place of the
//! rate-limit service, where a test is about how it is called rather than about what it decides.

mod upstream;

use std::sync::Arc;

use axum::{body::Body, extract::Request, response::Response};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use tidegate_chassis::{
    clock::{Clock, Random},
    config::{self, Source},
    metrics::Metrics,
};
use tidegate_proto::ratelimit::v1 as pb;

pub(crate) use self::upstream::{Upstream, health};
use crate::{
    app::{App, Shared},
    config::{CONFIG_DEFAULTS, Config},
    edge::Edge,
    metrics::GatewayMetrics,
    readiness::Readiness,
    routes,
    upstream::{Endpoints, Pool, RateLimit},
};

/// 2025-01-01T00:00:00Z.
pub(crate) const NOW_US: u64 = 1_735_689_600_000_000;
/// A caller on this machine.
pub(crate) const LOCAL: &str = "127.0.0.1:50000";
/// A caller elsewhere.
pub(crate) const REMOTE: &str = "192.0.2.7:50000";
/// Nobody listens there.
pub(crate) const NOBODY: &str = "http://127.0.0.1:1";

/// The defaults, with `toml` over them.
pub(crate) fn config(toml: &str) -> Config {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    std::fs::write(&path, toml).unwrap();
    config::load(&Source { defaults: CONFIG_DEFAULTS, file: Some(&path), ..Source::default() }).unwrap()
}

/// The same, with `url` for the rate-limit service.
pub(crate) fn config_with(url: &str, toml: &str) -> Config {
    let mut config = config(toml);
    config.upstreams.ratelimit = vec![url.to_owned().try_into().unwrap()];
    config
}

/// What workers share, at [`NOW_US`] and with the same random numbers each time.
pub(crate) fn shared(config: Config) -> Arc<Shared> {
    Arc::new(Shared {
        config,
        clock: Clock::manual(NOW_US).0,
        random: Random::seeded(7),
        metrics: GatewayMetrics::register(&Metrics::new()),
        readiness: Readiness::default(),
        openapi: Bytes::from(routes::openapi()),
    })
}

/// The app of one worker.
pub(crate) async fn app(config: Config) -> App {
    let shared = shared(config);
    let upstreams = &shared.config.upstreams;
    let endpoints = Endpoints::new(&upstreams.ratelimit, upstreams).unwrap();
    let pool = Pool::open(endpoints, shared.random.clone()).await;
    let ratelimit = RateLimit::new(pool, Arc::clone(&shared.metrics));
    App::new(shared, ratelimit)
}

/// The edge of one worker.
pub(crate) async fn edge(config: Config) -> Edge {
    Edge::new(&app(config).await)
}

/// A request of HTTP/1.1 to 127.0.0.1, with a JSON body unless that is empty.
pub(crate) fn request(method: &str, target: &str, body: &str) -> Request {
    let mut request = Request::builder().method(method).uri(target).header("host", "127.0.0.1:8000");
    if !body.is_empty() {
        request = request.header("content-type", "application/json");
    }
    request.body(Body::from(body.to_owned())).unwrap()
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as JSON; null if it is none.
    pub json: Value,
}

impl Answer {
    /// Reads the body.
    pub(crate) async fn of(response: Response) -> Self {
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let json = serde_json::from_slice(&body).unwrap_or_default();
        Self { status: parts.status, headers: parts.headers, json }
    }

    /// A header as text; empty if there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// The answer of `edge` to a caller at `peer`.
pub(crate) async fn ask(edge: &Edge, peer: &str, request: Request) -> Answer {
    Answer::of(edge.answer(peer.parse().unwrap(), request).await).await
}

/// FREE, with `remaining` of its minute; an admission.
pub(crate) fn admitted(remaining: u64) -> pb::CheckResponse {
    let limit = |name: &str, limit, remaining, period_s: u64| pb::LimitStatus {
        name: format!("free/{name}"),
        algorithm: pb::Algorithm::SlidingWindow.into(),
        limit,
        remaining,
        reset_after_ms: period_s * 1000 - 500,
        retry_after_ms: 0,
        period_ms: period_s * 1000,
        exceeded: false,
        shadow: false,
    };
    pb::CheckResponse {
        allowed: true,
        code: pb::Code::Ok.into(),
        limits: vec![
            limit("minute", 10, remaining, 60),
            limit("hour", 100, 90 + remaining, 3600),
            limit("day", 1000, 990 + remaining, 86_400),
        ],
        binding_limit: Some(0),
        degraded: false,
        replayed: false,
        retry_after_ms: 0,
        lease: None,
        key: None,
        decision_id: Bytes::from_static(&[
            0x01, 0x94, 0x1f, 0x29, 0x7c, 0, 0x70, 0, 0x80, 0, 0, 0, 0, 0, 0, 1,
        ]),
    }
}

/// The same, denied by its minute for 41.2 s.
pub(crate) fn denied() -> pb::CheckResponse {
    let mut response = admitted(0);
    response.allowed = false;
    response.code = pb::Code::RateLimited.into();
    response.retry_after_ms = 41_200;
    response.limits[0].retry_after_ms = 41_200;
    response.limits[0].exceeded = true;
    response
}
