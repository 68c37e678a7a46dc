//! What answers about accounts, organizations and tokens have in common.

use serde::Serialize;
use tidegate_proto::keys::v1::{Organization, OrganizationStatus, Role, Tokens, User};
use utoipa::ToSchema;

use super::times::{moment, timestamp};

/// Roles, and the words for them.
pub(super) const ROLES: [(&str, Role); 4] = [
    ("admin", Role::Admin),
    ("tenant_admin", Role::TenantAdmin),
    ("user", Role::User),
    ("service", Role::Service),
];
/// Roles that somebody can have within an organization.
pub(super) const MEMBER_ROLES: [(&str, Role); 2] =
    [("tenant_admin", Role::TenantAdmin), ("user", Role::User)];
/// Whether an organization may do anything, and the words for it.
pub(super) const STATUSES: [(&str, OrganizationStatus); 2] =
    [("active", OrganizationStatus::Active), ("suspended", OrganizationStatus::Suspended)];

/// The word for a constant; `unspecified` if there is none.
pub(super) fn word<T: PartialEq>(words: &[(&'static str, T)], constant: &T) -> &'static str {
    words.iter().find(|(_, known)| known == constant).map_or("unspecified", |(word, _)| word)
}

/// Unix milliseconds in RFC 3339, of what always has a time.
pub(super) fn at(ms: u64) -> String {
    timestamp(ms.saturating_mul(1000))
}

/// An account.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = User)]
pub(super) struct UserAnswer {
    /// Its id.
    id: String,
    /// Its e-mail address, in lower case.
    #[schema(example = "ada@example.com")]
    email: String,
    /// When it was made: RFC 3339, UTC.
    #[schema(format = DateTime)]
    created_at: String,
}

/// An organization.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Organization)]
pub(super) struct OrganizationAnswer {
    /// Its id.
    id: String,
    /// Its name.
    #[schema(example = "Acme")]
    name: String,
    /// Its plan in the rate-limit service.
    #[schema(example = "free")]
    plan: String,
    /// `active`, or `suspended`: then its keys are denied, and nobody of it can log in.
    #[schema(example = "active")]
    status: &'static str,
    /// Tokens a calendar month (UTC) of all its keys together; null for no such quota.
    monthly_quota: Option<u64>,
    /// When it was made: RFC 3339, UTC.
    #[schema(format = DateTime)]
    created_at: String,
    /// When it was last changed: RFC 3339, UTC.
    updated_at: Option<String>,
    /// As in the header `ETag`, without its quotes.
    etag: String,
}

/// What a login gives.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Tokens)]
pub(super) struct TokensAnswer {
    /// A JWT: send it as `Authorization: Bearer …`.
    access_token: String,
    /// Good once, to refresh or to log out.
    refresh_token: String,
    /// `Bearer`
    #[schema(example = "Bearer")]
    token_type: &'static str,
    /// Seconds until the access token expires.
    #[schema(example = 1800)]
    expires_in: u64,
    /// Seconds until the refresh token expires.
    #[schema(example = 604_800)]
    refresh_expires_in: u64,
}

impl UserAnswer {
    pub(super) fn new(user: &User) -> Self {
        Self { id: user.id.clone(), email: user.email.clone(), created_at: at(user.created_at_ms) }
    }
}

impl OrganizationAnswer {
    pub(super) fn new(of: &Organization) -> Self {
        Self {
            id: of.id.clone(),
            name: of.name.clone(),
            plan: of.plan.clone(),
            status: word(&STATUSES, &of.status()),
            monthly_quota: (of.monthly_quota != 0).then_some(of.monthly_quota),
            created_at: at(of.created_at_ms),
            updated_at: moment(of.updated_at_ms),
            etag: of.etag.clone(),
        }
    }
}

impl TokensAnswer {
    /// A service that gives none answers out of contract; then they are empty.
    pub(super) fn new(tokens: Option<Tokens>) -> Self {
        let Tokens { access_token, refresh_token, expires_in_s, refresh_expires_in_s } =
            tokens.unwrap_or_default();
        Self {
            access_token,
            refresh_token,
            token_type: "Bearer",
            expires_in: expires_in_s,
            refresh_expires_in: refresh_expires_in_s,
        }
    }
}
