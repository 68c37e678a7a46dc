//! One message in, one message out.

use std::{
    convert::Infallible,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tonic::{Status, body::Body};
use tower::Service;

use super::{
    Direct, DirectMethods, Replayed, Unanswered,
    frames::{PREFIX, Received, frame, message},
    lost, ok, ok_trailers,
};
use crate::auth::{Caller, Origin};

/// Room for most answers; others take more.
const ANSWER_BYTES: usize = 256;

/// Answers a call; by the generated service, if its request is not one whole message.
pub(super) async fn answer<M, S>(
    direct: Direct<M, S>,
    method: M::Method,
    mut request: Request<Incoming>,
    (caller, peer): (Arc<Caller>, IpAddr),
) -> Result<Response<Body>, Infallible>
where
    M: DirectMethods,
    S: Service<Request<Replayed>, Response = Response<Body>, Error = Infallible>,
{
    let Direct { methods, mut service, max_message_bytes } = direct;
    let body = request.body_mut();
    let mut received = Received::default();
    let is_whole = loop {
        let is_whole = match message(received.bytes(), 0, max_message_bytes) {
            Ok(range) => range.map(|range| range.end == received.bytes().len()),
            Err(_) => Some(false),
        };
        match is_whole {
            // Not for us, whatever comes behind it.
            Some(false) => break false,
            Some(true) if body.is_end_stream() => break true,
            Some(true) | None => {}
        }
        match body.frame().await {
            Some(Ok(frame)) => {
                // Trailers of a request say nothing to us.
                if let Ok(piece) = frame.into_data() {
                    received.push(0, piece);
                }
            }
            Some(Err(error)) => return Ok(lost(&error).into_http()),
            None => break is_whole == Some(true),
        }
    };
    if is_whole {
        let mut answer = Vec::with_capacity(ANSWER_BYTES);
        let message = &received.bytes()[PREFIX..];
        let answered =
            frame(&mut answer, |answer| M::answer(&methods.turn(&caller), method, message, answer));
        match answered {
            Ok(()) => return Ok(ok(Body::new(Answer { message: answer.into(), is_ended: false }))),
            Err(Unanswered::Failed(status)) => return Ok(status.into_http()),
            Err(Unanswered::Waits) => {}
        }
    }
    request.extensions_mut().insert(Origin { caller: Some(caller), peer });
    service.call(request.map(|rest| Replayed::new(received.into_bytes(), rest))).await
}

/// One message, and that nothing is at fault.
struct Answer {
    /// With its prefix; empty once it is sent.
    message: Bytes,
    is_ended: bool,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if !self.message.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.message)))));
        }
        if std::mem::replace(&mut self.is_ended, true) {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(Ok(Frame::trailers(ok_trailers()))))
    }

    fn is_end_stream(&self) -> bool {
        self.is_ended
    }
}
