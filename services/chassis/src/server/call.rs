//! One call: counted, bounded in time, and safe from its handler's panics.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex, atomic::Ordering},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderName, HeaderValue, Response};
use tonic::{Code, Status, body::Body};
use tracing::Span;

use super::{
    body::CallBody,
    deadline::{Deadline, has_passed},
    methods::{Budget, Method, MethodId, Methods},
    stats::{CallStats, Counters},
};
use crate::{
    auth::{Authenticator, TokenCache},
    error,
    panics::{self, Panic},
};

static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
static GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// What a caller is told to wait when the process is full.
const OVERLOAD_RETRY: Duration = Duration::from_secs(1);

/// What the calls of one worker share.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) methods: Arc<Methods>,
    pub(super) stats: Arc<CallStats>,
    pub(super) counters: Counters,
    pub(super) max_in_flight: usize,
    pub(super) request_timeout: Duration,
    pub(super) auth: Authenticator,
    /// Only this worker's thread takes the lock.
    pub(super) tokens: Mutex<TokenCache>,
}

/// A call from its first header to its last byte. Dropped before it is finished, it was cancelled.
#[derive(Debug)]
pub(super) struct Call {
    worker: Arc<Worker>,
    method: MethodId,
    started: Instant,
    is_finished: bool,
    request_id: Option<HeaderValue>,
    span: Option<Span>,
}

impl Call {
    pub(super) fn start(
        worker: &Arc<Worker>,
        method: MethodId,
        request_id: Option<HeaderValue>,
        span: Option<Span>,
    ) -> Self {
        worker.stats.start(method);
        worker.counters.in_flight(worker.methods.get(method).budget).fetch_add(1, Ordering::Relaxed);
        Self {
            worker: Arc::clone(worker),
            method,
            started: Instant::now(),
            is_finished: false,
            request_id,
            span,
        }
    }

    /// Whether the process is over its limit with this call.
    pub(super) fn is_too_many(&self) -> bool {
        let budget = self.method().budget;
        budget != Budget::Unbounded
            && self.worker.counters.in_flight(budget).load(Ordering::Relaxed) > self.worker.max_in_flight
    }

    /// Until when the call must be answered, or its stream opened, and until when its stream may
    /// last. A request of one message ends after `request_timeout` whatever its caller allows: it is
    /// held, and counted, from its first header, and a peer that never ends it costs nothing else.
    pub(super) fn deadlines(&self, timeout: Option<Duration>) -> (Option<Deadline>, Option<Deadline>) {
        let method = self.method();
        let request_timeout = method.takes_one.then_some(self.worker.request_timeout);
        let until_answer = timeout.into_iter().chain(request_timeout).min();
        let at = |timeout| Deadline::after(self.started, timeout);
        (until_answer.map(at), timeout.filter(|_| method.streams).map(at))
    }

    pub(super) fn overloaded(&self) -> Status {
        self.worker.counters.overloaded.inc();
        let message = "too many calls in flight";
        error::status(Code::ResourceExhausted, "SERVER_OVERLOADED", message, Some(OVERLOAD_RETRY))
    }

    pub(super) fn deadline_exceeded() -> Status {
        error::status(
            Code::DeadlineExceeded,
            "DEADLINE_EXCEEDED",
            "the call took longer than its deadline, or than the server lets a request take",
            None,
        )
    }

    /// Polls the handler or its answer within the call's span.
    pub(super) fn guard<T>(&self, poll: impl FnOnce() -> T) -> Result<T, Status> {
        let result = panics::catch(|| match &self.span {
            None => poll(),
            Some(span) => span.in_scope(poll),
        });
        result.map_err(|panic| self.panicked(&panic))
    }

    pub(super) fn finish(&mut self, code: Code) {
        if self.is_finished {
            return;
        }
        self.is_finished = true;
        self.worker.stats.finish(self.method, code, self.started.elapsed());
        self.worker.counters.in_flight(self.method().budget).fetch_sub(1, Ordering::Relaxed);
        if let Some(span) = self.span.take() {
            span.record("rpc.grpc.status_code", code as i32);
            if is_defect(code) {
                span.record("otel.status_code", "ERROR");
            }
        }
    }

    /// Finishes with the status in `fields` (headers or trailers), and logs it if it is our fault.
    pub(super) fn finish_with(&mut self, fields: &HeaderMap) {
        let code = fields.get(&GRPC_STATUS).map_or(Code::Unknown, |code| Code::from_bytes(code.as_bytes()));
        if is_defect(code) {
            let message =
                fields.get(&GRPC_MESSAGE).and_then(|message| message.to_str().ok()).unwrap_or_default();
            self.log(|method, request_id| {
                tracing::error!(rpc_method = method.name, code = ?code, request_id, status_message = message, "call failed");
            });
        }
        self.finish(code);
    }

    fn method(&self) -> &Method {
        self.worker.methods.get(self.method)
    }

    fn panicked(&self, panic: &Panic) -> Status {
        self.worker.counters.panics.inc();
        let Panic { message, location } = panic;
        self.log(|method, request_id| {
            let (service, method) = (&method.service, &method.name);
            tracing::error!(
                rpc_service = service,
                rpc_method = method,
                request_id,
                location,
                panic = message,
                "handler panicked"
            );
        });
        error::status(Code::Internal, "INTERNAL", "internal error", None)
    }

    fn log(&self, line: impl FnOnce(&Method, Option<&str>)) {
        let request_id =
            self.request_id.as_ref().and_then(|id| id.to_str().ok()).filter(|id| is_request_id(id));
        let log = || line(self.method(), request_id);
        match &self.span {
            None => log(),
            Some(span) => span.in_scope(log),
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.finish(Code::Cancelled);
    }
}

/// Statuses that mean a defect of the server, not of the request.
fn is_defect(code: Code) -> bool {
    matches!(code, Code::Internal | Code::Unknown | Code::DataLoss)
}

/// At most 128 of `[A-Za-z0-9._-]`; anything else is not written to the log.
fn is_request_id(id: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=128).contains(&id.len()) && id.bytes().all(is_allowed)
}

/// The future of one call's answer.
pub(super) enum CallFuture<F> {
    /// Refused before the handler saw it.
    Refused(Option<Box<Response<CallBody>>>),
    /// In the handler.
    Running(Running<F>),
}

/// What answers a call.
pub(super) enum Handler<F> {
    /// The served service.
    Own(F),
    /// One of those that every server has; or the served one, once it is known who calls.
    Boxed(Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>),
}

pub(super) struct Running<F> {
    pub(super) handler: Handler<F>,
    /// Given on to the answer's body if that is a stream.
    pub(super) call: Option<Call>,
    /// For the answer.
    pub(super) deadline: Option<Deadline>,
    /// For the answer's last byte, if it is a stream.
    pub(super) stream_deadline: Option<Deadline>,
}

impl<F> CallFuture<F> {
    pub(super) fn refuse(mut call: Call, status: Status) -> Self {
        call.finish(status.code());
        Self::Refused(Some(Box::new(status.into_http())))
    }
}

impl<F> Future for CallFuture<F>
where
    F: Future<Output = Result<Response<Body>, Infallible>> + Unpin,
{
    type Output = Result<Response<CallBody>, Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Refused(response) => match response.take() {
                Some(response) => Poll::Ready(Ok(*response)),
                None => Poll::Pending,
            },
            Self::Running(running) => running.poll(context).map(Ok),
        }
    }
}

impl<F> Running<F>
where
    F: Future<Output = Result<Response<Body>, Infallible>> + Unpin,
{
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Response<CallBody>> {
        // Taken only with the answer, after which nobody polls again.
        let Some(call) = &mut self.call else { return Poll::Pending };
        let handler = &mut self.handler;
        let polled = call.guard(|| match handler {
            Handler::Own(future) => Pin::new(future).poll(context),
            Handler::Boxed(future) => future.as_mut().poll(context),
        });
        let status = match polled {
            Ok(Poll::Ready(Ok(response))) => return Poll::Ready(self.answer(response)),
            Ok(Poll::Pending) if has_passed(&mut self.deadline, context) => Call::deadline_exceeded(),
            Ok(Poll::Pending) => return Poll::Pending,
            Err(status) => status,
        };
        call.finish(status.code());
        Poll::Ready(status.into_http())
    }

    fn answer(&mut self, response: Response<Body>) -> Response<CallBody> {
        let Some(mut call) = self.call.take() else { return response.map(CallBody::Whole) };
        if response.headers().contains_key(&GRPC_STATUS) {
            call.finish_with(response.headers());
        } else if call.method().streams {
            let deadline = self.stream_deadline.take();
            return response.map(|body| CallBody::stream(body, call, deadline));
        } else {
            // A unary answer without a status in its headers is one message and OK.
            call.finish(Code::Ok);
        }
        response.map(CallBody::Whole)
    }
}
