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
    /// What it is that did it.
    pub actor_type: ActorType,
    /// To what: its type.
    pub resource_type: ResourceType,
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

macro_rules! words {
    ($(#[$about:meta])* $type:ident: $($(#[$doc:meta])* $name:ident = $word:literal),+ $(,)?) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $type {
            $($(#[$doc])* $name),+
        }

        impl $type {
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

words!(
    /// What came of it.
    Outcome:
    /// It was done.
    Success = "success",
    /// It failed, as a login with a wrong password.
    Failure = "failure",
    /// It was refused.
    Denied = "denied",
);

words!(
    /// What it is that does something.
    ActorType:
    /// An account.
    User = "user",
    /// A backend, or another service of Tidegate.
    Service = "service",
    /// This service by itself, as what is done at its time.
    System = "system",
    /// Nobody who is known.
    Anonymous = "anonymous",
);

words!(
    /// To what something is done.
    ResourceType:
    /// An organization.
    Organization = "organization",
    /// An account.
    User = "user",
    /// What came of one login: the id is that of the family of refresh tokens.
    Session = "session",
    /// A membership: the id is that of the account.
    Membership = "membership",
    /// An invitation.
    Invitation = "invitation",
    /// An API key.
    ApiKey = "api_key",
    /// An account of credits: the id is that of the lineage.
    Credits = "credits",
    /// A service token.
    ServiceToken = "service_token",
    /// A key that signs tokens.
    SigningKey = "signing_key",
);

words!(
    /// What can be done.
    Action:
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
