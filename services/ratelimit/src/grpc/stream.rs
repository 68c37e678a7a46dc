//! `CheckStream` on a store that is waited for: answers in the order of the checks, as many under way as the store needs.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::{Stream, stream::FuturesOrdered};
use tidegate_chassis::direct::ANSWERS_PER_TURN;
use tidegate_proto::{
    Encoded, Writer,
    ratelimit::v1 as pb,
    view::{CheckView, StreamCheckView},
};
use tonic::{Status, Streaming};

use super::{
    ANSWER_BYTES, Shared, keyed,
    parse::{self, Asked},
    refused,
    scope::Scope,
};

/// Checks of one stream under way at once; the next is read when one has been answered, so a caller
/// that sends without reading is held back by flow control.
const MAX_IN_FLIGHT: usize = 256;

/// Numbers of the fields of `CheckStreamResponse`.
pub(super) const ID: u8 = 1;
pub(super) const RESULT: u8 = 2;

type Request = Encoded<pb::CheckStreamRequest>;
type Response = Encoded<pb::CheckStreamResponse>;
type Answer = Pin<Box<dyn Future<Output = Response> + Send>>;

/// The answers to the checks of `inbound`. Ends when it ends and all are answered, or with its error.
pub(super) fn answers(shared: Arc<Shared>, scope: Scope, inbound: Streaming<Request>) -> Answers {
    Answers {
        shared,
        scope,
        inbound: Some(inbound),
        under_way: FuturesOrdered::new(),
        in_a_row: 0,
        failed: None,
    }
}

pub(crate) struct Answers {
    shared: Arc<Shared>,
    /// What the caller may ask about.
    scope: Scope,
    /// Absent once it has ended.
    inbound: Option<Streaming<Request>>,
    under_way: FuturesOrdered<Answer>,
    /// Answers given since the last one that had to be waited for.
    in_a_row: usize,
    /// How `inbound` failed; reported after the answers that are still under way.
    failed: Option<Status>,
}

impl Stream for Answers {
    type Item = Result<Response, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.in_a_row == ANSWERS_PER_TURN {
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
    /// Sets a check under way.
    ///
    /// # Errors
    ///
    /// If it does not decode: then not even its id is known.
    fn take(&mut self, request: Request) -> Result<(), Status> {
        request.view()?;
        self.under_way.push_back(Box::pin(answer(Arc::clone(&self.shared), self.scope, request)));
        Ok(())
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
                Poll::Ready(Some(Ok(request))) => {
                    if let Err(status) = this.take(request) {
                        this.fail(status);
                    }
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

/// The question that one check of a stream asks, of a caller who may touch so much; and the check, if it names an API key.
///
/// # Errors
///
/// What the check is answered.
#[inline]
pub(super) fn asked<'v, 'd>(
    view: &'v StreamCheckView<'d>,
    scope: Scope,
) -> Result<(Asked<'v>, Option<&'v CheckView<'d>>), Status> {
    let asked = scope.bind(parse::streamed(view)?);
    let Some(check) = &view.check else { return Ok((asked, None)) };
    scope.check(check)?;
    Ok((asked, (!check.api_key.is_empty()).then_some(check)))
}

/// Decides one check. `request` is one that decodes.
pub(super) async fn answer(shared: Arc<Shared>, scope: Scope, request: Request) -> Response {
    let view = request.view().expect("what was read once is read again");
    let mut response = Vec::with_capacity(ANSWER_BYTES);
    let mut out = Writer::new(&mut response);
    out.number(ID, view.id);
    match asked(&view, scope) {
        Ok((_, Some(check))) => {
            let policies = shared.limiter.policies();
            let answer = shared.check_by_key(&policies, check, scope).await;
            keyed::outcome(answer.as_deref(), RESULT, &mut out);
        }
        Ok((asked, None)) => {
            let policies = shared.limiter.policies();
            let decided = shared.limiter.check(&policies, asked).await;
            shared.count(&decided, &policies, &asked);
            shared.outcome(&decided, RESULT, &mut out);
        }
        Err(status) => refused(&status, RESULT, &mut out),
    }
    Encoded::from_bytes(response)
}
