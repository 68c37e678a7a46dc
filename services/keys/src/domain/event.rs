//! What is told to the audit service.

use serde_json::{Map, Value};
use uuid::Uuid;

use super::OrganizationId;

/// Something that somebody did. It is written in the transaction of what was done, and drained to the audit service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// UUIDv7: the audit service stores one of each.
    pub id: Uuid,
    /// Where it happened.
    pub organization_id: Option<OrganizationId>,
    /// What was done.
    pub action: Action,
    /// What came of it.
    pub outcome: Outcome,
    /// Who did it: id of an account, name of a service; empty if nobody is known.
    pub actor: String,
    /// `user`, `service`, `system` or `anonymous`.
    pub actor_type: &'static str,
    /// To what: its type, as `api_key`.
    pub resource_type: &'static str,
    /// To what: its id.
    pub resource_id: String,
    /// From where, if it is known.
    pub ip_address: Option<String>,
    /// By what.
    pub user_agent: Option<String>,
    /// In which request.
    pub request_id: Option<String>,
    /// More, without secrets and personal data.
    pub details: Map<String, Value>,
    /// When.
    pub at_us: u64,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Success,
    /// It failed, as a login with a wrong password.
    Failure,
    /// It was refused.
    Denied,
}

macro_rules! actions {
    ($($(#[$doc:meta])* $name:ident = $word:literal),+ $(,)?) => {
        /// What can be done.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Action {
            $($(#[$doc])* $name),+
        }

        impl Action {
            /// Every one.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The word for it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $word),+
                }
            }
        }
    };
}

actions!(
    /// An account and its organization were made.
    SignUp = "signup",
    /// Somebody logged in, or failed to.
    LogIn = "login",
    /// Somebody logged out.
    LogOut = "logout",
    /// A refresh token was used a second time.
    RefreshReuse = "refresh_reuse",
    /// A password was changed.
    PasswordChange = "password_change",
    /// A token to set a password was made.
    PasswordResetCreate = "password_reset_create",
    /// A password was set by such a token.
    PasswordReset = "password_reset",
    /// An organization was made.
    OrganizationCreate = "organization_create",
    /// An organization was changed.
    OrganizationUpdate = "organization_update",
    /// Somebody joined.
    MemberAdd = "member_add",
    /// A member has another role.
    MemberUpdate = "member_update",
    /// A membership ended.
    MemberRemove = "member_remove",
    /// Somebody was invited.
    InvitationCreate = "invitation_create",
    /// An invitation was taken back.
    InvitationDelete = "invitation_delete",
    /// A key was made.
    ApiKeyCreate = "api_key_create",
    /// Keys were imported.
    ApiKeyImport = "api_key_import",
    /// A key was changed, switched on or off.
    ApiKeyUpdate = "api_key_update",
    /// A key was rotated.
    ApiKeyRotate = "api_key_rotate",
    /// A key was revoked.
    ApiKeyRevoke = "api_key_revoke",
    /// A key was found where it should not be, and revoked.
    ApiKeyLeak = "api_key_leak",
    /// A key expires soon.
    ApiKeyExpiring = "api_key_expiring",
    /// Credits were granted, or their refill changed.
    CreditsGrant = "credits_grant",
    /// A service token was made.
    ServiceTokenCreate = "service_token_create",
    /// A service token was revoked.
    ServiceTokenRevoke = "service_token_revoke",
    /// There is a new key that signs tokens.
    SigningKeyRotate = "signing_key_rotate",
);
