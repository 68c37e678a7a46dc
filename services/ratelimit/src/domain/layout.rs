//! Where the limits of one policy lie in the one value that is kept for a subject.

use super::limit::Rule;

/// The rules that are counted together for one subject, and the words of state each takes.
///
/// The windows of a subject share one value, so a check of three windows is one read and one write.
#[derive(Debug, PartialEq, Eq)]
pub struct Layout {
    rules: Box<[Rule]>,
    words: usize,
}

impl Layout {
    /// Lays `rules` one behind the other.
    pub fn new(rules: impl Into<Box<[Rule]>>) -> Self {
        let rules = rules.into();
        Self { words: rules.iter().map(Rule::words).sum(), rules }
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
}
