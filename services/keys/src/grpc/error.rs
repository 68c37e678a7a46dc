//! Errors as gRPC statuses. The reasons are listed in `auth.proto`.

use std::time::Duration;

use tidegate_chassis::error::status;
use tonic::{Code, Status};

use crate::{error::KeysError, store::StoreError};

/// When a call should be tried again that failed for want of something that comes back.
const RETRY: Duration = Duration::from_secs(1);

impl From<KeysError> for Status {
    /// Exhaustive on purpose: a new error does not compile until it has a code and a reason.
    fn from(error: KeysError) -> Self {
        let message = error.to_string();
        match error {
            KeysError::Invalid(violations) => violations.into_status("INVALID_REQUEST"),
            KeysError::CredentialsInvalid => {
                status(Code::Unauthenticated, "CREDENTIALS_INVALID", message, None)
            }
            KeysError::RoleMissing(_) => status(Code::PermissionDenied, "ROLE_MISSING", message, None),
            KeysError::OrganizationNotFound => {
                status(Code::NotFound, "ORGANIZATION_NOT_FOUND", message, None)
            }
            KeysError::MemberNotFound => status(Code::NotFound, "MEMBER_NOT_FOUND", message, None),
            KeysError::InvitationNotFound => status(Code::NotFound, "INVITATION_NOT_FOUND", message, None),
            KeysError::KeyNotFound => status(Code::NotFound, "KEY_NOT_FOUND", message, None),
            KeysError::ServiceTokenNotFound => {
                status(Code::NotFound, "SERVICE_TOKEN_NOT_FOUND", message, None)
            }
            KeysError::ReservationNotFound => status(Code::NotFound, "RESERVATION_NOT_FOUND", message, None),
            KeysError::EmailTaken => status(Code::AlreadyExists, "EMAIL_TAKEN", message, None),
            KeysError::MemberExists => status(Code::AlreadyExists, "MEMBER_EXISTS", message, None),
            KeysError::KeyExists => status(Code::AlreadyExists, "KEY_EXISTS", message, None),
            KeysError::KeyRevoked => status(Code::FailedPrecondition, "KEY_REVOKED", message, None),
            KeysError::LastAdministrator => {
                status(Code::FailedPrecondition, "LAST_ADMINISTRATOR", message, None)
            }
            KeysError::CreditsNotEnabled => {
                status(Code::FailedPrecondition, "CREDITS_NOT_ENABLED", message, None)
            }
            KeysError::EtagMismatch(_) => status(Code::Aborted, "ETAG_MISMATCH", message, None),
            KeysError::IdempotencyKeyReused => {
                status(Code::InvalidArgument, "IDEMPOTENCY_KEY_REUSED", message, None)
            }
            KeysError::TooManyAttempts { retry_after } => {
                status(Code::ResourceExhausted, "TOO_MANY_ATTEMPTS", message, Some(retry_after))
            }
            KeysError::Overloaded => {
                status(Code::ResourceExhausted, "SERVER_OVERLOADED", message, Some(RETRY))
            }
            // What a use case knows to be taken it says by an error of its own; the rest is a race, lost.
            KeysError::ConcurrentChanges | KeysError::Store(StoreError::Conflict | StoreError::Taken(_)) => {
                status(Code::Aborted, "CONCURRENT_CHANGES", message, Some(RETRY))
            }
            KeysError::Store(StoreError::Unavailable(_)) => {
                tracing::warn!(error = message, "a request failed for want of the database");
                status(Code::Unavailable, "DATABASE_UNAVAILABLE", "the database cannot be used", Some(RETRY))
            }
            KeysError::Store(StoreError::Corrupt(_)) | KeysError::Internal(_) => {
                tracing::error!(error = message, "a request failed by a defect");
                status(Code::Internal, "INTERNAL", "a defect; it is logged", None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use tonic_types::StatusExt;

    use super::*;

    #[rstest]
    #[case(KeysError::CredentialsInvalid, Code::Unauthenticated, "CREDENTIALS_INVALID", false)]
    #[case(KeysError::Overloaded, Code::ResourceExhausted, "SERVER_OVERLOADED", true)]
    #[case(KeysError::field("email", "is no address"), Code::InvalidArgument, "INVALID_REQUEST", false)]
    #[case(StoreError::Conflict.into(), Code::Aborted, "CONCURRENT_CHANGES", true)]
    #[case(StoreError::Unavailable("host db-7".to_owned()).into(), Code::Unavailable, "DATABASE_UNAVAILABLE", true)]
    #[case(StoreError::Corrupt("row 9".to_owned()).into(), Code::Internal, "INTERNAL", false)]
    fn each_error_has_a_code_and_a_reason(
        #[case] error: KeysError,
        #[case] code: Code,
        #[case] reason: &str,
        #[case] retry: bool,
    ) {
        let status = Status::from(error);
        let details = status.get_error_details();
        assert_eq!(status.code(), code);
        assert_eq!(details.error_info().expect("ErrorInfo").reason, reason);
        assert_eq!(details.retry_info().is_some(), retry);
    }

    #[test]
    fn what_went_wrong_inside_is_not_told() {
        for error in [StoreError::Unavailable("host db-7".to_owned()), StoreError::Corrupt("db-7".to_owned())]
        {
            assert!(!Status::from(KeysError::from(error)).message().contains("db-7"));
        }
    }
}
