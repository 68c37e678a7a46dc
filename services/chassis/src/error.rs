//! Errors as gRPC statuses with rich details. Clients match on the reason, never on the words.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// Domain of every [`ErrorInfo`](tonic_types::ErrorInfo) that Tidegate sends.
pub const ERROR_DOMAIN: &str = "tidegate.dev";

/// A status that carries `reason` (`UPPER_SNAKE_CASE`, listed in the proto) as an `ErrorInfo`, and
/// `retry_after` as a `RetryInfo` where waiting helps.
#[must_use]
pub fn status(
    code: Code,
    reason: &'static str,
    message: impl Into<String>,
    retry_after: Option<Duration>,
) -> Status {
    let mut details = ErrorDetails::with_error_info(reason, ERROR_DOMAIN, []);
    if retry_after.is_some() {
        details.set_retry_info(retry_after);
    }
    Status::with_error_details(code, message, details)
}

/// One wrong field of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field as in the proto, `checks[3].cost`.
    pub field: String,
    /// What is wrong with it, for people.
    pub description: String,
}

/// Every wrong field of a request, collected before it is refused as a whole.
#[derive(Clone, Debug, Default)]
pub struct Violations(Vec<Violation>);

impl Violations {
    /// Takes in one more.
    pub fn add(&mut self, field: impl Into<String>, description: impl Into<String>) {
        self.0.push(Violation { field: field.into(), description: description.into() });
    }

    /// Whether the request may go on.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In the order they were added.
    pub fn iter(&self) -> impl Iterator<Item = &Violation> {
        self.0.iter()
    }

    /// `INVALID_ARGUMENT` with `reason` and a `BadRequest` that lists all of them.
    #[must_use]
    pub fn into_status(self, reason: &'static str, message: impl Into<String>) -> Status {
        let mut details = ErrorDetails::with_error_info(reason, ERROR_DOMAIN, []);
        for Violation { field, description } in self.0 {
            details.add_bad_request_violation(field, description);
        }
        Status::with_error_details(Code::InvalidArgument, message, details)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_carries_reason_domain_and_retry() {
        let status = status(Code::Unavailable, "STORE_UNAVAILABLE", "no store", Some(Duration::from_secs(2)));
        let details = status.get_error_details();
        let info = details.error_info().expect("ErrorInfo");
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("STORE_UNAVAILABLE", ERROR_DOMAIN));
        assert_eq!(details.retry_info().and_then(|info| info.retry_delay), Some(Duration::from_secs(2)));
    }

    #[test]
    fn violations_are_all_listed_in_order() {
        let mut violations = Violations::default();
        assert!(violations.is_empty());
        violations.add("cost", "must be at least 1");
        violations.add("attributes[\"a b\"]", "bad name");
        let status = violations.into_status("INVALID_REQUEST", "2 fields are wrong");
        assert_eq!(status.code(), Code::InvalidArgument);
        let details = status.get_error_details();
        let fields = details.bad_request().expect("BadRequest").field_violations.iter();
        assert_eq!(
            fields.map(|violation| violation.field.as_str()).collect::<Vec<_>>(),
            ["cost", "attributes[\"a b\"]"]
        );
    }
}
