//! What the tests of this crate share: settings, an app, and a small gRPC server in the place of the
//! rate-limit service, where a test is about how it is called rather than about what it decides.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

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
use tidegate_proto::ratelimit::v1::{
    self as pb,
    check_batch_result::Outcome,
    rate_limit_service_server::{RateLimitService, RateLimitServiceServer},
};
use tokio::runtime::{Builder, Runtime};
use tonic::{
    Code, Status,
    transport::{Server, server::TcpIncoming},
};

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

/// Decides a check.
pub(crate) type Decide = fn(&pb::CheckRequest) -> Result<pb::CheckResponse, Status>;

/// A gRPC server that decides by a function and remembers what it was asked. Ends when dropped.
#[derive(Debug)]
pub(crate) struct Upstream {
    /// Where it is.
    pub address: SocketAddr,
    seen: Seen,
    runtime: Option<Runtime>,
}

/// What was asked, with its metadata.
type Seen = Arc<Mutex<Vec<(pb::CheckRequest, HeaderMap)>>>;

impl Upstream {
    /// On a free port.
    pub(crate) fn start(decide: Decide) -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), decide)
    }

    /// On a given port.
    pub(crate) fn start_at(address: SocketAddr, decide: Decide) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = {
            let _inside = runtime.enter();
            tidegate_chassis::server::listen(address).unwrap()
        };
        let address = listener.local_addr().unwrap();
        let seen = Seen::default();
        let service = RateLimitServiceServer::new(Answering { decide, seen: Arc::clone(&seen) });
        let server = Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(listener));
        runtime.spawn(server);
        Self { address, seen, runtime: Some(runtime) }
    }

    /// Its URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every check so far, with its metadata.
    pub(crate) fn seen(&self) -> Vec<(pb::CheckRequest, HeaderMap)> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Upstream {
    /// With all of its connections, as by `kill -9`.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

struct Answering {
    decide: Decide,
    seen: Seen,
}

impl Answering {
    fn decide(&self, check: &pb::CheckRequest, metadata: HeaderMap) -> Result<pb::CheckResponse, Status> {
        self.seen.lock().unwrap().push((check.clone(), metadata));
        (self.decide)(check)
    }
}

#[tonic::async_trait]
impl RateLimitService for Answering {
    type CheckStreamStream =
        std::pin::Pin<Box<dyn futures_util::Stream<Item = Result<pb::CheckStreamResponse, Status>> + Send>>;

    async fn check(
        &self,
        request: tonic::Request<pb::CheckRequest>,
    ) -> Result<tonic::Response<pb::CheckResponse>, Status> {
        let (metadata, _, check) = request.into_parts();
        self.decide(&check, metadata.into_headers()).map(tonic::Response::new)
    }

    async fn check_batch(
        &self,
        request: tonic::Request<pb::CheckBatchRequest>,
    ) -> Result<tonic::Response<pb::CheckBatchResponse>, Status> {
        let (metadata, _, batch) = request.into_parts();
        let metadata = metadata.into_headers();
        let results = batch.checks.iter().map(|check| match self.decide(check, metadata.clone()) {
            Ok(response) => Outcome::Result(response),
            Err(status) => Outcome::Error(pb::CheckError {
                status_code: status.code().into(),
                reason: if status.code() == Code::NotFound { "NAMESPACE_NOT_FOUND" } else { "" }.to_owned(),
                message: status.message().to_owned(),
                violations: Vec::new(),
            }),
        });
        let results = results.map(|outcome| pb::CheckBatchResult { outcome: Some(outcome) }).collect();
        Ok(tonic::Response::new(pb::CheckBatchResponse { results }))
    }

    async fn check_stream(
        &self,
        _: tonic::Request<tonic::Streaming<pb::CheckStreamRequest>>,
    ) -> Result<tonic::Response<Self::CheckStreamStream>, Status> {
        Err(Status::unimplemented("the gateway does not call it"))
    }

    async fn peek(
        &self,
        _: tonic::Request<pb::PeekRequest>,
    ) -> Result<tonic::Response<pb::PeekResponse>, Status> {
        Err(Status::unimplemented("the gateway does not call it"))
    }

    async fn reset(
        &self,
        _: tonic::Request<pb::ResetRequest>,
    ) -> Result<tonic::Response<pb::ResetResponse>, Status> {
        Err(Status::unimplemented("the gateway does not call it"))
    }

    async fn get_usage(
        &self,
        _: tonic::Request<pb::GetUsageRequest>,
    ) -> Result<tonic::Response<pb::GetUsageResponse>, Status> {
        Err(Status::unimplemented("the gateway does not call it"))
    }
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
