//! Tenants and who belongs to them.

use tidegate_chassis::auth::Role;

use super::{Email, InvitationId, OrganizationId, UserId};

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Organization {
    /// Its id.
    pub id: OrganizationId,
    /// 1 to 128 characters.
    pub name: String,
    /// Name of its plan in the rate-limit service.
    pub plan: String,
    /// Whether it may do anything.
    pub status: OrganizationStatus,
    /// Tokens a calendar month of all its keys together; 0 for no such quota.
    pub monthly_quota: u64,
    /// Counts the changes of it or its keys that take effect at once.
    pub generation: u64,
    /// When it was made.
    pub created_us: u64,
    /// When it was last changed.
    pub changed_us: u64,
    /// See [`crate::domain`].
    pub version: u64,
}

/// Whether an organization may do anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrganizationStatus {
    /// It may.
    Active,
    /// Its keys are denied, and its members cannot log in.
    Suspended,
}

/// That an account belongs to an organization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The organization.
    pub organization_id: OrganizationId,
    /// The account.
    pub user_id: UserId,
    /// [`Role::TenantAdmin`] or [`Role::User`].
    pub role: Role,
    /// When it joined.
    pub joined_us: u64,
    /// See [`crate::domain`].
    pub version: u64,
}

/// That somebody may join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invitation {
    /// Its id.
    pub id: InvitationId,
    /// The organization.
    pub organization_id: OrganizationId,
    /// Who is invited.
    pub email: Email,
    /// [`Role::TenantAdmin`] or [`Role::User`].
    pub role: Role,
    /// SHA-256 of the token.
    pub token_hash: [u8; 32],
    /// When it was made.
    pub created_us: u64,
    /// Until when it can be accepted.
    pub expires_us: u64,
    /// When it was accepted or taken back; then it is over.
    pub ended_us: Option<u64>,
    /// See [`crate::domain`].
    pub version: u64,
}
