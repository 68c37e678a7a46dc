//! Finds the policies that may apply to a request.

use std::{cmp::Reverse, hash::Hash};

use hashbrown::HashMap;
use smallvec::SmallVec;

use super::{Attributes, Condition, Pattern};
use crate::domain::policy::{Enforcement, Policy};

/// Positions of policies in the order of their names.
type Positions = Vec<u32>;

/// Where each policy of a namespace is looked for.
///
/// A policy is filed under one of the things that must be true of a request for it to apply, a
/// condition or the presence of an attribute: the one that it shares with the fewest others. A request
/// meets only candidates that are filed under something true of it; whether the rest holds is checked
/// candidate by candidate.
///
/// So policies that share nothing with a request cost nothing. What costs is policies that do not apply
/// and yet share with it even their rarest demand. The worst cases: policies that demand nothing
/// (`key_by = []` and no condition) but for an expression, which every request evaluates; and a grid, as
/// when each of 10,000 policies asks for one of 100 hosts and one of 100 paths: a request meets 100 of
/// them and one applies. Where prefixes are looked for, a request costs one look-up for each length
/// that they have, however many they are.
#[derive(Debug, Default)]
pub(in crate::domain) struct Index {
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
    pub(in crate::domain) fn new(policies: &[Policy]) -> Self {
        let counts = Counts::of(policies);
        let mut index = Self::default();
        for (position, policy) in policies.iter().enumerate().filter(|(_, policy)| is_on(policy)) {
            let position =
                u32::try_from(position).expect("a file of 4 billion policies cannot be held in memory");
            match counts.rarest(policy) {
                Some(Demand::Condition(condition)) => {
                    let by_value = index.attributes.entry_ref(&*condition.attribute).or_default();
                    condition.patterns.iter().for_each(|pattern| by_value.list(pattern).push(position));
                }
                Some(Demand::Presence(name)) => {
                    index.attributes.entry_ref(name).or_default().present.push(position);
                }
                None => index.always.push(position),
            }
        }
        index.attributes.values_mut().for_each(|by_value| {
            by_value.prefixes.sort_by_key(|(length, _)| Reverse(*length));
        });
        index
    }

    /// Positions of the policies that may apply, ascending, each once.
    #[inline]
    pub(in crate::domain) fn candidates<A: Attributes + ?Sized>(
        &self,
        attributes: &A,
        found: &mut SmallVec<[u32; 16]>,
    ) {
        found.extend_from_slice(&self.always);
        let mut lists = usize::from(!found.is_empty());
        for entry in 0..attributes.len() {
            let (name, value) = attributes.get(entry);
            let Some(by_value) = self.attributes.get(name) else { continue };
            let is_last = (entry + 1..attributes.len()).all(|later| attributes.get(later).0 != name);
            if is_last && !value.is_empty() {
                by_value.candidates(value, |positions| {
                    found.extend_from_slice(positions);
                    lists += 1;
                });
            }
        }
        // A policy is filed under one attribute, of which one value was looked at, and a value matches
        // one pattern of a condition at most: no policy is met twice. Each list is in order.
        if lists > 1 {
            found.sort_unstable();
        }
    }
}

impl ByValue {
    fn list(&mut self, pattern: &Pattern) -> &mut Positions {
        match pattern {
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

/// What must be true of a request for a policy to apply.
#[derive(Clone, Copy)]
enum Demand<'p> {
    Condition(&'p Condition),
    Presence(&'p str),
}

/// How many policies demand the same.
struct Counts<'p> {
    patterns: HashMap<(&'p str, &'p Pattern), usize>,
    presences: HashMap<&'p str, usize>,
}

impl<'p> Counts<'p> {
    fn of(policies: &'p [Policy]) -> Self {
        let mut counts = Self { patterns: HashMap::new(), presences: HashMap::new() };
        for policy in policies.iter().filter(|policy| is_on(policy)) {
            for demand in demands(policy) {
                match demand {
                    Demand::Condition(condition) => condition
                        .patterns
                        .iter()
                        .for_each(|pattern| count(&mut counts.patterns, (&*condition.attribute, pattern))),
                    Demand::Presence(name) => count(&mut counts.presences, name),
                }
            }
        }
        counts
    }

    /// The demand with the fewest others in the fullest list it would be filed in; of equals the one that is
    /// likely to be true of the fewest requests.
    fn rarest(&self, policy: &'p Policy) -> Option<Demand<'p>> {
        demands(policy).min_by_key(|demand| match demand {
            Demand::Condition(condition) => {
                let shared = condition
                    .patterns
                    .iter()
                    .filter_map(|pattern| self.patterns.get(&(&*condition.attribute, pattern)).copied());
                let prefixes =
                    condition.patterns.iter().filter(|pattern| matches!(pattern, Pattern::Prefix(_)));
                let shortest = prefixes.map(|prefix| prefix.text().len()).min();
                (shared.max().unwrap_or(0), Reverse(shortest.unwrap_or(usize::MAX)))
            }
            Demand::Presence(name) => (self.presences.get(name).copied().unwrap_or(0), Reverse(0)),
        })
    }
}

/// Everything a policy demands, but for its expression.
fn demands(policy: &Policy) -> impl Iterator<Item = Demand<'_>> {
    let conditions = policy.conditions.iter().map(|condition| {
        let of_any_value = condition.patterns.contains(&Pattern::Present);
        if of_any_value { Demand::Presence(&condition.attribute) } else { Demand::Condition(condition) }
    });
    conditions.chain(policy.key_by.iter().map(|name| Demand::Presence(name)))
}

fn count<K: Hash + Eq>(counts: &mut HashMap<K, usize>, key: K) {
    *counts.entry(key).or_default() += 1;
}

fn is_on(policy: &Policy) -> bool {
    policy.enforcement != Enforcement::Off && policy.descriptor.is_none()
}
