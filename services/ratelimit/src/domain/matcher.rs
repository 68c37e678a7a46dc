//! What is known of a request, and what a policy asks of it.

mod index;

use std::fmt;

pub(super) use self::index::Index;

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
    /// In the order of their texts, and none covers another: of all that are not after a value, only
    /// the last can match it.
    patterns: Box<[Pattern]>,
}

/// What a value may be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// Anything at all.
    Present,
    /// Anything that starts with this, which is not empty.
    Prefix(Box<str>),
    /// This very value, which is not empty.
    Exact(Box<str>),
}

impl Pattern {
    /// Reads `*` (anything), `prefix*`, or an exact value.
    ///
    /// # Errors
    ///
    /// What is wrong, to be read after the name of the field.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Present);
        }
        let prefix = text.strip_suffix('*');
        if text.is_empty() {
            return Err("must not be empty: an attribute with an empty value counts as absent".to_owned());
        }
        if prefix.unwrap_or(text).contains('*') {
            return Err(format!("a * can only be the last character, is {text:?}"));
        }
        Ok(prefix.map_or_else(|| Self::Exact(text.into()), |prefix| Self::Prefix(prefix.into())))
    }

    /// Whether `value`, which is not empty, matches.
    pub fn matches(&self, value: &str) -> bool {
        match self {
            Self::Present => true,
            Self::Prefix(prefix) => value.starts_with(&**prefix),
            Self::Exact(exact) => **exact == *value,
        }
    }

    /// Whether whatever matches `other` matches this too.
    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Present, _) => true,
            (Self::Prefix(_), Self::Prefix(text) | Self::Exact(text)) => self.matches(text),
            (Self::Exact(_), _) => self == other,
            (Self::Prefix(_), Self::Present) => false,
        }
    }

    pub(super) fn text(&self) -> &str {
        match self {
            Self::Exact(text) | Self::Prefix(text) => text,
            Self::Present => "",
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(value) => formatter.write_str(value),
            Self::Prefix(prefix) => write!(formatter, "{prefix}*"),
            Self::Present => formatter.write_str("*"),
        }
    }
}

impl Condition {
    /// That `attribute` matches one of `patterns`.
    pub fn new(attribute: &str, mut patterns: Vec<Pattern>) -> Self {
        // All texts that start with the same prefix follow it without a gap, so each needs only be held
        // against the last one kept.
        let is_exact = |pattern: &Pattern| matches!(pattern, Pattern::Exact(_));
        patterns.sort_unstable_by(|a, b| (a.text(), is_exact(a)).cmp(&(b.text(), is_exact(b))));
        patterns.dedup_by(|next, kept| kept.covers(next));
        Self { attribute: attribute.into(), patterns: patterns.into() }
    }

    /// Name of the attribute.
    pub fn attribute(&self) -> &str {
        &self.attribute
    }

    /// The patterns in the order of their texts, without those that another covers.
    pub fn patterns(&self) -> &[Pattern] {
        &self.patterns
    }

    /// Whether the attribute is there and matches.
    pub fn holds<A: Attributes + ?Sized>(&self, attributes: &A) -> bool {
        attributes.find(&self.attribute).is_some_and(|value| self.admits(value))
    }

    /// Whether a value, which is not empty, matches.
    pub(super) fn admits(&self, value: &str) -> bool {
        let after = self.patterns.partition_point(|pattern| pattern.text() <= value);
        after.checked_sub(1).is_some_and(|last| self.patterns[last].matches(value))
    }
}

#[cfg(test)]
mod tests;
