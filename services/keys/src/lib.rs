//! The keys service: organizations, who belongs to them, and API keys.
//!
//! `grpc` translates, the use cases decide what becomes of rows, `domain` is what the rows mean, `store` keeps them. Arrows run
//! `main → service → grpc → use cases → domain ← store`.

pub mod api_keys;
pub mod changes;
mod config;
pub mod credits;
pub mod domain;
pub mod error;
pub mod feed;
pub mod fence;
pub mod grpc;
pub mod hashes;
pub mod idempotency;
pub mod identity;
mod jobs;
pub mod organizations;
pub mod origin;
pub mod peppers;
pub mod resolve;
pub mod sealing;
mod service;
pub mod store;
pub mod usage;

pub use self::{
    config::{CONFIG_DEFAULTS, Config, ENV_ALIASES, FOREIGN_ENV, KeysConfig, RateLimitConfig, SecretsConfig},
    grpc::ACCESS,
    service::Service,
};

#[cfg(test)]
mod tests;
