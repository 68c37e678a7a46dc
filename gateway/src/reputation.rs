//! What callers showed lately: credentials that were accepted, and addresses that showed too many that were not.
//!
//! Whether credentials are good only the services behind can say, so each that is not is charged to the address that showed it,
//! after the call. Once the limit of callers without credentials denies that address, credentials that nobody accepted lately are as
//! none there, and are counted before the call. Those that were accepted go on: whoever shares an address with somebody who tries
//! out tokens is not locked out by it.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tidegate_chassis::{auth::refuses_credentials, clock::Clock};
use tonic::{Code, Status};

use crate::edge::Speaker;

/// Entries of each generation.
const GENERATION: usize = 8192;
/// How long credentials count as good since they were last accepted.
const ACCEPTED_FOR_US: u64 = 15 * 60 * 1_000_000;

/// Shared by all workers of a gateway, and bounded. Nothing is kept in clear: by a keyed hash an entry can be found, and not read.
#[derive(Debug)]
pub(crate) struct Reputation {
    hasher: RandomState,
    clock: Clock,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// Credentials, until when they count as good.
    accepted: Generations,
    /// Addresses, until when they are over the limit.
    exhausted: Generations,
}

/// What is used stays, and the rest is forgotten when as many again have come.
#[derive(Debug, Default)]
struct Generations {
    young: HashMap<u64, u64>,
    old: HashMap<u64, u64>,
}

impl Reputation {
    /// Of nobody yet.
    #[must_use]
    pub(crate) fn new(clock: Clock) -> Self {
        Self { hasher: RandomState::new(), clock, known: Mutex::default() }
    }

    /// Whether a service accepted these credentials lately.
    #[must_use]
    pub(crate) fn is_accepted(&self, credentials: &[u8]) -> bool {
        self.known().accepted.is_in_time(self.hasher.hash_one(credentials), self.clock.now_us())
    }

    /// Whether a caller at `address` that shows `credentials` is to be counted as one that shows none.
    #[must_use]
    pub(crate) fn is_doubtful(&self, address: &str, credentials: &[u8]) -> bool {
        let is_exhausted =
            self.known().exhausted.is_in_time(self.hasher.hash_one(address), self.clock.now_us());
        is_exhausted && !self.is_accepted(credentials)
    }

    /// A service accepted them.
    pub(crate) fn accept(&self, credentials: &[u8]) {
        let until_us = self.clock.now_us().saturating_add(ACCEPTED_FOR_US);
        self.known().accepted.put(self.hasher.hash_one(credentials), until_us);
    }

    /// A service refused them.
    pub(crate) fn refuse(&self, credentials: &[u8]) {
        self.known().accepted.remove(self.hasher.hash_one(credentials));
    }

    /// The limit denies `address`, and will for so many milliseconds.
    pub(crate) fn exhaust(&self, address: &str, for_ms: u64) {
        let until_us = self.clock.now_us().saturating_add(for_ms.saturating_mul(1000));
        self.known().exhausted.put(self.hasher.hash_one(address), until_us);
    }

    /// What an answer of a service says of the credentials that it was asked with: whether they are good. One that may not come
    /// from the service itself says nothing, and neither does one about a password that it was asked to look at.
    pub(crate) fn learn(&self, speaker: &Speaker, answer: Result<(), &Status>) -> Option<bool> {
        let Speaker::Caller(shown) = speaker else { return None };
        let is_good = verdict(answer)?;
        match is_good {
            true => self.accept(shown.as_bytes()),
            false => self.refuse(shown.as_bytes()),
        }
        Some(is_good)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn verdict(answer: Result<(), &Status>) -> Option<bool> {
    let Err(status) = answer else { return Some(true) };
    match status.code() {
        Code::Unauthenticated => refuses_credentials(status).then_some(false),
        // Who calls is judged before what is asked.
        Code::InvalidArgument
        | Code::OutOfRange
        | Code::FailedPrecondition
        | Code::PermissionDenied
        | Code::NotFound
        | Code::AlreadyExists
        | Code::Aborted => Some(true),
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::ResourceExhausted
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => None,
    }
}

impl Generations {
    fn is_in_time(&self, key: u64, now_us: u64) -> bool {
        self.young.get(&key).or_else(|| self.old.get(&key)).is_some_and(|until_us| now_us < *until_us)
    }

    fn put(&mut self, key: u64, until_us: u64) {
        if self.young.len() >= GENERATION && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, until_us);
    }

    fn remove(&mut self, key: u64) {
        self.young.remove(&key);
        self.old.remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tidegate_chassis::{auth::AuthError, error::status};

    use super::*;

    const ADDRESS: &str = "192.0.2.7";

    #[test]
    fn only_what_nobody_accepted_is_in_doubt_and_only_at_an_address_over_the_limit() {
        let reputation = Reputation::new(Clock::manual(1).0);
        reputation.accept(b"good");
        assert!(!reputation.is_doubtful(ADDRESS, b"new"), "nothing is known of the address");
        reputation.exhaust(ADDRESS, 1000);
        let doubtful = |credentials: &[u8]| reputation.is_doubtful(ADDRESS, credentials);
        assert_eq!((doubtful(b"new"), doubtful(b"good")), (true, false));
        assert!(!reputation.is_doubtful("192.0.2.8", b"new"));
        reputation.refuse(b"good");
        assert!(doubtful(b"good"), "it was good before");
    }

    #[test]
    fn both_are_forgotten_in_time() {
        let (clock, time) = Clock::manual(1);
        let reputation = Reputation::new(clock);
        reputation.accept(b"good");
        reputation.exhaust(ADDRESS, ACCEPTED_FOR_US / 1000 + 1);
        time.advance(Duration::from_micros(ACCEPTED_FOR_US - 1));
        assert!(!reputation.is_doubtful(ADDRESS, b"good"));
        time.advance(Duration::from_micros(1));
        assert!(reputation.is_doubtful(ADDRESS, b"good"));
        time.advance(Duration::from_millis(1));
        assert!(!reputation.is_doubtful(ADDRESS, b"good"));
    }

    #[test]
    fn an_answer_that_is_not_the_services_says_nothing() {
        let reputation = Reputation::new(Clock::manual(1).0);
        let speaker = Speaker::Caller("Bearer a.b.c".parse().unwrap());
        let after = |answer: Result<(), Status>| {
            let learnt = reputation.learn(&speaker, answer.as_ref().copied());
            (learnt, reputation.is_accepted(b"Bearer a.b.c"))
        };
        let gone = || Err(Status::new(Code::Unavailable, ""));
        let missing = Err(Status::new(Code::NotFound, ""));
        let password = Err(status(Code::Unauthenticated, "CREDENTIALS_INVALID", "not good", None));
        let between = Err(Status::new(Code::Unauthenticated, ""));
        let bad = Err(AuthError::Invalid("expired").to_status());
        assert_eq!(
            [gone(), missing, gone(), password, between, bad, Ok(())].map(after),
            [
                (None, false),
                (Some(true), true),
                (None, true),
                (None, true),
                (None, true),
                (Some(false), false),
                (Some(true), true)
            ]
        );
    }

    #[test]
    fn a_flood_is_bounded_and_leaves_what_is_used() {
        let reputation = Reputation::new(Clock::manual(1).0);
        for n in 0..3 * GENERATION {
            reputation.exhaust(&format!("address {n}"), 1);
            reputation.accept(&n.to_be_bytes());
            reputation.accept(b"used");
        }
        assert!(reputation.is_accepted(b"used"));
        let known = reputation.known();
        for generations in [&known.accepted, &known.exhausted] {
            assert!(generations.young.len() <= GENERATION && generations.old.len() <= GENERATION);
        }
    }
}
