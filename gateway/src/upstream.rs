//! The services behind the gateway, and how they are called: spread over all addresses, within a
//! deadline, and repeated only where a repetition cannot charge twice.

mod endpoint;
mod pool;

#[cfg(test)]
mod tests;

use std::{error::Error, future::Future, sync::Arc, time::Duration};

use futures_util::future::join_all;
use tidegate_chassis::trace;
use tidegate_proto::ratelimit::v1::{
    CheckBatchRequest, CheckBatchResponse, CheckRequest, CheckResponse, GetUsageRequest, GetUsageResponse,
    ListPolicyStatsRequest, ListPolicyStatsResponse, ListTopKeysRequest, ListTopKeysResponse, ResetRequest,
    ResetResponse, rate_limit_service_client::RateLimitServiceClient,
};
use tokio::time::Instant;
use tonic::{Code, ConnectError, Request, Response, Status, TimeoutExpired, transport::Channel};

pub(crate) use self::{
    endpoint::Endpoints,
    pool::{Member, Pool},
};
use crate::{
    edge::{RequestContext, TRACESTATE, X_REQUEST_ID},
    metrics::GatewayMetrics,
};

/// The rate-limit service. Belongs to the runtime it was opened on, where its connections live.
#[derive(Debug)]
pub(crate) struct RateLimit {
    pool: Pool,
    metrics: Arc<GatewayMetrics>,
}

/// Calls one address.
pub(crate) type Client = RateLimitServiceClient<Channel>;
type Answer<T> = Result<Response<T>, Status>;

impl RateLimit {
    /// Calls the members of `pool`.
    #[must_use]
    pub(crate) fn new(pool: Pool, metrics: Arc<GatewayMetrics>) -> Self {
        Self { pool, metrics }
    }

    /// One check, within `deadline`.
    ///
    /// # Errors
    /// What the service answered, `UNAVAILABLE` if no address could be reached, or
    /// `DEADLINE_EXCEEDED`.
    pub(crate) async fn check(
        &self,
        check: CheckRequest,
        context: &RequestContext,
        deadline: Duration,
    ) -> Result<CheckResponse, Status> {
        let send = |mut client: Client, request| async move { client.check(request).await };
        self.counted(self.call(check, context, deadline, send).await)
    }

    /// One batch, within `deadline`.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub(crate) async fn check_batch(
        &self,
        batch: CheckBatchRequest,
        context: &RequestContext,
        deadline: Duration,
    ) -> Result<CheckBatchResponse, Status> {
        let send = |mut client: Client, request| async move { client.check_batch(request).await };
        self.counted(self.call(batch, context, deadline, send).await)
    }

    /// The use of every limit that applies, within `deadline`.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub(crate) async fn get_usage(
        &self,
        request: GetUsageRequest,
        context: &RequestContext,
        deadline: Duration,
    ) -> Result<GetUsageResponse, Status> {
        let send = |mut client: Client, request| async move { client.get_usage(request).await };
        self.counted(self.call(request, context, deadline, send).await)
    }

    /// Clears limits, within `deadline`.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub(crate) async fn reset(
        &self,
        request: ResetRequest,
        context: &RequestContext,
        deadline: Duration,
    ) -> Result<ResetResponse, Status> {
        let send = |mut client: Client, request| async move { client.reset(request).await };
        self.counted(self.call(request, context, deadline, send).await)
    }

    /// The heaviest keys that each address saw, within `deadline`.
    ///
    /// # Errors
    /// Of each address, as [`check`](Self::check).
    pub(crate) async fn list_top_keys(
        &self,
        request: ListTopKeysRequest,
        context: &RequestContext,
        deadline: Duration,
    ) -> Vec<Result<ListTopKeysResponse, Status>> {
        let send = |mut client: Client, request| async move { client.list_top_keys(request).await };
        self.call_all(request, context, deadline, send).await
    }

    /// What policies said at each address, within `deadline`.
    ///
    /// # Errors
    /// Of each address, as [`check`](Self::check).
    pub(crate) async fn list_policy_stats(
        &self,
        request: ListPolicyStatsRequest,
        context: &RequestContext,
        deadline: Duration,
    ) -> Vec<Result<ListPolicyStatsResponse, Status>> {
        let send = |mut client: Client, request| async move { client.list_policy_stats(request).await };
        self.call_all(request, context, deadline, send).await
    }

    /// Calls every address that is known, all at once.
    async fn call_all<T: Clone, R, F: Future<Output = Answer<R>>>(
        &self,
        message: T,
        context: &RequestContext,
        deadline: Duration,
        send: impl Fn(Client, Request<T>) -> F,
    ) -> Vec<Result<R, Status>> {
        let deadline = Instant::now() + deadline;
        let members = self.pool.members();
        let calls = members.iter().map(|member| {
            let call = self.attempt(member, message.clone(), context, deadline, &send);
            async move { self.counted(call.await.map_err(|failure| failure.status)) }
        });
        join_all(calls).await
    }

    /// Any other call, by what `send` does with a client, within `deadline`.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub(crate) async fn ask<T: Clone, R, F: Future<Output = Answer<R>>>(
        &self,
        request: T,
        context: &RequestContext,
        deadline: Duration,
        send: impl Fn(Client, Request<T>) -> F,
    ) -> Result<R, Status> {
        self.counted(self.call(request, context, deadline, send).await)
    }

    /// Calls one address, and once more another if the first call has certainly not been executed. A
    /// call that was lost on the way may have charged, so it is for the caller to repeat it, with an
    /// idempotency key.
    async fn call<T: Clone, R, F: Future<Output = Answer<R>>>(
        &self,
        message: T,
        context: &RequestContext,
        deadline: Duration,
        send: impl Fn(Client, Request<T>) -> F,
    ) -> Result<R, Status> {
        let deadline = Instant::now() + deadline;
        let first = self.pool.pick(None).ok_or_else(|| Status::unavailable("no address is known"))?;
        let failure = match self.attempt(&first, message.clone(), context, deadline, &send).await {
            Ok(answer) => return Ok(answer),
            Err(failure) => failure,
        };
        match self.pool.pick(Some(&first)) {
            Some(second) if failure.is_unexecuted && Instant::now() < deadline => {
                self.metrics.upstream_retries.inc();
                let again = self.attempt(&second, message, context, deadline, &send).await;
                again.map_err(|failure| failure.status)
            }
            _ => Err(failure.status),
        }
    }

    async fn attempt<T, R, F: Future<Output = Answer<R>>>(
        &self,
        member: &Member,
        message: T,
        context: &RequestContext,
        deadline: Instant,
        send: impl Fn(Client, Request<T>) -> F,
    ) -> Result<R, Failure> {
        let mut request = Request::new(message);
        request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        let metadata = request.metadata_mut();
        metadata.as_mut().insert(X_REQUEST_ID, context.request_id_header());
        trace::inject(metadata);
        if let Some(parent) = context.traceparent.filter(|_| !metadata.contains_key("traceparent")) {
            parent.inject(metadata);
            for state in &context.tracestate {
                metadata.as_mut().append(TRACESTATE, state.clone());
            }
        }
        let _in_flight = member.enter();
        let client = RateLimitServiceClient::new(member.channel());
        let failure = match tokio::time::timeout_at(deadline, send(client, request)).await {
            Ok(Ok(response)) => return Ok(response.into_inner()),
            Ok(Err(status)) => Failure::of(status),
            Err(_elapsed) => Failure::late(),
        };
        if failure.is_of_address {
            self.pool.suspect(member);
        }
        Err(failure)
    }

    fn counted<R>(&self, answer: Result<R, Status>) -> Result<R, Status> {
        self.metrics.upstream_call(answer.as_ref().map_or_else(Status::code, |_| Code::Ok));
        answer
    }
}

/// Why an attempt failed.
struct Failure {
    status: Status,
    /// Nothing has been charged for this call: it was never sent, or its peer says that it refused it
    /// unprocessed.
    is_unexecuted: bool,
    /// Not the service's answer, but a connection or an address that does not work.
    is_of_address: bool,
}

impl Failure {
    fn of(status: Status) -> Self {
        // Only what went wrong on this side of the wire has a source.
        if status.source().is_none() {
            return Self { status, is_unexecuted: false, is_of_address: false };
        }
        if causes(&status).any(<dyn Error>::is::<TimeoutExpired>) {
            return Self::late();
        }
        let is_unexecuted = causes(&status).any(is_unexecuted);
        tracing::debug!(error = ?status, is_unexecuted, "a call broke");
        Self { status: Status::unavailable("the connection failed"), is_unexecuted, is_of_address: true }
    }

    fn late() -> Self {
        let status = Status::deadline_exceeded("no answer in time");
        Self { status, is_unexecuted: false, is_of_address: true }
    }
}

/// No connection came up; the connection closed before the call was written; or the peer said that it
/// did not process the call (RFC 9113, 8.7): by REFUSED_STREAM, or by a GOAWAY below its stream, which
/// h2 reports as NO_ERROR.
fn is_unexecuted(cause: &(dyn Error + 'static)) -> bool {
    let is_unsent = cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled);
    let is_refused = cause.downcast_ref::<h2::Error>().is_some_and(|error| {
        let says_so = match error.reason() {
            Some(h2::Reason::REFUSED_STREAM) => error.is_reset(),
            Some(h2::Reason::NO_ERROR) => error.is_go_away(),
            _ => false,
        };
        error.is_remote() && says_so
    });
    is_unsent || is_refused || cause.is::<ConnectError>()
}

fn causes(status: &Status) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(status.source(), |error| (*error).source())
}
