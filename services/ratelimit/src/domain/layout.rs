//! Where the limits of one policy lie in the one value that is kept for a subject.

use super::{Charged, Concurrency, Rule, SlidingLog};

/// The rules that are counted together for one subject, and the words of state each takes.
///
/// The windows of a subject share one value, so a check of three windows is one read and one write.
#[derive(Debug, PartialEq, Eq)]
pub struct Layout {
    rules: Box<[Rule]>,
    words: usize,
    /// Whether the size of the state changes with a limit.
    is_resizable: bool,
    is_leased: bool,
}

impl Layout {
    /// Lays `rules` one behind the other.
    pub fn new(rules: impl Into<Box<[Rule]>>) -> Self {
        let rules = rules.into();
        let is_leased = rules.iter().any(|rule| matches!(rule, Rule::Concurrency(_)));
        let is_resizable = is_leased || rules.iter().any(|rule| matches!(rule, Rule::SlidingLog(_)));
        Self { words: rules.iter().map(Rule::words).sum(), is_resizable, is_leased, rules }
    }

    /// Whether one of the rules counts leases. These come free as they are released: of a denial it cannot be told for how
    /// long it holds.
    #[inline]
    pub fn is_leased(&self) -> bool {
        self.is_leased
    }

    /// How long a lease of its rules lasts at most, in microseconds: the least of them. Absent if none of them counts leases.
    pub(super) fn lease_us(&self) -> Option<u64> {
        let leases = self.rules.iter().filter_map(|rule| match rule {
            Rule::Concurrency(rule) => Some(rule.lease_us),
            Rule::SlidingWindow(_) | Rule::SlidingLog(_) | Rule::TokenBucket(_) | Rule::FixedWindow(_) => {
                None
            }
        });
        leases.min()
    }

    /// The rules, in order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// 64-bit words of state in all.
    pub fn words(&self) -> usize {
        self.words
    }

    /// Each rule with the range of words that is its state.
    pub fn parts(&self) -> impl Iterator<Item = (&Rule, std::ops::Range<usize>)> {
        let mut start = 0;
        self.rules.iter().map(move |rule| {
            let part = start..start + rule.words();
            start = part.end;
            (rule, part)
        })
    }

    /// Makes words of zeros the state of limits never charged.
    pub fn prepare(&self, words: &mut [u64]) {
        for (rule, part) in self.parts() {
            rule.prepare(&mut words[part]);
        }
    }

    /// Makes the state of one rule that of a limit never charged.
    pub fn clear_rule(&self, rule: usize, words: &mut [u64]) {
        if let Some((rule, part)) = self.parts().nth(rule) {
            let state = &mut words[part];
            state.fill(0);
            rule.prepare(state);
        }
    }

    /// Gives `tokens` of every rule back: see [`Rule::refund`].
    pub fn refund(&self, words: &mut [u64], tokens: u64, now_us: u64) {
        for (rule, part) in self.parts() {
            rule.refund(&mut words[part], tokens, now_us);
        }
    }

    /// Takes back a charge of those rules that `were_charged`: see [`Rule::undo`].
    pub fn undo(&self, words: &mut [u64], were_charged: &[bool], charged: &Charged, now_us: u64) {
        for ((rule, part), _) in self.parts().zip(were_charged).filter(|(_, was_charged)| **was_charged) {
            rule.undo(&mut words[part], charged, now_us);
        }
    }

    /// Whether `words`, which are as many as [`words`](Self::words), were written under rules of the same
    /// sizes. Only logs and leases have a size that changes with the limit, and they tell it.
    #[inline]
    pub fn fits(&self, words: &[u64]) -> bool {
        !self.is_resizable
            || self.parts().all(|(rule, part)| match rule {
                Rule::SlidingLog(_) => SlidingLog::words_found(&words[part.start..]) == part.len(),
                Rule::Concurrency(_) => Concurrency::words_found(&words[part.start..]) == part.len(),
                Rule::SlidingWindow(_) | Rule::TokenBucket(_) | Rule::FixedWindow(_) => true,
            })
    }

    /// Carries state over from a layout of the same algorithms and periods whose numbers, and so its
    /// size, were different. `words` must be zeros.
    pub fn carry(&self, mut old: &[u64], words: &mut [u64]) {
        for (rule, part) in self.parts() {
            let length = match rule {
                Rule::SlidingLog(_) => SlidingLog::words_found(old),
                Rule::Concurrency(_) => Concurrency::words_found(old),
                Rule::SlidingWindow(_) | Rule::TokenBucket(_) | Rule::FixedWindow(_) => rule.words(),
            };
            let (state, rest) = old.split_at(length);
            match rule {
                Rule::SlidingLog(log) => log.carry(state, &mut words[part]),
                Rule::Concurrency(rule) => rule.carry(state, &mut words[part]),
                Rule::SlidingWindow(_) | Rule::TokenBucket(_) | Rule::FixedWindow(_) => {
                    words[part].copy_from_slice(state);
                }
            }
            old = rest;
        }
    }
}
