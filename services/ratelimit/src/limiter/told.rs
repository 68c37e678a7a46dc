//! Who was told of lately, by all workers together.

use std::{
    hash::Hasher,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use siphasher::sip128::{Hasher128, SipHasher13};
use tidegate_chassis::clock::Random;

use super::recent::Recent;
use crate::domain::{Attributes, Match};

/// So many subjects are remembered as told, in some 5 MB; of more, those that were not denied lately are told again early.
const REMEMBERED: usize = 100_000;

/// Subjects that were told a moment ago, each with the plan that is wanted for it.
///
/// Of a subject 128 bits of a keyed hash are kept: its values are the caller's, so nobody may choose two that are alike.
#[derive(Debug)]
pub struct Told {
    key: (u64, u64),
    quiet_us: u64,
    /// Until when nothing more is told, in Unix microseconds.
    until_us: Mutex<Recent<u128, u64>>,
}

impl Told {
    /// Nobody was told; whoever will be is not told again for `quiet`.
    pub fn new(quiet: Duration, random: &Random) -> Self {
        let quiet_us = u64::try_from(quiet.as_micros()).unwrap_or(u64::MAX).max(1);
        Self { key: (random.u64(), random.u64()), quiet_us, until_us: Mutex::new(Recent::new(REMEMBERED)) }
    }

    /// How long nothing more is told of a subject, in microseconds.
    pub(super) fn quiet_us(&self) -> u64 {
        self.quiet_us
    }

    /// Tells a subject that `wanted` is the plan for from every other, in this process.
    pub(super) fn fingerprint<A: Attributes + ?Sized>(
        &self,
        found: &Match<'_>,
        wanted: &str,
        attributes: &A,
    ) -> u128 {
        let policy = found.policy;
        let mut hasher = SipHasher13::new_with_keys(self.key.0, self.key.1);
        let texts = [&*policy.namespace, &*policy.name, wanted].into_iter();
        for text in texts.chain(policy.key_values(attributes)) {
            hasher.write_usize(text.len());
            hasher.write(text.as_bytes());
        }
        hasher.finish128().as_u128()
    }

    /// Whether the subject with this fingerprint was told of so lately that it is not to be told of again.
    pub fn was_told(&self, fingerprint: u128, now_us: u64) -> bool {
        let mut until_us = self.until_us.lock().unwrap_or_else(PoisonError::into_inner);
        until_us.get(&fingerprint).is_some_and(|until_us| now_us < until_us)
    }

    /// Takes note that the subject with this fingerprint was told of now.
    pub fn remember(&self, fingerprint: u128, now_us: u64) {
        let mut until_us = self.until_us.lock().unwrap_or_else(PoisonError::into_inner);
        until_us.put(fingerprint, now_us.saturating_add(self.quiet_us));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_remembered_until_quiet_has_passed_also_after_many_others() {
        let told = Told::new(Duration::from_micros(10), &Random::seeded(1));
        for subject in 0..2 * REMEMBERED as u128 {
            told.remember(subject, 100);
        }
        let last = 2 * REMEMBERED as u128 - 1;
        assert!(told.was_told(last, 109) && !told.was_told(last, 110));
        assert!(!told.was_told(0, 101), "there is room for so many only");
    }
}
