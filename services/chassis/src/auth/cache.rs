//! Tokens that were verified before.

use std::collections::HashMap;

use super::authenticator::Verified;

/// Tokens of each generation.
const GENERATION: usize = 512;

/// The values of `authorization` headers that one worker has verified, and whom they name.
///
/// There are two generations. A token that is used moves to the younger one; when that is full, the older one is forgotten.
/// So those in use stay, and a flood of others costs no more than verifying each. Only such as were good are kept.
#[derive(Debug, Default)]
pub(crate) struct TokenCache {
    young: HashMap<Box<[u8]>, Verified>,
    old: HashMap<Box<[u8]>, Verified>,
}

impl TokenCache {
    /// What was found of this very value.
    pub(crate) fn get(&mut self, value: &[u8]) -> Option<Verified> {
        if let Some(verified) = self.young.get(value) {
            return Some(verified.clone());
        }
        let (value, verified) = self.old.remove_entry(value)?;
        self.put(value, verified.clone());
        Some(verified)
    }

    /// Keeps what was found.
    pub(crate) fn insert(&mut self, value: &[u8], verified: Verified) {
        self.put(value.into(), verified);
    }

    /// Forgets what is good no longer.
    pub(crate) fn remove(&mut self, value: &[u8]) {
        self.young.remove(value);
        self.old.remove(value);
    }

    fn put(&mut self, value: Box<[u8]>, verified: Verified) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(value, verified);
    }
}
