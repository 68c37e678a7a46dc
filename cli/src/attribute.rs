//! Attributes on the command line: `NAME=VALUE`.

use anyhow::{Context, ensure};
use tidegate_proto::ratelimit::v1::check_request::AttributesEntry;

/// One attribute of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attribute {
    pub(crate) name: String,
    pub(crate) value: String,
}

impl From<Attribute> for AttributesEntry {
    fn from(attribute: Attribute) -> Self {
        Self { key: attribute.name, value: attribute.value }
    }
}

/// Splits at the first `=`, so that a value may hold more of them. What names and values may
/// contain is the server's to say.
pub(crate) fn parse(text: &str) -> anyhow::Result<Attribute> {
    let (name, value) = text.split_once('=').context("write NAME=VALUE")?;
    ensure!(!name.is_empty(), "the name is missing: write NAME=VALUE");
    Ok(Attribute { name: name.to_owned(), value: value.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attribute_splits_at_the_first_equals_sign() {
        let attribute = parse("path=/v1/a?b=c").unwrap();
        assert_eq!((attribute.name.as_str(), attribute.value.as_str()), ("path", "/v1/a?b=c"));
        assert_eq!(parse("organization=").unwrap().value, "");
    }

    #[test]
    fn attribute_without_name_or_equals_sign_is_refused() {
        for wrong in ["organization", "=acme", ""] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
