//! From a request to the service that answers it.

use std::{cell::RefCell, convert::Infallible, net::IpAddr, sync::Arc};

use http::{HeaderMap, HeaderName, Method as HttpMethod, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use tonic::{body::Body, service::Routes};
use tower::Service;

use super::{
    body::CallBody,
    call::{Call, CallFuture, Handler, Running, Worker},
    deadline::timeout,
    gate::Gate,
    served::Served,
};
use crate::{clock::Random, error, trace};

static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The services of one connection.
pub(super) struct Dispatch<S> {
    // A connection is served by one task of one thread; hyper only lends it shared.
    own: RefCell<Gate<S>>,
    /// Health, reflection, and UNIMPLEMENTED for everything else.
    shared: Routes,
    worker: Arc<Worker>,
    random: Random,
}

impl<S: Served> Dispatch<S> {
    pub(super) fn new(own: S, shared: Routes, worker: Arc<Worker>, random: Random, peer: IpAddr) -> Self {
        let own = RefCell::new(Gate::new(own, Arc::clone(&worker), peer));
        Self { own, shared, worker, random }
    }

    /// Tells which names the certificate of the peer has.
    pub(super) fn certified(&mut self, names: &[String]) {
        self.own.get_mut().certified(names);
    }
}

impl<S: Served> hyper::service::Service<Request<Incoming>> for Dispatch<S> {
    type Response = Response<CallBody>;
    type Error = Infallible;
    type Future = CallFuture<S::Future>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let path = request.uri().path();
        let headers = request.headers();
        if let Some(status) = not_grpc(request.method(), headers) {
            let mut response = Response::new(CallBody::default());
            *response.status_mut() = status;
            return CallFuture::Refused(Some(Box::new(response)));
        }
        let method = self.worker.methods.find(path);
        let request_id = headers.get(&REQUEST_ID).cloned();
        let span = trace::request_span(headers, &self.worker.methods.get(method).span_name, &self.random);
        let call = Call::start(&self.worker, method, request_id, span);
        if call.is_too_many() {
            let status = call.overloaded();
            return CallFuture::refuse(call, status);
        }
        let (deadline, stream_deadline) = match timeout(headers) {
            Ok(timeout) => call.deadlines(timeout),
            Err(_) => {
                let mut violations = error::Violations::default();
                violations.add("grpc-timeout", "must be 1 to 8 digits and one of H, M, S, m, u, n");
                let status = violations.into_status("INVALID_REQUEST");
                return CallFuture::refuse(call, status);
            }
        };
        let method = self.worker.methods.get(method);
        let handler = if method.is_own {
            match self.own.borrow_mut().call(request, method.access) {
                Ok(handler) => handler,
                Err(error) => {
                    self.worker.auth.count(error);
                    return CallFuture::refuse(call, error.to_status());
                }
            }
        } else {
            Handler::Boxed(Box::pin(self.shared.clone().call(request.map(Body::new))))
        };
        CallFuture::Running(Running { handler, call: Some(call), deadline, stream_deadline })
    }
}

/// The HTTP status for a request that is not gRPC at all (gRPC over HTTP/2, "Requests").
fn not_grpc(method: &HttpMethod, headers: &HeaderMap) -> Option<StatusCode> {
    if *method != HttpMethod::POST {
        return Some(StatusCode::METHOD_NOT_ALLOWED);
    }
    let is_grpc = headers.get(&header::CONTENT_TYPE).is_some_and(|value| is_grpc(value.as_bytes()));
    (!is_grpc).then_some(StatusCode::UNSUPPORTED_MEDIA_TYPE)
}

/// Whether messages come as gRPC frames them, in protobuf. gRPC-Web and JSON begin with the same
/// letters; answered as if they were gRPC, their callers would take the frames for something else.
fn is_grpc(content_type: &[u8]) -> bool {
    let media_type = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    media_type.eq_ignore_ascii_case(b"application/grpc")
        || media_type.eq_ignore_ascii_case(b"application/grpc+proto")
}
