//! Finds the policies that apply to a request, at a cost that depends on the request and on what
//! matches, not on how many policies there are.

use std::hash::Hash;

use hashbrown::HashMap;
use smallvec::SmallVec;

use super::policy::{Enforcement, Policy};

/// What is known of a request.
pub trait Attributes {
    /// Number of entries, those with a repeated name or an empty value included.
    fn len(&self) -> usize;

    /// Name and value of an entry; `index` is below [`len`](Self::len).
    fn get(&self, index: usize) -> (&str, &str);

    /// Whether nothing is known.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of an attribute: the last of that name. One with an empty value is absent.
    #[inline]
    fn find(&self, name: &str) -> Option<&str> {
        let last = (0..self.len()).rev().map(|index| self.get(index)).find(|(key, _)| *key == name);
        last.map(|(_, value)| value).filter(|value| !value.is_empty())
    }
}

impl<K: AsRef<str>, V: AsRef<str>> Attributes for [(K, V)] {
    fn len(&self) -> usize {
        <[_]>::len(self)
    }

    fn get(&self, index: usize) -> (&str, &str) {
        let (name, value) = &self[index];
        (name.as_ref(), value.as_ref())
    }
}

/// What must hold of one attribute: that its value matches one of the patterns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    attribute: Box<str>,
    /// Sorted, so that the exact ones come first.
    patterns: Box<[Pattern]>,
    exact: usize,
}

/// What a value may be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pattern {
    /// This very value, which is not empty.
    Exact(Box<str>),
    /// Anything that starts with this, which is not empty.
    Prefix(Box<str>),
    /// Anything at all.
    Present,
}

impl Pattern {
    /// Whether `value`, which is not empty, matches.
    pub fn matches(&self, value: &str) -> bool {
        match self {
            Self::Exact(exact) => **exact == *value,
            Self::Prefix(prefix) => value.starts_with(&**prefix),
            Self::Present => true,
        }
    }

    fn text(&self) -> &str {
        match self {
            Self::Exact(text) | Self::Prefix(text) => text,
            Self::Present => "",
        }
    }
}

impl Condition {
    /// That `attribute` matches one of `patterns`.
    pub fn new(attribute: &str, mut patterns: Vec<Pattern>) -> Self {
        patterns.sort_unstable();
        patterns.dedup();
        let exact = patterns.partition_point(|pattern| matches!(pattern, Pattern::Exact(_)));
        Self { attribute: attribute.into(), patterns: patterns.into(), exact }
    }

    /// Name of the attribute.
    pub fn attribute(&self) -> &str {
        &self.attribute
    }

    /// The patterns: first the exact ones, then prefixes, each in the order of their texts.
    pub fn patterns(&self) -> &[Pattern] {
        &self.patterns
    }

    /// Whether the attribute is there and matches.
    pub fn holds<A: Attributes + ?Sized>(&self, attributes: &A) -> bool {
        let Some(value) = attributes.find(&self.attribute) else { return false };
        let (exact, others) = self.patterns.split_at(self.exact);
        others.iter().any(|pattern| pattern.matches(value))
            || exact.binary_search_by(|pattern| pattern.text().cmp(value)).is_ok()
    }
}

/// Positions of policies in the order of their names.
type Positions = Vec<u32>;

/// Where each policy of a namespace is looked for.
///
/// A policy is filed under one of the things that must be true of a request for it to apply, the one
/// that is likely to be true of the fewest: its rarest exact condition, else the condition with
/// the longest prefix, else the presence of an attribute. So a request meets only candidates that
/// share that with it; whether the rest holds is checked candidate by candidate.
#[derive(Debug, Default)]
pub(super) struct Index {
    attributes: HashMap<Box<str>, ByValue>,
    always: Positions,
}

#[derive(Debug, Default)]
struct ByValue {
    exact: HashMap<Box<str>, Positions>,
    /// Longest first; the keys of one map have its length in bytes.
    prefixes: Vec<(usize, HashMap<Box<str>, Positions>)>,
    present: Positions,
}

impl Index {
    /// Files the policies that are not off under their positions.
    pub(super) fn new(policies: &[Policy]) -> Self {
        let counts = Counts::of(policies);
        let mut index = Self::default();
        for (position, policy) in policies.iter().enumerate().filter(|(_, policy)| is_on(policy)) {
            let position =
                u32::try_from(position).expect("a file of 4 billion policies cannot be held in memory");
            match counts.best(policy) {
                Place::Condition(condition) => {
                    let by_value = index.attributes.entry_ref(&*condition.attribute).or_default();
                    condition.patterns.iter().for_each(|pattern| by_value.file(pattern, position));
                }
                Place::Present(name) => index.attributes.entry_ref(name).or_default().present.push(position),
                Place::Always => index.always.push(position),
            }
        }
        index.attributes.values_mut().for_each(|by_value| {
            by_value.prefixes.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
        });
        index
    }

    /// Positions of the policies that may apply, ascending, each once.
    #[inline]
    pub(super) fn candidates<A: Attributes + ?Sized>(&self, attributes: &A, found: &mut SmallVec<[u32; 16]>) {
        found.extend_from_slice(&self.always);
        let mut lists = usize::from(!found.is_empty());
        for (name, value) in (0..attributes.len()).map(|index| attributes.get(index)) {
            if let Some(by_value) = self.attributes.get(name) {
                by_value.candidates(value, |positions| {
                    found.extend_from_slice(positions);
                    lists += 1;
                });
            }
        }
        // Each list is in order; only a mixture needs sorting. A policy is in two lists if a request
        // repeats a name, or if a value matches two patterns of one condition.
        if lists > 1 {
            found.sort_unstable();
            found.dedup();
        }
    }
}

impl ByValue {
    fn file(&mut self, pattern: &Pattern, position: u32) {
        let list = match pattern {
            Pattern::Exact(value) => self.exact.entry_ref(&**value).or_default(),
            Pattern::Present => &mut self.present,
            Pattern::Prefix(prefix) => {
                let known = self.prefixes.iter().position(|(length, _)| *length == prefix.len());
                let at = known.unwrap_or_else(|| {
                    self.prefixes.push((prefix.len(), HashMap::new()));
                    self.prefixes.len() - 1
                });
                self.prefixes[at].1.entry_ref(&**prefix).or_default()
            }
        };
        if list.last() != Some(&position) {
            list.push(position);
        }
    }

    fn candidates(&self, value: &str, mut meet: impl FnMut(&[u32])) {
        if !self.present.is_empty() {
            meet(&self.present);
        }
        if let Some(positions) = self.exact.get(value) {
            meet(positions);
        }
        for (length, by_prefix) in &self.prefixes {
            // Nothing at that length if it would split a character: no prefix ends inside one.
            if let Some(positions) = value.get(..*length).and_then(|prefix| by_prefix.get(prefix)) {
                meet(positions);
            }
        }
    }
}

/// Under what a policy is filed.
enum Place<'p> {
    Condition(&'p Condition),
    Present(&'p str),
    Always,
}

/// How many policies ask for the same thing.
struct Counts<'p> {
    exact: HashMap<(&'p str, &'p str), usize>,
    present: HashMap<&'p str, usize>,
}

impl<'p> Counts<'p> {
    fn of(policies: &'p [Policy]) -> Self {
        let mut counts = Self { exact: HashMap::new(), present: HashMap::new() };
        for policy in policies.iter().filter(|policy| is_on(policy)) {
            for condition in &policy.conditions {
                for pattern in &condition.patterns {
                    if let Pattern::Exact(value) = pattern {
                        count(&mut counts.exact, (&*condition.attribute, &**value));
                    }
                }
            }
            required(policy).for_each(|name| count(&mut counts.present, name));
        }
        counts
    }

    fn best(&self, policy: &'p Policy) -> Place<'p> {
        let exact =
            policy.conditions.iter().filter_map(|condition| Some((self.sharing(condition)?, condition)));
        if let Some((_, condition)) = exact.min_by_key(|(sharing, _)| *sharing) {
            return Place::Condition(condition);
        }
        let prefixed =
            policy.conditions.iter().filter_map(|condition| Some((shortest(condition)?, condition)));
        if let Some((_, condition)) = prefixed.max_by_key(|(length, _)| *length) {
            return Place::Condition(condition);
        }
        let rarest = required(policy).min_by_key(|name| self.present.get(name));
        rarest.map_or(Place::Always, Place::Present)
    }

    /// How many policies ask for one of the values of a condition that is all exact.
    fn sharing(&self, condition: &Condition) -> Option<usize> {
        condition.patterns.iter().try_fold(0, |sum, pattern| match pattern {
            Pattern::Exact(value) => Some(sum + self.exact.get(&(&*condition.attribute, &**value))?),
            Pattern::Prefix(_) | Pattern::Present => None,
        })
    }
}

/// Length of the shortest pattern, unless anything at all matches.
fn shortest(condition: &Condition) -> Option<usize> {
    let length = |pattern: &Pattern| match pattern {
        Pattern::Exact(text) | Pattern::Prefix(text) => Some(text.len()),
        Pattern::Present => None,
    };
    condition.patterns.iter().try_fold(usize::MAX, |least, pattern| Some(least.min(length(pattern)?)))
}

/// Attributes that must be there, whatever their values.
fn required(policy: &Policy) -> impl Iterator<Item = &str> {
    let conditions = policy.conditions.iter().map(|condition| &*condition.attribute);
    policy.key_by.iter().map(|name| &**name).chain(conditions)
}

fn count<K: Hash + Eq>(counts: &mut HashMap<K, usize>, key: K) {
    *counts.entry(key).or_default() += 1;
}

fn is_on(policy: &Policy) -> bool {
    policy.enforcement != Enforcement::Off
}
