//! The rate-limit service: one decision per request of another backend.
//!
//! `grpc` translates, `limiter` decides which limits apply, `domain` is the arithmetic, `store` keeps the
//! counters, `policies` reads what is limited. Arrows run `main → grpc → limiter → domain ← store`.

mod catalog;
pub mod config;
pub mod domain;
mod grpc;
mod key;
mod keys;
pub mod limiter;
mod metrics;
pub mod policies;
mod service;
pub mod store;
mod usage;

/// Policies, plans and overrides as messages, and as the tables of policy files: for who speaks of a file with a running service.
pub mod messages {
    pub use crate::grpc::fields::{of_override, of_plan, of_policy, override_of, plan, policy};
}

pub use grpc::ACCESS;

pub use config::{CONFIG_DEFAULTS, Config, ENV_ALIASES, FOREIGN_ENV};
pub use service::Service;
