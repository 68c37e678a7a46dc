//! A request of which something has been read.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

/// The body of a request, from its beginning.
#[derive(Debug)]
pub struct Replayed {
    /// What was read of it; empty if nothing, or once it was read again.
    read: Bytes,
    rest: Incoming,
}

impl Replayed {
    pub(super) fn new(read: Bytes, rest: Incoming) -> Self {
        Self { read, rest }
    }

    pub(super) fn untouched(body: Incoming) -> Self {
        Self::new(Bytes::new(), body)
    }
}

impl Body for Replayed {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if self.read.is_empty() {
            return Pin::new(&mut self.rest).poll_frame(context);
        }
        Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.read)))))
    }

    fn is_end_stream(&self) -> bool {
        self.read.is_empty() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.read.is_empty() { self.rest.size_hint() } else { SizeHint::default() }
    }
}
