//! What tells a retry from another check under the same idempotency key.

use std::hash::Hasher;

use siphasher::sip128::{Hasher128, SipHasher13};
use smallvec::SmallVec;

use super::Question;
use crate::domain::Attributes;

/// Version of what [`digest`] hashes. A change makes retries of what an older version admitted look like reused
/// keys, so it comes with a new form of the record.
const DIGEST_VERSION: u64 = 1;

/// Digest of what a check asks, whatever the order of its attributes: maps have none in some clients.
pub(super) fn digest<A: Attributes + ?Sized>(question: &Question<'_, A>) -> u128 {
    let attributes = question.attributes;
    let mut entries: SmallVec<[(&str, &str); 16]> =
        (0..attributes.len()).map(|index| attributes.get(index)).collect();
    // Stable, so that of a repeated name the last stays the last.
    entries.sort_by_key(|(name, _)| *name);
    let mut hasher = SipHasher13::new();
    let mut word = |number: u64| hasher.write(&number.to_le_bytes());
    [DIGEST_VERSION, question.cost, entries.len() as u64].into_iter().for_each(&mut word);
    for (name, value) in entries {
        for text in [name, value] {
            hasher.write(&(text.len() as u64).to_le_bytes());
            hasher.write(text.as_bytes());
        }
    }
    hasher.finish128().as_u128()
}
