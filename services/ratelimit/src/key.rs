//! How the key of a counter is written.
//!
//! `tg1:<length of v1>:{<v1>}<suffix>` and `:<length>:<value>` for each further value, where `v1` is the
//! value of the policy's first `key_by` attribute (its namespace if there is none) and the suffix
//! names namespace, policy and what is counted ([`Bundle::key_suffix`]). Lengths come first, so no
//! two subjects can meet; `tg1` is the version of the stored form; the braces make the first value the
//! hash tag of Redis Cluster.

use smallvec::SmallVec;

use crate::domain::{Bundle, Policy};

/// Bytes of a key; most fit without an allocation.
pub(crate) type Key = SmallVec<[u8; 64]>;

/// The key of the cell that `policy` counts a subject in. `value_of` gives the subject's value of a
/// `key_by` attribute, which a matching policy found present.
pub(crate) fn cell_key<'a>(policy: &'a Policy, bundle: &Bundle, value_of: impl Fn(&str) -> &'a str) -> Key {
    let mut key = Key::new();
    let mut names = policy.key_by.iter();
    push_tag(&mut key, names.next().map_or(&policy.namespace, |name| value_of(name)));
    key.extend_from_slice(&bundle.key_suffix);
    for name in names {
        push_value(&mut key, value_of(name));
    }
    key
}

/// The key of an idempotency record, in the same slot of Redis Cluster as `cell`.
pub(crate) fn record_key(cell: &[u8], namespace: &str, idempotency_key: &str) -> Key {
    let mut key = Key::new();
    key.extend_from_slice(tag_of(cell));
    key.push(b'i');
    push_value(&mut key, namespace);
    push_value(&mut key, idempotency_key);
    key
}

fn push_tag(key: &mut Key, value: &str) {
    key.extend_from_slice(b"tg1:");
    push_number(key, value.len());
    key.extend_from_slice(b":{");
    key.extend_from_slice(value.as_bytes());
    key.push(b'}');
}

fn push_value(key: &mut Key, value: &str) {
    key.push(b':');
    push_number(key, value.len());
    key.push(b':');
    key.extend_from_slice(value.as_bytes());
}

fn push_number(key: &mut Key, number: usize) {
    if number >= 10 {
        push_number(key, number / 10);
    }
    key.push(b'0' + u8::try_from(number % 10).expect("a decimal digit"));
}

/// `tg1:<length>:{<value>}` at the start of a cell's key.
fn tag_of(cell: &[u8]) -> &[u8] {
    let digits = &cell[b"tg1:".len()..];
    let digits = &digits[..digits.iter().position(|byte| *byte == b':').unwrap_or(0)];
    let length = digits.iter().fold(0, |number, digit| number * 10 + usize::from(digit - b'0'));
    &cell[..b"tg1:".len() + digits.len() + b":{".len() + length + b"}".len()]
}
