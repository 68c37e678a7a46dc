//! What applies to a question.

use std::sync::Arc;

use uuid::Uuid;

use super::{CheckError, Limiter, Matches, Question, Touches};
use crate::domain::{Attributes, Derived, Enforcement, Match, PolicySet};

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

/// The attributes that say whose something is: an organization, and the lineage of an API key.
pub(crate) const ORGANIZATION: &str = "organization";
pub(crate) const API_KEY: &str = "api_key";

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
        if question.touches != Touches::All {
            only_own(question.touches, matches, attributes)?;
        }
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

/// Refuses what counts several organizations together, or another one: whoever may charge it can shut others out, and whoever may
/// clear it can let them in. What denies nobody refuses nothing: of such, those in shadow are left alone.
///
/// # Errors
///
/// `NotOwn`.
fn only_own(
    touches: Touches,
    matches: &mut Matches<'_>,
    attributes: &impl Attributes,
) -> Result<(), CheckError> {
    let (own, lineage) = match touches {
        Touches::All => return Ok(()),
        Touches::Of(own) => (own, None),
        Touches::OfKey { organization, lineage } => (organization, Some(lineage)),
    };
    // By its value and not its name alone: namespaces derive attributes of any name from what a caller writes.
    let names = |name: &str, id: Uuid| {
        attributes.find(name) == Some(&*id.hyphenated().encode_lower(&mut Uuid::encode_buffer()))
    };
    let is_own = names(ORGANIZATION, own);
    let is_own_key = lineage.is_some_and(|lineage| names(API_KEY, lineage));
    let counts_own = |name: &str| name == ORGANIZATION || is_own_key && name == API_KEY;
    let is_foreign = |found: &Match<'_>| {
        !(found.bundle.unlimited || is_own && found.policy.key_by.iter().any(|name| counts_own(name)))
    };
    matches.retain(|found| found.policy.enforcement == Enforcement::Enforce || !is_foreign(found));
    let other = matches.iter().find(|found| is_foreign(found));
    other.map_or(Ok(()), |found| Err(CheckError::NotOwn(Arc::clone(&found.policy.name))))
}
