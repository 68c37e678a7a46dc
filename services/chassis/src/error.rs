//! Errors as gRPC statuses with rich details. Clients match on the reason, never on the words.

use std::time::Duration;

use http::HeaderMap;
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

/// The trailers that tell `status`.
#[must_use]
pub(crate) fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    // Fails only for details too large for a header; then the answer ends without a status.
    let _ = status.add_header(&mut trailers);
    trailers
}

/// One wrong field of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field as in the proto, `checks[3].cost`.
    pub field: String,
    /// What is wrong with it, for people.
    pub description: String,
}

/// Bytes of violations that are listed. They travel in trailers, and some clients take no more than
/// 8 KiB of those; what does not fit is counted.
const MAX_LISTED_BYTES: usize = 2_048;

/// Fields that the message names; the details have the others.
const MAX_NAMED: usize = 5;

/// Every wrong field of a request, collected before it is refused as a whole.
#[derive(Clone, Debug, Default)]
pub struct Violations {
    listed: Vec<Violation>,
    bytes: usize,
    unlisted: usize,
}

impl Violations {
    /// Takes in one more.
    pub fn add(&mut self, field: impl Into<String>, description: impl Into<String>) {
        let violation = Violation { field: field.into(), description: description.into() };
        self.bytes += violation.field.len() + violation.description.len();
        if self.bytes <= MAX_LISTED_BYTES || self.listed.is_empty() {
            self.listed.push(violation);
        } else {
            self.unlisted += 1;
        }
    }

    /// Takes in those of a part of the request, which lies at `path`.
    pub fn add_all(&mut self, path: &str, part: Self) {
        for Violation { field, description } in part.listed {
            self.add(format!("{path}.{field}"), description);
        }
        self.unlisted += part.unlisted;
    }

    /// Whether the request may go on.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.listed.is_empty()
    }

    /// Those that are listed, in the order they were added.
    pub fn iter(&self) -> impl Iterator<Item = &Violation> {
        self.listed.iter()
    }

    /// `INVALID_ARGUMENT` with `reason`, a message that names the first of them, and a `BadRequest` that
    /// lists all, up to some 2 KiB.
    #[must_use]
    pub fn into_status(self, reason: &'static str) -> Status {
        let names: Vec<_> =
            self.listed.iter().take(MAX_NAMED).map(|violation| violation.field.as_str()).collect();
        let mut message = format!("invalid request: {}", names.join(", "));
        match self.listed.len() - names.len() + self.unlisted {
            0 => {}
            more => message.push_str(&format!(" and {more} more")),
        }
        let mut details = ErrorDetails::with_error_info(reason, ERROR_DOMAIN, []);
        for Violation { field, description } in self.listed {
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
        assert_eq!(
            (info.reason.as_str(), info.domain.as_str()),
            ("STORE_UNAVAILABLE", tidegate_proto::ERROR_DOMAIN)
        );
        assert_eq!(details.retry_info().and_then(|info| info.retry_delay), Some(Duration::from_secs(2)));
    }

    #[test]
    fn violations_are_all_listed_in_order() {
        let mut violations = Violations::default();
        assert!(violations.is_empty());
        violations.add("cost", "must be at least 1");
        violations.add("attributes[\"a b\"]", "bad name");
        let status = violations.into_status("INVALID_REQUEST");
        assert_eq!(status.message(), "invalid request: cost, attributes[\"a b\"]");
        assert_eq!(status.code(), Code::InvalidArgument);
        let details = status.get_error_details();
        let fields = details.bad_request().expect("BadRequest").field_violations.iter();
        assert_eq!(
            fields.map(|violation| violation.field.as_str()).collect::<Vec<_>>(),
            ["cost", "attributes[\"a b\"]"]
        );
    }

    #[test]
    fn ten_thousand_violations_fit_the_trailers_of_any_client() {
        let mut part = Violations::default();
        for index in 0..10_000 {
            part.add(format!("attributes[{index}]"), "must be at most 512 bytes, is 1000000");
        }
        let mut violations = Violations::default();
        violations.add("cost", "must be at least 1");
        violations.add_all("checks[7]", part);
        let status = violations.into_status("INVALID_REQUEST");
        assert!(status.details().len() + status.message().len() < 4_096, "{}", status.details().len());
        assert!(status.message().contains("checks[7].attributes[0]"), "{}", status.message());
        assert!(status.message().ends_with(" and 9996 more"), "{}", status.message());
    }
}
