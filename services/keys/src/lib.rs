//! The keys service: organizations, who belongs to them, and API keys.
//!
//! `grpc` translates, the use cases decide what becomes of rows, `domain` is what the rows mean, `store` keeps them. Arrows run
//! `main → service → grpc → use cases → domain ← store`.

pub mod domain;
pub mod error;
pub mod grpc;
pub mod idempotency;
pub mod identity;
pub mod origin;
pub mod sealing;
pub mod store;
