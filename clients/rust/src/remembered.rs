//! Whose keys were, for a while after the service cannot be asked any more.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tidegate_credentials::{KeyHash, ScopeExpression, key_hash};
use tokio::time::Instant;

use crate::{Check, Code, Decision, KeyIdentity, clock};

/// Keys that are remembered at a time.
const KEYS: usize = 10_000;
/// Addresses of each: those from which it was accepted, since where else it may be used is not known here.
const ADDRESSES: usize = 16;

/// Keys that the service accepted lately, by their hashes: the values are not kept.
#[derive(Debug)]
pub(crate) struct RememberedKeys {
    /// Zero: none are.
    keep_for: Duration,
    keys: Mutex<HashMap<KeyHash, Remembered>>,
}

#[derive(Debug)]
struct Remembered {
    identity: KeyIdentity,
    accepted_at: Instant,
    addresses: Vec<Option<IpAddr>>,
}

impl RememberedKeys {
    pub(crate) fn new(keep_for: Duration) -> Self {
        Self { keep_for, keys: Mutex::default() }
    }

    /// Takes in what the service said of a check.
    pub(crate) fn learn(&self, check: &Check, decision: &Decision, now: Instant) {
        if self.keep_for.is_zero() {
            return;
        }
        let Some(key) = check.key() else { return };
        match (decision.code, &decision.key) {
            (Code::Ok, Some(identity)) => self.accept(key_hash(key), identity, check.address(), now),
            // A limit says nothing against the key, and a missing scope is seen here too.
            (Code::Ok | Code::RateLimited | Code::QuotaExceeded | Code::ConcurrencyExceeded, _)
            | (Code::Unavailable | Code::ScopeMissing | Code::Unknown, _) => {}
            (Code::KeyNotFound | Code::KeyRevoked | Code::KeyExpired | Code::KeyDisabled, _)
            | (Code::IpForbidden | Code::OrganizationSuspended, _) => {
                self.keys().remove(&key_hash(key));
            }
        }
    }

    /// Whose key a check names, if the service accepted it lately from the same address and it has the scopes that the check
    /// requires.
    pub(crate) fn recall(&self, check: &Check, now: Instant) -> Option<KeyIdentity> {
        if self.keep_for.is_zero() {
            return None;
        }
        let keys = self.keys();
        let known = keys.get(&key_hash(check.key()?))?;
        let is_recent = now.saturating_duration_since(known.accepted_at) < self.keep_for;
        let is_expired = known.identity.expires_at.is_some_and(clock::is_past);
        let scopes = ScopeExpression::parse(check.scopes()).ok()?;
        let is_good = is_recent
            && !is_expired
            && known.addresses.contains(&check.address())
            && scopes.allows(&known.identity.scopes);
        is_good.then(|| known.identity.clone())
    }

    fn accept(&self, hash: KeyHash, identity: &KeyIdentity, address: Option<IpAddr>, now: Instant) {
        let mut keys = self.keys();
        if keys.len() >= KEYS && !keys.contains_key(&hash) {
            keys.retain(|_, known| now.saturating_duration_since(known.accepted_at) < self.keep_for);
            // Those that are there already stay: they were good, and are used as much.
            if keys.len() >= KEYS {
                return;
            }
        }
        let known = keys.entry(hash).or_insert_with(|| Remembered {
            identity: identity.clone(),
            accepted_at: now,
            addresses: Vec::new(),
        });
        known.accepted_at = now;
        if known.identity != *identity {
            // What it may do has changed, and so perhaps from where.
            known.identity = identity.clone();
            known.addresses.clear();
        }
        if !known.addresses.contains(&address) {
            if known.addresses.len() >= ADDRESSES {
                known.addresses.remove(0);
            }
            known.addresses.push(address);
        }
    }

    fn keys(&self) -> MutexGuard<'_, HashMap<KeyHash, Remembered>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP_FOR: Duration = Duration::from_secs(60);
    const HOME: &str = "203.0.113.7";

    fn check(key: &str, address: &str) -> Check {
        Check::new().api_key(key).client_ip(address.parse().unwrap())
    }

    fn decision(code: Code) -> Decision {
        let identity = KeyIdentity { scopes: vec!["a:read".to_owned()], ..KeyIdentity::nobody() };
        let mut decision = Decision::local(code, Vec::new(), Duration::ZERO);
        decision.key = Some(identity);
        decision
    }

    fn knowing(now: Instant) -> RememberedKeys {
        let keys = RememberedKeys::new(KEEP_FOR);
        keys.learn(&check("k", HOME), &decision(Code::Ok), now);
        keys
    }

    #[test]
    fn a_key_is_known_for_a_while_from_where_it_came() {
        let now = Instant::now();
        let keys = knowing(now);
        assert!(keys.recall(&check("k", HOME), now).is_some());
        assert!(keys.recall(&check("k", HOME), now + KEEP_FOR).is_none());
        assert!(keys.recall(&check("k", "203.0.113.8"), now).is_none(), "from elsewhere");
        assert!(keys.recall(&check("other", HOME), now).is_none());
    }

    #[test]
    fn a_key_is_known_for_the_scopes_that_it_has() {
        let now = Instant::now();
        let keys = knowing(now);
        let with = |scopes: &str| keys.recall(&check("k", HOME).required_scopes(scopes), now).is_some();
        assert_eq!(
            [with("a:read"), with("a:write"), with("a:read or b"), with("((")],
            [true, false, true, false]
        );
    }

    #[test]
    fn a_key_that_is_denied_is_forgotten_and_one_that_is_limited_is_not() {
        let now = Instant::now();
        for (code, stays) in [
            (Code::RateLimited, true),
            (Code::ScopeMissing, true),
            (Code::KeyRevoked, false),
            (Code::IpForbidden, false),
            (Code::OrganizationSuspended, false),
        ] {
            let keys = knowing(now);
            keys.learn(&check("k", HOME), &decision(code), now);
            assert_eq!(keys.recall(&check("k", HOME), now).is_some(), stays, "{code:?}");
        }
    }

    #[test]
    fn an_expired_key_is_not_known() {
        let now = Instant::now();
        let keys = RememberedKeys::new(KEEP_FOR);
        let mut expired = decision(Code::Ok);
        expired.key = expired.key.map(|key| KeyIdentity { expires_at: Some(std::time::UNIX_EPOCH), ..key });
        keys.learn(&check("k", HOME), &expired, now);
        assert!(keys.recall(&check("k", HOME), now).is_none());
    }

    #[test]
    fn no_more_are_kept_than_memory_is_meant_for_and_none_unless_told_so() {
        let now = Instant::now();
        let keys = RememberedKeys::new(KEEP_FOR);
        for number in 0..=KEYS {
            keys.learn(&check(&number.to_string(), HOME), &decision(Code::Ok), now);
        }
        assert_eq!(keys.keys().len(), KEYS);
        let never = RememberedKeys::new(Duration::ZERO);
        never.learn(&check("k", HOME), &decision(Code::Ok), now);
        assert!(never.recall(&check("k", HOME), now).is_none());
    }
}
