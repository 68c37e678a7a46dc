//! Requests, checked as a whole: every wrong field is reported at once.

use tidegate_chassis::error::Violations;
use tidegate_proto::ratelimit::v1::{
    self as pb, check_request, get_usage_request, peek_request, reset_request,
};
use tonic::Status;

use super::error::invalid;
use crate::{
    domain::{Attributes, MAX_TOKENS},
    limiter::Question,
};

const MAX_BATCH: usize = 1_000;
const MAX_ATTRIBUTES: usize = 64;
const MAX_NAMESPACE_BYTES: usize = 128;
const MAX_NAME_BYTES: usize = 64;
const MAX_VALUE_BYTES: usize = 512;
const MAX_KEY_BYTES: usize = 128;
const DEFAULT_NAMESPACE: &str = "default";

/// A request whose fields are all valid.
pub(super) struct Parsed<'a, E> {
    namespace: &'a str,
    entries: Entries<'a, E>,
    cost: u64,
    dry_run: bool,
    idempotency_key: &'a str,
}

pub(super) type ParsedCheck<'a> = Parsed<'a, check_request::AttributesEntry>;

impl<'a, E: Entry> Parsed<'a, E> {
    pub(super) fn question(&self) -> Question<'_, Entries<'a, E>> {
        Question {
            namespace: self.namespace,
            attributes: &self.entries,
            cost: self.cost,
            dry_run: self.dry_run,
            idempotency_key: self.idempotency_key,
        }
    }
}

/// One check of its own.
pub(super) fn check(request: &pb::CheckRequest) -> Result<ParsedCheck<'_>, Status> {
    let mut violations = Violations::default();
    let parsed = check_fields(request, &mut violations);
    if violations.is_empty() { Ok(parsed) } else { Err(invalid(violations)) }
}

/// All checks of a batch; one wrong field refuses them all.
pub(super) fn batch(checks: &[pb::CheckRequest]) -> Result<Vec<ParsedCheck<'_>>, Status> {
    let mut violations = Violations::default();
    if checks.is_empty() || checks.len() > MAX_BATCH {
        violations.add("checks", format!("must be 1 to {MAX_BATCH} checks, are {}", checks.len()));
        return Err(invalid(violations));
    }
    let mut parsed = Vec::with_capacity(checks.len());
    for (index, check) in checks.iter().enumerate() {
        let mut own = Violations::default();
        parsed.push(check_fields(check, &mut own));
        violations.add_all(&format!("checks[{index}]"), own);
    }
    if violations.is_empty() { Ok(parsed) } else { Err(invalid(violations)) }
}

/// One check of a stream, whose `check` may be missing.
pub(super) fn streamed(request: &pb::CheckStreamRequest) -> Result<ParsedCheck<'_>, Status> {
    request.check.as_ref().map_or_else(
        || {
            let mut violations = Violations::default();
            violations.add("check", "must be set");
            Err(invalid(violations))
        },
        check,
    )
}

pub(super) fn peek(request: &pb::PeekRequest) -> Result<Parsed<'_, peek_request::AttributesEntry>, Status> {
    fields(&request.namespace, &request.attributes, request.cost)
}

pub(super) fn reset(
    request: &pb::ResetRequest,
) -> Result<Parsed<'_, reset_request::AttributesEntry>, Status> {
    fields(&request.namespace, &request.attributes, None)
}

pub(super) fn usage(
    request: &pb::GetUsageRequest,
) -> Result<Parsed<'_, get_usage_request::AttributesEntry>, Status> {
    fields(&request.namespace, &request.attributes, None)
}

fn fields<'a, E: Entry>(
    namespace: &'a str,
    entries: &'a [E],
    cost: Option<u64>,
) -> Result<Parsed<'a, E>, Status> {
    let mut violations = Violations::default();
    let parsed = common_fields(namespace, entries, cost, &mut violations);
    if violations.is_empty() { Ok(parsed) } else { Err(invalid(violations)) }
}

fn check_fields<'a>(request: &'a pb::CheckRequest, violations: &mut Violations) -> ParsedCheck<'a> {
    let parsed = common_fields(&request.namespace, &request.attributes, request.cost, violations);
    let key = request.idempotency_key.as_str();
    if key.len() > MAX_KEY_BYTES || !key.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
        violations
            .add("idempotency_key", format!("must be at most {MAX_KEY_BYTES} printable ASCII characters"));
    }
    Parsed { dry_run: request.dry_run, idempotency_key: key, ..parsed }
}

fn common_fields<'a, E: Entry>(
    namespace: &'a str,
    entries: &'a [E],
    cost: Option<u64>,
    violations: &mut Violations,
) -> Parsed<'a, E> {
    if namespace.len() > MAX_NAMESPACE_BYTES || !namespace.bytes().all(|byte| is_name(byte) || byte == b'/') {
        violations.add("namespace", format!("must be at most {MAX_NAMESPACE_BYTES} of A-Z a-z 0-9 . _ / -"));
    }
    if entries.len() > MAX_ATTRIBUTES {
        violations.add("attributes", format!("must be at most {MAX_ATTRIBUTES}, are {}", entries.len()));
    } else {
        for entry in entries {
            attribute(entry, violations);
        }
    }
    let cost = cost.unwrap_or(1);
    if cost == 0 || cost > MAX_TOKENS {
        violations.add("cost", format!("must be 1 to {MAX_TOKENS} tokens, is {cost}"));
    }
    let namespace = if namespace.is_empty() { DEFAULT_NAMESPACE } else { namespace };
    Parsed { namespace, entries: Entries(entries), cost, dry_run: false, idempotency_key: "" }
}

#[inline]
fn attribute<E: Entry>(entry: &E, violations: &mut Violations) {
    let (name, value) = entry.pair();
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(is_name) {
        let shown: String = name.chars().take(MAX_NAME_BYTES).collect();
        let wanted = format!("a name must be 1 to {MAX_NAME_BYTES} of A-Z a-z 0-9 . _ -");
        violations.add(format!("attributes[{}]", shown.escape_debug()), wanted);
    } else if value.len() > MAX_VALUE_BYTES {
        let is = value.len();
        violations
            .add(format!("attributes[{name}]"), format!("must be at most {MAX_VALUE_BYTES} bytes, is {is}"));
    }
}

#[inline]
fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

/// The attributes of a request as the domain sees them.
pub(super) struct Entries<'a, E>(&'a [E]);

impl<E: Entry> Attributes for Entries<'_, E> {
    #[inline]
    fn len(&self) -> usize {
        self.0.len()
    }

    #[inline]
    fn get(&self, index: usize) -> (&str, &str) {
        self.0[index].pair()
    }
}

/// One entry of a map field; each message has a type of its own for it.
pub(super) trait Entry {
    fn pair(&self) -> (&str, &str);
}

macro_rules! entries {
    ($($message:ident),+) => { $(
        impl Entry for $message::AttributesEntry {
            #[inline]
            fn pair(&self) -> (&str, &str) {
                (&self.key, &self.value)
            }
        }
    )+ };
}

entries!(check_request, peek_request, reset_request, get_usage_request);
