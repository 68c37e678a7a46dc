//! What the OpenAPI document says of how calls fail.
#![expect(dead_code, reason = "only their schemas are used")]

use utoipa::IntoResponses;

use crate::problem::ProblemDocument;

/// How a call with a JSON body fails before or in the service behind.
#[derive(IntoResponses)]
pub(super) enum CallProblems {
    /// Malformed: `violations` lists every wrong field, in a batch as `checks[3].cost`
    #[response(status = 400, content_type = "application/problem+json")]
    Malformed(#[to_schema] ProblemDocument<'static>),
    /// No credentials are shown, or they are not good; without a keys service: the caller is not on this machine
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
    /// The service behind cannot be reached or is overloaded, or its store cannot be asked; that may be a denial as well,
    /// of checks with `enforce=true` and of leases that are to be taken
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(#[to_schema] ProblemDocument<'static>),
    /// The service behind did not answer in time
    #[response(status = 504, content_type = "application/problem+json")]
    Late(#[to_schema] ProblemDocument<'static>),
}

/// How a call about what belongs to an organization fails.
#[derive(IntoResponses)]
pub(super) enum TenantProblems {
    /// The caller has not the role that the call needs
    #[response(status = 403, content_type = "application/problem+json")]
    Forbidden(#[to_schema] ProblemDocument<'static>),
    /// There is none, or the caller may not know of it
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(#[to_schema] ProblemDocument<'static>),
}

/// The caller has not the role that the call needs
#[derive(IntoResponses)]
#[response(status = 403, content_type = "application/problem+json")]
pub(super) struct Forbidden(#[to_schema] ProblemDocument<'static>);

/// Too many of these calls, of this account or from this address; `Retry-After` says when to come back
#[derive(IntoResponses)]
#[response(status = 429, content_type = "application/problem+json")]
pub(super) struct AttemptProblems(#[to_schema] ProblemDocument<'static>);
