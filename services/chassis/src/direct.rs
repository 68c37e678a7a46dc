//! Hot methods, answered without the layers of a general server.
//!
//! tonic takes a call apart in a dozen steps that suit every codec, compression and interceptor; together they cost more
//! than a rate-limit decision does. [`Direct`] stands before a generated service and answers the calls of
//! [`DirectMethods`] itself, from the bytes of a request to the bytes of its answer; whatever else comes goes on to the
//! generated service: other methods, compressed requests, and unary requests that are not one whole message.

mod frames;
mod replayed;
mod stream;
mod unary;

use std::{convert::Infallible, fmt::Display, future, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header::CONTENT_TYPE};
use hyper::body::Incoming;
use tonic::{Status, body::Body, codegen::BoxFuture};
use tower::Service;

pub use self::replayed::Replayed;
use self::stream::Stream;
use crate::{
    auth::{Caller, Origin},
    server::Served,
};

static GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// Methods whose answers hardly ever wait: each message of a request gives one message of the answer.
pub trait DirectMethods: Clone + Send + Unpin + 'static {
    /// One of the methods.
    type Method: Copy + Send + Unpin + 'static;
    /// What the answers share that are given one after the other, without waiting in between: all of their messages had
    /// arrived when it began. At most
    /// [`ANSWERS_PER_TURN`], and fewer if they are long.
    type Turn<'a>;

    /// The method of a path, if its calls can be answered so.
    fn find(&self, path: &str) -> Option<(Self::Method, Shape)>;

    /// Begins a turn for `caller`, who may call the method. Whose things are touched is for the method to look at.
    fn turn(&self, caller: &Caller) -> Self::Turn<'_>;

    /// Answers `message` by appending the encoded answer to `answer`.
    ///
    /// # Errors
    ///
    /// The status of the call. It ends a stream once the answers before it are sent. (A panic loses those of its turn.) Or that its
    /// answer has to wait for something: then nothing was done, and the generated service answers; in a stream
    /// [`answer_later`](Self::answer_later) does.
    fn answer(
        turn: &Self::Turn<'_>,
        method: Self::Method,
        message: &[u8],
        answer: &mut Vec<u8>,
    ) -> Result<(), Unanswered>;

    /// Answers a message of a stream whose answer has to wait.
    fn answer_later(&self, caller: &Caller, method: Self::Method, message: Bytes)
    -> BoxFuture<Bytes, Status>;
}

/// Why a message is not answered.
#[derive(Debug)]
pub enum Unanswered {
    /// The call has failed.
    Failed(Status),
    /// Its answer has to wait.
    Waits,
}

impl From<Status> for Unanswered {
    fn from(status: Status) -> Self {
        Self::Failed(status)
    }
}

/// The most answers of one [turn](DirectMethods::Turn); then other calls have theirs.
pub const ANSWERS_PER_TURN: usize = 64;

/// How many messages a request and its answer have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One each.
    Unary,
    /// Any number; answers come in the order of the messages they answer.
    BidiStreaming,
}

/// Answers direct methods, and passes everything else on to a generated service.
#[derive(Clone, Debug)]
pub struct Direct<M, S> {
    methods: M,
    service: S,
    max_message_bytes: usize,
}

impl<M, S> Direct<M, S> {
    /// Stands before `service`, which must refuse messages of more than `max_message_bytes` as well.
    pub fn new(methods: M, service: S, max_message_bytes: usize) -> Self {
        Self { methods, service, max_message_bytes }
    }
}

impl<M, S> Served for Direct<M, S>
where
    M: DirectMethods,
    S: Service<
            Request<Replayed>,
            Response = Response<Body>,
            Error = Infallible,
            Future = BoxFuture<Response<Body>, Infallible>,
        > + Clone
        + Send
        + 'static,
{
    type Future = BoxFuture<Response<Body>, Infallible>;

    fn serve(&mut self, mut request: Request<Incoming>, origin: &Origin) -> Self::Future {
        let caller = origin.caller.as_ref().filter(|_| is_plain(request.headers()));
        let found = caller.and_then(|caller| Some((caller, self.methods.find(request.uri().path())?)));
        match found {
            None => {
                request.extensions_mut().insert(origin.clone());
                self.service.call(request.map(Replayed::untouched))
            }
            Some((caller, (method, Shape::Unary))) => {
                let of = (Arc::clone(caller), origin.peer);
                Box::pin(unary::answer(self.clone(), method, request, of))
            }
            Some((caller, (method, Shape::BidiStreaming))) => {
                let answers = stream::Answers {
                    methods: self.methods.clone(),
                    method,
                    caller: Arc::clone(caller),
                    max_message_bytes: self.max_message_bytes,
                };
                let answers = Stream::new(answers, request.into_body());
                Box::pin(future::ready(Ok(ok(Body::new(answers)))))
            }
        }
    }
}

/// Whether the messages of a request are not compressed.
fn is_plain(headers: &HeaderMap) -> bool {
    headers.get(&GRPC_ENCODING).is_none_or(|encoding| encoding == "identity")
}

/// An answer whose status is in its trailers.
fn ok(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// The trailers of an answer without a fault.
fn ok_trailers() -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(GRPC_STATUS.clone(), HeaderValue::from_static("0"));
    trailers
}

/// The request cannot be read to its end: its peer has left.
#[cold]
fn lost(error: &impl Display) -> Status {
    Status::cancelled(format!("the request broke off: {error}"))
}

#[cfg(test)]
pub(crate) mod tests;
