//! `tidegate bench-ceiling`: the yardstick of `cargo xtask bench`.
//!
//! A bare tonic server that answers every `Check` with the same three limits and decides nothing.
//! It is tonic as it comes, on what the rate-limit service builds on: messages of the same bytes, the same allocator and
//! profile, one current-thread runtime per core. The service adds the limiter, the chassis and the metrics, and saves some of
//! what is here: messages as trees, tonic's large buffers, the date header of hyper.

use std::{
    convert::Infallible,
    net::SocketAddr,
    process::ExitCode,
    sync::{Arc, mpsc},
    task::{Context as TaskContext, Poll},
    thread,
};

use anyhow::Context;
use bytes::Bytes;
use clap::Args;
use http::{Request, Response};
use tidegate_proto::ratelimit::v1::{
    Algorithm, CheckRequest, CheckResponse, Code, LimitStatus, rate_limit_service_server::SERVICE_NAME,
};
use tokio::net::TcpSocket;
use tonic::{
    Status,
    body::Body,
    codegen::BoxFuture,
    server::{Grpc, NamedService, UnaryService},
    transport::server::{Server, TcpIncoming},
};
use tonic_prost::ProstCodec;
use tower::Service;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// Serve canned answers to Check: what a server costs that decides nothing.
#[derive(Debug, Args)]
pub(crate) struct CeilingArgs {
    /// Address.
    #[arg(long, value_name = "HOST:PORT")]
    listen: SocketAddr,
}

/// Serves until the process is ended.
pub(crate) fn run(args: &CeilingArgs) -> anyhow::Result<ExitCode> {
    let listen = args.listen;
    let (ended, any_ended) = mpsc::channel();
    for _ in 0..thread::available_parallelism()?.get() {
        let ended = ended.clone();
        thread::Builder::new().name("ceiling".to_owned()).spawn(move || ended.send(serve(listen)))?;
    }
    drop(ended);
    any_ended.recv().context("a thread panicked")?.map(|()| ExitCode::SUCCESS)
}

/// Serves what the kernel gives to this one of the threads that share the address.
fn serve(listen: SocketAddr) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let socket = if listen.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseport(true)?;
        socket.bind(listen).with_context(|| format!("cannot listen on {listen}"))?;
        let incoming = TcpIncoming::from(socket.listen(BACKLOG)?).with_nodelay(Some(true));
        let service = Ceiling { answer: Arc::new(answer()) };
        Ok(Server::builder().add_service(service).serve_with_incoming(incoming).await?)
    })
}

/// About what the generated code of tonic does for a service of one method, with the codec and the messages of prost.
#[derive(Clone)]
struct Ceiling {
    answer: Arc<CheckResponse>,
}

impl NamedService for Ceiling {
    const NAME: &'static str = SERVICE_NAME;
}

impl Service<Request<Body>> for Ceiling {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            if request.uri().path() != "/tidegate.ratelimit.v1.RateLimitService/Check" {
                return Ok(Status::unimplemented("the yardstick answers Check only").into_http());
            }
            Ok(Grpc::new(ProstCodec::default()).unary(this, request).await)
        })
    }
}

impl UnaryService<CheckRequest> for Ceiling {
    type Response = CheckResponse;
    type Future = BoxFuture<tonic::Response<CheckResponse>, Status>;

    fn call(&mut self, _: tonic::Request<CheckRequest>) -> Self::Future {
        let answer = Arc::clone(&self.answer);
        Box::pin(async move { Ok(tonic::Response::new(CheckResponse::clone(&answer))) })
    }
}

/// An answer of the size that a check of an enterprise organization has.
fn answer() -> CheckResponse {
    let limit = |name: &str, limit: u64, seconds: u64| LimitStatus {
        name: name.to_owned(),
        algorithm: Algorithm::SlidingWindow.into(),
        limit,
        remaining: limit - 1,
        reset_after_ms: seconds * 1000,
        period_ms: seconds * 1000,
        ..LimitStatus::default()
    };
    CheckResponse {
        allowed: true,
        code: Code::Ok.into(),
        limits: vec![
            limit("enterprise/minute", 500, 60),
            limit("enterprise/hour", 10_000, 3600),
            limit("enterprise/day", 100_000, 86_400),
        ],
        binding_limit: Some(0),
        decision_id: Bytes::from_static(&[0x01; 16]),
        ..CheckResponse::default()
    }
}
