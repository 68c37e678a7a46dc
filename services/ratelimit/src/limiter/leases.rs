//! Leases of concurrency limits: taken as checks are decided, renewed and released by their ids.

use tidegate_chassis::clock::Random;

use super::{Asked, CheckError, Counters, LeaseToken, Limiter, Matches, Question, Verdict, limited};
use crate::{
    domain::{Attributes, CellCheck, Enforcement, HeldLease, Lease, LeaseId, PolicySet, Rule},
    store::{CellLease, CounterStore},
};

/// A lease that its holder has been told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseGrant {
    /// By which it is renewed and released: a [`LeaseToken`], written.
    pub id: String,
    /// Microseconds until it expires.
    pub expires_after_us: u64,
}

impl Limiter {
    /// As [`check`](Self::check), of a request that is to take a lease, which lasts `ttl_us` unless it is renewed, or
    /// as long as the limits allow if that is less. An admission without a lease is one of a caller that
    /// nothing limits (an unlimited plan, an exempt request), or that the failure mode `open` admits.
    ///
    /// # Errors
    ///
    /// [`CheckError`], except `LimitNotFound` and `Store`.
    pub async fn acquire<'p, A>(
        &self,
        policies: &'p PolicySet,
        question: Question<'_, A>,
        ttl_us: Option<u64>,
    ) -> Result<Verdict<'p>, CheckError>
    where
        A: Attributes + ?Sized + Sync,
    {
        let mut asked = Asked::new(&question);
        self.find(policies, &question, &mut asked)?;
        let takes_none =
            asked.matches.iter().all(|found| !found.bundle.unlimited && found.bundle.lease_us.is_none());
        let namespace = policies.namespace(question.namespace).filter(|_| self.settings.enabled);
        if takes_none && namespace.is_some_and(|namespace| !namespace.exempts(&asked.attributes)) {
            return Err(CheckError::NoConcurrencyLimit);
        }
        let mut check = self.store_check(&asked, &question);
        self.take_lease(&asked.matches, &mut check, ttl_us)?;
        let verdict = self.decide(&asked, &check).await?;
        // What was admitted before and is not held any more is no lease.
        let has_ended = verdict.replayed && check.lease.is_some() && verdict.lease.is_none();
        if has_ended && !verdict.degraded { Err(CheckError::LeaseNotFound) } else { Ok(verdict) }
    }

    /// Lets a lease last `ttl_us` from now, or as long as when it was taken if that is less or nothing is asked for.
    ///
    /// # Errors
    ///
    /// `LeaseNotFound` if it has ended, `Store` if that cannot be told.
    pub async fn renew(&self, token: &LeaseToken, ttl_us: Option<u64>) -> Result<LeaseGrant, CheckError> {
        let expires_after_us = ttl_us.map_or(token.ttl_us, |ttl_us| ttl_us.min(token.ttl_us));
        let renewed = self.holder(token).renew(&token.cells, expires_after_us).get().await?;
        if renewed {
            Ok(LeaseGrant { id: token.write(), expires_after_us })
        } else {
            Err(CheckError::LeaseNotFound)
        }
    }

    /// Gives the places of a lease back. Answers whether it was held.
    ///
    /// # Errors
    ///
    /// `Store`; then it expires by itself.
    pub async fn release(&self, token: &LeaseToken) -> Result<bool, CheckError> {
        Ok(self.holder(token).release(&token.cells).get().await?)
    }

    /// Where a lease was counted: one that this replica gave while the store was gone is known to nobody else.
    fn holder(&self, token: &LeaseToken) -> &dyn CounterStore {
        match &self.counters {
            Counters::Shared { local, .. } if token.is_local => &**local,
            Counters::Memory(_) | Counters::Shared { .. } => self.store(),
        }
    }
}

/// The lease that a check is to take whose cells are those of `matches`. It lasts as long as the least of the enforced limits
/// allows; those that only report have no say unless there are no others.
///
/// # Errors
///
/// [`CheckError::LeaseTooLong`].
#[cold]
pub(super) fn lease(
    cells: &[CellCheck<'_>],
    matches: &Matches<'_>,
    ttl_us: Option<u64>,
    random: &Random,
) -> Result<Lease, CheckError> {
    let of = |enforced: bool| {
        let matches = limited(matches)
            .filter(move |found| (found.policy.enforcement == Enforcement::Enforce) == enforced);
        matches.filter_map(|found| found.bundle.lease_us).min()
    };
    let most_us = of(true).or_else(|| of(false)).unwrap_or(u64::MAX);
    let bytes = LeaseToken::bytes_of(
        cells
            .iter()
            .filter(|cell| cell.layout.is_leased())
            .map(|cell| (cell.layout.rules().len(), cell.key.len())),
    );
    if bytes > LeaseToken::MAX_BYTES {
        return Err(CheckError::LeaseTooLong(bytes));
    }
    let id = LeaseId::new(random.u64()).unwrap_or(LeaseId::MIN);
    Ok(Lease { id, ttl_us: ttl_us.map_or(most_us, |ttl_us| ttl_us.min(most_us)) })
}

/// What the holder is told of a lease that is held in those of `cells` that count leases.
#[cold]
pub(super) fn grant(cells: &[CellCheck<'_>], held: HeldLease, is_local: bool) -> Box<LeaseGrant> {
    let HeldLease { id, expires_after_us } = held;
    let leased = cells.iter().filter(|cell| cell.layout.is_leased()).map(|cell| CellLease {
        key: cell.key.clone(),
        algorithms: cell.layout.rules().iter().map(Rule::algorithm).collect(),
        enforced: cell.enforced,
        id,
    });
    let token = LeaseToken { is_local, ttl_us: expires_after_us, cells: leased.collect() };
    Box::new(LeaseGrant { id: token.write(), expires_after_us })
}

#[cfg(test)]
mod tests;
