//! JSON to `CheckRequest`. Everything that is wrong is collected, so that one answer lists it all.
//!
//! The ranges are those of the proto file. They are checked here as well as in the service, since
//! a request with a wrong type and a wrong range should hear of both at once.

use std::{net::IpAddr, ops::RangeInclusive};

use http::HeaderValue;
use serde_json::Value;
use tidegate_proto::ratelimit::v1::{CheckBatchRequest, CheckRequest, check_request::AttributesEntry};

use crate::{
    body::fields::{object, path, quoted, unknown, wrong_type},
    problem::{Problem, Violations},
};

/// The most checks in one batch.
pub(super) const MOST_CHECKS: usize = 100;
/// The header that names an idempotency key.
pub(super) const IDEMPOTENCY_KEY: &str = "Idempotency-Key";

const MOST_COST: u64 = 1_000_000_000;
const MOST_ATTRIBUTES: usize = 64;
const LONGEST_NAMESPACE: usize = 128;
const LONGEST_NAME: usize = 64;
const LONGEST_KEY: usize = 128;
const LONGEST_SCOPE: usize = 128;
const LONGEST_SCOPES: usize = 1_024;

const NAME_RULE: &str = "names are 1 to 64 bytes of A-Z a-z 0-9 . _ -";
const SCOPE_RULE: &str = "must be 1 to 128 bytes of a-z 0-9 . _ : * / -, and neither and nor or";
const KEY_RULE: &str = "must be at most 128 printable ASCII characters";

/// One check. `header` is the value of `Idempotency-Key`, used if the body has no key of its own.
///
/// # Errors
/// 400 that lists every wrong field; the fields of `seen` are listed first.
pub(super) fn one(
    body: Value,
    header: Option<&HeaderValue>,
    mut seen: Violations,
) -> Result<CheckRequest, Box<Problem>> {
    let mut check = check(body, "", &mut seen);
    if let Some(header) = header {
        take_header(header, &mut check.idempotency_key, &mut seen);
    }
    seen.into_result().map(|()| check)
}

/// A batch, `{"checks":[…]}`.
///
/// # Errors
/// 400 that lists every wrong field of every check; the fields of `seen` are listed first.
pub(super) fn batch(
    body: Value,
    header: Option<&HeaderValue>,
    mut seen: Violations,
) -> Result<CheckBatchRequest, Box<Problem>> {
    if header.is_some() {
        seen.add(IDEMPOTENCY_KEY, "does not apply to a batch; give each check its idempotency_key");
    }
    let mut checks = Vec::new();
    if let Some(mut fields) = object(body, "", &mut seen) {
        match fields.remove("checks") {
            None => seen.add("checks", format!("is required: 1 to {MOST_CHECKS} checks")),
            Some(Value::Array(items)) if (1..=MOST_CHECKS).contains(&items.len()) => {
                let items = items.into_iter().enumerate();
                checks =
                    items.map(|(index, item)| check(item, &format!("checks[{index}]"), &mut seen)).collect();
            }
            Some(Value::Array(items)) => {
                let count = items.len();
                seen.add("checks", format!("has {count} checks; 1 to {MOST_CHECKS} are allowed"));
            }
            Some(other) => wrong_type("checks".to_owned(), "an array", &other, &mut seen),
        }
        unknown(&fields, "", &mut seen);
    }
    seen.into_result().map(|()| CheckBatchRequest { checks })
}

fn check(body: Value, at: &str, violations: &mut Violations) -> CheckRequest {
    let mut request = CheckRequest::default();
    let Some(mut fields) = object(body, at, violations) else { return request };
    if let Some(value) = fields.remove("namespace") {
        request.namespace = namespace(value, path(at, "namespace"), violations);
    }
    if let Some(value) = fields.remove("attributes") {
        request.attributes = attributes(value, &path(at, "attributes"), violations);
    }
    if let Some(value) = fields.remove("cost") {
        request.cost = cost(&value, path(at, "cost"), violations);
    }
    if let Some(value) = fields.remove("api_key") {
        // A longer one is nobody's, which is for the service to say.
        match value {
            Value::String(key) => request.api_key = key,
            other => wrong_type(path(at, "api_key"), "a string", &other, violations),
        }
    }
    if let Some(value) = fields.remove("client_ip") {
        request.client_ip = client_ip(value, path(at, "client_ip"), violations);
    }
    if let Some(value) = fields.remove("required_scopes") {
        request.required_scopes = required_scopes(value, &path(at, "required_scopes"), violations);
    }
    if let Some(value) = fields.remove("dry_run") {
        match value {
            Value::Bool(dry_run) => request.dry_run = dry_run,
            other => wrong_type(path(at, "dry_run"), "a boolean", &other, violations),
        }
    }
    if let Some(value) = fields.remove("idempotency_key") {
        let field = path(at, "idempotency_key");
        request.idempotency_key = idempotency_key(value, field, violations);
    }
    unknown(&fields, at, violations);
    request
}

/// A namespace of policies.
pub(in crate::routes) fn namespace(value: Value, field: String, violations: &mut Violations) -> String {
    let Value::String(namespace) = value else {
        wrong_type(field, "a string", &value, violations);
        return String::new();
    };
    let fits = namespace.len() <= LONGEST_NAMESPACE
        && namespace.bytes().all(|byte| is_name_byte(byte) || byte == b'/');
    if !fits {
        violations.add(field, "must be at most 128 bytes of A-Z a-z 0-9 . _ / -");
    }
    namespace
}

/// What is known of a request.
pub(in crate::routes) fn attributes(
    value: Value,
    field: &str,
    violations: &mut Violations,
) -> Vec<AttributesEntry> {
    let Value::Object(entries) = value else {
        wrong_type(field.to_owned(), "an object of strings", &value, violations);
        return Vec::new();
    };
    if entries.len() > MOST_ATTRIBUTES {
        let count = entries.len();
        violations.add(field, format!("has {count} entries; at most {MOST_ATTRIBUTES} are allowed"));
    }
    let mut taken = Vec::with_capacity(entries.len().min(MOST_ATTRIBUTES));
    for (key, value) in entries.into_iter().take(MOST_ATTRIBUTES) {
        let name_fits = (1..=LONGEST_NAME).contains(&key.len()) && key.bytes().all(is_name_byte);
        if !name_fits {
            violations.add(format!("{field}[{}]", quoted(&key)), NAME_RULE);
        }
        match value {
            Value::String(value) => taken.push(AttributesEntry { key, value }),
            other => {
                wrong_type(format!("{field}[{}]", quoted(&key)), "a string", &other, violations);
            }
        }
    }
    taken
}

/// Tokens to charge.
pub(in crate::routes) fn cost(value: &Value, field: String, violations: &mut Violations) -> Option<u64> {
    integer(value, 1..=MOST_COST, field, violations)
}

fn client_ip(value: Value, field: String, violations: &mut Violations) -> String {
    let Value::String(address) = value else {
        wrong_type(field, "a string", &value, violations);
        return String::new();
    };
    if address.parse::<IpAddr>().is_err() {
        violations.add(field, "must be an address, as 203.0.113.7 or 2001:db8::1");
    }
    address
}

/// An expression, or a list of scopes all of which are needed. What the expression says is for the service to check.
fn required_scopes(value: Value, field: &str, violations: &mut Violations) -> String {
    let expression = match value {
        Value::String(expression) => expression,
        Value::Array(scopes) => all_of(&scopes, field, violations),
        other => {
            wrong_type(field.to_owned(), "an expression, or an array of scopes", &other, violations);
            String::new()
        }
    };
    if expression.len() > LONGEST_SCOPES {
        violations.add(field, format!("must be at most {LONGEST_SCOPES} bytes"));
    }
    expression
}

/// A scope of a list is a name, and not an expression: it would be joined to its neighbours.
fn all_of(scopes: &[Value], field: &str, violations: &mut Violations) -> String {
    let mut names = Vec::with_capacity(scopes.len());
    for (index, scope) in scopes.iter().enumerate() {
        let field = || format!("{field}[{index}]");
        match scope {
            Value::String(name) if is_scope(name) => names.push(name.as_str()),
            Value::String(_) => violations.add(field(), SCOPE_RULE),
            other => wrong_type(field(), "a string", other, violations),
        }
    }
    names.join(" and ")
}

fn is_scope(name: &str) -> bool {
    let is_word = matches!(name, "and" | "or");
    (1..=LONGEST_SCOPE).contains(&name.len()) && !is_word && name.bytes().all(is_scope_byte)
}

fn is_scope_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._:*/-".contains(&byte)
}

/// An integer of a range.
pub(in crate::routes) fn integer(
    value: &Value,
    range: RangeInclusive<u64>,
    field: String,
    violations: &mut Violations,
) -> Option<u64> {
    let Value::Number(number) = value else {
        wrong_type(field, "an integer", value, violations);
        return None;
    };
    let integer = number.as_u64().filter(|integer| range.contains(integer));
    if integer.is_none() {
        violations.add(field, format!("must be an integer from {} to {}", range.start(), range.end()));
    }
    integer
}

/// A key that makes a retry safe.
pub(in crate::routes) fn idempotency_key(value: Value, field: String, violations: &mut Violations) -> String {
    let Value::String(key) = value else {
        wrong_type(field, "a string", &value, violations);
        return String::new();
    };
    if !is_idempotency_key(key.as_bytes()) {
        violations.add(field, KEY_RULE);
    }
    key
}

/// Takes the key of the header if the body has none.
pub(in crate::routes) fn take_header(header: &HeaderValue, key: &mut String, violations: &mut Violations) {
    match header.to_str() {
        Ok(header) if !header.is_empty() && is_idempotency_key(header.as_bytes()) => {
            if key.is_empty() {
                header.clone_into(key);
            } else if key != header {
                violations.add(IDEMPOTENCY_KEY, "differs from idempotency_key in the body");
            }
        }
        _ => violations.add(IDEMPOTENCY_KEY, "must be 1 to 128 printable ASCII characters"),
    }
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

fn is_idempotency_key(key: &[u8]) -> bool {
    key.len() <= LONGEST_KEY && key.iter().all(|byte| matches!(byte, b' '..=b'~'))
}
