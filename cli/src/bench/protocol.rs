//! What is spoken: which method is called, and how a check is written in its message.
//!
//! Tidegate's own, and those of the rate limiters that `cargo xtask bench --peers` compares with. In all of
//! them the first field of the answer is 1 exactly if the check was admitted.

use clap::ValueEnum;
use prost::Message;
use tidegate_proto::ratelimit::v1::CheckRequest;

use super::args::Mode;

/// Whose protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Protocol {
    /// `tidegate.ratelimit.v1.RateLimitService`
    Tidegate,
    /// `envoy.service.ratelimit.v3.RateLimitService`: one descriptor with all attributes.
    Envoy,
    /// throttlecrab's own: the first attribute is the key, of one limit that is never reached.
    Throttlecrab,
}

impl Protocol {
    /// Path of the method.
    pub(crate) fn path(self, mode: Mode) -> &'static str {
        match (self, mode) {
            (Self::Tidegate, Mode::Unary) => "/tidegate.ratelimit.v1.RateLimitService/Check",
            (Self::Tidegate, Mode::Batch) => "/tidegate.ratelimit.v1.RateLimitService/CheckBatch",
            (Self::Tidegate, Mode::Stream) => "/tidegate.ratelimit.v1.RateLimitService/CheckStream",
            (Self::Envoy, _) => "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit",
            (Self::Throttlecrab, _) => "/throttlecrab.RateLimiter/Throttle",
        }
    }

    /// The message of one check.
    pub(crate) fn encode(self, check: &CheckRequest) -> Vec<u8> {
        match self {
            Self::Tidegate => check.encode_to_vec(),
            Self::Envoy => EnvoyRequest::from(check).encode_to_vec(),
            Self::Throttlecrab => ThrottleRequest::from(check).encode_to_vec(),
        }
    }
}

/// `envoy.service.ratelimit.v3.RateLimitRequest`, as far as it is used.
#[derive(Clone, PartialEq, Message)]
struct EnvoyRequest {
    #[prost(string, tag = "1")]
    domain: String,
    #[prost(message, repeated, tag = "2")]
    descriptors: Vec<EnvoyDescriptor>,
}

#[derive(Clone, PartialEq, Message)]
struct EnvoyDescriptor {
    #[prost(message, repeated, tag = "1")]
    entries: Vec<EnvoyEntry>,
}

#[derive(Clone, PartialEq, Message)]
struct EnvoyEntry {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

impl From<&CheckRequest> for EnvoyRequest {
    fn from(check: &CheckRequest) -> Self {
        let domain = if check.namespace.is_empty() { "default" } else { &check.namespace };
        let entries = check.attributes.iter();
        let entries =
            entries.map(|entry| EnvoyEntry { key: entry.key.clone(), value: entry.value.clone() }).collect();
        Self { domain: domain.to_owned(), descriptors: vec![EnvoyDescriptor { entries }] }
    }
}

/// `throttlecrab.ThrottleRequest`
#[derive(Clone, PartialEq, Message)]
struct ThrottleRequest {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(int32, tag = "2")]
    max_burst: i32,
    #[prost(int32, tag = "3")]
    count_per_period: i32,
    /// Seconds.
    #[prost(int32, tag = "4")]
    period: i32,
    #[prost(int32, tag = "5")]
    quantity: i32,
}

impl From<&CheckRequest> for ThrottleRequest {
    fn from(check: &CheckRequest) -> Self {
        let key = check.attributes.first().map(|entry| entry.value.clone()).unwrap_or_default();
        Self { key, max_burst: 1_000_000_000, count_per_period: 1_000_000_000, period: 60, quantity: 1 }
    }
}

#[cfg(test)]
mod tests {
    use tidegate_proto::ratelimit::v1::check_request::AttributesEntry;

    use super::*;

    fn check() -> CheckRequest {
        let attributes = vec![AttributesEntry { key: "organization".to_owned(), value: "acme".to_owned() }];
        CheckRequest { attributes, ..CheckRequest::default() }
    }

    #[test]
    fn envoy_request_is_what_envoy_writes() {
        // domain "default"; one descriptor of one entry: organization, acme.
        let wire = b"\x0a\x07default\x12\x16\x0a\x14\x0a\x0corganization\x12\x04acme";
        assert_eq!(Protocol::Envoy.encode(&check()), wire);
    }

    #[test]
    fn throttlecrab_request_carries_key_and_limit() {
        let wire = b"\x0a\x04acme\x10\x80\x94\xeb\xdc\x03\x18\x80\x94\xeb\xdc\x03\x20\x3c\x28\x01";
        assert_eq!(Protocol::Throttlecrab.encode(&check()), wire);
    }
}
