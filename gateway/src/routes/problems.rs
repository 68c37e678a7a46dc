//! What the OpenAPI document says of how calls fail.
#![expect(dead_code, reason = "only their schemas are used")]

use utoipa::IntoResponses;

use crate::problem::ProblemDocument;

/// How a call with a JSON body fails before or in the rate-limit service.
#[derive(IntoResponses)]
pub(super) enum CallProblems {
    /// Malformed: `violations` lists every wrong field, in a batch as `checks[3].cost`
    #[response(status = 400, content_type = "application/problem+json")]
    Malformed(#[to_schema] ProblemDocument<'static>),
    /// The caller is not on this machine
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthenticated(#[to_schema] ProblemDocument<'static>),
    /// The body came too slowly
    #[response(status = 408, content_type = "application/problem+json")]
    Slow(#[to_schema] ProblemDocument<'static>),
    /// The body is over 1 MiB
    #[response(status = 413, content_type = "application/problem+json")]
    LargeBody(#[to_schema] ProblemDocument<'static>),
    /// Path and query are too long
    #[response(status = 414, content_type = "application/problem+json")]
    LongUri(#[to_schema] ProblemDocument<'static>),
    /// The body is not `application/json`
    #[response(status = 415, content_type = "application/problem+json")]
    NotJson(#[to_schema] ProblemDocument<'static>),
    /// The headers are too many or too long
    #[response(status = 431, content_type = "application/problem+json")]
    LargeHeaders(#[to_schema] ProblemDocument<'static>),
    /// A defect; its request id finds it in the log
    #[response(status = 500, content_type = "application/problem+json")]
    Internal(#[to_schema] ProblemDocument<'static>),
    /// The body has a transfer coding other than chunked
    #[response(status = 501, content_type = "application/problem+json")]
    TransferCoded(#[to_schema] ProblemDocument<'static>),
    /// The rate-limit service cannot be reached or is overloaded, or its store cannot be asked; that may be a denial as well,
    /// of checks with `enforce=true` and of leases that are to be taken
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(#[to_schema] ProblemDocument<'static>),
    /// The rate-limit service did not answer in time
    #[response(status = 504, content_type = "application/problem+json")]
    Late(#[to_schema] ProblemDocument<'static>),
}
