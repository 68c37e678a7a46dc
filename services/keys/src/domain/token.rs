//! Tokens of backends, and the keys that sign tokens.

use super::{OrganizationId, ServiceTokenId, UserId};

/// A token for a backend: a JWT that is not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceToken {
    /// The `jti` of the JWT.
    pub id: ServiceTokenId,
    /// 1 to 128 characters.
    pub name: String,
    /// The organization that it is for; none for all of them.
    pub organization_id: Option<OrganizationId>,
    /// When it was made.
    pub created_us: u64,
    /// Who made it.
    pub created_by: Option<UserId>,
    /// Until when it is accepted.
    pub expires_us: u64,
    /// When it was revoked.
    pub revoked_us: Option<u64>,
    /// See [`crate::domain`].
    pub version: u64,
}

/// An Ed25519 key that signs tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningKey {
    /// The `kid` of tokens that it signs.
    pub kid: String,
    /// The public key.
    pub public_key: [u8; 32],
    /// The private key (PKCS #8), sealed under a secret that is not in the database.
    pub sealed_private_key: Vec<u8>,
    /// When it was made; the newest signs.
    pub created_us: u64,
    /// Until when tokens refer to it; none for the one that signs.
    pub retired_us: Option<u64>,
    /// See [`crate::domain`].
    pub version: u64,
}
