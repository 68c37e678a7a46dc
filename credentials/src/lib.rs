//! What an API key looks like, and what one is good for. Pure: no network, no store, no clock, so that the keys service, the
//! rate-limit service and clients say the same of the same key.

mod base62;
mod environment;
mod scopes;
mod standing;
mod value;

pub use self::{
    environment::Environment,
    scopes::{
        MAX_EXPRESSION_BYTES, MAX_EXPRESSION_NAMES, MAX_SCOPE_BYTES, ScopeExpression, ScopeExpressionError,
        has_scope, is_scope,
    },
    standing::{Record, Standing, Use, standing},
    value::{
        DEFAULT_PREFIX, KeyHash, KeyShape, KeyValue, MAX_VALUE_BYTES, Prefix, PrefixError, SCANNER_REGEX,
        key_hash, key_shape, scanner_regex,
    },
};
