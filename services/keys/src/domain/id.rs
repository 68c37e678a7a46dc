//! Ids: UUIDv7, each of its own type, so that none is taken for another.

use std::{fmt, str::FromStr};

use uuid::Uuid;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
            pub struct $name(pub Uuid);

            impl fmt::Display for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    self.0.hyphenated().fmt(f)
                }
            }

            impl FromStr for $name {
                type Err = uuid::Error;

                fn from_str(text: &str) -> Result<Self, uuid::Error> {
                    text.parse().map(Self)
                }
            }
        )+
    };
}

ids!(
    /// Of an organization.
    OrganizationId,
    /// Of an account.
    UserId,
    /// Of an API key.
    KeyId,
    /// Of what a key has in common with those it was rotated from and to: the id of the first.
    LineageId,
    /// Of an invitation.
    InvitationId,
    /// Of all refresh tokens that came of one login.
    FamilyId,
    /// Of a service token: the `jti` of the JWT.
    ServiceTokenId,
);
