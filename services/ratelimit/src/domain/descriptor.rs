//! Envoy's descriptors, and which policies they find.

mod wildcard;

use std::{collections::BTreeMap, ops::Bound};

use hashbrown::HashMap;

pub use self::wildcard::Wildcard;
use super::{
    matcher::Attributes,
    policy::{Enforcement, Policy},
};

/// One level of the descriptors that a policy is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Level {
    /// Key of the entry.
    pub key: Box<str>,
    /// What its value may be.
    pub value: LevelValue,
    /// Whether all values that fit are counted as one.
    pub shared: bool,
}

/// What the value of an entry may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LevelValue {
    /// Anything at all.
    Any,
    /// This very value.
    Exact(Box<str>),
    /// What looks like this.
    Like(Wildcard),
}

impl LevelValue {
    /// As it is written in policy files.
    pub fn text(&self) -> &str {
        match self {
            Self::Any => "*",
            Self::Exact(text) => text,
            Self::Like(wildcard) => wildcard.text(),
        }
    }
}

impl Level {
    /// What an entry with this value, which fits, is counted under.
    #[inline]
    pub fn counted<'a>(&'a self, value: &'a str) -> &'a str {
        if self.shared { self.value.text() } else { value }
    }
}

/// The policies of a namespace that name descriptors, as a tree with a level for each entry.
///
/// A descriptor finds the policies that end where its last entry leads to. At each level there is one way on: the exact value
/// if there is a branch for it, else the [wildcard](Wildcard) that says most, else any value. There is no way back:
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
    /// By what they begin with; those that begin alike with what says most first.
    wildcards: BTreeMap<Box<str>, Vec<(Wildcard, Node)>>,
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
    #[inline]
    pub(super) fn find<A: Attributes + ?Sized>(&self, entries: &A) -> &[u32] {
        let levels = 0..entries.len();
        let found = levels
            .map(|index| entries.get(index))
            .try_fold(&self.root, |node, (key, value)| node.keys.get(key)?.follow(value));
        found.filter(|_| !entries.is_empty()).map_or(&[], |node| &node.policies)
    }
}

impl Branches {
    fn branch(&mut self, value: &LevelValue) -> &mut Node {
        match value {
            LevelValue::Exact(value) => self.exact.entry_ref(&**value).or_default(),
            LevelValue::Any => self.any.get_or_insert_default(),
            LevelValue::Like(wildcard) => {
                let alike = self.wildcards.entry(wildcard.beginning().into()).or_default();
                let at = alike.binary_search_by(|(known, _)| known.cmp(wildcard)).unwrap_or_else(|at| {
                    alike.insert(at, (wildcard.clone(), Node::default()));
                    at
                });
                &mut alike[at].1
            }
        }
    }

    #[inline]
    fn follow(&self, value: &str) -> Option<&Node> {
        let exact = self.exact.get(value);
        let wildcard = || if self.wildcards.is_empty() { None } else { self.like(value) };
        exact.or_else(wildcard).or(self.any.as_deref())
    }

    /// The branch of the wildcard with the longest beginning that `value` looks like.
    ///
    /// What `value` begins with is not after it in the order of texts, and of two such texts the longer is after the shorter. So
    /// the last text up to `value` is the longest of them, or else they are all part of what it has in common with `value`.
    fn like(&self, value: &str) -> Option<&Node> {
        let mut rest = value;
        loop {
            let up_to = (Bound::Unbounded, Bound::Included(rest));
            let (beginning, wildcards) = self.wildcards.range::<str, _>(up_to).next_back()?;
            let common = common(beginning, value);
            if common == beginning.len() {
                let found = wildcards.iter().find(|(wildcard, _)| wildcard.matches(value));
                if let Some((_, node)) = found {
                    return Some(node);
                }
                rest = &value[..value.floor_char_boundary(common.checked_sub(1)?)];
            } else {
                rest = &value[..value.floor_char_boundary(common)];
            }
        }
    }
}

/// How many bytes two texts begin with alike.
fn common(a: &str, b: &str) -> usize {
    a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests;
