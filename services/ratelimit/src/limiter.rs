//! The use case: which limits apply to a request, and what the store says to them.

mod asked;
mod at_once;
mod degraded;
mod descriptors;
mod digest;
mod error;
mod key_limit;
mod lease_token;
mod leases;
mod loss;
mod question;
mod recent;
mod request_limit;
mod told;
mod upgrades;
mod verdict;

use std::sync::Arc;

use arc_swap::ArcSwap;
use smallvec::SmallVec;
use tidegate_chassis::clock::{Clock, Random};

pub(crate) use self::asked::{API_KEY, ORGANIZATION};
pub(crate) use self::recent::Recent;
pub use self::verdict::{LimitVerdict, Reason, Verdict};
use self::{asked::Asked, digest::digest, request_limit::RequestLimits};
pub use self::{
    at_once::AtOnce,
    descriptors::Descriptor,
    error::CheckError,
    key_limit::{ByKey, KeyLimit},
    lease_token::LeaseToken,
    leases::LeaseGrant,
    question::{Question, Touches},
    request_limit::RequestLimit,
    told::Told,
    upgrades::{Upgrade, Upgrades},
};
use crate::{
    domain::{
        Attributes, BundleLimit, CellCheck, Check, Decision, Enforcement, Fence, Idempotency, Match,
        PolicySet,
    },
    key::{KeyForm, record_key},
    store::{CellReset, CounterStore, MemoryStore, StoreError},
};

/// Decides checks against the policies in force.
pub struct Limiter {
    policies: Arc<ArcSwap<PolicySet>>,
    counters: Counters,
    clock: Clock,
    random: Random,
    settings: LimiterSettings,
    request_limits: RequestLimits,
    upgrades: Option<Upgrades>,
}

/// Where a [`Limiter`] counts.
#[derive(Clone)]
pub enum Counters {
    /// In this process. There is no other place to go if its memory is full, so failure mode `local` is `closed`.
    Memory(Arc<MemoryStore>),
    /// In a store that replicas share.
    Shared {
        /// The store.
        store: Arc<dyn CounterStore>,
        /// Counts for policies of failure mode `local` while the store is gone.
        local: Arc<MemoryStore>,
    },
}

/// What an operator sets of a [`Limiter`].
#[derive(Clone, Copy, Debug)]
pub struct LimiterSettings {
    /// Whether anything is limited at all; if not, every check is admitted by no limit.
    pub enabled: bool,
    /// How long an admission with an idempotency key is remembered, in microseconds.
    pub idempotency_ttl_us: u64,
}

type Matches<'p> = SmallVec<[Match<'p>; 4]>;

impl Limiter {
    /// Decides by `policies`, which may be swapped at any time. A shared store has a clock of its own. Ids of leases come from
    /// `random`.
    pub fn new(
        policies: Arc<ArcSwap<PolicySet>>,
        counters: Counters,
        clock: Clock,
        random: Random,
        settings: LimiterSettings,
    ) -> Self {
        let request_limits = RequestLimits::default();
        Self { policies, counters, clock, random, settings, request_limits, upgrades: None }
    }

    /// Now, in Unix microseconds by the clock of this process.
    pub fn now_us(&self) -> u64 {
        self.clock.now_us()
    }

    /// The policies in force now; one check uses one set throughout.
    #[inline]
    pub fn policies(&self) -> arc_swap::Guard<Arc<PolicySet>> {
        let policies = self.policies.load();
        if policies.has_much_combined() { self.begin_anew() } else { policies }
    }

    /// Takes memory back that callers made the policies take: checks that are under way have it until they are done.
    #[cold]
    fn begin_anew(&self) -> arc_swap::Guard<Arc<PolicySet>> {
        self.policies.rcu(|policies| match policies.has_much_combined() {
            true => Arc::new(policies.with_nothing_combined()),
            false => Arc::clone(policies),
        });
        self.policies.load()
    }

    /// This limiter, if it decides without waiting for anything: if it counts in this process.
    #[inline]
    pub fn at_once(&self) -> Option<AtOnce<'_>> {
        match &self.counters {
            Counters::Memory(store) => Some(AtOnce { limiter: self, store, now_us: self.clock.now_us() }),
            Counters::Shared { .. } => None,
        }
    }

    /// Whether there is an [`at_once`](Self::at_once).
    #[inline]
    pub fn is_at_once(&self) -> bool {
        matches!(self.counters, Counters::Memory(_))
    }

    /// Decides and charges. If the store cannot be asked, the failure modes of the policies answer.
    ///
    /// # Errors
    ///
    /// [`CheckError`], except `LimitNotFound`, `NoConcurrencyLimit`, `LeaseNotFound` and `Store`.
    pub async fn check<'p, A>(
        &self,
        policies: &'p PolicySet,
        question: Question<'_, A>,
    ) -> Result<Verdict<'p>, CheckError>
    where
        A: Attributes + ?Sized + Sync,
    {
        self.check_by(policies, question, None).await
    }

    /// As [`check`](Self::check), with what the API key adds that the request came with.
    ///
    /// # Errors
    ///
    /// As [`check`](Self::check), and `Stale`.
    pub async fn check_by<'p, A>(
        &self,
        policies: &'p PolicySet,
        question: Question<'_, A>,
        key: Option<ByKey<'p>>,
    ) -> Result<Verdict<'p>, CheckError>
    where
        A: Attributes + ?Sized + Sync,
    {
        if let Some(limiter) = self.at_once() {
            return limiter.check_by(policies, &question, key);
        }
        let mut asked = Asked::new(&question);
        self.find(policies, &question, &mut asked)?;
        if let Some(key) = key {
            self.add_limits(key.limits, &question, &mut asked.matches)?;
        }
        let mut check = self.store_check(&asked, &question);
        check.fence = key.map(|key| key.fence);
        self.take_lease(&asked.matches, &mut check, None)?;
        self.decide(&asked, &check).await
    }

    /// Decides by whatever store there is.
    async fn decide<'p, A>(
        &self,
        asked: &Asked<'p, '_, A>,
        check: &Check<'p>,
    ) -> Result<Verdict<'p>, CheckError>
    where
        A: Attributes + ?Sized + Sync,
    {
        if check.cells.is_empty() && check.fence.is_none() {
            return Ok(Verdict::unlimited(self.clock.now_us()));
        }
        let verdict = self.ask_store(&asked.matches, check).await?;
        self.tell(&asked.matches, &asked.attributes, check.charge, &verdict);
        Ok(verdict)
    }

    fn store(&self) -> &dyn CounterStore {
        match &self.counters {
            Counters::Memory(store) => &**store,
            Counters::Shared { store, .. } => &**store,
        }
    }

    #[inline]
    fn verdict<'p>(
        &self,
        matches: &Matches<'p>,
        check: &Check<'p>,
        answer: Result<Decision, StoreError>,
        now_us: u64,
    ) -> Result<Verdict<'p>, CheckError> {
        match answer {
            Ok(decision) if decision.key_reused => Err(CheckError::IdempotencyKeyReused),
            Ok(decision) if decision.stale => Err(CheckError::Stale),
            Ok(decision) => {
                let mut verdict = Verdict::decided(matches, &decision, now_us);
                if let Some(held) = decision.lease {
                    verdict.lease = Some(leases::grant(&check.cells, held, false));
                }
                Ok(verdict)
            }
            Err(error) => {
                let local = match &self.counters {
                    Counters::Memory(_) => None,
                    Counters::Shared { local, .. } => Some(&**local),
                };
                degraded::verdict(local, matches, check, error, now_us)
            }
        }
    }

    /// What [`check`](Self::check) would answer now, with these limits beside the policies; nothing is charged.
    ///
    /// # Errors
    ///
    /// [`CheckError`], except `LimitNotFound`, `NoConcurrencyLimit` and `LeaseNotFound`.
    pub async fn peek<'p, A>(
        &self,
        policies: &'p PolicySet,
        question: Question<'_, A>,
        beside: &'p [KeyLimit],
    ) -> Result<Verdict<'p>, CheckError>
    where
        A: Attributes + ?Sized + Sync,
    {
        let mut asked = Asked::new(&question);
        self.find(policies, &question, &mut asked)?;
        self.add_limits(beside, &question, &mut asked.matches)?;
        let check = self.store_check(&asked, &Question { dry_run: true, ..question });
        if check.cells.is_empty() {
            return Ok(Verdict::unlimited(self.clock.now_us()));
        }
        let decision = self.store().decide(&check).get().await?;
        let verdict = Verdict::decided(&asked.matches, &decision, self.clock.now_us());
        Ok(self.after_loss(verdict, limited(&asked.matches).zip(&check.cells)))
    }

    /// Clears every limit that applies, and these beside the policies, or the one named `limit`. Answers what was cleared.
    ///
    /// # Errors
    ///
    /// `NamespaceNotFound`, `UnknownPlan`, `NotOwn`, `LimitNotFound` if `limit` names none that applies, `Store`.
    pub async fn reset<'p, A>(
        &self,
        policies: &'p PolicySet,
        question: Question<'_, A>,
        limit: Option<&str>,
        beside: &'p [KeyLimit],
    ) -> Result<Vec<&'p BundleLimit>, CheckError>
    where
        A: Attributes + ?Sized + Sync,
    {
        let mut asked = Asked::new(&question);
        self.find(policies, &question, &mut asked)?;
        self.add_limits(beside, &question, &mut asked.matches)?;
        let mut cells = Vec::new();
        let mut cleared = Vec::new();
        for found in limited(&asked.matches) {
            let limits = found.bundle.limits.iter();
            let rule = limit.and_then(|name| limits.clone().position(|limit| &*limit.full_name == name));
            if limit.is_some() && rule.is_none() {
                continue;
            }
            cleared.extend(
                limits
                    .enumerate()
                    .filter(|(index, _)| rule.is_none_or(|rule| rule == *index))
                    .map(|(_, l)| l),
            );
            cells.push(CellReset {
                key: self.key_form().cell(found, &asked.attributes),
                layout: Arc::clone(&found.bundle.layout),
                rule,
            });
        }
        if let (Some(name), true) = (limit, cells.is_empty()) {
            return Err(CheckError::LimitNotFound(name.to_owned()));
        }
        self.store().reset(&cells).get().await?;
        Ok(cleared)
    }

    /// Makes it known that an organization has changed, to all who count in the same store. Answers whether the store keeps it.
    ///
    /// # Errors
    ///
    /// `Store`: some replicas may know it.
    pub async fn fence(&self, fence: Fence) -> Result<bool, CheckError> {
        Ok(self.store().fence(fence).get().await?)
    }

    #[inline]
    fn key_form(&self) -> KeyForm {
        match &self.counters {
            Counters::Memory(_) => KeyForm::Internal,
            Counters::Shared { .. } => KeyForm::Stored,
        }
    }

    #[inline]
    fn store_check<'p, A: Attributes + ?Sized>(
        &self,
        Asked { matches, attributes }: &Asked<'p, '_, A>,
        question: &Question<'_, A>,
    ) -> Check<'p> {
        let mut cells = SmallVec::<[CellCheck<'p>; 2]>::new();
        for found in limited(matches) {
            cells.push(CellCheck {
                key: self.key_form().cell(found, attributes),
                layout: &found.bundle.layout,
                // A policy in shadow may not be the reason of an error: what it could never admit fills it.
                cost: question.cost.min(found.bundle.min_capacity),
                enforced: found.policy.enforcement == Enforcement::Enforce,
            });
        }
        let idempotency = match limited(matches).next() {
            Some(first) if !question.idempotency_key.is_empty() => Some(Idempotency {
                key: record_key(first, attributes, question.namespace, question.idempotency_key),
                digest: digest(question),
                ttl_us: self.settings.idempotency_ttl_us,
            }),
            Some(_) | None => None,
        };
        Check { cells, charge: !question.dry_run, idempotency, lease: None, fence: None }
    }

    /// Has a check that is charged take a lease of the concurrency limits among what it is about.
    #[inline]
    fn take_lease(
        &self,
        matches: &Matches<'_>,
        check: &mut Check<'_>,
        ttl_us: Option<u64>,
    ) -> Result<(), CheckError> {
        if check.charge && limited(matches).any(|found| found.bundle.lease_us.is_some()) {
            check.lease = Some(leases::lease(&check.cells, matches, ttl_us, &self.random)?);
        }
        Ok(())
    }
}

/// The matches that limit anything; each is one cell.
fn limited<'m, 'p>(matches: &'m Matches<'p>) -> impl Iterator<Item = &'m Match<'p>> {
    matches.iter().filter(|found| !found.bundle.unlimited)
}

#[cfg(test)]
mod tests;
