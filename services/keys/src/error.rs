//! Why the keys service did not do what it was asked. `grpc/error.rs` gives each its status and reason.

use std::time::Duration;

use tidegate_chassis::error::Violations;

use crate::store::StoreError;

/// Why a request was not done. Nothing was changed, unless a variant says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// Fields are wrong: all of them.
    #[error("one or more fields are wrong")]
    Invalid(Violations),
    /// A token, certificate or password is not good. It is not said why.
    #[error("the credentials are not good")]
    CredentialsInvalid,
    /// The caller may not do this.
    #[error("{0}")]
    RoleMissing(&'static str),
    /// There is none, or the caller may not know of it.
    #[error("there is no such organization")]
    OrganizationNotFound,
    /// The account is no member of the organization.
    #[error("the organization has no such member")]
    MemberNotFound,
    /// There is none in the organization.
    #[error("the organization has no such invitation")]
    InvitationNotFound,
    /// There is none in the organization.
    #[error("the organization has no such API key")]
    KeyNotFound,
    /// There is none, or the caller may not know of it.
    #[error("there is no such service token")]
    ServiceTokenNotFound,
    /// The id is that of a movement of another organization.
    #[error("the organization has no such reservation")]
    ReservationNotFound,
    /// There is an account with the address.
    #[error("there is an account with this address already")]
    EmailTaken,
    /// The account is a member already.
    #[error("is a member of the organization already")]
    MemberExists,
    /// A key that is imported is known already.
    #[error("a key that is imported is known already")]
    KeyExists,
    /// A revoked key cannot be changed.
    #[error("the key is revoked, which is for good")]
    KeyRevoked,
    /// The organization would be left without a `tenant_admin`.
    #[error("the organization would be left without a tenant_admin")]
    LastAdministrator,
    /// The key has no account of credits.
    #[error("the key has no account of credits")]
    CreditsNotEnabled,
    /// It was changed since it was read.
    #[error("it was changed since it was read; the etag is {0:?} now")]
    EtagMismatch(String),
    /// Others changed it at the same time, again and again.
    #[error("others changed it at the same time, again and again")]
    ConcurrentChanges,
    /// The idempotency key was used for another request.
    #[error("the idempotency key was used for another request")]
    IdempotencyKeyReused,
    /// Too many attempts of one account or from one address.
    #[error("too many attempts")]
    TooManyAttempts {
        /// When the next may be made.
        retry_after: Duration,
    },
    /// Too many passwords are to be hashed.
    #[error("too many passwords are to be hashed")]
    Overloaded,
    /// The store did not do its part. After `Unavailable` the change may have been made.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A defect. The text is for the log.
    #[error("{0}")]
    Internal(String),
}

impl KeysError {
    /// One wrong field.
    #[must_use]
    pub fn field(field: &str, description: &str) -> Self {
        let mut violations = Violations::default();
        violations.add(field, description);
        Self::Invalid(violations)
    }

    /// Whether a row was changed since it was read, so that the use case is to begin anew.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Store(StoreError::Conflict))
    }
}

/// How often a use case begins anew.
const ATTEMPTS: usize = 8;

/// Reads, decides and writes until nobody wrote in between.
///
/// # Errors
///
/// Those of `attempt`; [`KeysError::ConcurrentChanges`] after some conflicts.
pub async fn until_written<T, F>(mut attempt: impl FnMut() -> F) -> Result<T, KeysError>
where
    F: Future<Output = Result<T, KeysError>>,
{
    for _ in 0..ATTEMPTS {
        match attempt().await {
            Err(error) if error.is_conflict() => {}
            other => return other,
        }
    }
    Err(KeysError::ConcurrentChanges)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_use_case_begins_anew_after_a_conflict_and_gives_up_in_the_end() {
        let mut calls = 0;
        let third = until_written(|| {
            calls += 1;
            let written = calls == 3;
            async move { if written { Ok(7) } else { Err(StoreError::Conflict.into()) } }
        });
        assert_eq!(third.await.expect("the third attempt writes"), 7);
        assert_eq!(calls, 3);
        let never = until_written(|| async { Err::<(), _>(StoreError::Conflict.into()) }).await;
        assert!(matches!(never, Err(KeysError::ConcurrentChanges)));
    }

    #[tokio::test]
    async fn other_errors_end_it_at_once() {
        let mut calls = 0;
        let failed = until_written(|| {
            calls += 1;
            async { Err::<(), _>(KeysError::EmailTaken) }
        });
        assert!(matches!(failed.await, Err(KeysError::EmailTaken)));
        assert_eq!(calls, 1);
    }
}
