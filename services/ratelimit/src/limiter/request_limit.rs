//! Limits that come with a request.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use smallvec::SmallVec;

use super::recent::Recent;
use crate::domain::{
    Algorithm, Bundle, Enforcement, FailureMode, Limit, LimitError, LimitSpec, Match, OnDataLoss, Period,
    Plan, Policy, Tariff,
};

/// A limit that a descriptor brings with it: it takes the place of every policy.
///
/// It counts under all entries of the descriptor, in sliding windows, or in calendar months. The number is no part
/// of what is counted, so what was counted stays counted when the caller raises or lowers it.
#[derive(Debug)]
pub struct RequestLimit {
    policy: Policy,
}

/// As no policy of a file can be called.
const NAME: &str = "(override)";

impl RequestLimit {
    /// The limit `tokens` per `period`, called `name`, for a descriptor with these keys. 0 tokens deny everything.
    ///
    /// # Errors
    ///
    /// What is wrong with the limit.
    pub fn new(
        namespace: &str,
        keys: &[&str],
        name: &str,
        tokens: u64,
        period: Period,
    ) -> Result<Self, Vec<LimitError>> {
        let algorithm = match period {
            Period::Month => Algorithm::FixedWindow,
            Period::Micros(_) | Period::Week => Algorithm::SlidingWindow,
        };
        let spec = LimitSpec { name: name.to_owned(), algorithm, limit: tokens.max(1), period, burst: None };
        let limit = Limit::new(spec)?;
        let limit = if tokens == 0 { limit.of_nothing() } else { limit };
        let bundle = Bundle::new(namespace, NAME, keys, &Plan::new("override", &[limit], 1));
        Ok(Self {
            policy: Policy {
                name: Arc::from(NAME),
                namespace: Arc::from(namespace),
                descriptor: Some([].into()),
                replaces: [].into(),
                conditions: [].into(),
                when: None,
                key_by: keys.iter().map(|key| Box::from(*key)).collect(),
                enforcement: Enforcement::Enforce,
                failure_mode: FailureMode::Closed,
                on_data_loss: OnDataLoss::default(),
                tariff: Tariff::Fixed(bundle),
                upgrade_plan: None,
                subject: None,
                usage_place: OnceLock::new(),
            },
        })
    }

    /// What it sets.
    pub(super) fn found(&self) -> Match<'_> {
        match &self.policy.tariff {
            Tariff::Fixed(bundle) => Match { policy: &self.policy, bundle },
            Tariff::ByPlan(_) => unreachable!("made with a bundle"),
        }
    }
}

/// So many limits are kept ready, and of those asked for last half as many at least. Envoy's configuration names few, but it can take
/// the number from the metadata of a request as well, so there may be any number of them.
const MAX_KEPT: usize = 1_024;

/// What is told apart from the others by more bytes than this is made anew each time, so that not only the number of those kept is bounded.
const MAX_WRITTEN: usize = 1_024;

/// The limits that came with requests.
#[derive(Debug)]
pub(super) struct RequestLimits(Mutex<Recent<Box<[u8]>, Arc<RequestLimit>>>);

impl Default for RequestLimits {
    fn default() -> Self {
        Self(Mutex::new(Recent::new(MAX_KEPT)))
    }
}

impl RequestLimits {
    /// As [`RequestLimit::new`], which was perhaps asked before.
    pub(super) fn get(
        &self,
        namespace: &str,
        keys: &[&str],
        name: &str,
        tokens: u64,
        period: Period,
    ) -> Result<Arc<RequestLimit>, Vec<LimitError>> {
        let asked = written(namespace, keys, name, tokens);
        if let Some(known) = self.kept().get(&*asked) {
            return Ok(known);
        }
        let limit = Arc::new(RequestLimit::new(namespace, keys, name, tokens, period)?);
        if asked.len() <= MAX_WRITTEN {
            self.kept().put(asked.into_boxed_slice(), Arc::clone(&limit));
        }
        Ok(limit)
    }

    /// A worker has a limiter of its own, so nobody waits.
    fn kept(&self) -> MutexGuard<'_, Recent<Box<[u8]>, Arc<RequestLimit>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What tells one limit from another; its name tells its period.
fn written(namespace: &str, keys: &[&str], name: &str, tokens: u64) -> SmallVec<[u8; 128]> {
    let mut written = SmallVec::new();
    written.extend_from_slice(&tokens.to_le_bytes());
    for text in [namespace, name].into_iter().chain(keys.iter().copied()) {
        written.extend_from_slice(&(text.len() as u64).to_le_bytes());
        written.extend_from_slice(text.as_bytes());
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limit_is_made_once_and_told_apart_from_every_other() {
        let limits = RequestLimits::default();
        let hour = Period::Micros(3_600_000_000);
        let first = limits.get("edge", &["user"], "hour", 5, hour).expect("valid");
        let again = limits.get("edge", &["user"], "hour", 5, hour).expect("valid");
        assert!(Arc::ptr_eq(&first, &again));
        for other in [
            limits.get("edge", &["user"], "hour", 6, hour),
            limits.get("edge", &["user", "user"], "hour", 5, hour),
            limits.get("edg", &["euser"], "hour", 5, hour),
            limits.get("edge", &["user"], "week", 5, Period::Week),
        ] {
            assert!(!Arc::ptr_eq(&first, &other.expect("valid")));
        }
    }

    #[test]
    fn those_asked_for_lately_are_kept_however_many_there_were() {
        let limits = RequestLimits::default();
        let get = |tokens| limits.get("edge", &["user"], "week", tokens, Period::Week).expect("valid");
        for tokens in 0..3 * MAX_KEPT as u64 {
            assert_eq!(get(tokens).found().bundle.min_capacity, tokens);
        }
        assert!(limits.kept().len() <= MAX_KEPT);
        let last = get(3 * MAX_KEPT as u64);
        assert!(Arc::ptr_eq(&get(3 * MAX_KEPT as u64), &last), "what comes late has room too");
    }

    #[test]
    fn what_takes_many_bytes_is_not_kept() {
        let limits = RequestLimits::default();
        let long = "k".repeat(MAX_WRITTEN);
        let limit = limits.get("edge", &[&long], "week", 7, Period::Week).expect("valid");
        assert_eq!((limit.found().bundle.min_capacity, limits.kept().len()), (7, 0));
    }
}
