//! Which limits a policy sets for a request: its own, those of one plan, or those of the caller's.

use std::sync::Arc;

use hashbrown::HashMap;

use super::{Bundle, Names, Policy, matcher::Attributes};

/// Where a policy takes its limits from.
#[derive(Debug)]
pub enum Tariff {
    /// The same for every caller: one plan, limits of its own, or none at all.
    Fixed(Bundle),
    /// By the plan of the caller.
    ByPlan(PlanChoice),
}

impl Tariff {
    /// The limits of every plan: all that it may choose from.
    pub fn bundles(&self) -> &[Bundle] {
        match self {
            Self::Fixed(bundle) => std::slice::from_ref(bundle),
            Self::ByPlan(choice) => &choice.bundles,
        }
    }

    /// Position among [`bundles`](Self::bundles) of the limits that it sets for a request.
    #[inline]
    pub(super) fn choose<A: Attributes + ?Sized>(
        &self,
        policy: &Policy,
        attributes: &A,
    ) -> Result<usize, UnknownPlan> {
        match self {
            Self::Fixed(_) => Ok(0),
            Self::ByPlan(choice) => choice.position(&policy.key_by, attributes),
        }
    }
}

/// Callers may choose the value of an attribute, and so how long it is.
const LONGEST_QUOTE: usize = 64;

/// Which positions among the plans the names have.
pub type PlanNames = HashMap<Box<str>, usize>;

/// For one attribute: the position of the plan that each of its values is assigned.
pub type Assignments = HashMap<Box<str>, PlanNames>;

/// Finds the plan of a caller: what the attribute says; else what is assigned to the first value of
/// the policy's key that has an assignment; else the default.
#[derive(Debug)]
pub struct PlanChoice {
    /// The attribute that names the plan.
    pub attribute: Box<str>,
    /// Position of the plan of everyone else.
    pub default: usize,
    /// The limits of each plan under this policy, by position.
    pub bundles: Box<[Bundle]>,
    /// Positions of the plans by name, the same for every policy.
    pub names: Arc<Names<usize>>,
    /// Assigned plans, the same for every policy.
    pub assignments: Arc<Assignments>,
}

impl PlanChoice {
    fn position<A: Attributes + ?Sized>(
        &self,
        key_by: &[Box<str>],
        attributes: &A,
    ) -> Result<usize, UnknownPlan> {
        Ok(match attributes.find(&self.attribute) {
            Some(plan) => *self.names.get(plan).ok_or_else(|| UnknownPlan {
                attribute: self.attribute.to_string(),
                value: plan.chars().take(LONGEST_QUOTE).collect(),
            })?,
            None => self.assigned(key_by, attributes).unwrap_or(self.default),
        })
    }

    fn assigned<A: Attributes + ?Sized>(&self, key_by: &[Box<str>], attributes: &A) -> Option<usize> {
        if self.assignments.is_empty() {
            return None;
        }
        key_by.iter().find_map(|name| {
            let values = self.assignments.get(name)?;
            values.get(attributes.find(name)?).copied()
        })
    }
}

/// An attribute that should name a plan and names none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("attribute {attribute:?} names the plan {value:?}, which does not exist")]
pub struct UnknownPlan {
    /// Name of the attribute.
    pub attribute: String,
    /// What it said, at most 64 characters of it.
    pub value: String,
}
