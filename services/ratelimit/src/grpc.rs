//! `tidegate.ratelimit.v1` on the wire: the only place that knows both proto and domain.

mod error;
mod parse;
mod render;
mod stream;

use std::{pin::Pin, sync::Arc};

use futures_util::{Stream, future::join_all};
use tidegate_chassis::clock::{Clock, Random};
use tidegate_proto::ratelimit::v1::{
    self as pb, check_batch_result::Outcome, rate_limit_service_server::RateLimitService,
};
use tonic::{Request, Response, Status, Streaming};

use self::{error::to_status, parse::ParsedCheck, render::Renderer};
use crate::{limiter::Limiter, metrics::CheckStats};

/// The service of one worker.
#[derive(Clone)]
pub(crate) struct RateLimitApi {
    shared: Arc<Shared>,
}

struct Shared {
    limiter: Limiter,
    renderer: Renderer,
    stats: Arc<CheckStats>,
}

impl RateLimitApi {
    /// Serves `limiter`.
    pub(crate) fn new(limiter: Limiter, clock: Clock, random: Random, stats: Arc<CheckStats>) -> Self {
        Self { shared: Arc::new(Shared { limiter, renderer: Renderer::new(clock, random), stats }) }
    }
}

impl Shared {
    async fn check(&self, request: &pb::CheckRequest) -> Result<pb::CheckResponse, Status> {
        let parsed = parse::check(request)?;
        self.decide(&parsed).await
    }

    async fn decide(&self, parsed: &ParsedCheck<'_>) -> Result<pb::CheckResponse, Status> {
        let policies = self.limiter.policies();
        match self.limiter.check(&policies, parsed.question()).await {
            Ok(verdict) => {
                self.stats.record(&verdict);
                Ok(self.renderer.check(&verdict))
            }
            Err(error) => {
                self.stats.record_error();
                Err(to_status(&error))
            }
        }
    }
}

#[tonic::async_trait]
impl RateLimitService for RateLimitApi {
    type CheckStreamStream = Pin<Box<dyn Stream<Item = Result<pb::CheckStreamResponse, Status>> + Send>>;

    async fn check(&self, request: Request<pb::CheckRequest>) -> Result<Response<pb::CheckResponse>, Status> {
        self.shared.check(request.get_ref()).await.map(Response::new)
    }

    async fn check_batch(
        &self,
        request: Request<pb::CheckBatchRequest>,
    ) -> Result<Response<pb::CheckBatchResponse>, Status> {
        let parsed = parse::batch(&request.get_ref().checks)?;
        // All of them are under way at once, so that a store that batches sees them together.
        let outcomes = join_all(parsed.iter().map(|check| self.shared.decide(check))).await;
        let results = outcomes.into_iter().map(|outcome| pb::CheckBatchResult {
            outcome: Some(match outcome {
                Ok(result) => Outcome::Result(result),
                Err(status) => Outcome::Error(error::to_answer(&status)),
            }),
        });
        Ok(Response::new(pb::CheckBatchResponse { results: results.collect() }))
    }

    async fn check_stream(
        &self,
        request: Request<Streaming<pb::CheckStreamRequest>>,
    ) -> Result<Response<Self::CheckStreamStream>, Status> {
        let shared = Arc::clone(&self.shared);
        Ok(Response::new(Box::pin(stream::answers(shared, request.into_inner()))))
    }

    async fn peek(&self, request: Request<pb::PeekRequest>) -> Result<Response<pb::PeekResponse>, Status> {
        let parsed = parse::peek(request.get_ref())?;
        let policies = self.shared.limiter.policies();
        let verdict = self
            .shared
            .limiter
            .peek(&policies, parsed.question())
            .await
            .map_err(|error| to_status(&error))?;
        Ok(Response::new(pb::PeekResponse { result: Some(self.shared.renderer.check(&verdict)) }))
    }

    async fn reset(&self, request: Request<pb::ResetRequest>) -> Result<Response<pb::ResetResponse>, Status> {
        let parsed = parse::reset(request.get_ref())?;
        let policies = self.shared.limiter.policies();
        let limit = Some(request.get_ref().limit.as_str()).filter(|name| !name.is_empty());
        let question = parsed.question();
        let cleared = self
            .shared
            .limiter
            .reset(&policies, question.namespace, question.attributes, limit)
            .await
            .map_err(|error| to_status(&error))?;
        let limits = cleared.iter().map(|limit| limit.full_name.as_ref().to_owned()).collect();
        Ok(Response::new(pb::ResetResponse { limits }))
    }

    async fn get_usage(
        &self,
        request: Request<pb::GetUsageRequest>,
    ) -> Result<Response<pb::GetUsageResponse>, Status> {
        let parsed = parse::usage(request.get_ref())?;
        let policies = self.shared.limiter.policies();
        let verdict = self
            .shared
            .limiter
            .peek(&policies, parsed.question())
            .await
            .map_err(|error| to_status(&error))?;
        Ok(Response::new(self.shared.renderer.usage(&verdict)))
    }
}
