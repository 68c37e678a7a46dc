//! What applies to a question.

use std::sync::Arc;

use super::{CheckError, Limiter, Matches, Question};
use crate::domain::{Attributes, Derived, Enforcement, PolicySet};

/// What applies to a question, and by which attributes its subjects are told apart.
pub(super) struct Asked<'p, 'a, A: ?Sized> {
    pub(super) matches: Matches<'p>,
    pub(super) attributes: Derived<'p, 'a, A>,
}

impl<'a, A: Attributes + ?Sized> Asked<'_, 'a, A> {
    /// Nothing, yet.
    #[inline]
    pub(super) fn new(question: &Question<'a, A>) -> Self {
        Self { matches: Matches::new(), attributes: Derived::new(question.attributes, &[]) }
    }
}

impl Limiter {
    /// Finds what applies. It is filled in where it lies, since it is large.
    #[inline]
    pub(super) fn find<'p, 'a, A>(
        &self,
        policies: &'p PolicySet,
        question: &Question<'a, A>,
        Asked { matches, attributes }: &mut Asked<'p, 'a, A>,
    ) -> Result<(), CheckError>
    where
        A: Attributes + ?Sized + Sync,
    {
        if !self.settings.enabled {
            return Ok(());
        }
        let namespace = policies
            .namespace(question.namespace)
            .ok_or_else(|| CheckError::NamespaceNotFound(question.namespace.to_owned()))?;
        let derivations = &namespace.settings().derivations;
        if !derivations.is_empty() {
            *attributes = Derived::new(question.attributes, derivations);
        }
        if namespace.exempts(attributes) {
            return Ok(());
        }
        namespace.matching(attributes, question.cost, matches)?;
        for found in matches.iter().filter(|found| found.policy.enforcement == Enforcement::Enforce) {
            let bundle = found.bundle;
            if question.cost > bundle.min_capacity {
                return Err(CheckError::CostAboveCapacity {
                    cost: question.cost,
                    limit: Arc::clone(&bundle.limits[bundle.min_capacity_limit].full_name),
                    capacity: bundle.min_capacity,
                });
            }
        }
        Ok(())
    }
}
