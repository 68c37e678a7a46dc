//! What applies to a question.

use std::sync::Arc;

use uuid::Uuid;

use super::{CheckError, Limiter, Matches, Question, Touches};
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

/// The attributes that say whose something is: an organization, and the lineage of an API key.
const ORGANIZATION: &str = "organization";
const API_KEY: &str = "api_key";

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
/// clear it can let them in.
///
/// # Errors
///
/// `NotOwn`.
fn only_own(touches: Touches, matches: &Matches<'_>, attributes: &impl Attributes) -> Result<(), CheckError> {
    let (own, by_key) = match touches {
        Touches::All => return Ok(()),
        Touches::Of(own) => (own, false),
        Touches::OfKey(own) => (own, true),
    };
    let mut buffer = Uuid::encode_buffer();
    let own: &str = own.hyphenated().encode_lower(&mut buffer);
    let is_own = attributes.find(ORGANIZATION) == Some(own);
    let counts_own = |name: &str| name == ORGANIZATION || by_key && name == API_KEY;
    let mut policies = matches.iter().map(|found| found.policy);
    let other = policies.find(|policy| !(is_own && policy.key_by.iter().any(|name| counts_own(name))));
    other.map_or(Ok(()), |policy| Err(CheckError::NotOwn(Arc::clone(&policy.name))))
}
