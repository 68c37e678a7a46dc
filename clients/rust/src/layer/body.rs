//! The body of an answer: that of the backend, with what is held for it, or one of ours.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::Lease;

pin_project! {
    /// The body of an answer of [`Protect`](super::Protect).
    #[derive(Debug)]
    pub struct ProtectedBody<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProjection]
    #[derive(Debug)]
    enum Kind<B> {
        Passed { #[pin] body: B, lease: Option<Lease> },
        Own { bytes: Option<Bytes> },
    }
}

impl<B> ProtectedBody<B> {
    /// That of the backend. The lease is held until it has ended or nobody wants more of it.
    pub(super) fn passed(body: B, lease: Option<Lease>) -> Self {
        Self { kind: Kind::Passed { body, lease } }
    }

    /// One of ours.
    pub(super) fn own(bytes: Bytes) -> Self {
        Self { kind: Kind::Own { bytes: Some(bytes).filter(|bytes| !bytes.is_empty()) } }
    }
}

impl<B: Body<Data = Bytes>> Body for ProtectedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().kind.project() {
            KindProjection::Passed { body, lease } => {
                let frame = ready!(body.poll_frame(context));
                if frame.is_none() {
                    *lease = None;
                }
                Poll::Ready(frame)
            }
            KindProjection::Own { bytes } => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Passed { body, .. } => body.is_end_stream(),
            Kind::Own { bytes } => bytes.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Passed { body, .. } => body.size_hint(),
            Kind::Own { bytes } => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
        }
    }
}
