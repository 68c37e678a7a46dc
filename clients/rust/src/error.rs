//! Why something could not be decided.

use std::time::Duration;

use tidegate_proto::{ERROR_DOMAIN, ratelimit::v1::CheckError};
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// Why a call has no answer. A denial is none of these: it is a [`Decision`](crate::Decision).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No address can be reached, or the connection broke.
    #[error("the service cannot be reached: {0}")]
    Unreachable(String),
    /// No answer came in time. The call may have been executed.
    #[error("no answer within {0:?}")]
    DeadlineExceeded(Duration),
    /// The service failed so often just now that it is not asked.
    #[error("the service failed and is not asked again yet")]
    BreakerOpen,
    /// The service answered that it could not or would not do it.
    #[error("{0}")]
    Refused(Refusal),
    /// The call needs a service whose address the client was not given.
    #[error("the client was not told where the {0} service is")]
    NotConfigured(&'static str),
    /// The service answered what its contract does not allow.
    #[error("the service answered out of contract: {0}")]
    Broken(&'static str),
}

/// The error that the service answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} ({})", self.reason.as_str())]
#[non_exhaustive]
pub struct Refusal {
    /// What to match on.
    pub reason: Reason,
    /// The gRPC code.
    pub code: Code,
    /// For people; its words may change.
    pub message: String,
    /// Every wrong field, of [`Reason::InvalidRequest`].
    pub violations: Vec<Violation>,
    /// When to try again, if the service said so.
    pub retry_after: Option<Duration>,
}

/// One wrong field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field, as `attributes[ip]`.
    pub field: String,
    /// What is wrong with it.
    pub description: String,
}

/// Declares the reasons once, with their words on the wire.
macro_rules! reasons {
    ($($(#[$doc:meta])+ $name:ident = $word:literal,)+) => {
        /// Why the service refused a call, as `google.rpc.ErrorInfo` tells it.
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Reason {
            $($(#[$doc])+ $name,)+
            /// One that this version of the client does not know; empty if the service gave none.
            Other(String),
        }

        impl Reason {
            /// The word on the wire.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$name => $word,)+
                    Self::Other(word) => word,
                }
            }

            fn from_word(word: &str) -> Self {
                match word {
                    $($word => Self::$name,)+
                    _ => Self::Other(word.to_owned()),
                }
            }
        }
    };
}

reasons! {
    /// Fields are wrong; [`Refusal::violations`] lists all of them.
    InvalidRequest = "INVALID_REQUEST",
    /// The cost exceeds what a matching limit can ever admit at once.
    CostAboveCapacity = "COST_ABOVE_CAPACITY",
    /// The idempotency key was used for another check.
    IdempotencyKeyReused = "IDEMPOTENCY_KEY_REUSED",
    /// An attribute names a plan that does not exist.
    UnknownPlan = "UNKNOWN_PLAN",
    /// No policy is declared in the namespace.
    NamespaceNotFound = "NAMESPACE_NOT_FOUND",
    /// No concurrency limit applies.
    LimitNotFound = "LIMIT_NOT_FOUND",
    /// The lease has ended.
    LeaseNotFound = "LEASE_NOT_FOUND",
    /// The API key is not known to the replica, and the keys service cannot be asked.
    KeysUnavailable = "KEYS_UNAVAILABLE",
    /// The check names an API key, and the service was set up without a keys service.
    KeysNotConfigured = "KEYS_NOT_CONFIGURED",
    /// The service wants to know who calls, and this client shows no token.
    CredentialsMissing = "CREDENTIALS_MISSING",
    /// This client's own token or certificate is not good.
    CredentialsInvalid = "CREDENTIALS_INVALID",
    /// This client's own token does not allow the call.
    RoleMissing = "ROLE_MISSING",
    /// The store of the service cannot be reached.
    StoreUnavailable = "STORE_UNAVAILABLE",
    /// The database of the service cannot be reached.
    DatabaseUnavailable = "DATABASE_UNAVAILABLE",
    /// The service did not finish in time.
    DeadlineExceeded = "DEADLINE_EXCEEDED",
    /// Too many calls are in flight there.
    ServerOverloaded = "SERVER_OVERLOADED",
    /// A defect of the service.
    Internal = "INTERNAL",
}

impl Error {
    /// What the service said, if it said something.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }

    /// Why the service refused, if it did.
    #[must_use]
    pub fn reason(&self) -> Option<&Reason> {
        self.refusal().map(|refusal| &refusal.reason)
    }

    /// Whether the service is away or unwell, so that a failure mode has to decide. Otherwise the question, or the
    /// setting up of this client or of the service, is wrong, and no waiting helps.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::DeadlineExceeded(_) | Self::BreakerOpen => true,
            Self::Refused(refusal) => refusal.is_outage(),
            Self::NotConfigured(_) | Self::Broken(_) => false,
        }
    }

    /// Whether nothing at all is heard of the service in time.
    pub(crate) fn is_silence(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::DeadlineExceeded(_))
    }

    /// What a status of the service itself says.
    pub(crate) fn of_status(status: &Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info().filter(|info| info.domain == ERROR_DOMAIN);
        let violations = details.bad_request().into_iter().flat_map(|bad| &bad.field_violations);
        Self::Refused(Refusal {
            reason: Reason::from_word(info.map_or("", |info| &info.reason)),
            code: status.code(),
            message: status.message().to_owned(),
            violations: violations
                .map(|violation| Violation {
                    field: violation.field.clone(),
                    description: violation.description.clone(),
                })
                .collect(),
            retry_after: details.retry_info().and_then(|info| info.retry_delay),
        })
    }

    /// Fields that the method does not have, which would be lost silently.
    pub(crate) fn unsupported(fields: &[&'static str]) -> Self {
        let violation = |field: &&'static str| Violation {
            field: (*field).to_owned(),
            description: "only Check takes it".to_owned(),
        };
        Self::Refused(Refusal {
            reason: Reason::InvalidRequest,
            code: Code::InvalidArgument,
            message: "the method does not take every field of the check".to_owned(),
            violations: fields.iter().map(violation).collect(),
            retry_after: None,
        })
    }

    /// What became of one check of a batch.
    pub(crate) fn of_check(error: CheckError) -> Self {
        let violation = |violation: tidegate_proto::ratelimit::v1::FieldViolation| Violation {
            field: violation.field,
            description: violation.description,
        };
        Self::Refused(Refusal {
            reason: Reason::from_word(&error.reason),
            code: Code::from_i32(error.status_code),
            message: error.message,
            violations: error.violations.into_iter().map(violation).collect(),
            retry_after: None,
        })
    }
}

impl Refusal {
    fn is_outage(&self) -> bool {
        match &self.reason {
            Reason::KeysUnavailable
            | Reason::StoreUnavailable
            | Reason::DatabaseUnavailable
            | Reason::DeadlineExceeded
            | Reason::ServerOverloaded
            | Reason::Internal => true,
            Reason::InvalidRequest
            | Reason::CostAboveCapacity
            | Reason::IdempotencyKeyReused
            | Reason::UnknownPlan
            | Reason::NamespaceNotFound
            | Reason::LimitNotFound
            | Reason::LeaseNotFound
            | Reason::KeysNotConfigured
            | Reason::CredentialsMissing
            | Reason::CredentialsInvalid
            | Reason::RoleMissing => false,
            // A proxy in between answers without a reason.
            Reason::Other(_) => matches!(
                self.code,
                Code::Unavailable
                    | Code::DeadlineExceeded
                    | Code::ResourceExhausted
                    | Code::Unknown
                    | Code::Internal
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    fn status(code: Code, reason: &str, domain: &str) -> Status {
        let details = ErrorDetails::with_error_info(reason, domain, [("a".to_owned(), "b".to_owned())]);
        Status::with_error_details(code, "words", details)
    }

    #[test]
    fn a_reason_is_one_of_tidegates_own() {
        let own = Error::of_status(&status(Code::NotFound, "NAMESPACE_NOT_FOUND", ERROR_DOMAIN));
        assert_eq!(own.reason(), Some(&Reason::NamespaceNotFound));
        let foreign = Error::of_status(&status(Code::NotFound, "NAMESPACE_NOT_FOUND", "example.com"));
        assert_eq!(foreign.reason(), Some(&Reason::Other(String::new())));
        let new = Error::of_status(&status(Code::NotFound, "MOON_IS_FULL", ERROR_DOMAIN));
        assert_eq!(new.reason().map(Reason::as_str), Some("MOON_IS_FULL"));
    }

    #[test]
    fn what_is_wrong_with_the_question_is_no_outage() {
        let is_outage = |code, reason| Error::of_status(&status(code, reason, ERROR_DOMAIN)).is_outage();
        assert!(!is_outage(Code::InvalidArgument, "INVALID_REQUEST"));
        assert!(!is_outage(Code::Unauthenticated, "CREDENTIALS_INVALID"));
        assert!(is_outage(Code::Unavailable, "KEYS_UNAVAILABLE"));
        assert!(is_outage(Code::ResourceExhausted, "SERVER_OVERLOADED"));
        assert!(is_outage(Code::Unavailable, ""), "as a proxy says it");
        assert!(!is_outage(Code::PermissionDenied, ""));
    }
}
