//! Limits that come with a request.

use std::sync::Arc;

use crate::domain::{
    Algorithm, Bundle, Enforcement, FailureMode, Limit, LimitError, LimitSpec, Match, Period, Plan, Policy,
    Tariff,
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
        let plan = Plan::new("override", &[Limit::new(spec)?], 1);
        let mut bundle = Bundle::new(namespace, NAME, keys, &plan);
        bundle.min_capacity = tokens;
        Ok(Self {
            policy: Policy {
                name: Arc::from(NAME),
                namespace: Arc::from(namespace),
                descriptor: Some([].into()),
                conditions: [].into(),
                when: None,
                key_by: keys.iter().map(|key| Box::from(*key)).collect(),
                enforcement: Enforcement::Enforce,
                failure_mode: FailureMode::Closed,
                tariff: Tariff::Fixed(bundle),
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
