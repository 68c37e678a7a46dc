//! Words that are stored for values of enums.

use tidegate_chassis::auth::Role;

use crate::domain::{
    Action, ActorType, EndReason, Environment, LedgerKind, OrganizationStatus, Outcome, ResourceType,
    RevokeReason,
};

/// Something for which a word is stored.
pub(super) trait Word: Copy + 'static {
    /// Every one that is stored.
    const ALL: &'static [Self];

    /// The word for it.
    fn word(self) -> &'static str;

    /// What a word stands for.
    fn read(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|known| known.word() == word)
    }
}

macro_rules! words {
    ($($type:ident { $($name:ident = $word:literal),+ $(,)? })+) => {
        $(impl Word for $type {
            const ALL: &'static [Self] = &[$(Self::$name),+];

            fn word(self) -> &'static str {
                match self {
                    $(Self::$name => $word),+
                }
            }
        })+
    };
    ($($type:ident),+ $(,)?) => {
        $(impl Word for $type {
            const ALL: &'static [Self] = Self::ALL;

            fn word(self) -> &'static str {
                self.as_str()
            }
        })+
    };
}

words!(
    OrganizationStatus { Active = "active", Suspended = "suspended" }
    Environment { Live = "live", Test = "test" }
    RevokeReason { Revoked = "revoked", Rotated = "rotated", Leaked = "leaked" }
    EndReason {
        LoggedOut = "logged_out",
        Reused = "reused",
        PasswordChanged = "password_changed",
        MembershipChanged = "membership_changed",
    }
    LedgerKind { Grant = "grant", Refill = "refill", Reservation = "reservation" }
);

words!(Action, Outcome, ActorType, ResourceType);

/// Roles of members only: a membership in the database never makes anybody an `admin` of everything.
impl Word for Role {
    const ALL: &'static [Self] = &[Self::TenantAdmin, Self::User];

    fn word(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::TenantAdmin => "tenant_admin",
            Self::User => "user",
            Self::Service => "service",
        }
    }
}
