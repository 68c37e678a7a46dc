//! Headers that Envoy writes for us.

use std::fmt::Write;

use tidegate_proto::{
    envoy::config::core::v3::{
        HeaderValue, HeaderValueOption, header_value_option::HeaderAppendAction::OverwriteIfExistsOrAdd,
    },
    ratelimit::v1::{Algorithm, CheckResponse, KeyIdentity, LimitStatus},
};

/// A header in the place of what is there by its name, so that no caller can add to it.
pub(super) fn header(name: &str, value: &impl ToString) -> HeaderValueOption {
    let value = HeaderValue { key: name.to_owned(), value: value.to_string(), ..HeaderValue::default() };
    HeaderValueOption { header: Some(value), append: None, append_action: OverwriteIfExistsOrAdd.into() }
}

/// Whose the key is, for the backend.
pub(super) fn identity(key: &KeyIdentity) -> [(&'static str, String); 6] {
    [
        ("x-tidegate-organization", encoded(&key.organization_id)),
        ("x-tidegate-key-id", encoded(&key.id)),
        ("x-tidegate-key-name", encoded(&key.name)),
        ("x-tidegate-plan", encoded(&key.plan)),
        ("x-tidegate-scopes", encoded(&key.scopes.join(" "))),
        ("x-tidegate-environment", encoded(&key.environment)),
    ]
}

/// What is left, for the caller. Limits that only report are for the operator: they are left out.
pub(super) fn rate_limit(decided: &CheckResponse, now_us: u64) -> Vec<HeaderValueOption> {
    let Some(binding) = binding(decided) else { return Vec::new() };
    vec![
        header("x-ratelimit-limit", &binding.limit),
        header("x-ratelimit-remaining", &binding.remaining),
        header("x-ratelimit-reset", &reset(binding, now_us)),
        header("ratelimit-policy", &policies(decided)),
        header("ratelimit", &state(binding)),
    ]
}

/// The limit that binds, if there is one.
pub(super) fn binding(decided: &CheckResponse) -> Option<&LimitStatus> {
    let index = usize::try_from(decided.binding_limit?).ok()?;
    decided.limits.get(index).filter(|limit| !limit.shadow)
}

/// When a limit is wholly unused again, in Unix seconds.
pub(super) fn reset(limit: &LimitStatus, now_us: u64) -> u64 {
    now_us.saturating_add(limit.reset_after_ms.saturating_mul(1_000)).div_ceil(1_000_000)
}

/// `"free/minute";q=10;w=60, "free/hour";q=100;w=3600` (a list of structured fields, RFC 9651).
fn policies(decided: &CheckResponse) -> String {
    let enforced = decided.limits.iter().filter(|limit| !limit.shadow);
    let items = enforced.map(|limit| {
        let (name, quota, window) = (string(&limit.name), limit.limit, limit.period_ms.div_ceil(1_000));
        match limit.algorithm() {
            // Held, not spent: it has no window.
            Algorithm::Concurrency => format!("{name};q={quota};qu=\"concurrent-requests\""),
            _ => format!("{name};q={quota};w={window}"),
        }
    });
    items.collect::<Vec<_>>().join(", ")
}

/// `"free/minute";r=7;t=42`.
fn state(limit: &LimitStatus) -> String {
    let seconds = limit.reset_after_ms.div_ceil(1_000);
    format!("{};r={};t={seconds}", string(&limit.name), limit.remaining)
}

/// A structured-field string: printable ASCII in quotes, with `"` and `\` escaped.
fn string(name: &str) -> String {
    let mut text = String::from('"');
    for character in name.chars() {
        match character {
            '"' | '\\' => text.extend(['\\', character]),
            ' '..='~' => text.push(character),
            _ => text.push('?'),
        }
    }
    text.push('"');
    text
}

/// Printable ASCII as it is, but `%`; the rest percent-encoded (RFC 3986, 2.1), so that no name can break out of its header.
fn encoded(text: &str) -> String {
    let mut value = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'%' | ..b' ' | 0x7f.. => write!(value, "%{byte:02X}").expect("a String takes every write"),
            _ => value.push(char::from(byte)),
        }
    }
    value
}
