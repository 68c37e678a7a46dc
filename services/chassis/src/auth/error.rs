//! Why a call is refused.

use std::{collections::HashMap, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::Role;
use crate::error::ERROR_DOMAIN;

/// For the keys service to come back.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// In the metadata of the `ErrorInfo` with ROLE_MISSING: the roles that would do, separated by commas. It is absent where the
/// role does, but the organization is another.
pub const NEEDED_ROLES: &str = "needed_roles";

/// In the metadata of the `ErrorInfo` with CREDENTIALS_MISSING or CREDENTIALS_INVALID, if the credentials of the call itself are
/// meant: [`OF_CALL`]. It is absent where a handler refuses what stands in the request, as a password.
const REFUSED: &str = "refused";
/// See [`REFUSED`].
const OF_CALL: &str = "call";

/// Whether a service refused the credentials that came along with a call, before its handler saw it. What a handler says of others,
/// and what something in between says, is no word on them.
#[must_use]
pub fn refuses_credentials(status: &Status) -> bool {
    status.code() == Code::Unauthenticated
        && status.get_details_error_info().is_some_and(|info| {
            info.domain == ERROR_DOMAIN && info.metadata.get(REFUSED).is_some_and(|of| of == OF_CALL)
        })
}

/// Why a call is refused before its handler sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// The method needs a caller, and the call names none.
    #[error("no credentials")]
    Missing,
    /// The credentials are not good. Why is for the log: the caller is told no more than that.
    #[error("the credentials are not good: {0}")]
    Invalid(&'static str),
    /// The token names a key that is not known here, and the keys service cannot be asked.
    #[error("the key that signed the token is not known, and the keys service cannot be asked")]
    KeysUnavailable,
    /// The caller is of one organization, and what it asks for is not its own.
    #[error("the caller is of one organization, and this is not, or not only, its own")]
    OtherOrganization,
    /// What is asked for is for Tidegate's own services and administrators of everything; what it is.
    #[error("{0} is for Tidegate's own services and administrators of everything")]
    OwnServicesOnly(&'static str),
    /// The caller has none of the roles that the method needs.
    #[error("the caller has not the role")]
    RoleMissing {
        /// The caller's.
        role: Role,
        /// Those that would do.
        needed: &'static [Role],
    },
}

impl AuthError {
    /// The names of [`Self::reason`], for metrics.
    pub(crate) const REASONS: [&'static str; 4] =
        ["CREDENTIALS_MISSING", "CREDENTIALS_INVALID", "KEYS_UNAVAILABLE", "ROLE_MISSING"];

    /// Place of its reason in [`Self::REASONS`].
    pub(crate) fn index(self) -> usize {
        match self {
            Self::Missing => 0,
            Self::Invalid(_) => 1,
            Self::KeysUnavailable => 2,
            Self::RoleMissing { .. } | Self::OtherOrganization | Self::OwnServicesOnly(_) => 3,
        }
    }

    /// As the proto files list it.
    #[must_use]
    pub fn reason(self) -> &'static str {
        Self::REASONS[self.index()]
    }

    /// As callers are told.
    #[must_use]
    pub fn to_status(self) -> Status {
        let mut metadata = HashMap::new();
        let (code, message, retry_after) = match self {
            Self::Missing => (
                Code::Unauthenticated,
                "credentials are needed: authorization: Bearer <token>, or a certificate that the settings name"
                    .to_owned(),
                None,
            ),
            Self::Invalid(_) => {
                (Code::Unauthenticated, "the credentials are not good, or have expired".to_owned(), None)
            }
            Self::KeysUnavailable => (Code::Unavailable, self.to_string(), Some(RETRY_AFTER)),
            Self::OtherOrganization | Self::OwnServicesOnly(_) => {
                (Code::PermissionDenied, self.to_string(), None)
            }
            Self::RoleMissing { role, needed } => {
                let names: Vec<_> = needed.iter().map(|role| role.name()).collect();
                let message = format!("needs the role {}; the caller's is {}", names.join(" or "), role.name());
                metadata.insert(NEEDED_ROLES.to_owned(), names.join(","));
                (Code::PermissionDenied, message, None)
            }
        };
        match self {
            Self::Missing | Self::Invalid(_) => {
                metadata.insert(REFUSED.to_owned(), OF_CALL.to_owned());
            }
            Self::KeysUnavailable
            | Self::OtherOrganization
            | Self::OwnServicesOnly(_)
            | Self::RoleMissing { .. } => {}
        }
        let mut details = ErrorDetails::with_error_info(self.reason(), ERROR_DOMAIN, metadata);
        if retry_after.is_some() {
            details.set_retry_info(retry_after);
        }
        Status::with_error_details(code, message, details)
    }
}
