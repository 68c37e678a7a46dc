//! What a decision looks like outside the body: the rate-limit headers, and the 429 of a denial.

use std::fmt::Write;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use tidegate_proto::ratelimit::v1::{Algorithm, CheckResponse, Code, LimitStatus};

use crate::{
    problem::{BEARER, Denial, Problem, QUOTA_EXCEEDED},
    routes::check::answer::{code as word, reset},
};

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const STATE: HeaderName = HeaderName::from_static("ratelimit");

/// Puts the headers of the binding limit into `headers`, and `Retry-After` if it was a denial.
/// Limits that only report are for the operator: the headers leave them out.
pub(crate) fn write_headers(headers: &mut HeaderMap, response: &CheckResponse, now_us: u64) {
    if let Some(binding) = binding(response) {
        headers.insert(LIMIT, binding.limit.into());
        headers.insert(REMAINING, binding.remaining.into());
        headers.insert(RESET, reset(now_us, binding.reset_after_ms).into());
        insert(headers, POLICY, policies(response));
        insert(headers, STATE, state(binding));
    }
    if !response.allowed {
        headers.insert(header::RETRY_AFTER, retry_after(response).into());
    }
}

/// The answer to a denied call: 429 by a limit, 401 or 403 by its API key, or 503 if the store could not be asked.
#[must_use]
pub(crate) fn denied(response: &CheckResponse, now_us: u64) -> Problem {
    let code = response.code();
    let refused = |status, words: &'static str| Problem::new(status, word(code), words);
    let unknown =
        |words| refused(StatusCode::UNAUTHORIZED, words).with_header(header::WWW_AUTHENTICATE, BEARER);
    let forbidden = |words| refused(StatusCode::FORBIDDEN, words);
    let mut problem = match code {
        Code::StoreUnavailable => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "store_unavailable",
            "The limits cannot be checked now, and the policy says to refuse",
        ),
        Code::QuotaExceeded => limited("quota_exceeded", "Quota exceeded", response, now_us),
        Code::ConcurrencyExceeded => limited("concurrency_exceeded", "Too many at once", response, now_us),
        Code::RateLimited | Code::Ok | Code::Unspecified => {
            limited("rate_limit_exceeded", "Rate limit exceeded", response, now_us)
        }
        Code::KeyNotFound => unknown("Nobody has this API key"),
        Code::KeyRevoked => unknown("The API key was revoked"),
        Code::KeyExpired => unknown("The API key has expired"),
        Code::KeyDisabled => unknown("The API key is switched off"),
        Code::IpForbidden => forbidden("The API key may not be used from this address"),
        Code::ScopeMissing => forbidden("The API key has not the scopes that this call needs"),
        Code::OrganizationSuspended => forbidden("The organization of the API key is suspended"),
    };
    write_headers(&mut problem.headers, response, now_us);
    if !problem.status.is_server_error() && problem.status != StatusCode::TOO_MANY_REQUESTS {
        // To wait would not help.
        problem.headers.remove(header::RETRY_AFTER);
    }
    problem
}

fn limited(error: &'static str, words: &str, response: &CheckResponse, now_us: u64) -> Problem {
    let Some(binding) = binding(response) else {
        return Problem::new(StatusCode::TOO_MANY_REQUESTS, error, words.to_owned());
    };
    let violated = response.limits.iter().filter(|limit| limit.exceeded && !limit.shadow);
    let detail = format!("{words}: {}", in_words(binding));
    Problem {
        kind: QUOTA_EXCEEDED,
        denial: Some(Denial {
            retry_after: retry_after(response),
            limit: binding.limit,
            remaining: binding.remaining,
            reset: reset(now_us, binding.reset_after_ms),
            violated_policies: violated.map(|limit| limit.name.clone()).collect(),
        }),
        ..Problem::new(StatusCode::TOO_MANY_REQUESTS, error, detail)
    }
}

fn binding(response: &CheckResponse) -> Option<&LimitStatus> {
    let index = usize::try_from(response.binding_limit?).ok()?;
    response.limits.get(index).filter(|limit| !limit.shadow)
}

fn retry_after(response: &CheckResponse) -> u64 {
    response.retry_after_ms.div_ceil(1000).max(1)
}

/// `"free/minute";q=10;w=60, "free/hour";q=100;w=3600` (a list of structured fields, RFC 9651).
fn policies(response: &CheckResponse) -> String {
    let mut text = String::with_capacity(32 * response.limits.len());
    for limit in response.limits.iter().filter(|limit| !limit.shadow) {
        if !text.is_empty() {
            text.push_str(", ");
        }
        push_string(&mut text, &limit.name);
        let (quota, window) = (limit.limit, limit.period_ms.div_ceil(1000));
        let written = match limit.algorithm() {
            // Held, not spent: it has no window.
            Algorithm::Concurrency => write!(text, ";q={quota};qu=\"concurrent-requests\""),
            _ => write!(text, ";q={quota};w={window}"),
        };
        written.expect("a String takes every write");
    }
    text
}

/// `"free/minute";r=7;t=42`.
fn state(limit: &LimitStatus) -> String {
    let mut text = String::with_capacity(32);
    push_string(&mut text, &limit.name);
    let seconds = limit.reset_after_ms.div_ceil(1000);
    write!(text, ";r={};t={seconds}", limit.remaining).expect("a String takes every write");
    text
}

/// A structured-field string: printable ASCII in quotes, with `"` and `\` escaped.
fn push_string(text: &mut String, name: &str) {
    text.push('"');
    for character in name.chars() {
        match character {
            '"' | '\\' => text.extend(['\\', character]),
            ' '..='~' => text.push(character),
            _ => text.push('?'),
        }
    }
    text.push('"');
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: String) {
    let value = HeaderValue::try_from(value).expect("structured fields are printable ASCII");
    headers.insert(name, value);
}

/// `10 requests per minute`.
fn in_words(limit: &LimitStatus) -> String {
    let noun = if limit.limit == 1 { "request" } else { "requests" };
    match limit.algorithm() {
        Algorithm::Concurrency => format!("{} {noun} at a time", limit.limit),
        _ => format!("{} {noun} per {}", limit.limit, period_in_words(limit)),
    }
}

fn period_in_words(limit: &LimitStatus) -> String {
    const DAY_MS: u64 = 86_400_000;
    const UNITS: [(u64, &str); 6] = [
        (7 * DAY_MS, "week"),
        (DAY_MS, "day"),
        (3_600_000, "hour"),
        (60_000, "minute"),
        (1000, "second"),
        (1, "millisecond"),
    ];
    let period = limit.period_ms;
    // A calendar month comes with its present length, and only fixed windows have one.
    let month = (28 * DAY_MS..=31 * DAY_MS).contains(&period) && period.is_multiple_of(DAY_MS);
    if month && limit.algorithm() == Algorithm::FixedWindow {
        return "month".to_owned();
    }
    let unit = UNITS.iter().find(|(length, _)| period >= *length && period.is_multiple_of(*length));
    match unit {
        None => "period".to_owned(),
        Some((length, name)) if period == *length => (*name).to_owned(),
        Some((length, name)) => format!("{} {name}s", period / length),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::fixture::{NOW_US, admitted, denied as denial};

    fn written(response: &CheckResponse) -> HeaderMap {
        let mut headers = HeaderMap::new();
        write_headers(&mut headers, response, NOW_US);
        headers
    }

    #[test]
    fn an_admission_shows_the_binding_limit_and_every_policy() {
        insta::assert_debug_snapshot!(written(&admitted(7)));
    }

    #[test]
    fn a_denial_also_says_when_to_retry() {
        assert_eq!(written(&denial())["retry-after"], "42");
    }

    #[test]
    fn retry_after_is_at_least_a_second() {
        let mut response = denial();
        response.retry_after_ms = 0;
        assert_eq!(written(&response)["retry-after"], "1");
    }

    #[test]
    fn an_unlimited_request_has_no_headers() {
        let unlimited = CheckResponse { allowed: true, ..CheckResponse::default() };
        assert!(written(&unlimited).is_empty());
    }

    #[test]
    fn limits_that_only_report_are_left_out() {
        let mut response = admitted(7);
        response.limits[1].shadow = true;
        assert_eq!(
            written(&response)["ratelimit-policy"],
            "\"free/minute\";q=10;w=60, \"free/day\";q=1000;w=86400"
        );
        response.binding_limit = Some(1);
        assert!(written(&response).is_empty());
    }

    #[test]
    fn a_name_cannot_break_out_of_its_header() {
        let mut response = admitted(7);
        response.limits.truncate(1);
        response.limits[0].name = "a\"b\\c\r\nset-cookie: x=1\u{e9}".to_owned();
        assert_eq!(written(&response)["ratelimit-policy"], r#""a\"b\\c??set-cookie: x=1?";q=10;w=60"#);
    }

    #[test]
    fn a_denial_is_a_429_with_all_of_it() {
        let problem = denied(&denial(), NOW_US);
        assert_eq!(problem.status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!((problem.kind, &*problem.error), (QUOTA_EXCEEDED, "rate_limit_exceeded"));
        assert_eq!(problem.detail, "Rate limit exceeded: 10 requests per minute");
        let expected = Denial {
            retry_after: 42,
            limit: 10,
            remaining: 0,
            reset: 1_735_689_660,
            violated_policies: vec!["free/minute".to_owned()],
        };
        assert_eq!(problem.denial, Some(expected));
        assert_eq!(problem.headers["retry-after"], "42");
    }

    #[test]
    fn a_used_up_quota_has_a_word_of_its_own() {
        let mut response = denial();
        response.code = Code::QuotaExceeded.into();
        let problem = denied(&response, NOW_US);
        assert_eq!((problem.status.as_u16(), &*problem.error), (429, "quota_exceeded"));
    }

    #[rstest]
    #[case(Code::KeyNotFound, 401, "key_not_found")]
    #[case(Code::KeyRevoked, 401, "key_revoked")]
    #[case(Code::KeyExpired, 401, "key_expired")]
    #[case(Code::KeyDisabled, 401, "key_disabled")]
    #[case(Code::IpForbidden, 403, "ip_forbidden")]
    #[case(Code::ScopeMissing, 403, "scope_missing")]
    #[case(Code::OrganizationSuspended, 403, "organization_suspended")]
    fn a_denial_by_an_api_key_is_told_by_its_code(
        #[case] code: Code,
        #[case] status: u16,
        #[case] word: &str,
    ) {
        let response = CheckResponse { code: code.into(), ..CheckResponse::default() };
        let problem = denied(&response, NOW_US);
        assert_eq!((problem.status.as_u16(), &*problem.error), (status, word));
        assert_eq!(problem.headers.contains_key("www-authenticate"), status == 401);
        assert!(!problem.headers.contains_key("retry-after"), "waiting does not help");
    }

    #[test]
    fn a_denial_for_want_of_the_store_is_a_503() {
        let mut response = denial();
        response.code = Code::StoreUnavailable.into();
        let problem = denied(&response, NOW_US);
        assert_eq!((problem.status.as_u16(), &*problem.error), (503, "store_unavailable"));
        assert_eq!((problem.denial, &problem.headers["retry-after"]), (None, &HeaderValue::from(42)));
    }

    #[rstest]
    #[case(1, 1000, Algorithm::TokenBucket, "1 request per second")]
    #[case(10, 60_000, Algorithm::SlidingWindow, "10 requests per minute")]
    #[case(10, 90_000, Algorithm::SlidingWindow, "10 requests per 90 seconds")]
    #[case(5, 7_200_000, Algorithm::SlidingWindow, "5 requests per 2 hours")]
    #[case(5, 604_800_000, Algorithm::SlidingWindow, "5 requests per week")]
    #[case(5, 2_592_000_000, Algorithm::SlidingWindow, "5 requests per 30 days")]
    #[case(5, 2_592_000_000, Algorithm::FixedWindow, "5 requests per month")]
    #[case(5, 250, Algorithm::TokenBucket, "5 requests per 250 milliseconds")]
    #[case(5, 0, Algorithm::TokenBucket, "5 requests per period")]
    fn a_limit_in_words(
        #[case] limit: u64,
        #[case] period_ms: u64,
        #[case] algorithm: Algorithm,
        #[case] words: &str,
    ) {
        let limit = LimitStatus { limit, period_ms, algorithm: algorithm.into(), ..LimitStatus::default() };
        assert_eq!(in_words(&limit), words);
    }
}
