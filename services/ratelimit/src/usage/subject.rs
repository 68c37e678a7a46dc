//! Who is counted, as people read it.

use std::sync::Arc;

use crate::domain::{Attributes, Policy};

/// The most attributes of a subject that are kept, and bytes of each name and value.
const MAX_ATTRIBUTES: usize = 8;
const MAX_NAME_BYTES: usize = 64;
const MAX_VALUE_BYTES: usize = 128;

/// A policy, and the values of the attributes that it counts by. At most some 2 KiB, whatever a request says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Subject {
    /// Namespace of the policy.
    pub(crate) namespace: Arc<str>,
    /// Its name.
    pub(crate) policy: Arc<str>,
    /// The attributes in the order of the key: the first 8.
    pub(crate) attributes: Box<[KeyAttribute]>,
}

/// One attribute of a key.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct KeyAttribute {
    /// Its name.
    pub(crate) name: Box<str>,
    /// Its value, or the beginning of it.
    pub(crate) value: Box<str>,
    /// Whether the value goes on.
    pub(crate) is_cut: bool,
}

impl Subject {
    /// Whom `policy` counts of requests with these attributes.
    pub(super) fn new<A: Attributes>(policy: &Policy, attributes: &A) -> Self {
        let pairs = policy.key_by.iter().zip(policy.key_values(attributes));
        Self {
            namespace: Arc::clone(&policy.namespace),
            policy: Arc::clone(&policy.name),
            attributes: pairs
                .take(MAX_ATTRIBUTES)
                .map(|(name, value)| KeyAttribute {
                    name: begin(name, MAX_NAME_BYTES).into(),
                    value: begin(value, MAX_VALUE_BYTES).into(),
                    is_cut: value.len() > MAX_VALUE_BYTES,
                })
                .collect(),
        }
    }
}

fn begin(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}
