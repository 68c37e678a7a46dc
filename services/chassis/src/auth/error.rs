//! Why a call is refused.

use std::time::Duration;

use tonic::{Code, Status};

use super::Role;
use crate::error;

/// For the keys service to come back.
const RETRY_AFTER: Duration = Duration::from_secs(1);

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
            Self::RoleMissing { .. } => 3,
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
            Self::RoleMissing { role, needed } => {
                let needed: Vec<_> = needed.iter().map(|role| role.name()).collect();
                let message =
                    format!("needs the role {}; the caller's is {}", needed.join(" or "), role.name());
                (Code::PermissionDenied, message, None)
            }
        };
        error::status(code, self.reason(), message, retry_after)
    }
}
