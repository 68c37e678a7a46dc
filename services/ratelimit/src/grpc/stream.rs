//! `CheckStream`: answers in the order of the checks, as many under way as the store needs.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{Stream, stream::FuturesOrdered};
use tidegate_proto::{Encoded, Writer, ratelimit::v1 as pb, view::StreamCheckView};
use tonic::{Status, Streaming};

use super::{ANSWER_BYTES, Shared, parse, refused};
use crate::limiter::AtOnce;

/// Checks of one stream under way at once; the next is read when one has been answered, so a caller
/// that sends without reading is held back by flow control.
const MAX_IN_FLIGHT: usize = 256;

/// Answers given before others on the worker have their turn.
const IN_A_ROW: u32 = 64;

/// Numbers of the fields of `CheckStreamResponse`.
const ID: u8 = 1;
const RESULT: u8 = 2;

type Request = Encoded<pb::CheckStreamRequest>;
type Response = Encoded<pb::CheckStreamResponse>;
type Answer = Pin<Box<dyn Future<Output = Response> + Send>>;

/// The answers to the checks of `inbound`. Ends when it ends and all are answered, or with its error.
pub(super) fn answers(shared: Arc<Shared>, inbound: Streaming<Request>) -> Answers {
    Answers {
        shared,
        inbound: Some(inbound),
        under_way: FuturesOrdered::new(),
        answer: Vec::with_capacity(ANSWER_BYTES),
        in_a_row: 0,
        failed: None,
    }
}

pub(crate) struct Answers {
    shared: Arc<Shared>,
    /// Absent once it has ended.
    inbound: Option<Streaming<Request>>,
    under_way: FuturesOrdered<Answer>,
    /// Where answers that are given at once are written.
    answer: Vec<u8>,
    /// Answers given since the last one that had to be waited for.
    in_a_row: u32,
    /// How `inbound` failed; reported after the answers that are still under way.
    failed: Option<Status>,
}

impl Stream for Answers {
    type Item = Result<Response, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.in_a_row == IN_A_ROW {
            this.in_a_row = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let polled = this.poll_answer(cx);
        this.in_a_row = if polled.is_ready() { this.in_a_row + 1 } else { 0 };
        polled
    }
}

impl Answers {
    /// Answers a check, or sets it under way.
    ///
    /// # Errors
    ///
    /// If it does not decode: then not even its id is known.
    #[inline]
    fn take(&mut self, request: Request) -> Result<Option<Response>, Status> {
        let view = request.view()?;
        if let Some(limiter) = self.shared.limiter.at_once() {
            debug_assert!(self.under_way.is_empty(), "what is answered at once is answered in order");
            self.answer.clear();
            answer_at_once(&self.shared, limiter, &view, &mut self.answer);
            return Ok(Some(Encoded::from_bytes(Bytes::copy_from_slice(&self.answer))));
        }
        drop(view);
        self.under_way.push_back(Box::pin(answer_later(Arc::clone(&self.shared), request)));
        Ok(None)
    }

    /// Reads nothing more.
    fn fail(&mut self, status: Status) {
        self.inbound = None;
        self.failed = Some(status);
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Response, Status>>> {
        let this = self;
        while let Some(inbound) = &mut this.inbound {
            if this.under_way.len() >= MAX_IN_FLIGHT {
                break;
            }
            match Pin::new(inbound).poll_next(cx) {
                Poll::Pending => break,
                Poll::Ready(None) => this.inbound = None,
                Poll::Ready(Some(Err(status))) => this.fail(status),
                Poll::Ready(Some(Ok(request))) => match this.take(request) {
                    Ok(Some(answer)) => return Poll::Ready(Some(Ok(answer))),
                    Ok(None) => {}
                    Err(status) => this.fail(status),
                },
            }
        }
        match Pin::new(&mut this.under_way).poll_next(cx) {
            Poll::Ready(Some(response)) => Poll::Ready(Some(Ok(response))),
            Poll::Ready(None) if this.inbound.is_none() => Poll::Ready(this.failed.take().map(Err)),
            // Nothing under way: the inbound stream has registered the wake-up.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

/// Decides one check, and writes a `CheckStreamResponse`.
#[inline]
pub(super) fn answer_at_once(
    shared: &Shared,
    limiter: AtOnce<'_>,
    view: &StreamCheckView<'_>,
    response: &mut Vec<u8>,
) {
    let mut out = Writer::new(response);
    out.number(ID, view.id);
    match parse::streamed(view) {
        Ok(asked) => {
            let policies = shared.limiter.policies();
            let decided = limiter.check(&policies, &asked);
            shared.count(&decided);
            shared.outcome(&decided, RESULT, &mut out);
        }
        Err(status) => refused(&status, RESULT, &mut out),
    }
}

/// As [`answer_at_once`], but the store is waited for. `request` is one that decodes.
async fn answer_later(shared: Arc<Shared>, request: Request) -> Response {
    let view = request.view().expect("what was read once is read again");
    let mut response = Vec::with_capacity(ANSWER_BYTES);
    let mut out = Writer::new(&mut response);
    out.number(ID, view.id);
    match parse::streamed(&view) {
        Ok(asked) => {
            let policies = shared.limiter.policies();
            let decided = shared.limiter.check(&policies, asked).await;
            shared.count(&decided);
            shared.outcome(&decided, RESULT, &mut out);
        }
        Err(status) => refused(&status, RESULT, &mut out),
    }
    Encoded::from_bytes(response)
}
