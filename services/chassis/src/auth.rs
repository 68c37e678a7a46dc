//! Who is calling, and what the caller may do.
//!
//! A server believes, in this order: the bearer token of a call, the certificate of its connection, and what
//! [`Anonymous`] says of calls that show neither. A token that is not good is refused even where one without would be
//! believed. What a caller may call is in the service's table of [`Access`]; which organization's things it may touch is
//! for the handlers to say, by [`Caller::may_touch`].

mod authenticator;
mod cache;
mod certificates;
mod claims;
mod config;
mod error;
mod internal;
mod keys;
mod origin;
mod remote;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use self::{
    authenticator::Authenticator,
    claims::{Claims, TokenUse},
    config::{Anonymous, AuthConfig, CertificateIdentity},
    error::{AuthError, NEEDED_ROLES, refuses_credentials},
    internal::{BearerToken, InternalTokens},
    keys::{SigningKeySource, VerifyingKey},
    origin::{Origin, caller, peer},
};
pub(crate) use self::{authenticator::Verified, cache::TokenCache, certificates::names};

/// Namespace of the policies by which the keys service limits attempts to log in.
pub const IDENTITY_NAMESPACE: &str = "identity";
/// Namespace of the policies by which the gateway limits callers without credentials that are good.
pub const GATEWAY_NAMESPACE: &str = "gateway";
/// Those of the limits that Tidegate's own services count by. Whoever could charge them could lock any account or address out;
/// whoever could clear them could guess passwords without end.
pub const RESERVED_NAMESPACES: [&str; 2] = [IDENTITY_NAMESPACE, GATEWAY_NAMESPACE];

/// What a caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything, in every organization.
    Admin,
    /// Everything within one organization.
    TenantAdmin,
    /// Looks at one organization.
    User,
    /// A backend: checks, and writes audit events.
    Service,
}

impl Role {
    /// Every role there is.
    pub const ALL: [Self; 4] = [Self::Admin, Self::TenantAdmin, Self::User, Self::Service];

    /// As tokens and settings write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::TenantAdmin => "tenant_admin",
            Self::User => "user",
            Self::Service => "service",
        }
    }

    /// Whether the role can be had so: within one organization, or in all of them.
    ///
    /// # Errors
    ///
    /// A role within an organization without one would be a role in all of them; and an `admin` of one would be taken for what it is
    /// not wherever only the role is looked at.
    pub const fn fits(self, is_within_one: bool) -> Result<(), &'static str> {
        match (self, is_within_one) {
            (Self::TenantAdmin | Self::User, false) => {
                Err("a role that is had within an organization, and none is named")
            }
            (Self::Admin, true) => Err("admin is a role in all organizations, and one is named"),
            (Self::TenantAdmin | Self::User, true) | (Self::Admin, false) | (Self::Service, _) => Ok(()),
        }
    }
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// What it may do.
    pub role: Role,
    /// The account of an operator, the id of a service token, the name of a service or in a certificate; empty for callers
    /// that said nothing.
    pub subject: String,
    /// The only organization that it may touch; none for all of them.
    pub organization: Option<Uuid>,
    /// Address of an operator.
    pub email: Option<String>,
    /// Why it is believed.
    pub how: How,
}

/// Why a caller is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    /// It showed nothing, and the settings believe such callers.
    Anonymous,
    /// By the certificate of its connection.
    Certificate,
    /// By a token.
    Token {
        /// The `jti`; empty if it has none.
        id: String,
        /// What the token is for.
        token_use: TokenUse,
        /// When it expires, Unix seconds.
        expires_at_s: u64,
    },
}

impl Caller {
    /// Whether it may touch what belongs to `organization`.
    #[must_use]
    pub fn may_touch(&self, organization: Uuid) -> bool {
        self.organization.is_none_or(|own| own == organization)
    }

    /// Whether it is one of Tidegate's own services, or as trusted: an administrator of everything, or one whom the settings name
    /// a service. A backend with a token of its own is not.
    #[must_use]
    pub fn is_internal(&self) -> bool {
        self.organization.is_none()
            && match (self.role, &self.how) {
                (Role::Admin, _)
                | (
                    Role::Service,
                    How::Anonymous | How::Certificate | How::Token { token_use: TokenUse::Internal, .. },
                ) => true,
                (Role::Service, How::Token { token_use: TokenUse::Access | TokenUse::Service, .. })
                | (Role::TenantAdmin | Role::User, _) => false,
            }
    }
}

/// Who may call a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anybody. Credentials are looked at for the handler's sake only: such as are not good are as none.
    Public,
    /// Callers with one of these roles.
    Roles(&'static [Role]),
}

impl Access {
    /// Lets `caller` in, or not.
    ///
    /// # Errors
    ///
    /// There is no caller, or it has none of the roles.
    pub fn admit(self, caller: Option<&Caller>) -> Result<(), AuthError> {
        match (self, caller) {
            (Self::Public, _) => Ok(()),
            (Self::Roles(_), None) => Err(AuthError::Missing),
            (Self::Roles(roles), Some(caller)) if roles.contains(&caller.role) => Ok(()),
            (Self::Roles(needed), Some(caller)) => Err(AuthError::RoleMissing { role: caller.role, needed }),
        }
    }
}
