//! What a rate limit is, without a clock, a network or a store.
//!
//! Every algorithm is two pure functions over a few 64-bit words of state: *look* (what would a
//! charge meet now?) and *charge*. Times are Unix microseconds and come in as arguments, so every
//! store gives the same answer. All arithmetic is on integers; the script that Redis runs
//! does the same in doubles, where every value stays below 2^53 and is therefore exact.

mod calendar;
mod concurrency;
mod decision;
mod derivation;
mod descriptor;
mod expression;
mod fence;
mod fixed_window;
mod layout;
mod limit;
mod matcher;
mod names;
mod namespace;
mod overrides;
mod plan;
mod policy;
mod policy_set;
mod sliding_log;
mod sliding_window;
mod tariff;
mod token_bucket;

pub use calendar::{Calendar, Window, date};
pub use concurrency::{Concurrency, Lease, LeaseId, lease_parts};
pub use decision::{CellCheck, Cells, Check, Decision, HeldLease, Idempotency, LimitOutcome, Replay, decide};
pub use derivation::{ClientAddress, Derivation, Derived, RouteError, Routes, Source};
pub use descriptor::{Level, LevelValue, Wildcard};
pub use expression::Expression;
pub use fence::Fence;
pub use fixed_window::FixedWindow;
pub use layout::Layout;
pub use limit::{Algorithm, Limit, LimitError, LimitSpec, MAX_TOKENS, Period, Rule};
pub use matcher::{Attributes, Condition, Pattern};
pub use names::Names;
pub use namespace::{Match, Namespace, NamespaceSettings};
pub use overrides::{Numbers, Override, OverrideChange, OverrideFault, OverrideTarget};
pub use plan::{Bundle, BundleLimit, Plan};
pub use policy::{Enforcement, FailureMode, OnDataLoss, Policy};
pub use policy_set::PolicySet;
pub use sliding_log::SlidingLog;
pub use sliding_window::SlidingWindow;
pub use tariff::{Assignments, PlanChoice, PlanNames, Tariff, UnknownPlan};
pub use token_bucket::TokenBucket;

/// What a charge of some cost would meet now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Tokens that could be charged now, before this charge.
    pub remaining: u64,
    /// Microseconds until the charge would fit; 0 exactly if it fits now.
    pub retry_after_us: u64,
    /// Microseconds until the limit is wholly unused again if nothing more is charged.
    pub reset_after_us: u64,
}

/// A charge, as it may have to be taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charged {
    /// Tokens that were charged.
    pub cost: u64,
    /// When, in Unix microseconds by the clock that decided.
    pub at_us: u64,
    /// The lease that was taken, if any.
    pub lease: Option<LeaseId>,
    /// How many microseconds have passed since, at least, by a clock that does not step back.
    pub ago_us: u64,
}

#[cfg(test)]
mod tests;
