//! Messages in, messages out, one for each and in their order.

use std::{
    collections::VecDeque,
    fmt::Display,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{
    StreamExt,
    future::{Either, Ready, ready},
    stream::FuturesOrdered,
};
use http::HeaderMap;
use http_body::{Body, Frame};
use tonic::{Status, codegen::BoxFuture};

use super::{
    ANSWERS_PER_TURN, DirectMethods, Unanswered,
    frames::{Received, cut, frame, message},
    lost, ok_trailers,
};
use crate::{auth::Caller, error};

/// Bytes of answers after which a turn ends. So much, beside one more answer, may wait for room in the window of a peer that takes
/// nothing; what fits its windows waits besides.
const TURN_BYTES: usize = 32 << 10;

/// Messages that may be taken up behind one whose answer has to wait, it included. The next is taken up when an answer has gone.
const MOST_OWED: usize = 256;

/// Bytes of these messages, and of answers behind one that waits, after which no more is taken up. So much, beside one more message or
/// answer, a stream may hold for a look-up.
const OWED_BYTES: usize = 64 << 10;

/// The answers to a stream of messages. Those of one turn leave as one frame.
///
/// Nothing is read while the peer does not take what was answered: then this is not polled.
pub(super) struct Stream<M: DirectMethods, B> {
    answers: Answers<M>,
    request: Request<B>,
    /// Answers owed, in their order, while the first of them waits; empty most of the time.
    owed: Debt,
    /// How the request ended, once it has, and answers before it are owed.
    ended: Option<Option<Status>>,
    /// How long the frame before was, in bytes: most are alike.
    answer_bytes: usize,
    /// Whether the last turn had the most answers, so that others have theirs now.
    must_yield: bool,
    /// Sent when everything before was answered.
    trailers: Option<HeaderMap>,
    is_ended: bool,
}

/// How messages are answered.
pub(super) struct Answers<M: DirectMethods> {
    pub(super) methods: M,
    pub(super) method: M::Method,
    pub(super) caller: Arc<Caller>,
    pub(super) max_message_bytes: usize,
}

/// An answer that was given behind one that waits, or that waits itself.
type Owed = Either<Ready<Result<Bytes, Status>>, BoxFuture<Bytes, Status>>;

/// Answers that are owed, in their order.
#[derive(Default)]
struct Debt {
    answers: FuturesOrdered<Owed>,
    /// What each makes the stream hold, in bytes: its message while it waits, else itself.
    held: VecDeque<usize>,
    held_bytes: usize,
}

impl Debt {
    fn push(&mut self, held_bytes: usize, answer: Owed) {
        self.answers.push_back(answer);
        self.held.push_back(held_bytes);
        self.held_bytes += held_bytes;
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        let polled = self.answers.poll_next_unpin(context);
        if let Poll::Ready(Some(_)) = &polled {
            self.held_bytes -= self.held.pop_front().expect("each answer has its size");
        }
        polled
    }

    fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }

    /// Whether no more may be taken up.
    fn is_full(&self) -> bool {
        self.answers.len() >= MOST_OWED || self.held_bytes >= OWED_BYTES
    }
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
    pub(super) fn new(answers: Answers<M>, body: B) -> Self {
        let max_message_bytes = answers.max_message_bytes;
        let request =
            Request { body: Some(body), received: Received::default(), answered: 0, max_message_bytes };
        Self {
            answers,
            request,
            owed: Debt::default(),
            ended: None,
            answer_bytes: 0,
            must_yield: false,
            trailers: None,
            is_ended: false,
        }
    }

    /// Answers what has come, and appends the answers to `answers`.
    ///
    /// # Errors
    ///
    /// Once the request has ended: with which status it is answered.
    fn take_turn(&mut self, context: &mut Context<'_>, answers: &mut Vec<u8>) -> Result<(), Option<Status>> {
        let Self { answers: of, request, owed, ended, answer_bytes, .. } = self;
        let mut turn = None;
        for _ in 0..ANSWERS_PER_TURN {
            let is_behind = !owed.is_empty();
            if is_behind {
                match owed.poll_next(context) {
                    Poll::Ready(Some(answer)) => {
                        let answer = answer?;
                        frame(answers, |buffer| {
                            buffer.extend_from_slice(&answer);
                            Ok::<_, Status>(())
                        })?;
                        if answers.len() >= TURN_BYTES {
                            break;
                        }
                        continue;
                    }
                    Poll::Ready(None) | Poll::Pending if owed.is_full() || ended.is_some() => {
                        return Ok(());
                    }
                    Poll::Ready(None) | Poll::Pending => {}
                }
            } else if let Some(ended) = ended.take() {
                return Err(ended);
            }
            let message = match request.poll_message(context) {
                Ok(Some(message)) => message,
                Ok(None) => return Ok(()),
                Err(end) if is_behind => {
                    *ended = Some(end);
                    return Ok(());
                }
                Err(end) => return Err(end),
            };
            let turn = turn.get_or_insert_with(|| {
                answers.reserve(*answer_bytes);
                of.methods.turn(&of.caller)
            });
            let mut apart = Vec::new();
            let answered = match is_behind {
                true => M::answer(turn, of.method, message, &mut apart),
                false => frame(answers, |answer| M::answer(turn, of.method, message, answer)),
            };
            match answered {
                Ok(()) if is_behind => owed.push(apart.len(), Either::Left(ready(Ok(apart.into())))),
                Ok(()) => {}
                Err(Unanswered::Waits) => {
                    let message = Bytes::copy_from_slice(message);
                    let held_bytes = message.len();
                    let answer = of.methods.answer_later(&of.caller, of.method, message);
                    owed.push(held_bytes, Either::Right(answer));
                }
                Err(Unanswered::Failed(status)) if is_behind => {
                    *ended = Some(Some(status));
                    request.body = None;
                }
                Err(Unanswered::Failed(status)) => return Err(Some(status)),
            }
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
