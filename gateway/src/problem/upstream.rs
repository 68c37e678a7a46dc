//! What a gRPC status means over REST.

use std::borrow::Cow;

use http::{HeaderValue, StatusCode, header};
use tidegate_chassis::error::ERROR_DOMAIN;
use tidegate_proto::ratelimit::v1::CheckError;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::{BEARER, Problem, Violation, reason};

const LATE: &str = "The service behind this call did not answer in time";

/// Translates the status of a failed call. The words of a caller's own error are passed on; those
/// of a server's are logged by the caller of this function and replaced here.
#[must_use]
pub(crate) fn from_status(status: &Status) -> Problem {
    let details = status.get_error_details();
    let violations = violations(&details);
    let mut problem = translate(status.code(), reason(&details), status.message(), violations);
    if let Some(delay) = details.retry_info().and_then(|info| info.retry_delay) {
        let seconds = delay.as_secs() + u64::from(delay.subsec_nanos() > 0);
        problem.headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    }
    problem
}

/// Translates what became of one check of a batch.
#[must_use]
pub(crate) fn from_check_error(error: &CheckError) -> Problem {
    let violations = error.violations.iter().map(|violation| Violation {
        field: violation.field.clone(),
        description: violation.description.clone(),
    });
    let code = Code::from_i32(error.status_code);
    translate(code, Some(&error.reason), &error.message, violations.collect())
}

pub(super) fn translate(
    code: Code,
    reason: Option<&str>,
    message: &str,
    violations: Vec<Violation>,
) -> Problem {
    let (http_status, word, own_detail) = meaning(code);
    let (http_status, word) = match reason.filter(|reason| !reason.is_empty()) {
        None => (http_status, Cow::Borrowed(word)),
        Some(reason) => match reason::meaning(reason) {
            Some((http_status, word)) => (http_status, Cow::Borrowed(word)),
            // Of a service that is newer than this gateway. What went wrong in it is not for the caller, not even by name.
            None if http_status.is_server_error() => (http_status, Cow::Borrowed(word)),
            None => (http_status, Cow::Owned(reason.to_ascii_lowercase())),
        },
    };
    let detail = if http_status.is_server_error() {
        // The code of a caller's own error has no words for one that is not, as the reason says.
        Cow::Borrowed(own_detail.unwrap_or_else(|| detail_of(http_status)))
    } else if message.is_empty() {
        Cow::Borrowed("The request was refused")
    } else {
        Cow::Owned(message.to_owned())
    };
    let mut problem = Problem::new(http_status, word, detail);
    if http_status == StatusCode::UNAUTHORIZED {
        problem.headers.insert(header::WWW_AUTHENTICATE, BEARER);
    }
    if !http_status.is_server_error() {
        problem.violations = violations;
    }
    problem
}

/// The words of a server error, where its code has none.
fn detail_of(status: StatusCode) -> &'static str {
    match status {
        StatusCode::SERVICE_UNAVAILABLE => "What this call needs is not available here",
        StatusCode::GATEWAY_TIMEOUT => LATE,
        _ => super::INTERNAL_DETAIL,
    }
}

/// HTTP status, machine word and, where the status' own words are not for the caller, the detail.
fn meaning(code: Code) -> (StatusCode, &'static str, Option<&'static str>) {
    const INTERNAL: Option<&str> = Some(super::INTERNAL_DETAIL);
    const UNREACHABLE: Option<&str> = Some("The service behind this call cannot be reached; try again");
    const BUSY: Option<&str> = Some("The service behind this call is overloaded; try again");
    match code {
        // A status that says OK where an error was expected is a defect of ours.
        Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss => {
            (StatusCode::INTERNAL_SERVER_ERROR, "internal", INTERNAL)
        }
        Code::InvalidArgument => (StatusCode::BAD_REQUEST, "invalid_argument", None),
        Code::OutOfRange => (StatusCode::BAD_REQUEST, "out_of_range", None),
        Code::FailedPrecondition => (StatusCode::BAD_REQUEST, "failed_precondition", None),
        Code::Unauthenticated => (StatusCode::UNAUTHORIZED, "unauthenticated", None),
        Code::PermissionDenied => (StatusCode::FORBIDDEN, "permission_denied", None),
        Code::NotFound => (StatusCode::NOT_FOUND, "not_found", None),
        Code::AlreadyExists | Code::Aborted => (StatusCode::CONFLICT, "conflict", None),
        Code::Unimplemented => {
            (StatusCode::NOT_IMPLEMENTED, "unimplemented", Some("The service does not know this call"))
        }
        // Not 429: that says that a limit denied the caller, and here nothing was decided.
        Code::ResourceExhausted => (StatusCode::SERVICE_UNAVAILABLE, "overloaded", BUSY),
        Code::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "service_unavailable", UNREACHABLE),
        // tonic answers CANCELLED when the client's own timer ends a call.
        Code::DeadlineExceeded | Code::Cancelled => {
            (StatusCode::GATEWAY_TIMEOUT, "deadline_exceeded", Some(LATE))
        }
    }
}

fn reason(details: &ErrorDetails) -> Option<&str> {
    let info = details.error_info()?;
    (info.domain == ERROR_DOMAIN).then_some(info.reason.as_str())
}

fn violations(details: &ErrorDetails) -> Vec<Violation> {
    let Some(bad_request) = details.bad_request() else { return Vec::new() };
    let fields = bad_request.field_violations.iter();
    fields
        .map(|field| Violation { field: field.field.clone(), description: field.description.clone() })
        .collect()
}
