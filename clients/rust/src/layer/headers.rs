//! The rate-limit headers, as those of the gateway.

use std::fmt::Write;

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::{Code, Decision, Limit, clock};

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const STATE: HeaderName = HeaderName::from_static("ratelimit");

/// Puts the headers of the binding limit into `headers`, and `Retry-After` if waiting helps. Limits that only report are for the
/// operator: the headers leave them out.
pub(super) fn write(headers: &mut HeaderMap, decision: &Decision) {
    if let Some(binding) = binding(decision) {
        headers.insert(LIMIT, binding.limit.into());
        headers.insert(REMAINING, binding.remaining.into());
        headers.insert(RESET, clock::unix_seconds_after(binding.reset_after).into());
        insert(headers, POLICY, policies(decision));
        insert(headers, STATE, state(binding));
    }
    if is_over_sometime(decision.code) {
        headers.insert(header::RETRY_AFTER, retry_after(decision).into());
    }
}

/// The limit that binds, if it may be shown.
pub(super) fn binding(decision: &Decision) -> Option<&Limit> {
    decision.binding_limit().filter(|limit| !limit.shadow)
}

/// Whole seconds, at least 1.
pub(super) fn retry_after(decision: &Decision) -> u64 {
    seconds(decision.retry_after).max(1)
}

fn is_over_sometime(code: Code) -> bool {
    match code {
        Code::RateLimited | Code::QuotaExceeded | Code::ConcurrencyExceeded | Code::Unavailable => true,
        Code::Ok
        | Code::KeyNotFound
        | Code::KeyRevoked
        | Code::KeyExpired
        | Code::KeyDisabled
        | Code::IpForbidden
        | Code::ScopeMissing
        | Code::OrganizationSuspended
        | Code::Unknown => false,
    }
}

/// `"free/minute";q=10;w=60, "free/hour";q=100;w=3600` (a list of structured fields, RFC 9651).
fn policies(decision: &Decision) -> String {
    let mut text = String::with_capacity(32 * decision.limits.len());
    for limit in decision.limits.iter().filter(|limit| !limit.shadow) {
        if !text.is_empty() {
            text.push_str(", ");
        }
        push_string(&mut text, &limit.name);
        let (quota, window) = (limit.limit, seconds(limit.period));
        let written = match limit.is_concurrency {
            // Held, not spent: it has no window.
            true => write!(text, ";q={quota};qu=\"concurrent-requests\""),
            false => write!(text, ";q={quota};w={window}"),
        };
        written.expect("a String takes every write");
    }
    text
}

/// `"free/minute";r=7;t=42`.
fn state(limit: &Limit) -> String {
    let mut text = String::with_capacity(32);
    push_string(&mut text, &limit.name);
    let reset = seconds(limit.reset_after);
    write!(text, ";r={};t={reset}", limit.remaining).expect("a String takes every write");
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

/// Rounded up.
fn seconds(duration: std::time::Duration) -> u64 {
    duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0))
}
