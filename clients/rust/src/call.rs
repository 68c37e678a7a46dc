//! One call: within its deadline, and sent again only where that cannot charge twice.

use std::{error::Error as StdError, future::Future, time::Duration};

use http::{HeaderMap, HeaderValue};
use tokio::time::{Instant, sleep, timeout_at};
use tonic::{Code, ConnectError, Request, Response, Status, TimeoutExpired, transport::Channel};

use crate::{
    Error,
    breaker::Breaker,
    pool::{Member, Pool},
};

/// Attempts of one call.
const ATTEMPTS: u32 = 4;
/// Before the same address is tried again; grows with each attempt.
const PAUSE: Duration = Duration::from_millis(2);

/// One service, as this client sees it.
#[derive(Debug)]
pub(crate) struct Upstream {
    pool: Pool,
    breaker: Breaker,
}

/// How one call is made.
#[derive(Debug)]
pub(crate) struct Terms<'a> {
    pub(crate) deadline: Duration,
    pub(crate) repeat: Repeat,
    pub(crate) headers: [&'a HeaderMap; 2],
    pub(crate) authorization: Option<HeaderValue>,
}

/// When a call may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    Never,
    /// If it has certainly not been executed.
    Unexecuted,
    /// Also if it may have been: doing it twice is the same as once.
    Always,
}

impl Upstream {
    pub(crate) fn new(pool: Pool) -> Self {
        Self { pool, breaker: Breaker::new() }
    }

    /// Makes a call by what `send` does with a connection.
    pub(crate) async fn call<T: Clone, R, F: Future<Output = Result<Response<R>, Status>>>(
        &self,
        message: T,
        terms: &Terms<'_>,
        send: impl Fn(Channel, Request<T>) -> F,
    ) -> Result<R, Error> {
        let started = Instant::now();
        if !self.breaker.admits(started) {
            return Err(Error::BreakerOpen);
        }
        let answer = self.attempts(message, terms, started + terms.deadline, send).await;
        let is_silence = matches!(&answer, Err(error) if error.is_silence());
        self.breaker.record(!is_silence, Instant::now());
        answer
    }

    async fn attempts<T: Clone, R, F: Future<Output = Result<Response<R>, Status>>>(
        &self,
        message: T,
        terms: &Terms<'_>,
        deadline: Instant,
        send: impl Fn(Channel, Request<T>) -> F,
    ) -> Result<R, Error> {
        let nowhere = || Error::Unreachable("no address is known".to_owned());
        let mut member = self.pool.pick(None).ok_or_else(nowhere)?;
        let mut number = 1;
        loop {
            let failure = match self.attempt(&member, message.clone(), terms, deadline, &send).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            if !failure.allows(terms.repeat) || number == ATTEMPTS {
                return Err(failure.error);
            }
            // What may have been executed goes to the same replica again, which remembers its key even if its counters are its
            // own; only one that certainly does not have the call is left for another.
            let next = match failure.kind {
                Kind::Unexecuted => self.pool.pick(Some(&member)).ok_or_else(nowhere)?,
                Kind::Broken | Kind::Late | Kind::Answered => std::sync::Arc::clone(&member),
            };
            if std::sync::Arc::ptr_eq(&next, &member) {
                let pause = PAUSE * number;
                if Instant::now() + pause >= deadline {
                    return Err(failure.error);
                }
                sleep(pause).await;
            }
            member = next;
            number += 1;
        }
    }

    async fn attempt<T, R, F: Future<Output = Result<Response<R>, Status>>>(
        &self,
        member: &Member,
        message: T,
        terms: &Terms<'_>,
        deadline: Instant,
        send: impl Fn(Channel, Request<T>) -> F,
    ) -> Result<R, Failure> {
        let mut request = Request::new(message);
        request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        let headers = request.metadata_mut().as_mut();
        for (name, value) in terms.headers.into_iter().flatten() {
            headers.append(name, value.clone());
        }
        if let Some(token) = &terms.authorization {
            headers.insert(http::header::AUTHORIZATION, token.clone());
        }
        let _in_flight = member.enter();
        let failure = match timeout_at(deadline, send(member.channel(), request)).await {
            Ok(Ok(response)) => return Ok(response.into_inner()),
            Ok(Err(status)) => Failure::of(&status, terms.deadline),
            Err(_elapsed) => Failure::late(terms.deadline),
        };
        match failure.kind {
            Kind::Unexecuted | Kind::Broken | Kind::Late => self.pool.suspect(member),
            Kind::Answered => {}
        }
        Err(failure)
    }
}

/// Why an attempt failed.
struct Failure {
    error: Error,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Nothing has been charged for this call: it was never sent, or its peer says that it refused it unprocessed.
    Unexecuted,
    /// The connection broke while the call was under way.
    Broken,
    /// The deadline is over.
    Late,
    /// The service said so itself.
    Answered,
}

impl Failure {
    fn of(status: &Status, deadline: Duration) -> Self {
        // Only what went wrong on this side of the wire has a source.
        if status.source().is_none() {
            if status.code() == Code::DeadlineExceeded {
                return Self { error: Error::DeadlineExceeded(deadline), kind: Kind::Answered };
            }
            return Self { error: Error::of_status(status), kind: Kind::Answered };
        }
        if causes(status).any(<dyn StdError>::is::<TimeoutExpired>) {
            return Self::late(deadline);
        }
        let kind = if causes(status).any(is_unexecuted) { Kind::Unexecuted } else { Kind::Broken };
        let last = causes(status).last().map(ToString::to_string).unwrap_or_default();
        Self { error: Error::Unreachable(last), kind }
    }

    fn late(deadline: Duration) -> Self {
        Self { error: Error::DeadlineExceeded(deadline), kind: Kind::Late }
    }

    fn allows(&self, repeat: Repeat) -> bool {
        match (self.kind, repeat) {
            (Kind::Unexecuted, Repeat::Unexecuted | Repeat::Always) | (Kind::Broken, Repeat::Always) => true,
            (Kind::Unexecuted | Kind::Broken, _) | (Kind::Late | Kind::Answered, _) => false,
        }
    }
}

/// No connection came up; the connection closed before the call was written; or the peer said that it did not process the call
/// (RFC 9113, 8.7): by REFUSED_STREAM, or by a GOAWAY below its stream, which h2 reports as NO_ERROR.
fn is_unexecuted(cause: &(dyn StdError + 'static)) -> bool {
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

fn causes(status: &Status) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    std::iter::successors(status.source(), |error| (*error).source())
}
