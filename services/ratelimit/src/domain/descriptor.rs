//! Envoy's descriptors, and which policies they find.

use hashbrown::HashMap;

use super::{
    matcher::{Attributes, Pattern},
    policy::{Enforcement, Policy},
};

/// One level of the descriptors that a policy is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Level {
    /// Key of the entry.
    pub key: Box<str>,
    /// What its value may be.
    pub value: Pattern,
}

/// The policies of a namespace that name descriptors, as a tree with a level for each entry.
///
/// A descriptor finds the policies that end where its last entry leads to. At each level there is one way on: the exact value
/// if there is a branch for it, else the longest prefix, else any value. There is no way back:
/// a branch that leads nowhere hides the more general one beside it.
#[derive(Debug, Default)]
pub(super) struct Tree {
    root: Node,
}

#[derive(Debug, Default)]
struct Node {
    /// Positions of the policies that end here.
    policies: Vec<u32>,
    keys: HashMap<Box<str>, Branches>,
}

#[derive(Debug, Default)]
struct Branches {
    exact: HashMap<Box<str>, Node>,
    /// Longest first.
    prefixes: Vec<(Box<str>, Node)>,
    any: Option<Box<Node>>,
}

impl Tree {
    /// Files the policies that name a descriptor, and are not off, under their positions.
    pub(super) fn new(policies: &[Policy]) -> Self {
        let mut tree = Self::default();
        for (position, policy) in (0_u32..).zip(policies) {
            let is_on = policy.enforcement != Enforcement::Off;
            if let Some(descriptor) = policy.descriptor.as_ref().filter(|_| is_on) {
                let end = descriptor.iter().fold(&mut tree.root, |node, level| {
                    node.keys.entry_ref(&*level.key).or_default().branch(&level.value)
                });
                end.policies.push(position);
            }
        }
        tree
    }

    /// Positions of the policies that the entries of a descriptor find, ascending.
    pub(super) fn find<A: Attributes + ?Sized>(&self, entries: &A) -> &[u32] {
        let levels = 0..entries.len();
        let found = levels
            .map(|index| entries.get(index))
            .try_fold(&self.root, |node, (key, value)| node.keys.get(key)?.follow(value));
        found.filter(|_| !entries.is_empty()).map_or(&[], |node| &node.policies)
    }
}

impl Branches {
    fn branch(&mut self, value: &Pattern) -> &mut Node {
        match value {
            Pattern::Exact(value) => self.exact.entry_ref(&**value).or_default(),
            Pattern::Present => self.any.get_or_insert_default(),
            Pattern::Prefix(prefix) => {
                let known = self.prefixes.iter().position(|(known, _)| known == prefix);
                let at = known.unwrap_or_else(|| {
                    let shorter = self.prefixes.partition_point(|(known, _)| known.len() >= prefix.len());
                    self.prefixes.insert(shorter, (prefix.clone(), Node::default()));
                    shorter
                });
                &mut self.prefixes[at].1
            }
        }
    }

    fn follow(&self, value: &str) -> Option<&Node> {
        let prefix = || self.prefixes.iter().find(|(prefix, _)| value.starts_with(&**prefix));
        self.exact.get(value).or_else(|| prefix().map(|(_, node)| node)).or(self.any.as_deref())
    }
}

#[cfg(test)]
mod tests;
