//! What the OpenAPI document says of the check. Bodies are read by hand, so that every fault of them
//! is found at once; these types only describe them.
#![expect(dead_code, reason = "only their schemas are used")]

use std::collections::BTreeMap;

use utoipa::{IntoResponses, ToSchema};

use crate::problem::ProblemDocument;

/// One check.
#[derive(ToSchema)]
#[schema(as = Check)]
#[serde(deny_unknown_fields)]
pub(super) struct CheckBody {
    /// Namespace of the policies; absent or empty means `default`.
    #[schema(nullable = false, max_length = 128, pattern = "^[A-Za-z0-9._/-]*$", example = "default")]
    namespace: Option<String>,
    /// What is known of the request: `organization`, `ip`, `path`, … At most 64; names are 1 to 64 of
    /// `A-Z a-z 0-9 . _ -`, values at most 512 bytes.
    #[schema(nullable = false, example = json!({"organization": "acme"}))]
    attributes: Option<BTreeMap<String, String>>,
    /// Tokens to charge; absent means 1.
    #[schema(nullable = false, minimum = 1, maximum = 1_000_000_000)]
    cost: Option<u64>,
    /// Decide but charge nothing.
    #[schema(nullable = false)]
    dry_run: Option<bool>,
    /// Makes a retry safe: the same check with the same key is charged once in 24 hours. At most 128
    /// printable ASCII characters.
    #[schema(nullable = false, max_length = 128)]
    idempotency_key: Option<String>,
}

/// Up to 100 checks.
#[derive(ToSchema)]
#[schema(as = CheckBatch)]
#[serde(deny_unknown_fields)]
pub(super) struct BatchBody {
    /// In the order in which they are answered.
    #[schema(min_items = 1, max_items = 100)]
    checks: Vec<CheckBody>,
}

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
    /// The rate-limit service cannot be reached or is overloaded; with `enforce=true` also a denial
    /// because its store cannot be asked
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(#[to_schema] ProblemDocument<'static>),
    /// The rate-limit service did not answer in time
    #[response(status = 504, content_type = "application/problem+json")]
    Late(#[to_schema] ProblemDocument<'static>),
}
