//! Denials that ask for a larger plan.

use std::{
    hash::{BuildHasher, Hasher},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hashbrown::DefaultHashBuilder;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::mpsc;

use super::{Limiter, Verdict};
use crate::domain::{Attributes, Match, Policy};

/// So many subjects are remembered by each worker as told a moment ago.
const REMEMBERED: usize = 1_024;

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
}

/// Where one worker leaves its [`Upgrade`]s: a bounded queue, which it never waits for.
#[derive(Debug)]
pub struct Upgrades {
    queue: mpsc::Sender<Upgrade>,
    dropped: Counter,
    quiet_us: u64,
    hasher: DefaultHashBuilder,
    /// For some subjects, at the place that their hash says, that they were told, and when.
    told: Box<[AtomicU64]>,
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
    /// Leaves in `queue` what is denied, a subject about once in `quiet`, and counts what finds it full.
    pub fn new(queue: mpsc::Sender<Upgrade>, dropped: Counter, quiet: Duration) -> Self {
        let quiet_us = u64::try_from(quiet.as_micros()).unwrap_or(u64::MAX).max(1);
        let told = (0..REMEMBERED).map(|_| AtomicU64::new(0)).collect();
        Self { queue, dropped, quiet_us, hasher: DefaultHashBuilder::default(), told }
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
            let (place, mark) = self.mark(found, attributes, verdict.at_us);
            if self.told[place].load(Ordering::Relaxed) == mark {
                continue;
            }
            let Ok(room) = self.queue.try_reserve() else {
                self.dropped.inc();
                continue;
            };
            self.told[place].store(mark, Ordering::Relaxed);
            let names = found.policy.key_by.iter().cloned();
            room.send(Upgrade {
                namespace: Arc::clone(&found.policy.namespace),
                policy: Arc::clone(&found.policy.name),
                limit: Arc::clone(limit),
                key: names.zip(found.policy.key_values(attributes).map(Box::from)).collect(),
                plan: Arc::clone(&found.bundle.plan),
                wanted_plan: Arc::clone(wanted),
                at_us: verdict.at_us,
            });
        }
    }

    /// The place of a subject, and what stands there if it was told in this span of time.
    fn mark<A: Attributes + ?Sized>(&self, found: &Match<'_>, attributes: &A, at_us: u64) -> (usize, u64) {
        let mut hasher = self.hasher.build_hasher();
        hasher.write_u128(found.bundle.key_hash);
        for value in found.policy.key_values(attributes) {
            hasher.write_usize(value.len());
            hasher.write(value.as_bytes());
        }
        let subject = hasher.finish();
        hasher.write_u64(at_us / self.quiet_us);
        let place = usize::try_from(subject % REMEMBERED as u64).expect("below the number of places");
        // 0 is where nobody was told.
        (place, hasher.finish() | 1)
    }
}

/// The limit of a policy that denied: of several the one that is longest in coming free.
fn reached<'p>(policy: &Policy, verdict: &Verdict<'p>) -> Option<&'p Arc<str>> {
    let own = verdict.limits.iter().filter(|limit| std::ptr::eq(limit.policy, policy) && !limit.is_shadow());
    let exceeded = own.filter(|limit| limit.outcome.exceeded());
    exceeded.max_by_key(|limit| limit.outcome.retry_after_us).map(|limit| &limit.limit.full_name)
}
