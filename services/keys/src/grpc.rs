//! The only translator between the messages of the contract and what they mean.

mod access;
mod api_keys;
mod asking;
mod attempts;
mod auth;
mod credits;
mod error;
mod fields;
pub mod idempotency;
mod identity;
mod members;
mod organizations;
mod origin;
mod pages;
mod render;
mod replicas;
mod service;
mod service_tokens;
mod services;
#[cfg(test)]
mod tests;
mod verify;

use std::sync::Arc;

use tidegate_chassis::clock::Clock;

use self::idempotency::Idempotency;
pub(crate) use self::services::{NAMES, Services};
pub use self::{
    access::ACCESS, attempts::RateLimitAttempts, auth::AuthApi, origin::TrustedProxies, service::KeysApi,
};
use crate::{
    api_keys::ApiKeys,
    credits::Credits,
    feed::Feed,
    identity::{Attempts, Members, ServiceTokens},
    organizations::Organizations,
    resolve::Resolver,
    sealing::Sealing,
    usage::KeyUsage,
};

/// All that handlers work with.
pub struct Handlers {
    /// Of organizations.
    pub organizations: Organizations,
    /// Of API keys.
    pub keys: ApiKeys,
    /// Of credits.
    pub credits: Credits,
    /// Of the use of keys.
    pub usage: KeyUsage,
    /// Finds keys.
    pub resolver: Resolver,
    /// Tells what changes.
    pub feed: Feed,
    /// Of members, invitations and password resets.
    pub members: Members,
    /// Of service tokens.
    pub service_tokens: ServiceTokens,
    /// Counts what anybody may do.
    pub attempts: Arc<Attempts>,
    /// Answers requests that come again.
    pub idempotency: Idempotency,
    /// Signs page tokens.
    pub sealing: Arc<Sealing>,
    /// Whose word is taken for where a request came from.
    pub proxies: TrustedProxies,
    /// Tells what keys are good for now.
    pub clock: Clock,
}
