//! Limits that an API key brings with it, beside those of policies.

use std::sync::{Arc, OnceLock};

use super::{CheckError, Counters, Limiter, Matches, Question};
use crate::domain::{
    Bundle, Check, Enforcement, FailureMode, Fence, Limit, LimitError, LimitSpec, Match, OnDataLoss, Plan,
    Policy, Tariff,
};

/// As no namespace can be called: what a key may use it may use in all of them together.
const NAMESPACE: &str = "(keys)";

/// A limit of an API key or of its organization.
#[derive(Debug)]
pub struct KeyLimit {
    policy: Policy,
}

/// What an API key adds to a check.
#[derive(Clone, Copy, Debug)]
pub struct ByKey<'p> {
    /// They apply beside the policies, whatever these are.
    pub limits: &'p [KeyLimit],
    /// By which state of the organization all of it is true.
    pub fence: Fence,
}

impl KeyLimit {
    /// A limit that answers call `owner`/name, of the subject whose `attribute` is `value`, whatever a namespace derives under that name.
    /// `replicas` is how many replicas share it when each has to count by itself, as they do while the store is gone.
    ///
    /// # Errors
    ///
    /// What is wrong with the limit.
    pub fn new(
        owner: &str,
        (attribute, value): (&str, &str),
        spec: LimitSpec,
        replicas: u32,
    ) -> Result<Self, Vec<LimitError>> {
        let bundle =
            Bundle::new(NAMESPACE, owner, &[attribute], &Plan::new(owner, &[Limit::new(spec)?], replicas));
        Ok(Self {
            policy: Policy {
                name: Arc::from(owner),
                namespace: Arc::from(NAMESPACE),
                descriptor: None,
                replaces: [].into(),
                conditions: [].into(),
                when: None,
                key_by: [Box::from(attribute)].into(),
                subject: Some(Box::from(value)),
                enforcement: Enforcement::Enforce,
                failure_mode: FailureMode::Local,
                on_data_loss: OnDataLoss::default(),
                tariff: Tariff::Fixed(bundle),
                upgrade_plan: None,
                usage_place: OnceLock::new(),
            },
        })
    }

    fn found(&self) -> Match<'_> {
        match &self.policy.tariff {
            Tariff::Fixed(bundle) => Match { policy: &self.policy, bundle },
            Tariff::ByPlan(_) => unreachable!("made with a bundle"),
        }
    }
}

impl Limiter {
    /// Adds limits that come with a key to those that apply.
    ///
    /// # Errors
    ///
    /// `CostAboveCapacity`.
    pub(super) fn add_limits<'p, A: ?Sized>(
        &self,
        limits: &'p [KeyLimit],
        question: &Question<'_, A>,
        matches: &mut Matches<'p>,
    ) -> Result<(), CheckError> {
        if !self.settings.enabled {
            return Ok(());
        }
        for limit in limits {
            let found = limit.found();
            if question.cost > found.bundle.min_capacity {
                return Err(CheckError::CostAboveCapacity {
                    cost: question.cost,
                    limit: Arc::clone(&found.bundle.limits[found.bundle.min_capacity_limit].full_name),
                    capacity: found.bundle.min_capacity,
                });
            }
            matches.push(found);
        }
        Ok(())
    }

    /// Whether the store knows that an organization has changed since the state of `fence`. If it cannot be asked, it knows nothing.
    pub async fn is_stale(&self, fence: Fence) -> bool {
        let Counters::Shared { store, .. } = &self.counters else { return false };
        let cells = smallvec::SmallVec::new();
        let check = Check { cells, charge: false, idempotency: None, lease: None, fence: Some(fence) };
        store.decide(&check).get().await.is_ok_and(|decision| decision.stale)
    }
}
