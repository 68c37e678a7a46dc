//! `CheckStream`: answers in the order of the checks, as many under way as the store needs.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::{Stream, stream::FuturesOrdered};
use tidegate_proto::ratelimit::v1::{self as pb, check_stream_response::Outcome};
use tonic::{Status, Streaming};

use super::{Shared, error, parse};

/// Checks of one stream under way at once; the next is read when one has been answered, so a caller
/// that sends without reading is held back by flow control.
const MAX_IN_FLIGHT: usize = 256;

/// Answers given before others on the worker have their turn.
const IN_A_ROW: u32 = 64;

type Answer = Pin<Box<dyn Future<Output = pb::CheckStreamResponse> + Send>>;

/// The answers to the checks of `inbound`. Ends when it ends and all are answered, or with its error.
pub(super) fn answers(shared: Arc<Shared>, inbound: Streaming<pb::CheckStreamRequest>) -> Answers {
    Answers { shared, inbound: Some(inbound), under_way: FuturesOrdered::new(), in_a_row: 0, failed: None }
}

pub(super) struct Answers {
    shared: Arc<Shared>,
    /// Absent once it has ended.
    inbound: Option<Streaming<pb::CheckStreamRequest>>,
    under_way: FuturesOrdered<Answer>,
    /// Answers given since the last one that had to be waited for.
    in_a_row: u32,
    /// How `inbound` failed; reported after the answers that are still under way.
    failed: Option<Status>,
}

impl Stream for Answers {
    type Item = Result<pb::CheckStreamResponse, Status>;

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
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<pb::CheckStreamResponse, Status>>> {
        let this = self;
        while let Some(inbound) = &mut this.inbound {
            if this.under_way.len() >= MAX_IN_FLIGHT {
                break;
            }
            match Pin::new(inbound).poll_next(cx) {
                Poll::Pending => break,
                Poll::Ready(None) => this.inbound = None,
                Poll::Ready(Some(Err(status))) => {
                    this.inbound = None;
                    this.failed = Some(status);
                }
                Poll::Ready(Some(Ok(request))) => {
                    let mut answer: Answer = Box::pin(answer(Arc::clone(&this.shared), request));
                    // A store in memory answers at once; if nothing is owed before it, so do we.
                    if this.under_way.is_empty()
                        && let Poll::Ready(response) = answer.as_mut().poll(cx)
                    {
                        return Poll::Ready(Some(Ok(response)));
                    }
                    this.under_way.push_back(answer);
                }
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

async fn answer(shared: Arc<Shared>, request: pb::CheckStreamRequest) -> pb::CheckStreamResponse {
    let outcome = match parse::streamed(&request) {
        Ok(parsed) => shared.decide(&parsed).await,
        Err(status) => Err(status),
    };
    let outcome = match outcome {
        Ok(result) => Outcome::Result(result),
        Err(status) => Outcome::Error(error::to_answer(&status)),
    };
    pb::CheckStreamResponse { id: request.id, outcome: Some(outcome) }
}
