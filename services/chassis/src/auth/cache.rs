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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::auth::{Caller, How, Role};

    fn of(subject: usize) -> Verified {
        let subject = subject.to_string();
        let caller =
            Caller { role: Role::Service, subject, organization: None, email: None, how: How::Anonymous };
        Verified::of(Arc::new(caller))
    }

    fn known(cache: &mut TokenCache, value: &str) -> Option<String> {
        cache.get(value.as_bytes()).map(|verified| verified.caller.subject.clone())
    }

    #[test]
    fn what_is_used_stays_whatever_else_comes_and_there_is_a_bound() {
        let mut cache = TokenCache::default();
        cache.insert(b"used", of(0));
        cache.insert(b"unused", of(1));
        for n in 0..20 * GENERATION {
            cache.insert(format!("flood {n}").as_bytes(), of(n));
            assert_eq!(known(&mut cache, "used").as_deref(), Some("0"), "after {n}");
            assert!(cache.young.len() <= GENERATION && cache.old.len() <= GENERATION, "after {n}");
        }
        assert_eq!(known(&mut cache, "unused"), None);
    }

    #[test]
    fn it_is_the_whole_value_that_is_known() {
        let mut cache = TokenCache::default();
        cache.insert(b"Bearer a.b.c", of(0));
        assert_eq!(known(&mut cache, "Bearer a.b."), None);
        assert_eq!(known(&mut cache, "Bearer a.b.cc"), None);
    }

    #[test]
    fn what_is_removed_is_gone_from_both_generations() {
        let mut cache = TokenCache::default();
        cache.insert(b"old", of(0));
        for n in 0..GENERATION {
            cache.insert(format!("{n}").as_bytes(), of(n));
        }
        assert!(cache.old.contains_key(&b"old"[..]));
        cache.remove(b"old");
        cache.remove(b"7");
        assert_eq!((known(&mut cache, "old"), known(&mut cache, "7")), (None, None));
    }
}
