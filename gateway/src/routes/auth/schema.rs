//! What the OpenAPI document says of the bodies. They are read by hand, so that every fault of them is found at once.
#![expect(dead_code, reason = "only their schemas are used")]

use utoipa::ToSchema;

/// A new account and its organization.
#[derive(ToSchema)]
#[schema(as = SignUp)]
#[serde(deny_unknown_fields)]
pub(super) struct SignUpBody {
    /// E-mail address, at most 254 characters.
    #[schema(example = "ada@example.com")]
    email: String,
    /// 12 to 128 characters; not one of the most common ones, nor the address.
    #[schema(format = Password)]
    password: String,
    /// 1 to 128 characters.
    #[schema(example = "Acme")]
    organization_name: String,
}

/// Who wants to log in.
#[derive(ToSchema)]
#[schema(as = LogIn)]
#[serde(deny_unknown_fields)]
pub(super) struct LogInBody {
    /// E-mail address of the account.
    #[schema(example = "ada@example.com")]
    email: String,
    /// Its password.
    #[schema(format = Password)]
    password: String,
    /// For which of the account's organizations; absent means the one that it joined first.
    #[schema(nullable = false)]
    organization_id: Option<String>,
}

/// A token of an external issuer.
#[derive(ToSchema)]
#[schema(as = IdToken)]
#[serde(deny_unknown_fields)]
pub(super) struct IdTokenBody {
    /// The ID token, a JWT.
    id_token: String,
    /// For which of the account's organizations; absent means the one that it joined first.
    #[schema(nullable = false)]
    organization_id: Option<String>,
}

/// A refresh token.
#[derive(ToSchema)]
#[schema(as = RefreshToken)]
#[serde(deny_unknown_fields)]
pub(super) struct RefreshBody {
    /// As it was given.
    refresh_token: String,
}

/// The present password, and the next.
#[derive(ToSchema)]
#[schema(as = ChangePassword)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangePasswordBody {
    /// The present one.
    #[schema(format = Password)]
    current_password: String,
    /// 12 to 128 characters; not one of the most common ones, nor the address.
    #[schema(format = Password)]
    new_password: String,
}

/// A one-time token, and the password.
#[derive(ToSchema)]
#[schema(as = ResetPassword)]
#[serde(deny_unknown_fields)]
pub(super) struct ResetPasswordBody {
    /// From `POST /v1/organizations/{id}/members/{user_id}/password-reset`.
    token: String,
    /// 12 to 128 characters; not one of the most common ones, nor the address.
    #[schema(format = Password)]
    new_password: String,
}

/// A one-time token of an invitation.
#[derive(ToSchema)]
#[schema(as = AcceptInvitation)]
#[serde(deny_unknown_fields)]
pub(super) struct AcceptInvitationBody {
    /// From `POST /v1/organizations/{id}/invitations`.
    token: String,
    /// A new one if there is no account with the invited address, else the password of the account.
    #[schema(format = Password, nullable = false)]
    password: Option<String>,
    /// In the place of a password: an ID token of an external issuer, of the identity of the account, or with the invited address.
    #[schema(nullable = false)]
    id_token: Option<String>,
}
