//! Attributes that the service works out of those that a request came with: who is calling, which endpoint is meant.

mod address;
mod path;
mod route;

use sha2::{Digest, Sha256};

use super::matcher::Attributes;

pub(super) use self::path::canonical;
pub use self::{
    address::ClientAddress,
    route::{RouteError, Routes},
};

/// One attribute that a namespace derives. It takes the place of what a check gave under the same name, also if it
/// has no value.
#[derive(Clone, Debug)]
pub struct Derivation {
    /// Name of the attribute.
    pub attribute: Box<str>,
    /// Where its value comes from.
    pub source: Source,
}

/// Where the value of a derived attribute comes from. An attribute that is absent gives none.
#[derive(Clone, Debug)]
pub enum Source {
    /// The network that the caller is counted as.
    Address(ClientAddress),
    /// The endpoint that a request means.
    Route(Routes),
    /// The first of these attributes that is there, as `name=value`, so that values of two attributes never meet.
    FirstOf(Box<[Box<str>]>),
    /// The SHA-256 of an attribute, its first 128 bits as 32 hexadecimal digits: tells secrets apart without keeping them.
    HashOf(Box<str>),
}

impl Source {
    /// The attributes that it looks at.
    pub fn attributes(&self) -> Vec<&str> {
        match self {
            Self::Address(address) => {
                std::iter::once(&*address.peer).chain(address.forwarded_for.as_deref()).collect()
            }
            Self::Route(routes) => routes.attributes().collect(),
            Self::FirstOf(names) => names.iter().map(|name| &**name).collect(),
            Self::HashOf(name) => vec![name],
        }
    }

    fn value<A: Attributes + ?Sized>(&self, attributes: &A) -> Option<String> {
        match self {
            Self::Address(address) => address.of(attributes),
            Self::Route(routes) => routes.of(attributes),
            Self::FirstOf(names) => {
                names.iter().find_map(|name| Some(format!("{name}={}", attributes.find(name)?)))
            }
            Self::HashOf(name) => attributes.find(name).map(hash),
        }
    }
}

fn hash(value: &str) -> String {
    let digest = Sha256::digest(value.as_bytes());
    digest[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a request came with, and what was derived from it.
#[derive(Debug)]
pub struct Derived<'p, 'a, A: ?Sized> {
    given: &'a A,
    derived: Vec<(&'p str, String)>,
}

impl<'p, 'a, A: Attributes + ?Sized> Derived<'p, 'a, A> {
    /// Derives in order, so that each can look at those before it.
    #[inline]
    pub fn new(given: &'a A, derivations: &'p [Derivation]) -> Self {
        let mut attributes = Self { given, derived: Vec::new() };
        for derivation in derivations {
            // An empty value counts as absent, and the last of a name counts.
            let value = derivation.source.value(&attributes).unwrap_or_default();
            attributes.derived.push((&derivation.attribute, value));
        }
        attributes
    }
}

impl<A: Attributes + ?Sized> Attributes for Derived<'_, '_, A> {
    #[inline]
    fn len(&self) -> usize {
        self.given.len() + self.derived.len()
    }

    #[inline]
    fn get(&self, index: usize) -> (&str, &str) {
        match index.checked_sub(self.given.len()) {
            None => self.given.get(index),
            Some(index) => {
                let (name, value) = &self.derived[index];
                (name, value)
            }
        }
    }

    #[inline]
    fn find(&self, name: &str) -> Option<&str> {
        match self.derived.iter().rev().find(|(derived, _)| *derived == name) {
            None => self.given.find(name),
            Some((_, value)) => Some(value.as_str()).filter(|value| !value.is_empty()),
        }
    }
}

#[cfg(test)]
mod tests;
