//! The body of an answer.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use tonic::{Status, body::Body};

use super::{
    call::Call,
    deadline::{Deadline, has_passed},
};
use crate::error;

/// A unary answer as it is, or a stream that is watched to its end.
#[derive(Debug)]
pub(super) enum CallBody {
    Whole(Body),
    Stream(Box<Stream>),
}

#[derive(Debug)]
pub(super) struct Stream {
    body: Body,
    call: Call,
    deadline: Option<Deadline>,
    is_done: bool,
}

impl Default for CallBody {
    /// The empty body of an answer that is all in its headers.
    fn default() -> Self {
        Self::Whole(Body::empty())
    }
}

impl CallBody {
    pub(super) fn stream(body: Body, call: Call, deadline: Option<Deadline>) -> Self {
        Self::Stream(Box::new(Stream { body, call, deadline, is_done: false }))
    }
}

impl http_body::Body for CallBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match self.get_mut() {
            Self::Whole(body) => Pin::new(body).poll_frame(context),
            Self::Stream(stream) => stream.poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Stream(stream) => stream.is_done,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}

impl Stream {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.is_done {
            return Poll::Ready(None);
        }
        let body = &mut self.body;
        let polled = self.call.guard(|| Pin::new(body).poll_frame(context));
        let status = match polled {
            Ok(Poll::Ready(frame)) => {
                match &frame {
                    Some(Ok(part)) => match part.trailers_ref() {
                        Some(trailers) => self.call.finish_with(trailers),
                        None => return Poll::Ready(frame),
                    },
                    Some(Err(status)) => self.call.finish(status.code()),
                    None => self.call.finish(tonic::Code::Unknown),
                }
                self.is_done = true;
                return Poll::Ready(frame);
            }
            Ok(Poll::Pending) if has_passed(&mut self.deadline, context) => Call::deadline_exceeded(),
            Ok(Poll::Pending) => return Poll::Pending,
            Err(status) => status,
        };
        self.end_with(&status)
    }

    /// Ends the stream with our own status; what the handler still had to say is dropped.
    fn end_with(&mut self, status: &Status) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.is_done = true;
        self.body = Body::empty();
        self.call.finish(status.code());
        Poll::Ready(Some(Ok(Frame::trailers(error::trailers(status)))))
    }
}
