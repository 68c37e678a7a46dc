//! What is answered in place of the backend.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header, request::Parts};
use serde::Serialize;
use tidegate_proto::ERROR_DOMAIN;
use tonic_types::{ErrorDetails, StatusExt};

use super::{ProtectedBody, headers};
use crate::{Code, Decision, Limit, clock};

/// Problem type of a denial by a limit (draft-ietf-httpapi-ratelimit-headers).
const QUOTA_EXCEEDED: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";
const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");
const GRPC: &str = "application/grpc";

/// A request that is not let through.
#[derive(Debug)]
pub(super) struct Denial {
    status: StatusCode,
    /// The stable machine word.
    error: &'static str,
    /// The code of the decision, if one was made.
    code: Option<Code>,
    detail: String,
    limited: Option<Limited>,
    retry_after: Option<Duration>,
    headers: HeaderMap,
}

/// What a denial by a limit adds.
#[derive(Debug, Serialize)]
struct Limited {
    retry_after: u64,
    limit: u64,
    remaining: u64,
    reset: u64,
    violated_policies: Vec<String>,
}

#[derive(Serialize)]
struct Problem<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    instance: &'a str,
    error: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    #[serde(flatten)]
    limited: Option<&'a Limited>,
}

impl Denial {
    /// By a decision that does not allow it.
    pub(super) fn of(decision: &Decision) -> Self {
        let mut denial = Self::of_code(decision.code);
        if denial.status == StatusCode::TOO_MANY_REQUESTS
            && let Some(binding) = headers::binding(decision)
        {
            denial.detail = format!("{}: {}", denial.detail, in_words(binding));
            let violated = decision.limits.iter().filter(|limit| limit.exceeded && !limit.shadow);
            denial.limited = Some(Limited {
                retry_after: headers::retry_after(decision),
                limit: binding.limit,
                remaining: binding.remaining,
                reset: clock::unix_seconds_after(binding.reset_after),
                violated_policies: violated.map(|limit| limit.name.clone()).collect(),
            });
        }
        headers::write(&mut denial.headers, decision);
        denial.retry_after = denial.headers.contains_key(header::RETRY_AFTER).then_some(decision.retry_after);
        denial
    }

    /// By a code alone.
    pub(super) fn of_code(code: Code) -> Self {
        let (status, error, detail) = match code {
            Code::KeyNotFound => unauthenticated(code, "The API key is not accepted"),
            Code::KeyRevoked => unauthenticated(code, "The API key was revoked"),
            Code::KeyExpired => unauthenticated(code, "The API key has expired"),
            Code::KeyDisabled => unauthenticated(code, "The API key is switched off"),
            Code::IpForbidden => forbidden(code, "The API key may not be used from this address"),
            Code::ScopeMissing => forbidden(code, "The API key has not the scopes that this call needs"),
            Code::OrganizationSuspended => forbidden(code, "The organization of the API key is suspended"),
            Code::Ok | Code::Unknown => forbidden(code, "This call is not allowed"),
            Code::RateLimited => limited("rate_limit_exceeded", "Rate limit exceeded"),
            Code::QuotaExceeded => limited("quota_exceeded", "Quota exceeded"),
            Code::ConcurrencyExceeded => limited("concurrency_exceeded", "Too many at once"),
            Code::Unavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                code.as_str(),
                "It cannot be checked now whether this call is allowed",
            ),
        };
        let mut headers = HeaderMap::new();
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        let (detail, code) = (detail.to_owned(), Some(code));
        Self { status, error, code, detail, limited: None, retry_after: None, headers }
    }

    /// There is no key.
    pub(super) fn without_key() -> Self {
        let detail = "An API key is needed, as X-API-Key or Authorization: Bearer".to_owned();
        Self { code: None, error: "unauthenticated", detail, ..Self::of_code(Code::KeyNotFound) }
    }

    /// It could not be decided, and trying again does not help. Whoever called learns only that; the log has the rest.
    pub(super) fn undecided() -> Self {
        Self {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            error: "internal",
            code: None,
            detail: "Something went wrong on this side".to_owned(),
            limited: None,
            retry_after: None,
            headers: HeaderMap::new(),
        }
    }

    /// In the manner of the request: a gRPC status, or a problem document.
    pub(super) fn answer<B>(self, request: &Parts) -> Response<ProtectedBody<B>> {
        if is_grpc(request) { self.status_of_grpc() } else { self.problem(request) }
    }

    fn status_of_grpc<B>(self) -> Response<ProtectedBody<B>> {
        let mut details = ErrorDetails::new();
        let reason = self.code.map_or(self.error, Code::as_str).to_ascii_uppercase();
        details.set_error_info(reason, ERROR_DOMAIN, std::collections::HashMap::new());
        if let Some(delay) = self.retry_after {
            details.set_retry_info(Some(delay));
        }
        let status = tonic::Status::with_error_details(grpc_code(self.status), self.detail, details);
        let mut response = status.into_http::<()>().map(|()| ProtectedBody::own(Bytes::new()));
        response.headers_mut().extend(self.headers);
        response
    }

    fn problem<B>(self, request: &Parts) -> Response<ProtectedBody<B>> {
        let kind = if self.limited.is_some() { QUOTA_EXCEEDED } else { "about:blank" };
        let document = Problem {
            kind,
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: &self.detail,
            instance: request.uri.path(),
            error: self.error,
            request_id: request.headers.get("x-request-id").and_then(|id| id.to_str().ok()),
            limited: self.limited.as_ref(),
        };
        let body = serde_json::to_vec(&document).expect("a problem document has string keys only");
        let mut response = Response::new(ProtectedBody::own(body.into()));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response.headers_mut().insert(header::CONTENT_TYPE, PROBLEM);
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

type Meaning = (StatusCode, &'static str, &'static str);

fn unauthenticated(code: Code, detail: &'static str) -> Meaning {
    (StatusCode::UNAUTHORIZED, code.as_str(), detail)
}

fn forbidden(code: Code, detail: &'static str) -> Meaning {
    (StatusCode::FORBIDDEN, code.as_str(), detail)
}

fn limited(error: &'static str, detail: &'static str) -> Meaning {
    (StatusCode::TOO_MANY_REQUESTS, error, detail)
}

fn grpc_code(status: StatusCode) -> tonic::Code {
    match status {
        StatusCode::UNAUTHORIZED => tonic::Code::Unauthenticated,
        StatusCode::FORBIDDEN => tonic::Code::PermissionDenied,
        StatusCode::TOO_MANY_REQUESTS => tonic::Code::ResourceExhausted,
        StatusCode::SERVICE_UNAVAILABLE => tonic::Code::Unavailable,
        _ => tonic::Code::Internal,
    }
}

/// Of grpc-web too, which takes a status among the headers.
fn is_grpc(request: &Parts) -> bool {
    let kind = request.headers.get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(GRPC.as_bytes()))
}

/// `10 requests per minute`.
fn in_words(limit: &Limit) -> String {
    const UNITS: [(u128, &str); 6] = [
        (7 * 86_400_000, "week"),
        (86_400_000, "day"),
        (3_600_000, "hour"),
        (60_000, "minute"),
        (1000, "second"),
        (1, "millisecond"),
    ];
    let noun = if limit.limit == 1 { "request" } else { "requests" };
    if limit.is_concurrency {
        return format!("{} {noun} at a time", limit.limit);
    }
    let period = limit.period.as_millis().max(1);
    let unit = UNITS.iter().find(|(length, _)| period.is_multiple_of(*length));
    let (length, name) = unit.copied().unwrap_or((1, "millisecond"));
    match period / length {
        1 => format!("{} {noun} per {name}", limit.limit),
        count => format!("{} {noun} per {count} {name}s", limit.limit),
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use rstest::rstest;

    use super::*;

    fn asked(kind: &str) -> Parts {
        let request = http::Request::builder().uri("/v1/validate?secret=1").header("content-type", kind);
        request.body(()).unwrap().into_parts().0
    }

    #[rstest]
    #[case(Code::KeyNotFound, 401, tonic::Code::Unauthenticated, "key_not_found")]
    #[case(Code::KeyRevoked, 401, tonic::Code::Unauthenticated, "key_revoked")]
    #[case(Code::KeyExpired, 401, tonic::Code::Unauthenticated, "key_expired")]
    #[case(Code::KeyDisabled, 401, tonic::Code::Unauthenticated, "key_disabled")]
    #[case(Code::IpForbidden, 403, tonic::Code::PermissionDenied, "ip_forbidden")]
    #[case(Code::ScopeMissing, 403, tonic::Code::PermissionDenied, "scope_missing")]
    #[case(Code::OrganizationSuspended, 403, tonic::Code::PermissionDenied, "organization_suspended")]
    #[case(Code::RateLimited, 429, tonic::Code::ResourceExhausted, "rate_limit_exceeded")]
    #[case(Code::QuotaExceeded, 429, tonic::Code::ResourceExhausted, "quota_exceeded")]
    #[case(Code::ConcurrencyExceeded, 429, tonic::Code::ResourceExhausted, "concurrency_exceeded")]
    #[case(Code::Unavailable, 503, tonic::Code::Unavailable, "store_unavailable")]
    #[case(Code::Unknown, 403, tonic::Code::PermissionDenied, "unknown")]
    #[tokio::test]
    async fn each_code_has_its_status_and_says_its_word(
        #[case] code: Code,
        #[case] status: u16,
        #[case] grpc: tonic::Code,
        #[case] word: &str,
    ) {
        let response = Denial::of_code(code).answer::<String>(&asked("application/json"));
        assert_eq!(response.status().as_u16(), status);
        assert_eq!(response.headers().contains_key("www-authenticate"), status == 401);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&body["error"], &body["status"]), (&word.into(), &status.into()));
        assert_eq!(body["instance"], "/v1/validate", "a query may hold secrets");

        let response = Denial::of_code(code).answer::<String>(&asked("application/grpc+proto"));
        assert_eq!(response.status(), StatusCode::OK);
        let told = tonic::Status::from_header_map(response.headers()).unwrap();
        assert_eq!(told.code(), grpc);
        let reason = told.get_error_details().error_info().unwrap().reason.clone();
        assert_eq!(reason, code.as_str().to_ascii_uppercase());
    }
}
