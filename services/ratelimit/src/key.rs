//! How the key of a counter is written.
//!
//! Where it is stored: `tg2:{<tag>}:<length of v1>:<v1><suffix>` and `:<length>:<value>` for each further value, where `v1` is
//! the value of the policy's first `key_by` attribute (its namespace if there is none), the tag that of its
//! [`bucket`], and the suffix names namespace, policy and what is counted ([`Bundle::key_suffix`](crate::domain::Bundle::key_suffix)).
//! Lengths come first, so no two subjects can meet; `tg2` is the version of the stored form; the braces make the tag
//! that of Redis Cluster.
//!
//! The fence of an organization is `tg2:f:<its id in hex>`, and on a cluster `tg2:{<tag>}f:<id>` beside the keys of each tag.
//!
//! Within this process nobody reads it, and it is hashed for every check: then it is a byte that no stored key begins
//! with, [`Bundle::key_hash`](crate::domain::Bundle::key_hash), and each value after its length.

mod bucket;

use std::{borrow::Cow, hash::Hasher};

use siphasher::sip128::{Hasher128, SipHasher24};
use smallvec::SmallVec;
use uuid::Uuid;

pub(crate) use self::bucket::{SLOTS, TAGS, slot};
use crate::domain::{Attributes, Match};

/// Most bytes of a value that are stored as they are.
pub(crate) const MAX_VALUE_BYTES: usize = 512;

/// Bytes of a key; most fit without an allocation.
pub(crate) type Key = SmallVec<[u8; 64]>;

/// First byte of an internal key of a cell; records of idempotency have the stored form beside it.
const INTERNAL: u8 = 0;

/// Who reads the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyForm {
    /// Every replica, people, and later versions.
    Stored,
    /// This process.
    Internal,
}

impl KeyForm {
    /// The key of the cell in which the subject that `attributes` tell is counted.
    #[inline]
    pub(crate) fn cell<A: Attributes + ?Sized>(self, found: &Match<'_>, attributes: &A) -> Key {
        let mut key = Key::new();
        let mut values = found.policy.key_values(attributes);
        match self {
            Self::Internal => {
                key.push(INTERNAL);
                key.extend_from_slice(&found.bundle.key_hash.to_le_bytes());
                for value in values {
                    key.extend_from_slice(&(value.len() as u64).to_le_bytes());
                    key.extend_from_slice(value.as_bytes());
                }
            }
            Self::Stored => {
                push_first(&mut key, values.next().unwrap_or(&found.policy.namespace));
                key.extend_from_slice(&found.bundle.key_suffix);
                values.for_each(|value| push_value(&mut key, value));
            }
        }
        key
    }
}

/// The key of an idempotency record of a check whose first cell is that of `first`, in the same slot of Redis Cluster: it
/// belongs to the subject that is counted there.
pub(crate) fn record_key<A: Attributes + ?Sized>(
    first: &Match<'_>,
    attributes: &A,
    namespace: &str,
    idempotency_key: &str,
) -> Key {
    let mut key = Key::new();
    let mut values = first.policy.key_values(attributes);
    push_first(&mut key, values.next().unwrap_or(&first.policy.namespace));
    key.push(b'i');
    push_value(&mut key, namespace);
    push_value(&mut key, idempotency_key);
    values.for_each(|value| push_value(&mut key, value));
    key
}

/// The key of the fence of an organization, among the keys of a tag if one is given.
pub(crate) fn fence_key(tag: Option<&[u8]>, organization: Uuid) -> Key {
    let mut key = Key::new();
    key.extend_from_slice(b"tg2:");
    if let Some(tag) = tag {
        key.push(b'{');
        key.extend_from_slice(tag);
        key.push(b'}');
    }
    key.extend_from_slice(b"f:");
    key.extend_from_slice(organization.simple().encode_lower(&mut Uuid::encode_buffer()).as_bytes());
    key
}

/// The tag of a stored key.
pub(crate) fn tag_of(key: &[u8]) -> &[u8] {
    let rest = key.split(|byte| *byte == b'{').nth(1).unwrap_or_default();
    rest.split(|byte| *byte == b'}').next().unwrap_or_default()
}

/// The version, the tag and the first value.
fn push_first(key: &mut Key, value: &str) {
    key.extend_from_slice(b"tg2:{");
    push_number(key, bucket::tag(value).into());
    key.push(b'}');
    push_value(key, value);
}

/// A value as it is stored. Callers choose values, so no length of them makes a request undecidable: a long one is its beginning
/// and a digest of all of it.
#[inline]
pub(crate) fn shortened(value: &str) -> Cow<'_, str> {
    if value.len() <= MAX_VALUE_BYTES { value.into() } else { digested(value).into() }
}

#[cold]
fn digested(value: &str) -> String {
    let mut hasher = SipHasher24::new();
    hasher.write(value.as_bytes());
    let begin = value.floor_char_boundary(MAX_VALUE_BYTES / 2);
    format!("{}#{:032x}", &value[..begin], hasher.finish128().as_u128())
}

fn push_value(key: &mut Key, value: &str) {
    let value = &*shortened(value);
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

#[cfg(test)]
mod tests;
