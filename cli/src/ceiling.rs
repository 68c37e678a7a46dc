//! `tidegate bench-ceiling`: the yardstick of `cargo xtask bench`.
//!
//! A bare tonic server that answers every `Check` with the same three limits and decides nothing.
//! It has what the rate-limit service builds on (same messages, allocator and profile, one
//! current-thread runtime) and none of what it adds, so the ratio of the two is what the limiter,
//! the chassis and the metrics cost. It serves on one core.

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Context;
use bytes::Bytes;
use clap::Args;
use tidegate_proto::ratelimit::v1::rate_limit_service_server::{RateLimitService, RateLimitServiceServer};
use tidegate_proto::ratelimit::v1::{
    Algorithm, CheckBatchRequest, CheckBatchResponse, CheckRequest, CheckResponse, CheckStreamRequest,
    CheckStreamResponse, Code, GetUsageRequest, GetUsageResponse, LimitStatus, PeekRequest, PeekResponse,
    ResetRequest, ResetResponse,
};
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

/// Serve canned answers to Check: what a server costs that decides nothing.
#[derive(Debug, Args)]
pub(crate) struct CeilingArgs {
    /// Address; port 0 takes a free one. The address taken is printed.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
}

/// Serves until the process is ended.
pub(crate) fn run(args: &CeilingArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let incoming = TcpIncoming::bind(args.listen)
            .with_context(|| format!("cannot listen on {}", args.listen))?
            .with_nodelay(Some(true));
        anstream::println!("{}", incoming.local_addr()?);
        let service = RateLimitServiceServer::new(Ceiling { answer: answer() });
        tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming).await?;
        Ok(ExitCode::SUCCESS)
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
    type CheckStreamStream = tokio_stream::Empty<Result<CheckStreamResponse, Status>>;

    async fn check(&self, _request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        Ok(Response::new(self.answer.clone()))
    }

    async fn check_batch(&self, _: Request<CheckBatchRequest>) -> Result<Response<CheckBatchResponse>, Status> {
        Err(only_check())
    }

    async fn check_stream(
        &self,
        _: Request<Streaming<CheckStreamRequest>>,
    ) -> Result<Response<Self::CheckStreamStream>, Status> {
        Err(only_check())
    }

    async fn peek(&self, _: Request<PeekRequest>) -> Result<Response<PeekResponse>, Status> {
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
