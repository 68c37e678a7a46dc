//! Messages in, messages out, one for each and in their order.

use std::{
    fmt::Display,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};
use tonic::Status;

use super::{
    ANSWERS_PER_TURN, DirectMethods, Unanswered,
    frames::{Received, cut, frame, message},
    lost, ok_trailers,
};
use crate::error;

/// Bytes of answers after which a turn ends. So much, beside one more answer, may wait for room in the window of a peer that takes
/// nothing; what fits its windows waits besides.
const TURN_BYTES: usize = 32 << 10;

/// The answers to a stream of messages. Those of one turn leave as one frame.
///
/// Nothing is read while the peer does not take what was answered: then this is not polled.
pub(super) struct Stream<M: DirectMethods, B> {
    methods: M,
    method: M::Method,
    request: Request<B>,
    /// How long the frame before was, in bytes: most are alike.
    answer_bytes: usize,
    /// Whether the last turn had the most answers, so that others have theirs now.
    must_yield: bool,
    /// Sent when everything before was answered.
    trailers: Option<HeaderMap>,
    is_ended: bool,
}

struct Request<B> {
    /// Absent once it has ended, or is not read to its end.
    body: Option<B>,
    received: Received,
    /// Up to where `received` was answered.
    answered: usize,
    max_message_bytes: usize,
}

impl<M, B> Stream<M, B>
where
    M: DirectMethods,
    B: Body<Data = Bytes, Error: Display> + Unpin,
{
    pub(super) fn new(methods: M, method: M::Method, body: B, max_message_bytes: usize) -> Self {
        let request =
            Request { body: Some(body), received: Received::default(), answered: 0, max_message_bytes };
        Self { methods, method, request, answer_bytes: 0, must_yield: false, trailers: None, is_ended: false }
    }

    /// Answers what has come, and appends the answers to `answers`.
    ///
    /// # Errors
    ///
    /// Once the request has ended: with which status it is answered.
    fn take_turn(&mut self, context: &mut Context<'_>, answers: &mut Vec<u8>) -> Result<(), Option<Status>> {
        let Self { methods, method, request, answer_bytes, .. } = self;
        let mut turn = None;
        for _ in 0..ANSWERS_PER_TURN {
            let Some(message) = request.poll_message(context)? else { return Ok(()) };
            let turn = turn.get_or_insert_with(|| {
                answers.reserve(*answer_bytes);
                methods.turn()
            });
            frame(answers, |answer| M::answer(turn, *method, message, answer))
                .map_err(Unanswered::into_status)?;
            if answers.len() >= TURN_BYTES {
                break;
            }
        }
        self.must_yield = true;
        Ok(())
    }
}

impl<B: Body<Data = Bytes, Error: Display> + Unpin> Request<B> {
    /// The next message; nothing until more has come.
    ///
    /// # Errors
    ///
    /// Once there is none: why.
    #[inline]
    fn poll_message(&mut self, context: &mut Context<'_>) -> Result<Option<&[u8]>, Option<Status>> {
        let range = loop {
            if let Some(range) = message(self.received.bytes(), self.answered, self.max_message_bytes)? {
                break range;
            }
            let Some(body) = &mut self.body else { return Err(None) };
            match Pin::new(body).poll_frame(context) {
                Poll::Pending => {
                    self.release();
                    return Ok(None);
                }
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(piece) = frame.into_data() {
                        self.received.push(std::mem::take(&mut self.answered), piece);
                    }
                }
                Poll::Ready(Some(Err(error))) => return Err(Some(lost(&error))),
                Poll::Ready(None) => {
                    let is_cut = self.answered < self.received.bytes().len();
                    return Err(is_cut.then(cut));
                }
            }
        };
        self.answered = range.end;
        Ok(Some(&self.received.bytes()[range]))
    }

    /// Gives back what was received, if it was answered: a stream may rest for long.
    fn release(&mut self) {
        if self.answered == self.received.bytes().len() {
            *self = Self { body: self.body.take(), received: Received::default(), answered: 0, ..*self };
        }
    }
}

impl<M, B> Body for Stream<M, B>
where
    M: DirectMethods,
    B: Body<Data = Bytes, Error: Display> + Unpin,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        if this.is_ended {
            return Poll::Ready(None);
        }
        if std::mem::take(&mut this.must_yield) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        if this.trailers.is_none() {
            let mut answers = Vec::new();
            if let Err(ended) = this.take_turn(context, &mut answers) {
                // With it goes what is unread, and the window that it takes.
                this.request.body = None;
                this.trailers = Some(ended.map_or_else(ok_trailers, |status| error::trailers(&status)));
            }
            if !answers.is_empty() {
                this.answer_bytes = answers.len();
                return Poll::Ready(Some(Ok(Frame::data(answers.into()))));
            }
        }
        match this.trailers.take() {
            None => Poll::Pending,
            Some(trailers) => {
                this.is_ended = true;
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_ended
    }
}

#[cfg(test)]
mod tests;
