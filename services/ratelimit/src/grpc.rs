//! `tidegate.ratelimit.v1` on the wire: the only place that knows both proto and domain.

mod error;
mod parse;
mod render;
mod stream;

use std::sync::Arc;

use futures_util::{FutureExt, future::join_all};
use tidegate_chassis::clock::{Clock, Random};
use tidegate_proto::{
    Encoded,
    fields::Writer,
    ratelimit::v1::{self as pb, rate_limit_service_server::RateLimitService},
};
use tonic::{Request, Response, Status, Streaming};

use self::{error::to_status, parse::Asked, render::Renderer};
use crate::{
    limiter::{Limiter, Verdict},
    metrics::CheckStats,
};

/// Room for an answer with the limits of a plan; others take more.
const ANSWER_BYTES: usize = 256;

/// Numbers of the fields of `CheckBatchResponse` and `CheckBatchResult`.
const RESULTS: u8 = 1;
const RESULT: u8 = 1;

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
    /// Decides, and hands what came of it to `write`.
    #[inline]
    async fn decide<T>(&self, asked: Asked<'_>, write: impl FnOnce(Result<&Verdict<'_>, Status>) -> T) -> T {
        let policies = self.limiter.policies();
        match self.limiter.check(&policies, asked).await {
            Ok(verdict) => {
                self.stats.record(&verdict);
                write(Ok(&verdict))
            }
            Err(error) => {
                self.stats.record_error();
                write(Err(to_status(&error)))
            }
        }
    }

    /// Decides one check of many, and writes what came of it: its `result` as the field of that number, or its `error`
    /// as the field after it.
    #[inline]
    async fn outcome(&self, asked: Result<Asked<'_>, Status>, result: u8, out: &mut Writer<'_>) {
        let error =
            |status: &Status, out: &mut Writer<'_>| out.generated(result + 1, &error::to_answer(status));
        match asked {
            Ok(asked) => {
                let write = |decided: Result<&Verdict<'_>, Status>| match decided {
                    Ok(verdict) => out.message(result, |out| self.renderer.check(verdict, out)),
                    Err(status) => error(&status, out),
                };
                self.decide(asked, write).await;
            }
            Err(status) => error(&status, out),
        }
    }
}

/// What a store that answers at once makes of a check.
#[inline]
fn at_once<T>(decided: impl Future<Output = T>) -> T {
    decided.now_or_never().expect("Limiter::answers_at_once says that nothing is waited for")
}

#[tonic::async_trait]
impl RateLimitService for RateLimitApi {
    type CheckStreamStream = stream::Answers;

    async fn check(
        &self,
        request: Request<Encoded<pb::CheckRequest>>,
    ) -> Result<Response<Encoded<pb::CheckResponse>>, Status> {
        let view = request.get_ref().view()?;
        let asked = parse::check(&view)?;
        let mut answer = Vec::with_capacity(ANSWER_BYTES);
        let write = |decided: Result<&Verdict<'_>, Status>| {
            decided.map(|verdict| self.shared.renderer.check(verdict, &mut Writer::new(&mut answer)))
        };
        self.shared.decide(asked, write).await?;
        Ok(Response::new(Encoded::from_bytes(answer)))
    }

    async fn check_batch(
        &self,
        request: Request<Encoded<pb::CheckBatchRequest>>,
    ) -> Result<Response<Encoded<pb::CheckBatchResponse>>, Status> {
        let shared = &*self.shared;
        let checks = parse::batch(request.get_ref())?;
        let mut answer = Vec::with_capacity(checks.len() * ANSWER_BYTES);
        let mut out = Writer::new(&mut answer);
        if shared.limiter.answers_at_once() {
            for view in &checks {
                out.message(RESULTS, |out| at_once(shared.outcome(Ok(parse::asked(view)), RESULT, out)));
            }
        } else {
            // All of them are under way at once, so that a store that batches sees them together.
            let outcomes = checks.iter().map(|view| async {
                let mut outcome = Vec::with_capacity(ANSWER_BYTES);
                shared.outcome(Ok(parse::asked(view)), RESULT, &mut Writer::new(&mut outcome)).await;
                outcome
            });
            for outcome in join_all(outcomes).await {
                out.bytes(RESULTS, &outcome);
            }
        }
        Ok(Response::new(Encoded::from_bytes(answer)))
    }

    async fn check_stream(
        &self,
        request: Request<Streaming<Encoded<pb::CheckStreamRequest>>>,
    ) -> Result<Response<Self::CheckStreamStream>, Status> {
        Ok(Response::new(stream::answers(Arc::clone(&self.shared), request.into_inner())))
    }

    async fn peek(
        &self,
        request: Request<pb::PeekRequest>,
    ) -> Result<Response<Encoded<pb::PeekResponse>>, Status> {
        let view = parse::peek(request.get_ref());
        let asked = parse::check(&view)?;
        let policies = self.shared.limiter.policies();
        let verdict = self.shared.limiter.peek(&policies, asked).await.map_err(|error| to_status(&error))?;
        let mut answer = Vec::with_capacity(ANSWER_BYTES);
        Writer::new(&mut answer).message(1, |out| self.shared.renderer.check(&verdict, out));
        Ok(Response::new(Encoded::from_bytes(answer)))
    }

    async fn reset(&self, request: Request<pb::ResetRequest>) -> Result<Response<pb::ResetResponse>, Status> {
        let view = parse::reset(request.get_ref());
        let asked = parse::check(&view)?;
        let policies = self.shared.limiter.policies();
        let limit = Some(request.get_ref().limit.as_str()).filter(|name| !name.is_empty());
        let cleared = self
            .shared
            .limiter
            .reset(&policies, asked.namespace, asked.attributes, limit)
            .await
            .map_err(|error| to_status(&error))?;
        let limits = cleared.iter().map(|limit| limit.full_name.as_ref().to_owned()).collect();
        Ok(Response::new(pb::ResetResponse { limits }))
    }

    async fn get_usage(
        &self,
        request: Request<pb::GetUsageRequest>,
    ) -> Result<Response<pb::GetUsageResponse>, Status> {
        let view = parse::usage(request.get_ref());
        let asked = parse::check(&view)?;
        let policies = self.shared.limiter.policies();
        let verdict = self.shared.limiter.peek(&policies, asked).await.map_err(|error| to_status(&error))?;
        Ok(Response::new(self.shared.renderer.usage(&verdict)))
    }
}
