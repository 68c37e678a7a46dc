//! JSON to requests about leases. Everything that is wrong is collected, as of checks.

use http::HeaderValue;
use serde_json::{Map, Value};
use tidegate_proto::ratelimit::v1::{AcquireLeaseRequest, acquire_lease_request, check_request};

use crate::{
    body::fields::{object, unknown, wrong_type},
    problem::{Problem, Violations},
    routes::check::request::{attributes, cost, idempotency_key, integer, namespace, take_header},
};

const LONGEST_TTL_MS: u64 = 86_400_000;
const LONGEST_ID: usize = 6_000;

/// For what a lease is to be taken. `header` is the value of `Idempotency-Key`, used if the body has no key of its own.
///
/// # Errors
/// 400 that lists every wrong field; the fields of `seen` are listed first.
pub(super) fn acquire(
    body: Value,
    header: Option<&HeaderValue>,
    mut seen: Violations,
) -> Result<AcquireLeaseRequest, Box<Problem>> {
    let mut request = AcquireLeaseRequest::default();
    if let Some(mut fields) = object(body, "", &mut seen) {
        if let Some(value) = fields.remove("namespace") {
            request.namespace = namespace(value, "namespace".to_owned(), &mut seen);
        }
        if let Some(value) = fields.remove("attributes") {
            let entry = |check_request::AttributesEntry { key, value }| {
                acquire_lease_request::AttributesEntry { key, value }
            };
            request.attributes = attributes(value, "attributes", &mut seen).into_iter().map(entry).collect();
        }
        if let Some(value) = fields.remove("cost") {
            request.cost = cost(&value, "cost".to_owned(), &mut seen);
        }
        request.ttl_ms = ttl_ms(&mut fields, &mut seen);
        if let Some(value) = fields.remove("idempotency_key") {
            request.idempotency_key = idempotency_key(value, "idempotency_key".to_owned(), &mut seen);
        }
        unknown(&fields, "", &mut seen);
    }
    if let Some(header) = header {
        take_header(header, &mut request.idempotency_key, &mut seen);
    }
    seen.into_result().map(|()| request)
}

/// Which lease is to last longer, and for how many milliseconds.
///
/// # Errors
/// As [`acquire`].
pub(super) fn renew(body: Value, mut seen: Violations) -> Result<(String, Option<u64>), Box<Problem>> {
    let mut renewal = (String::new(), None);
    if let Some(mut fields) = object(body, "", &mut seen) {
        renewal = (lease_id(&mut fields, &mut seen), ttl_ms(&mut fields, &mut seen));
        unknown(&fields, "", &mut seen);
    }
    seen.into_result().map(|()| renewal)
}

/// Which lease is to end.
///
/// # Errors
/// As [`acquire`].
pub(super) fn release(body: Value, mut seen: Violations) -> Result<String, Box<Problem>> {
    let mut id = String::new();
    if let Some(mut fields) = object(body, "", &mut seen) {
        id = lease_id(&mut fields, &mut seen);
        unknown(&fields, "", &mut seen);
    }
    seen.into_result().map(|()| id)
}

/// What it says is for the service to read.
fn lease_id(fields: &mut Map<String, Value>, violations: &mut Violations) -> String {
    let is_id_byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    match fields.remove("lease_id") {
        Some(Value::String(id)) => {
            if !((1..=LONGEST_ID).contains(&id.len()) && id.bytes().all(is_id_byte)) {
                violations.add("lease_id", "must be what a lease was given as its id");
            }
            return id;
        }
        Some(other) => wrong_type("lease_id".to_owned(), "a string", &other, violations),
        None => violations.add("lease_id", "is required: what the lease was given as its id"),
    }
    String::new()
}

fn ttl_ms(fields: &mut Map<String, Value>, violations: &mut Violations) -> Option<u64> {
    let value = fields.remove("ttl_ms")?;
    integer(&value, 1..=LONGEST_TTL_MS, "ttl_ms".to_owned(), violations)
}
