//! What the tests of this crate share: settings, an app, and small gRPC servers in the place of the
//! services behind, where a test is about how it is called rather than about what it decides.

mod keys;
mod upstream;

use std::sync::Arc;

use axum::{body::Body, extract::Request, response::Response};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use tidegate_chassis::{
    clock::{Clock, Random},
    config::{self, Secret, Source},
    metrics::Metrics,
};
use tidegate_proto::ratelimit::v1 as pb;

pub(crate) use self::{
    keys::{Call, Keys},
    upstream::{Upstream, health},
};
use crate::{
    app::{App, ServiceEndpoints, Shared},
    config::{CONFIG_DEFAULTS, Config},
    edge::Edge,
    metrics::GatewayMetrics,
};

/// 2025-01-01T00:00:00Z.
pub(crate) const NOW_US: u64 = 1_735_689_600_000_000;
/// A caller on this machine.
pub(crate) const LOCAL: &str = "127.0.0.1:50000";
/// A caller elsewhere.
pub(crate) const REMOTE: &str = "192.0.2.7:50000";
/// What an operator shows.
pub(crate) const OPERATOR: &str = "Bearer e30.e30.c2ln";
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

/// The same, with `keys` for the keys service too, and a secret of the gateway's own.
pub(crate) fn config_with_keys(ratelimit: &str, keys: &Keys, toml: &str) -> Config {
    let mut config = config_with(ratelimit, toml);
    config.upstreams.keys = vec![keys.url().try_into().unwrap()];
    config.auth.internal_secret = Secret::new("a secret of thirty-two characters".to_owned());
    config
}

/// The payload of a token of the gateway's own, or null if it is none.
pub(crate) fn claims(authorization: &str) -> Value {
    let payload = authorization.strip_prefix("Bearer ").and_then(|token| token.split('.').nth(1));
    let payload = URL_SAFE_NO_PAD.decode(payload.unwrap_or_default()).unwrap_or_default();
    serde_json::from_slice(&payload).unwrap_or_default()
}

/// A request with a header more.
pub(crate) fn with_header(mut request: Request, name: &'static str, value: &str) -> Request {
    request.headers_mut().append(name, HeaderValue::from_str(value).unwrap());
    request
}

/// A request with an operator's token, as far as the gateway looks at it.
pub(crate) fn by_operator(method: &str, target: &str, body: &str) -> Request {
    with_header(request(method, target, body), "authorization", OPERATOR)
}

/// What workers share, at [`NOW_US`] and with the same random numbers each time.
pub(crate) fn shared(config: Config) -> Arc<Shared> {
    let metrics = GatewayMetrics::register(&Metrics::new());
    Arc::new(Shared::new(config, Clock::manual(NOW_US).0, Random::seeded(7), metrics))
}

/// The app of one worker.
pub(crate) async fn app(config: Config) -> App {
    let shared = shared(config);
    let endpoints = ServiceEndpoints::new(&shared.config.upstreams).unwrap();
    App::open(shared, &endpoints).await
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
        credits_remaining: None,
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
