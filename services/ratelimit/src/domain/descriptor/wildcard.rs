//! Values with gaps.

use std::cmp::{Ordering, Reverse};

/// A text in which each `*` stands for any characters, or none.
///
/// Of two the one is before the other that says more: the longer beginning, then the more characters, then the order of texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wildcard {
    text: Box<str>,
    /// Bytes before the first `*`.
    beginning: usize,
    /// Bytes after the last `*`.
    end: usize,
}

impl Wildcard {
    /// Reads a wildcard; nothing if there is no `*` in it.
    pub fn new(text: &str) -> Option<Self> {
        let (beginning, end) = (text.find('*')?, text.len() - text.rfind('*')? - 1);
        Some(Self { text: text.into(), beginning, end })
    }

    /// The text it was read from.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What is before the first `*`.
    pub fn beginning(&self) -> &str {
        &self.text[..self.beginning]
    }

    /// Whether `value` looks like this.
    pub fn matches(&self, value: &str) -> bool {
        let (beginning, end) = (self.beginning(), &self.text[self.text.len() - self.end..]);
        let Some(rest) = value.strip_prefix(beginning) else { return false };
        let Some(mut rest) = rest.strip_suffix(end) else { return false };
        // What is between two of them is looked for from the left, and the first place is as good as any.
        let between = self.text[self.beginning..self.text.len() - self.end].split('*');
        for part in between.filter(|part| !part.is_empty()) {
            let Some(at) = rest.find(part) else { return false };
            rest = &rest[at + part.len()..];
        }
        true
    }

    /// Whether everything that looks like `other` is known to look like this: as if each `*` of `other` were a character that this
    /// has nowhere.
    pub fn covers(&self, other: &Self) -> bool {
        self.matches(&other.text.replace('*', "\0"))
    }

    /// Whether no value is known to look like both.
    pub fn is_apart_from(&self, other: &Self) -> bool {
        let ends = [self, other].map(|wildcard| &wildcard.text[wildcard.text.len() - wildcard.end..]);
        let begin_alike = self.beginning().starts_with(other.beginning())
            || other.beginning().starts_with(self.beginning());
        let end_alike = ends[0].ends_with(ends[1]) || ends[1].ends_with(ends[0]);
        !begin_alike || !end_alike
    }

    fn says(&self) -> (Reverse<usize>, Reverse<usize>, &str) {
        let characters = self.text.bytes().filter(|byte| *byte != b'*').count();
        (Reverse(self.beginning), Reverse(characters), &self.text)
    }
}

impl Ord for Wildcard {
    fn cmp(&self, other: &Self) -> Ordering {
        self.says().cmp(&other.says())
    }
}

impl PartialOrd for Wildcard {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
