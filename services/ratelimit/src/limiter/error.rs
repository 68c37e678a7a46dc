//! Why a request could not be decided.

use std::sync::Arc;

use crate::{domain::UnknownPlan, store::StoreError};

/// Why a request could not be decided.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// No policy is declared in the namespace.
    #[error("no policy is declared in namespace {0:?}")]
    NamespaceNotFound(String),
    /// An attribute names a plan that does not exist.
    #[error(transparent)]
    UnknownPlan(#[from] UnknownPlan),
    /// The cost exceeds what a limit can ever admit at once.
    #[error("cost {cost} exceeds the capacity of {limit}, {capacity} tokens: it can never be admitted")]
    CostAboveCapacity {
        /// Tokens asked for.
        cost: u64,
        /// Full name of the limit.
        limit: Arc<str>,
        /// The most it admits at once.
        capacity: u64,
    },
    /// A policy that applies counts others than the organization of the caller as well.
    #[error("policy {0:?} applies, which counts others than the caller's organization as well")]
    NotOwn(Arc<str>),
    /// The idempotency key was used for another check.
    #[error("the idempotency key was used before, with other attributes or another cost")]
    IdempotencyKeyReused,
    /// Reset names a limit that does not apply.
    #[error("no limit named {0:?} applies to these attributes")]
    LimitNotFound(String),
    /// A lease is asked for where nothing counts leases.
    #[error("no concurrency limit applies to these attributes")]
    NoConcurrencyLimit,
    /// The id of a lease could not tell all that it is taken of.
    #[error(
        "the values that the concurrency limits are counted by are too long together for a lease: {0} bytes"
    )]
    LeaseTooLong(usize),
    /// The lease has ended.
    #[error("the lease has expired, was released or was cleared")]
    LeaseNotFound,
    /// The organization of the API key has changed.
    #[error("the organization of the API key has changed since the check was prepared")]
    Stale,
    /// The store could not be asked, and the call has no failure mode.
    #[error(transparent)]
    Store(#[from] StoreError),
}
