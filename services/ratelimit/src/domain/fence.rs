//! What tells a replica that it remembers too old a state of an organization.

use uuid::Uuid;

/// Which state of an organization a check was prepared by. The store knows the newest one of those that took effect at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence {
    /// The organization.
    pub organization: Uuid,
    /// Counts its changes; below 2^53, since scripts of Redis know no more.
    pub generation: u64,
}

impl Fence {
    /// The most that a generation can be.
    pub const MAX_GENERATION: u64 = (1 << 53) - 1;
}
