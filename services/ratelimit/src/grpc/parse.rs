//! Requests, checked as a whole: every wrong field is reported at once.

use std::net::IpAddr;

use tidegate_chassis::error::Violations;
use tidegate_credentials::ScopeExpression;
use tidegate_proto::{
    Encoded,
    ratelimit::v1 as pb,
    view::{CheckView, StreamCheckView},
};
use tonic::Status;
use uuid::Uuid;

use super::error::invalid;
use crate::{
    domain::{Concurrency, Fence, MAX_TOKENS},
    limiter::{LeaseToken, Question, Touches},
};

const MAX_BATCH: usize = 1_000;
const MAX_ATTRIBUTES: usize = 64;
const MAX_NAMESPACE_BYTES: usize = 128;
const MAX_NAME_BYTES: usize = 64;
const MAX_KEY_BYTES: usize = 128;
const DEFAULT_NAMESPACE: &str = "default";

/// The question that one check asks, if all of its fields are valid.
#[inline]
pub(super) fn check<'v>(view: &'v CheckView<'_>) -> Result<Asked<'v>, Status> {
    let mut violations = Violations::default();
    check_fields(view, &mut violations);
    if violations.is_empty() { Ok(asked(view)) } else { Err(invalid(violations)) }
}

/// The checks of a batch; one wrong field refuses them all.
pub(super) fn batch<B: AsRef<[u8]>>(
    request: &Encoded<pb::CheckBatchRequest, B>,
) -> Result<Vec<CheckView<'_>>, Status> {
    let mut violations = Violations::default();
    let count = request.count()?;
    if count == 0 || count > MAX_BATCH {
        violations.add("checks", format!("must be 1 to {MAX_BATCH} checks, are {count}"));
        return Err(invalid(violations));
    }
    let checks = request.views()?;
    for (index, view) in checks.iter().enumerate() {
        let mut own = Violations::default();
        check_fields(view, &mut own);
        if !own.is_empty() {
            violations.add_all(&format!("checks[{index}]"), own);
        }
    }
    if violations.is_empty() { Ok(checks) } else { Err(invalid(violations)) }
}

/// The question that one check of a stream asks; its `check` may be missing.
#[inline]
pub(super) fn streamed<'v>(view: &'v StreamCheckView<'_>) -> Result<Asked<'v>, Status> {
    view.check.as_ref().map_or_else(
        || {
            let mut violations = Violations::default();
            violations.add("check", "must be set");
            Err(invalid(violations))
        },
        check,
    )
}

pub(super) fn peek(request: &pb::PeekRequest) -> CheckView<'_> {
    let attributes = request.attributes.iter().map(|entry| (&*entry.key, &*entry.value));
    let namespace = &request.namespace;
    CheckView { namespace, attributes: attributes.collect(), cost: request.cost, ..CheckView::default() }
}

pub(super) fn reset(request: &pb::ResetRequest) -> CheckView<'_> {
    let attributes = request.attributes.iter().map(|entry| (&*entry.key, &*entry.value));
    let (namespace, api_key) = (&*request.namespace, &*request.api_key);
    CheckView { namespace, attributes: attributes.collect(), api_key, ..CheckView::default() }
}

pub(super) fn usage(request: &pb::GetUsageRequest) -> CheckView<'_> {
    let attributes = request.attributes.iter().map(|entry| (&*entry.key, &*entry.value));
    let (namespace, api_key) = (&*request.namespace, &*request.api_key);
    CheckView { namespace, attributes: attributes.collect(), api_key, ..CheckView::default() }
}

/// What is asked by who wants a lease, and how long it is to last, in microseconds.
pub(super) fn acquire(request: &pb::AcquireLeaseRequest) -> Result<(CheckView<'_>, Option<u64>), Status> {
    let attributes = request.attributes.iter().map(|entry| (&*entry.key, &*entry.value));
    let view = CheckView {
        namespace: &request.namespace,
        attributes: attributes.collect(),
        cost: request.cost,
        idempotency_key: &request.idempotency_key,
        ..CheckView::default()
    };
    let mut violations = Violations::default();
    check_fields(&view, &mut violations);
    let ttl_us = ttl_us(request.ttl_ms, &mut violations);
    if violations.is_empty() { Ok((view, ttl_us)) } else { Err(invalid(violations)) }
}

/// Which lease is meant, and how long it is to last, in microseconds.
pub(super) fn lease(lease_id: &str, ttl_ms: Option<u64>) -> Result<(LeaseToken, Option<u64>), Status> {
    let mut violations = Violations::default();
    let token = LeaseToken::read(lease_id);
    if token.is_none() {
        violations.add("lease_id", "must be what a lease was given as its id");
    }
    let ttl_us = ttl_us(ttl_ms, &mut violations);
    match token {
        Some(token) if violations.is_empty() => Ok((token, ttl_us)),
        Some(_) | None => Err(invalid(violations)),
    }
}

/// Which organization has changed, and its generation from now on.
pub(super) fn fence(request: &pb::FenceOrganizationRequest) -> Result<Fence, Status> {
    let mut violations = Violations::default();
    let organization = Uuid::try_parse(&request.organization_id).unwrap_or_else(|_| {
        violations.add("organization_id", "must be a UUID");
        Uuid::nil()
    });
    let generation = request.generation;
    if generation > Fence::MAX_GENERATION {
        violations.add("generation", format!("must be at most {}, is {generation}", Fence::MAX_GENERATION));
    }
    if violations.is_empty() { Ok(Fence { organization, generation }) } else { Err(invalid(violations)) }
}

fn ttl_us(ttl_ms: Option<u64>, violations: &mut Violations) -> Option<u64> {
    let most_ms = Concurrency::MAX_LEASE_US / 1_000;
    let ttl_ms = ttl_ms?;
    if !(1..=most_ms).contains(&ttl_ms) {
        violations.add("ttl_ms", format!("must be 1 to {most_ms} milliseconds, is {ttl_ms}"));
    }
    Some(ttl_ms.saturating_mul(1_000))
}

/// What is asked by a request whose fields are all valid.
pub(super) type Asked<'v> = Question<'v, [(&'v str, &'v str)]>;

/// The question that a view asks, whose fields have been found valid.
#[inline]
pub(super) fn asked<'v>(view: &'v CheckView<'_>) -> Asked<'v> {
    Question {
        namespace: if view.namespace.is_empty() { DEFAULT_NAMESPACE } else { view.namespace },
        attributes: &view.attributes,
        cost: view.cost.unwrap_or(1),
        dry_run: view.dry_run,
        idempotency_key: view.idempotency_key,
        touches: Touches::All,
    }
}

#[inline]
pub(super) fn check_fields(view: &CheckView<'_>, violations: &mut Violations) {
    let CheckView { namespace, attributes, cost, idempotency_key, .. } = view;
    if !view.client_ip.is_empty() || !view.required_scopes.is_empty() {
        of_key(view, violations);
    }
    if !is_namespace(namespace) {
        violations.add("namespace", format!("must be at most {MAX_NAMESPACE_BYTES} of A-Z a-z 0-9 . _ / -"));
    }
    if attributes.len() > MAX_ATTRIBUTES {
        violations.add("attributes", format!("must be at most {MAX_ATTRIBUTES}, are {}", attributes.len()));
    } else {
        for (name, _) in attributes {
            if !is_valid(name) {
                attribute(name, violations);
            }
        }
    }
    if let Some(cost) = *cost
        && (cost == 0 || cost > MAX_TOKENS)
    {
        violations.add("cost", format!("must be 1 to {MAX_TOKENS} tokens, is {cost}"));
    }
    let is_printable = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
    if idempotency_key.len() > MAX_KEY_BYTES || !idempotency_key.bytes().all(is_printable) {
        violations
            .add("idempotency_key", format!("must be at most {MAX_KEY_BYTES} printable ASCII characters"));
    }
}

/// Says what is wrong with what is asked of a key.
fn of_key(view: &CheckView<'_>, violations: &mut Violations) {
    if !view.client_ip.is_empty() && view.client_ip.parse::<IpAddr>().is_err() {
        violations.add("client_ip", "must be an address, as 203.0.113.7");
    }
    if let Err(error) = ScopeExpression::parse(view.required_scopes) {
        violations.add("required_scopes", error.to_string());
    }
}

/// Whether a namespace can be called so; empty is that by default.
#[inline]
pub(super) fn is_namespace(name: &str) -> bool {
    name.len() <= MAX_NAMESPACE_BYTES && name.bytes().all(|byte| is_name(byte) || byte == b'/')
}

#[inline]
fn is_valid(name: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(is_name)
}

/// Says what is wrong with the name of an attribute.
#[cold]
fn attribute(name: &str, violations: &mut Violations) {
    let shown: String = name.chars().take(MAX_NAME_BYTES).collect();
    let wanted = format!("a name must be 1 to {MAX_NAME_BYTES} of A-Z a-z 0-9 . _ -");
    violations.add(format!("attributes[{}]", shown.escape_debug()), wanted);
}

#[inline]
fn is_name(byte: u8) -> bool {
    IS_NAME[usize::from(byte)]
}

/// A-Z a-z 0-9 . _ -
static IS_NAME: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        table[byte as usize] = byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        byte += 1;
    }
    table
};
