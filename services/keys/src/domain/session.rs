//! What a login leaves behind.

use super::{FamilyId, OrganizationId, UserId};

/// All refresh tokens that came of one login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefreshFamily {
    /// Its id.
    pub id: FamilyId,
    /// Who logged in.
    pub user_id: UserId,
    /// For which organization; none for an `admin` without one.
    pub organization_id: Option<OrganizationId>,
    /// When.
    pub created_us: u64,
    /// When it ended, and why; its tokens are good for nothing then.
    pub ended: Option<(u64, EndReason)>,
    /// See [`crate::domain`].
    pub version: u64,
}

/// Why a family ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// Its owner logged out.
    LoggedOut,
    /// One of its tokens was used a second time.
    Reused,
    /// The password was changed or reset.
    PasswordChanged,
    /// Its owner is no member of the organization any more, or has another role.
    MembershipChanged,
}

/// A refresh token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefreshToken {
    /// SHA-256 of the token.
    pub token_hash: [u8; 32],
    /// Its family.
    pub family_id: FamilyId,
    /// When it was given.
    pub issued_us: u64,
    /// Until when it can be used.
    pub expires_us: u64,
    /// When it was used.
    pub used_us: Option<u64>,
    /// See [`crate::domain`].
    pub version: u64,
}

/// That a password may be set without the present one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PasswordReset {
    /// SHA-256 of the token.
    pub token_hash: [u8; 32],
    /// Whose password.
    pub user_id: UserId,
    /// When it was made.
    pub created_us: u64,
    /// Until when it can be used.
    pub expires_us: u64,
    /// When it was used.
    pub used_us: Option<u64>,
    /// See [`crate::domain`].
    pub version: u64,
}
