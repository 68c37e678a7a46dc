//! A service that does as it is told, served on real sockets, and a client that holds every frame in hand.

use std::{
    pin::Pin,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use h2::{
    RecvStream, SendStream,
    client::{ResponseFuture, SendRequest},
};
use http::{HeaderMap, HeaderValue, Request as HttpRequest, Response as HttpResponse, StatusCode, header};
use prost::Message;
use tidegate_proto::{
    Encoded,
    ratelimit::v1::{
        self as pb, CheckBatchRequest, CheckBatchResponse, CheckRequest, CheckResponse, CheckStreamRequest,
        CheckStreamResponse, PeekRequest, PeekResponse,
        rate_limit_service_server::{RateLimitService, RateLimitServiceServer},
    },
};
use tokio::{net::TcpStream, sync::Notify, task::JoinHandle};
use tonic::{Request, Response, Status, Streaming};
use tonic_types::StatusExt;

use super::super::{methods::tests::open, *};
use crate::auth::{self, Anonymous, AuthConfig};

/// Names of the services.
pub(super) const SERVICES: &[&str] = &["tidegate.ratelimit.v1.RateLimitService"];
pub(super) const CHECK: &str = "/tidegate.ratelimit.v1.RateLimitService/Check";
pub(super) const STREAM: &str = "/tidegate.ratelimit.v1.RateLimitService/CheckStream";
pub(super) const HEALTH: &str = "/grpc.health.v1.Health/Check";
/// Longer than anything here takes, however busy the machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// What handlers wait for.
#[derive(Clone, Default)]
pub(super) struct Gate {
    pub(super) notify: Arc<Notify>,
    /// For a handler that blocks its thread.
    thread: Arc<(Mutex<bool>, Condvar)>,
    blocked: Arc<AtomicBool>,
}

impl Gate {
    fn block(&self) {
        self.blocked.store(true, Ordering::Release);
        let (is_open, opened) = &*self.thread;
        let is_open = is_open.lock().unwrap_or_else(PoisonError::into_inner);
        drop(opened.wait_while(is_open, |is_open| !*is_open));
    }

    pub(super) fn is_blocking(&self) -> bool {
        self.blocked.load(Ordering::Acquire)
    }

    fn unblock(&self) {
        *self.thread.0.lock().unwrap() = true;
        self.thread.1.notify_all();
    }
}

/// The namespace of a check says what its handler does.
pub(super) struct Told(Gate);

fn admitted() -> CheckResponse {
    CheckResponse { allowed: true, ..CheckResponse::default() }
}

/// Methods that no test calls, as `async_trait` writes them.
macro_rules! not_called {
    ($($method:ident($request:ident) -> $answer:ident;)+) => {
        $(
            fn $method<'s, 'async_trait>(
                &'s self,
                _: Request<pb::$request>,
            ) -> Pin<Box<dyn Future<Output = Result<Response<pb::$answer>, Status>> + Send + 'async_trait>>
            where
                's: 'async_trait,
                Self: 'async_trait,
            {
                Box::pin(async { Err(Status::unimplemented("")) })
            }
        )+
    };
}

#[tonic::async_trait]
impl RateLimitService for Told {
    type CheckStreamStream = Pin<Box<dyn Stream<Item = Result<Encoded<CheckStreamResponse>, Status>> + Send>>;

    async fn check(
        &self,
        request: Request<Encoded<CheckRequest>>,
    ) -> Result<Response<Encoded<CheckResponse>>, Status> {
        match request.get_ref().view()?.namespace {
            "panic" => panic!("as told"),
            "hang" => std::future::pending().await,
            "wait" => self.0.notify.notified().await,
            "block" => self.0.block(),
            "who" => return Err(Status::aborted(format!("{:?}", auth::caller(&request)?.how))),
            _ => {}
        }
        Ok(Response::new(Encoded::from(&admitted())))
    }

    async fn check_stream(
        &self,
        request: Request<Streaming<Encoded<CheckStreamRequest>>>,
    ) -> Result<Response<Self::CheckStreamStream>, Status> {
        let answers = request.into_inner().map(|request| {
            let CheckStreamRequest { id, check } = request?.decode()?;
            assert!(check.is_none_or(|check| check.namespace != "panic"), "as told");
            Ok(Encoded::from(&CheckStreamResponse { id, outcome: None }))
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn check_batch(
        &self,
        _: Request<Encoded<CheckBatchRequest>>,
    ) -> Result<Response<Encoded<CheckBatchResponse>>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn peek(&self, _: Request<PeekRequest>) -> Result<Response<Encoded<PeekResponse>>, Status> {
        Err(Status::unimplemented(""))
    }

    not_called! {
        reset(ResetRequest) -> ResetResponse;
        get_usage(GetUsageRequest) -> GetUsageResponse;
        create_policy(CreatePolicyRequest) -> CreatePolicyResponse;
        get_policy(GetPolicyRequest) -> GetPolicyResponse;
        list_policies(ListPoliciesRequest) -> ListPoliciesResponse;
        update_policy(UpdatePolicyRequest) -> UpdatePolicyResponse;
        delete_policy(DeletePolicyRequest) -> DeletePolicyResponse;
        list_policy_versions(ListPolicyVersionsRequest) -> ListPolicyVersionsResponse;
        rollback_policy(RollbackPolicyRequest) -> RollbackPolicyResponse;
        create_plan(CreatePlanRequest) -> CreatePlanResponse;
        get_plan(GetPlanRequest) -> GetPlanResponse;
        list_plans(ListPlansRequest) -> ListPlansResponse;
        update_plan(UpdatePlanRequest) -> UpdatePlanResponse;
        delete_plan(DeletePlanRequest) -> DeletePlanResponse;
        set_assignment(SetAssignmentRequest) -> SetAssignmentResponse;
        delete_assignment(DeleteAssignmentRequest) -> DeleteAssignmentResponse;
        list_assignments(ListAssignmentsRequest) -> ListAssignmentsResponse;
        set_override(SetOverrideRequest) -> SetOverrideResponse;
        set_overrides(SetOverridesRequest) -> SetOverridesResponse;
        get_override(GetOverrideRequest) -> GetOverrideResponse;
        delete_override(DeleteOverrideRequest) -> DeleteOverrideResponse;
        list_overrides(ListOverridesRequest) -> ListOverridesResponse;
        fence_organization(FenceOrganizationRequest) -> FenceOrganizationResponse;
        list_top_keys(ListTopKeysRequest) -> ListTopKeysResponse;
        list_policy_stats(ListPolicyStatsRequest) -> ListPolicyStatsResponse;
        renew_lease(RenewLeaseRequest) -> RenewLeaseResponse;
        release_lease(ReleaseLeaseRequest) -> ReleaseLeaseResponse;
    }

    async fn acquire_lease(
        &self,
        _: Request<pb::AcquireLeaseRequest>,
    ) -> Result<Response<Encoded<pb::AcquireLeaseResponse>>, Status> {
        Err(Status::unimplemented(""))
    }
}

/// A server of one worker.
pub(super) struct Running {
    pub(super) address: SocketAddr,
    pub(super) ops_address: SocketAddr,
    pub(super) stop: CancellationToken,
    pub(super) gate: Gate,
    pub(super) auth: Authenticator,
    metrics: Metrics,
    server: JoinHandle<anyhow::Result<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.gate.unblock();
        self.server.abort();
    }
}

/// Serves what does as it is told.
pub(super) async fn start(set: impl FnOnce(&mut ServerConfig)) -> Running {
    start_with(set, told).await
}

/// A service that does as it is told.
pub(super) fn told(gate: &Gate) -> RateLimitServiceServer<Told> {
    RateLimitServiceServer::new(Told(gate.clone()))
}

/// Serves what `make` makes, to anybody here.
pub(super) async fn start_with<S: Served>(
    set: impl FnOnce(&mut ServerConfig),
    make: impl Fn(&Gate) -> S + Send + Sync + 'static,
) -> Running {
    let auth = AuthConfig { anonymous: Anonymous::Loopback, ..AuthConfig::default() };
    start_believing(&auth, Clock::system(), open(SERVICES).leak(), set, make).await
}

/// Serves what `make` makes, to those whom `auth` believes and `access` names.
pub(super) async fn start_believing<S: Served>(
    auth: &AuthConfig,
    clock: Clock,
    access: &'static [(&'static str, Access)],
    set: impl FnOnce(&mut ServerConfig),
    make: impl Fn(&Gate) -> S + Send + Sync + 'static,
) -> Running {
    let running = serve_believing(auth, clock, access, set, make).await;
    // Connections are accepted by the system at once, and calls wait there.
    assert_eq!(running.client().await.call(HEALTH, &[], &[]).await.status.code(), tonic::Code::Ok);
    running
}

/// The same, which may not have begun.
pub(super) async fn serve_believing<S: Served>(
    auth: &AuthConfig,
    clock: Clock,
    access: &'static [(&'static str, Access)],
    set: impl FnOnce(&mut ServerConfig),
    make: impl Fn(&Gate) -> S + Send + Sync + 'static,
) -> Running {
    let mut config = ServerConfig { workers: 1, lame_duck: Duration::ZERO.into(), ..ServerConfig::default() };
    set(&mut config);
    let listeners = Listeners::bind(&config).await.unwrap();
    let (address, ops_address) = (listeners.grpc_addr(), listeners.ops_addr());
    let (stop, metrics, gate) = (CancellationToken::new(), Metrics::new(), Gate::default());
    let auth = Authenticator::new(auth, None, clock, &metrics).unwrap();
    let server = Server {
        listeners,
        config,
        metrics: metrics.clone(),
        clock: Clock::system(),
        random: Random::system(),
        services: SERVICES,
        descriptors: tidegate_proto::DESCRIPTORS,
        environment: Environment::Development,
        auth: auth.clone(),
        access,
    };
    let told = gate.clone();
    let server = tokio::spawn(server.serve(move |_| make(&told), stop.clone()));
    Running { address, ops_address, stop, gate, auth, metrics, server }
}

impl Running {
    pub(super) async fn client(&self) -> Client {
        Client::connect(self.address).await.unwrap()
    }

    /// A sample of the metrics, by its name and labels as they are written; 0 if it is absent.
    pub(super) fn metric(&self, name: &str) -> u64 {
        let text = self.metrics.encode();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse().unwrap())
    }

    /// Calls of `method` that ended with `code`.
    pub(super) fn ended(&self, method: &str, code: &str) -> u64 {
        let service = "tidegate.ratelimit.v1.RateLimitService";
        self.metric(&format!(
            r#"rpc_server_calls_total{{rpc_service="{service}",rpc_method="{method}",code="{code}"}}"#
        ))
    }

    pub(super) async fn left(&mut self) {
        within(&mut self.server).await.unwrap().unwrap();
    }
}

pub(super) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("it comes in time")
}

pub(super) async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let started = std::time::Instant::now();
    while !is_so().await {
        assert!(started.elapsed() < PATIENCE, "in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// One HTTP/2 connection.
pub(super) struct Client {
    requests: SendRequest<Bytes>,
    /// Ends with the connection.
    pub(super) closed: JoinHandle<()>,
}

pub(super) struct Answer {
    pub(super) http: StatusCode,
    pub(super) status: Status,
    pub(super) messages: Vec<u8>,
}

impl Answer {
    pub(super) fn reason(&self) -> String {
        let details = self.status.get_error_details();
        details.error_info().map(|info| info.reason.clone()).unwrap_or_default()
    }
}

impl Client {
    pub(super) async fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        // So that answers which are not taken hold back their own call only.
        let handshake = h2::client::Builder::new().initial_connection_window_size(64 << 20).handshake(stream);
        let (requests, connection) = within(handshake).await?;
        let closed = tokio::spawn(async move { drop(connection.await) });
        Ok(Self { requests, closed })
    }

    /// Whether the server has said GOAWAY, after which no stream can be opened.
    pub(super) async fn is_told_to_go(&self) -> bool {
        within(self.requests.clone().ready()).await.is_err()
    }

    /// Begins a call; its message is still to be sent.
    pub(super) async fn begin(
        &self,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> (ResponseFuture, SendStream<Bytes>) {
        let mut request = HttpRequest::post(format!("http://tidegate{path}")).body(()).unwrap();
        let grpc = [("content-type", "application/grpc"), ("te", "trailers")];
        for (name, value) in grpc.into_iter().chain(headers.iter().copied()) {
            request.headers_mut().insert(name, HeaderValue::from_str(value).unwrap());
        }
        let mut requests = within(self.requests.clone().ready()).await.unwrap();
        requests.send_request(request, false).unwrap()
    }

    pub(super) async fn call(&self, path: &str, message: &[u8], headers: &[(&'static str, &str)]) -> Answer {
        let (response, mut request) = self.begin(path, headers).await;
        // It may have been refused already.
        let _ = request.send_data(framed(message), true);
        answer(response).await
    }

    pub(super) async fn check(&self, namespace: &str) -> Answer {
        self.call(CHECK, &check(namespace), &[]).await
    }
}

/// A check whose handler does what `namespace` says.
pub(super) fn check(namespace: &str) -> Vec<u8> {
    CheckRequest { namespace: namespace.to_owned(), ..CheckRequest::default() }.encode_to_vec()
}

/// The same, as one of a stream.
pub(super) fn streamed(namespace: &str) -> Bytes {
    let check = CheckRequest { namespace: namespace.to_owned(), ..CheckRequest::default() };
    framed(&CheckStreamRequest { id: 7, check: Some(check) }.encode_to_vec())
}

pub(super) fn framed(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0], length.as_slice(), message].concat().into()
}

pub(super) async fn answer(response: ResponseFuture) -> Answer {
    rest(within(response).await.expect("headers")).await
}

/// What comes of an answer once its headers have come.
pub(super) async fn rest(response: HttpResponse<RecvStream>) -> Answer {
    let (http, headers) = (response.status(), response.headers().clone());
    assert!(http != StatusCode::OK || headers[header::CONTENT_TYPE] == "application/grpc");
    let mut body = response.into_body();
    let mut messages = Vec::new();
    while let Some(part) = within(body.data()).await {
        let part = part.expect("a part of the body");
        body.flow_control().release_capacity(part.len()).unwrap();
        messages.extend_from_slice(&part);
    }
    let trailers: HeaderMap = within(body.trailers()).await.expect("trailers").unwrap_or(headers);
    let status = Status::from_header_map(&trailers).unwrap_or_else(|| Status::unknown("no status"));
    Answer { http, status, messages }
}
