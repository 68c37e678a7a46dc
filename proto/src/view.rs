//! Requests of the hot path, read where they lie: no text is copied, and nothing is allocated for a check of up to
//! eight attributes.
//!
//! A view accepts what the generated code accepts, and a property test holds the two against each other. One thing differs:
//! unknown groups may be nested a level or two deeper within a message of a message before they are refused.

mod rate_limit;

use prost::encoding::WireType;
use smallvec::SmallVec;

pub use self::rate_limit::{DescriptorView, LimitView, RateLimitView};
use crate::fields::{Fields, Malformed};

/// Attributes as they were sent: names and values, repeated names included.
pub type AttributesView<'a> = SmallVec<[(&'a str, &'a str); 8]>;

/// A [`CheckRequest`](crate::ratelimit::v1::CheckRequest).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckView<'a> {
    /// Namespace of the policies; empty means "default".
    pub namespace: &'a str,
    /// What is known of the request.
    pub attributes: AttributesView<'a>,
    /// Tokens to charge; absent means 1.
    pub cost: Option<u64>,
    /// Decide but charge nothing.
    pub dry_run: bool,
    /// Makes a retry safe; empty means none.
    pub idempotency_key: &'a str,
    /// The API key that the request came with; empty means none.
    pub api_key: &'a str,
    /// From where the request came; empty if that is not known.
    pub client_ip: &'a str,
    /// Scopes that the API key must have; empty means none.
    pub required_scopes: &'a str,
}

impl<'a> CheckView<'a> {
    /// Reads an encoded `CheckRequest`, or another part of it: a message field that is sent twice counts as one.
    ///
    /// # Errors
    ///
    /// [`Malformed`]; the generated code says where. Some fields may have been read.
    #[inline]
    pub(crate) fn merge(&mut self, message: &'a [u8]) -> Result<(), Malformed> {
        for field in Fields::of(message) {
            let (number, value) = field?;
            match number {
                1 => self.namespace = value.text()?,
                2 => self.attributes.push(entry(value.bytes()?)?),
                3 => self.cost = Some(value.varint()?),
                4 => self.dry_run = value.varint()? != 0,
                5 => self.idempotency_key = value.text()?,
                6 => self.api_key = value.text()?,
                7 => self.client_ip = value.text()?,
                8 => self.required_scopes = value.text()?,
                _ => {}
            }
        }
        Ok(())
    }
}

/// One entry of a map, or of a descriptor.
#[inline]
fn entry(message: &[u8]) -> Result<(&str, &str), Malformed> {
    if let Some(usual) = usual_entry(message) {
        return Ok(usual);
    }
    let (mut name, mut text) = ("", "");
    for field in Fields::of(message) {
        let (number, value) = field?;
        match number {
            1 => name = value.text()?,
            2 => text = value.text()?,
            _ => {}
        }
    }
    Ok((name, text))
}

/// Name and value of an entry as nearly all are written: both are there, in order, and shorter than 128 bytes.
///
/// Keys and lengths are ASCII then, so that all of it is UTF-8 exactly if name and value are.
#[inline]
fn usual_entry(message: &[u8]) -> Option<(&str, &str)> {
    const NAME: u8 = 1 << 3 | WireType::LengthDelimited as u8;
    const TEXT: u8 = 2 << 3 | WireType::LengthDelimited as u8;
    let [NAME, length @ 0..=127, rest @ ..] = message else { return None };
    let [TEXT, text_length @ 0..=127, text @ ..] = rest.get(usize::from(*length)..)? else { return None };
    if text.len() != usize::from(*text_length) {
        return None;
    }
    let (name, rest) = std::str::from_utf8(message).ok()?.get(2..)?.split_at_checked(usize::from(*length))?;
    Some((name, rest.get(2..)?))
}

/// The encoded checks of a [`CheckBatchRequest`](crate::ratelimit::v1::CheckBatchRequest), one by one.
#[inline]
pub(crate) fn checks(message: &[u8]) -> impl Iterator<Item = Result<&[u8], Malformed>> {
    Fields::of(message).filter_map(|field| match field {
        Ok((1, value)) => Some(value.bytes()),
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    })
}

/// A [`CheckStreamRequest`](crate::ratelimit::v1::CheckStreamRequest).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamCheckView<'a> {
    /// Chosen by the caller.
    pub id: u64,
    /// The check.
    pub check: Option<CheckView<'a>>,
}

impl<'a> StreamCheckView<'a> {
    /// Reads an encoded `CheckStreamRequest`.
    ///
    /// # Errors
    ///
    /// [`Malformed`]; the generated code says where. Some fields may have been read.
    #[inline]
    pub(crate) fn merge(&mut self, message: &'a [u8]) -> Result<(), Malformed> {
        for field in Fields::of(message) {
            let (number, value) = field?;
            match number {
                1 => self.id = value.varint()?,
                2 => self.check.get_or_insert_default().merge(value.bytes()?)?,
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
