//! `tidegate bench-ceiling`: the yardstick of `cargo xtask bench`.
//!
//! A bare tonic server that answers every `Check` with the same three limits and decides nothing.
//! It has what the rate-limit service builds on (same messages, allocator and profile, one
//! current-thread runtime per core) and none of what it adds, so the ratio of the two is what the limiter,
//! the chassis and the metrics cost.

use std::{net::SocketAddr, process::ExitCode, sync::mpsc, thread};

use anyhow::Context;
use bytes::Bytes;
use clap::Args;
use tidegate_proto::{
    Encoded,
    ratelimit::v1::{
        Algorithm, CheckBatchRequest, CheckBatchResponse, CheckRequest, CheckResponse, CheckStreamRequest,
        CheckStreamResponse, Code, GetUsageRequest, GetUsageResponse, LimitStatus, PeekRequest, PeekResponse,
        ResetRequest, ResetResponse,
        rate_limit_service_server::{RateLimitService, RateLimitServiceServer},
    },
};
use tokio::net::TcpSocket;
use tonic::{
    Request, Response, Status, Streaming,
    transport::server::{Server, TcpIncoming},
};

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
        let service = RateLimitServiceServer::new(Ceiling { answer: answer() });
        Ok(Server::builder().add_service(service).serve_with_incoming(incoming).await?)
    })
}

struct Ceiling {
    answer: CheckResponse,
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

#[tonic::async_trait]
impl RateLimitService for Ceiling {
    type CheckStreamStream = tokio_stream::Empty<Result<Encoded<CheckStreamResponse>, Status>>;

    async fn check(
        &self,
        request: Request<Encoded<CheckRequest>>,
    ) -> Result<Response<Encoded<CheckResponse>>, Status> {
        // As a plain tonic server would, by the generated code both ways.
        request.get_ref().decode()?;
        Ok(Response::new(Encoded::from(&self.answer)))
    }

    async fn check_batch(
        &self,
        _: Request<Encoded<CheckBatchRequest>>,
    ) -> Result<Response<Encoded<CheckBatchResponse>>, Status> {
        Err(only_check())
    }

    async fn check_stream(
        &self,
        _: Request<Streaming<Encoded<CheckStreamRequest>>>,
    ) -> Result<Response<Self::CheckStreamStream>, Status> {
        Err(only_check())
    }

    async fn peek(&self, _: Request<PeekRequest>) -> Result<Response<Encoded<PeekResponse>>, Status> {
        Err(only_check())
    }

    async fn reset(&self, _: Request<ResetRequest>) -> Result<Response<ResetResponse>, Status> {
        Err(only_check())
    }

    async fn get_usage(&self, _: Request<GetUsageRequest>) -> Result<Response<GetUsageResponse>, Status> {
        Err(only_check())
    }
}

fn only_check() -> Status {
    Status::unimplemented("the yardstick answers Check only")
}
