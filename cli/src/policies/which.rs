//! Which entries are meant, on the command line.

use anyhow::{Context, ensure};
use clap::Args;

use super::entry::Key;
use crate::attribute::{self, Attribute};

/// One policy, plan or assignment.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(super) struct Which {
    /// A policy, as default:organization.
    #[arg(value_name = "NAMESPACE:NAME", value_parser = policy)]
    policy: Option<Key>,

    /// A plan, as free.
    #[arg(long, value_name = "NAME")]
    plan: Option<String>,

    /// An assignment, as organization=acme.
    #[arg(long, value_name = "ATTRIBUTE=VALUE", value_parser = attribute::parse)]
    assignment: Option<Attribute>,
}

impl Which {
    /// What it is found by.
    ///
    /// # Errors
    ///
    /// None is named.
    pub(super) fn key(&self) -> anyhow::Result<Key> {
        let assignment = self.assignment.clone().map(|of| Key::Assignment(of.name, of.value));
        let plan = self.plan.clone().map(Key::Plan);
        self.policy
            .clone()
            .or(plan)
            .or(assignment)
            .context("name a policy as NAMESPACE:NAME, or --plan, or --assignment")
    }
}

/// The name of a policy. Neither namespace nor name has a colon in it.
pub(crate) fn policy(text: &str) -> anyhow::Result<Key> {
    let (namespace, name) = text.split_once(':').context("write NAMESPACE:NAME, as default:organization")?;
    ensure!(!namespace.is_empty() && !name.is_empty(), "write NAMESPACE:NAME, as default:organization");
    Ok(Key::Policy(namespace.to_owned(), name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_named_with_its_namespace() {
        let expected = Key::Policy("shop/eu".to_owned(), "calls".to_owned());
        assert_eq!(policy("shop/eu:calls").unwrap(), expected);
        for wrong in ["calls", ":calls", "shop:", ""] {
            assert!(policy(wrong).is_err(), "{wrong:?}");
        }
    }
}
