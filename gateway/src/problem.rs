//! Errors as `application/problem+json` (RFC 9457): one shape for every answer from 400 up.
//!
//! A handler returns a [`Problem`]; it travels as an extension of an empty answer, and the edge
//! renders it once the request id is known. So whatever else answers with an error status (the
//! router's own 404 and 405, for instance) is rendered in the same shape.

mod reason;
mod upstream;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

pub(crate) use self::upstream::{from_check_error, from_status};

/// Problem type of a denial by a limit (draft-ietf-httpapi-ratelimit-headers).
pub(crate) const QUOTA_EXCEEDED: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";

/// What a 401 asks for, in `WWW-Authenticate`.
pub(crate) const BEARER: HeaderValue = HeaderValue::from_static("Bearer");

/// The most violations one answer lists; beyond, a last one tells how many more there are.
const MOST_VIOLATIONS: usize = 1000;

/// One wrong field of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Violation {
    /// Path of the field in the request body (`checks[3].cost`), or the name of a header or of a
    /// query parameter.
    pub field: String,
    /// What is wrong with it, for people.
    pub description: String,
}

/// Every wrong field of a request, collected before it is refused as a whole.
#[derive(Clone, Debug, Default)]
pub(crate) struct Violations {
    listed: Vec<Violation>,
    unlisted: usize,
}

impl Violations {
    /// Takes in one more.
    pub(crate) fn add(&mut self, field: impl Into<String>, description: impl Into<String>) {
        if self.is_full() {
            self.unlisted += 1;
        } else {
            self.listed.push(Violation { field: field.into(), description: description.into() });
        }
    }

    /// Whether further ones are only counted.
    #[must_use]
    pub(crate) fn is_full(&self) -> bool {
        self.listed.len() >= MOST_VIOLATIONS
    }

    /// Fine, or the 400 that lists all of them.
    ///
    /// # Errors
    /// `invalid_argument` if anything was added.
    pub(crate) fn into_result(self) -> Result<(), Box<Problem>> {
        if self.listed.is_empty() {
            return Ok(());
        }
        let Self { mut listed, unlisted } = self;
        let count = listed.len() + unlisted;
        if unlisted > 0 {
            listed.push(Violation { field: "…".to_owned(), description: format!("and {unlisted} more") });
        }
        let detail = match count {
            1 => "1 field is wrong".to_owned(),
            _ => format!("{count} fields are wrong"),
        };
        let problem = Problem::new(StatusCode::BAD_REQUEST, "invalid_argument", detail);
        Err(Box::new(Problem { violations: listed, ..problem }))
    }
}

/// What a denial by a limit adds to its problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Denial {
    /// Whole seconds until the same call can pass, at least 1.
    pub retry_after: u64,
    /// Tokens per period of the binding limit.
    pub limit: u64,
    /// Tokens left in it.
    pub remaining: u64,
    /// When it is wholly unused again, in Unix seconds.
    pub reset: u64,
    /// Names of every limit that had no room.
    pub violated_policies: Vec<String>,
}

/// One error answer, before it is rendered.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    /// The HTTP status.
    pub status: StatusCode,
    /// URI of the problem type; `about:blank` says that the status tells it all.
    pub kind: &'static str,
    /// The stable machine word.
    pub error: Cow<'static, str>,
    /// For people.
    pub detail: Cow<'static, str>,
    /// Every wrong field; empty unless the request was malformed.
    pub violations: Vec<Violation>,
    /// Present if a limit denied the call.
    pub denial: Option<Denial>,
    /// Headers to send with it: `Retry-After`, `Allow`, the rate-limit headers.
    pub headers: HeaderMap,
}

impl Problem {
    /// A problem without anything particular.
    #[must_use]
    pub(crate) fn new(
        status: StatusCode,
        error: impl Into<Cow<'static, str>>,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            status,
            kind: "about:blank",
            error: error.into(),
            detail: detail.into(),
            violations: Vec::new(),
            denial: None,
            headers: HeaderMap::new(),
        }
    }

    /// The same with one header more.
    #[must_use]
    pub(crate) fn with_header(mut self, name: HeaderName, value: impl Into<HeaderValue>) -> Self {
        self.headers.insert(name, value.into());
        self
    }

    /// What an error status means that no handler explained: the router's own 404 and 405, and
    /// whatever a library answers by itself. Its body is dropped, so nothing leaks.
    #[must_use]
    pub(crate) fn of_status(status: StatusCode) -> Self {
        let (error, detail) = match status {
            StatusCode::BAD_REQUEST => ("invalid_argument", "The request is malformed"),
            StatusCode::NOT_FOUND => ("not_found", "There is nothing at this path"),
            StatusCode::METHOD_NOT_ALLOWED => {
                ("method_not_allowed", "This path does not take this method; see Allow")
            }
            status if status.is_server_error() => ("internal", INTERNAL_DETAIL),
            _ => ("request_refused", "The request was refused"),
        };
        Self::new(status, error, detail)
    }

    /// A defect or a broken peer. The caller learns only that; the log has the rest.
    #[must_use]
    pub(crate) fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", INTERNAL_DETAIL)
    }

    /// The finished answer.
    #[must_use]
    pub(crate) fn render(self, instance: &str, request_id: &str) -> Response {
        let denial = self.denial.as_ref();
        let document = ProblemDocument {
            kind: self.kind,
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: &self.detail,
            instance,
            error: &self.error,
            request_id,
            retry_after: denial.map(|denial| denial.retry_after),
            limit: denial.map(|denial| denial.limit),
            remaining: denial.map(|denial| denial.remaining),
            reset: denial.map(|denial| denial.reset),
            violated_policies: denial.map(|denial| denial.violated_policies.as_slice()),
            violations: &self.violations,
        };
        let body = serde_json::to_vec(&document).expect("a problem document has string keys only");
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        let json = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        response
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        Box::new(self).into_response()
    }
}

impl IntoResponse for Box<Problem> {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

const INTERNAL_DETAIL: &str = "The request could not be answered; its id finds the cause in the log";

/// The wire form of every error (RFC 9457).
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemDocument<'a> {
    /// URI of the problem type, or `about:blank`.
    #[serde(rename = "type")]
    kind: &'a str,
    /// The status in words.
    title: &'a str,
    /// The HTTP status.
    status: u16,
    /// What happened, for people; its words may change.
    detail: &'a str,
    /// The path that was called.
    instance: &'a str,
    /// The stable machine word, as `rate_limit_exceeded`, `invalid_argument`, `not_found`.
    error: &'a str,
    /// The same as the `X-Request-Id` header.
    request_id: &'a str,
    /// Denials only: whole seconds until the same call can pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
    /// Denials only: tokens per period of the binding limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u64>,
    /// Denials only: tokens left in the binding limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    remaining: Option<u64>,
    /// Denials only: when the binding limit is wholly unused again, in Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    reset: Option<u64>,
    /// Denials only: every limit that had no room.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    violated_policies: Option<&'a [String]>,
    /// Malformed requests only: every wrong field.
    #[serde(skip_serializing_if = "<[Violation]>::is_empty")]
    violations: &'a [Violation],
}
