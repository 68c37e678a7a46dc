//! Requests of Envoy's protocol, read where they lie.

use smallvec::SmallVec;

use super::entry;
use crate::fields::{Fields, Malformed, Value};

/// A [`RateLimitRequest`](crate::envoy::service::ratelimit::v3::RateLimitRequest).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RateLimitView<'a> {
    /// Domain; empty if it was not sent.
    pub domain: &'a str,
    /// What the request is counted under.
    pub descriptors: SmallVec<[DescriptorView<'a>; 1]>,
    /// Hits of descriptors that have none of their own; 0 means 1.
    pub hits_addend: u32,
}

/// A [`RateLimitDescriptor`](crate::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DescriptorView<'a> {
    /// Keys and values, in their order.
    pub entries: SmallVec<[(&'a str, &'a str); 4]>,
    /// The limit that comes with it.
    pub limit: Option<LimitView>,
    /// Hits of its own.
    pub hits_addend: Option<u64>,
    /// Whether the hits are given back.
    pub is_negative_hits: bool,
}

/// A [`RateLimitOverride`](crate::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::RateLimitOverride).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LimitView {
    /// Requests per unit of time.
    pub requests_per_unit: u32,
    /// Number of the unit, known or not.
    pub unit: i32,
}

impl<'a> RateLimitView<'a> {
    /// Reads an encoded `RateLimitRequest`.
    ///
    /// # Errors
    ///
    /// [`Malformed`]; the generated code says where. Some fields may have been read.
    #[inline]
    pub(crate) fn merge(&mut self, message: &'a [u8]) -> Result<(), Malformed> {
        for field in Fields::of(message) {
            let (number, value) = field?;
            match number {
                1 => self.domain = value.text()?,
                2 => {
                    // Read in its place: it is large.
                    self.descriptors.push(DescriptorView::default());
                    let descriptor = self.descriptors.last_mut().expect("one was just pushed");
                    descriptor.merge(value.bytes()?)?;
                }
                3 => self.hits_addend = value.uint32()?,
                _ => {}
            }
        }
        Ok(())
    }
}

impl<'a> DescriptorView<'a> {
    #[inline]
    fn merge(&mut self, message: &'a [u8]) -> Result<(), Malformed> {
        for field in Fields::of(message) {
            let (number, value) = field?;
            match number {
                1 => self.entries.push(entry(value.bytes()?)?),
                2 => self.limit.get_or_insert_default().merge(value.bytes()?)?,
                3 => merge_wrapped(self.hits_addend.get_or_insert_default(), value)?,
                4 => self.is_negative_hits = value.varint()? != 0,
                _ => {}
            }
        }
        Ok(())
    }
}

impl LimitView {
    fn merge(&mut self, message: &[u8]) -> Result<(), Malformed> {
        for field in Fields::of(message) {
            let (number, value) = field?;
            match number {
                1 => self.requests_per_unit = value.uint32()?,
                2 => self.unit = value.enumeration()?,
                _ => {}
            }
        }
        Ok(())
    }
}

/// Reads a `google.protobuf.UInt64Value`.
fn merge_wrapped(number: &mut u64, message: Value<'_>) -> Result<(), Malformed> {
    for field in Fields::of(message.bytes()?) {
        if let (1, value) = field? {
            *number = value.varint()?;
        }
    }
    Ok(())
}
