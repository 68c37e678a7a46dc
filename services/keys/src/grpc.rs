//! The only translator between the messages of the contract and what they mean.

mod error;
pub mod idempotency;
mod origin;
