//! Credits: a ledger from which replicas are given what they hand out.

use uuid::Uuid;

use super::{LineageId, OrganizationId};

/// The account of a lineage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreditAccount {
    /// The lineage.
    pub lineage_id: LineageId,
    /// Its organization.
    pub organization_id: OrganizationId,
    /// What is left to be handed out.
    pub balance: u64,
    /// What each refill sets the balance to, at least; 0 for no refill.
    pub refill_amount: u64,
    /// Days between refills; 0 for no refill.
    pub refill_every_days: u32,
    /// When the next refill is due.
    pub next_refill_us: Option<u64>,
    /// See [`crate::domain`].
    pub version: u64,
}

/// One movement on an account. It is never changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerEntry {
    /// Told once: of a reservation the id that the replica gave it, else a new one.
    pub id: Uuid,
    /// The account.
    pub lineage_id: LineageId,
    /// Its organization.
    pub organization_id: OrganizationId,
    /// What it was.
    pub kind: LedgerKind,
    /// How many credits came or went.
    pub amount: u64,
    /// What was left then.
    pub balance_after: u64,
    /// When.
    pub at_us: u64,
}

/// What a movement was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LedgerKind {
    /// Credits came: somebody gave them.
    Grant,
    /// Credits came: a refill was due.
    Refill,
    /// Credits went: a replica hands them out.
    Reservation,
}
