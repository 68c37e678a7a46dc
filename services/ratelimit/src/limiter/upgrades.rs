//! Denials that ask for a larger plan.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use prometheus_client::metrics::counter::Counter;
use tokio::sync::mpsc;

use super::{Limiter, Told, Verdict};
use crate::domain::{Attributes, Match, Policy};

/// So many subjects are remembered by each worker as left in the queue a moment ago.
const PLACES: usize = 1_024;

/// A subject that was denied by a policy that wants it on a larger plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgrade {
    /// Namespace of the policy.
    pub namespace: Arc<str>,
    /// Name of the policy.
    pub policy: Arc<str>,
    /// Full name of the limit that was reached.
    pub limit: Arc<str>,
    /// Names and values of the attributes that make the policy's key.
    pub key: Vec<(Box<str>, Box<str>)>,
    /// The plan that it is on.
    pub plan: Arc<str>,
    /// The plan that is wanted.
    pub wanted_plan: Arc<str>,
    /// When it was denied, in Unix microseconds.
    pub at_us: u64,
    /// Tells the subject with the wanted plan from others: see [`Told`].
    pub fingerprint: u128,
}

/// Where one worker leaves its [`Upgrade`]s: a bounded queue, which it never waits for.
#[derive(Debug)]
pub struct Upgrades {
    queue: mpsc::Sender<Upgrade>,
    told: Arc<Told>,
    dropped: Counter,
    repeated: Counter,
    /// For some subjects, at the place that their fingerprint says, that they were left or known as told, and when: so that most denials lock nothing.
    left: Box<[AtomicU64]>,
}

impl Limiter {
    /// The same, leaving denials that ask for a larger plan with `upgrades`.
    #[must_use]
    pub fn telling(self, upgrades: Option<Upgrades>) -> Self {
        Self { upgrades, ..self }
    }

    /// Takes note of a denial by `matches`, if anybody is to be told and it was to be charged.
    #[inline]
    pub(super) fn tell<A: Attributes + ?Sized>(
        &self,
        matches: &[Match<'_>],
        attributes: &A,
        charge: bool,
        verdict: &Verdict<'_>,
    ) {
        if let Some(upgrades) = self.upgrades.as_ref().filter(|_| !verdict.allowed && charge) {
            upgrades.denied(matches, attributes, verdict);
        }
    }
}

impl Upgrades {
    /// Leaves in `queue` what is denied and not in `told`, a subject about once in its quiet time. Counts what finds the queue full, and what
    /// others had told.
    pub fn new(queue: mpsc::Sender<Upgrade>, told: Arc<Told>, [dropped, repeated]: [Counter; 2]) -> Self {
        let left = (0..PLACES).map(|_| AtomicU64::new(0)).collect();
        Self { queue, told, dropped, repeated, left }
    }

    /// Takes note of a denial, by `matches` for a subject with these attributes.
    #[cold]
    pub(super) fn denied<A: Attributes + ?Sized>(
        &self,
        matches: &[Match<'_>],
        attributes: &A,
        verdict: &Verdict<'_>,
    ) {
        // Without the store nothing is known of any limit.
        if verdict.degraded {
            return;
        }
        for found in matches {
            let Some(wanted) = found.policy.upgrade_plan.as_ref().filter(|plan| **plan != found.bundle.plan)
            else {
                continue;
            };
            let Some(limit) = reached(found.policy, verdict) else { continue };
            let fingerprint = self.told.fingerprint(found, wanted, attributes);
            let (place, mark) = self.mark(fingerprint, verdict.at_us);
            if self.left[place].load(Ordering::Relaxed) == mark {
                continue;
            }
            if self.told.was_told(fingerprint, verdict.at_us) {
                self.left[place].store(mark, Ordering::Relaxed);
                self.repeated.inc();
                continue;
            }
            let Ok(room) = self.queue.try_reserve() else {
                self.dropped.inc();
                continue;
            };
            self.left[place].store(mark, Ordering::Relaxed);
            let names = found.policy.key_by.iter().cloned();
            room.send(Upgrade {
                namespace: Arc::clone(&found.policy.namespace),
                policy: Arc::clone(&found.policy.name),
                limit: Arc::clone(limit),
                key: names.zip(found.policy.key_values(attributes).map(Box::from)).collect(),
                plan: Arc::clone(&found.bundle.plan),
                wanted_plan: Arc::clone(wanted),
                at_us: verdict.at_us,
                fingerprint,
            });
        }
    }

    /// The place of a subject, and what stands there if that was in this span of time.
    fn mark(&self, fingerprint: u128, at_us: u64) -> (usize, u64) {
        let low = fingerprint & u128::from(u64::MAX);
        let place = usize::try_from(low % PLACES as u128).expect("below the number of places");
        let high = u64::try_from(fingerprint >> 64).expect("the upper half");
        // 0 is where nobody was.
        (place, high.wrapping_add(at_us / self.told.quiet_us() * 2) | 1)
    }
}

/// The limit of a policy that denied: of several the one that is longest in coming free.
fn reached<'p>(policy: &Policy, verdict: &Verdict<'p>) -> Option<&'p Arc<str>> {
    let own = verdict.limits.iter().filter(|limit| std::ptr::eq(limit.policy, policy) && !limit.is_shadow());
    let exceeded = own.filter(|limit| limit.outcome.exceeded());
    exceeded.max_by_key(|limit| limit.outcome.retry_after_us).map(|limit| &limit.limit.full_name)
}
