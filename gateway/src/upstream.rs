//! The services behind the gateway, and how they are called: spread over all addresses, within a
//! deadline, and repeated only where a repetition cannot charge twice.

mod clients;
mod endpoint;
mod metadata;
mod pool;
mod ratelimit;

#[cfg(test)]
mod tests;

use std::{error::Error, future::Future, sync::Arc, time::Duration};

use futures_util::future::join_all;
use tidegate_chassis::auth::InternalTokens;
use tokio::time::Instant;
use tonic::{Code, ConnectError, Request, Response, Status, TimeoutExpired};

pub(crate) use self::{
    clients::{AuthClient, Behind, KeysClient, RateLimitClient, ServiceClient},
    endpoint::Endpoints,
    pool::{Member, Pool},
    ratelimit::RateLimit,
};
use crate::{app::Shared, edge::RequestContext, metrics::GatewayMetrics, reputation::Reputation};

/// One service. Belongs to the runtime it was opened on, where its connections live.
#[derive(Debug)]
pub(crate) struct Upstream {
    pool: Pool,
    deadline: Duration,
    tokens: Option<InternalTokens>,
    metrics: Arc<GatewayMetrics>,
    reputation: Arc<Reputation>,
}

type Answer<T> = Result<Response<T>, Status>;

impl Upstream {
    /// Calls the members of `pool`, each call within `deadline`, and otherwise with what all workers share.
    #[must_use]
    pub(crate) fn new(pool: Pool, deadline: Duration, shared: &Shared) -> Self {
        let (metrics, reputation) = (Arc::clone(&shared.metrics), Arc::clone(&shared.reputation));
        Self { pool, deadline, tokens: shared.tokens.clone(), metrics, reputation }
    }

    /// One call, by what `send` does with a client.
    ///
    /// # Errors
    /// What the service answered, `UNAVAILABLE` if no address could be reached, or
    /// `DEADLINE_EXCEEDED`.
    pub(crate) async fn ask<C: ServiceClient, T: Clone, R, F: Future<Output = Answer<R>>>(
        &self,
        request: T,
        context: &RequestContext,
        send: impl Fn(C, Request<T>) -> F,
    ) -> Result<R, Status> {
        self.ask_within(request, context, self.deadline, send).await
    }

    /// The same within another deadline.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub(crate) async fn ask_within<C: ServiceClient, T: Clone, R, F: Future<Output = Answer<R>>>(
        &self,
        request: T,
        context: &RequestContext,
        deadline: Duration,
        send: impl Fn(C, Request<T>) -> F,
    ) -> Result<R, Status> {
        self.counted(C::OF, self.call(request, context, deadline, send).await)
    }

    /// Calls every address that is known, all at once.
    ///
    /// # Errors
    /// Of each address, as [`ask`](Self::ask).
    pub(crate) async fn ask_all<C: ServiceClient, T: Clone, R, F: Future<Output = Answer<R>>>(
        &self,
        message: T,
        context: &RequestContext,
        send: impl Fn(C, Request<T>) -> F,
    ) -> Vec<Result<R, Status>> {
        let deadline = Instant::now() + self.deadline;
        let members = self.pool.members();
        let calls = members.iter().map(|member| {
            let call = self.attempt(member, message.clone(), context, deadline, &send);
            async move { self.counted(C::OF, call.await.map_err(|failure| failure.status)) }
        });
        join_all(calls).await
    }

    /// Calls one address, and once more another if the first call has certainly not been executed. A
    /// call that was lost on the way may have charged, so it is for the caller to repeat it, with an
    /// idempotency key.
    async fn call<C: ServiceClient, T: Clone, R, F: Future<Output = Answer<R>>>(
        &self,
        message: T,
        context: &RequestContext,
        deadline: Duration,
        send: impl Fn(C, Request<T>) -> F,
    ) -> Result<R, Status> {
        let deadline = Instant::now() + deadline;
        let first = self.pool.pick(None).ok_or_else(|| Status::unavailable("no address is known"))?;
        let failure = match self.attempt(&first, message.clone(), context, deadline, &send).await {
            Ok(answer) => return Ok(answer),
            Err(failure) => failure,
        };
        match self.pool.pick(Some(&first)) {
            Some(second) if failure.is_unexecuted && Instant::now() < deadline => {
                self.metrics.upstream_retry(C::OF);
                let again = self.attempt(&second, message, context, deadline, &send).await;
                again.map_err(|failure| failure.status)
            }
            _ => Err(failure.status),
        }
    }

    async fn attempt<C: ServiceClient, T, R, F: Future<Output = Answer<R>>>(
        &self,
        member: &Member,
        message: T,
        context: &RequestContext,
        deadline: Instant,
        send: impl Fn(C, Request<T>) -> F,
    ) -> Result<R, Failure> {
        let mut request = Request::new(message);
        request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        metadata::write(request.metadata_mut(), context, self.tokens.as_ref());
        let _in_flight = member.enter();
        let client = C::on(member.channel());
        let answer = tokio::time::timeout_at(deadline, send(client, request)).await;
        if let Ok(answer) = &answer {
            context.learn(self.reputation.learn(&context.speaker, answer.as_ref().map(drop)));
        }
        let failure = match answer {
            Ok(Ok(response)) => return Ok(response.into_inner()),
            Ok(Err(status)) => Failure::of(status),
            Err(_elapsed) => Failure::late(),
        };
        if failure.is_of_address {
            self.pool.suspect(member);
        }
        Err(failure)
    }

    fn counted<R>(&self, of: Behind, answer: Result<R, Status>) -> Result<R, Status> {
        self.metrics.upstream_call(of, answer.as_ref().map_or_else(Status::code, |_| Code::Ok));
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
