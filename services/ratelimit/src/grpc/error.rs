//! Errors of the use case as gRPC statuses, and as answers within a batch or a stream.

use std::time::Duration;

use tidegate_chassis::{
    auth::AuthError,
    error::{ERROR_DOMAIN, Violations, status},
};
use tidegate_proto::ratelimit::v1 as pb;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::{
    catalog::ChangeError,
    keys::KeysError,
    limiter::CheckError,
    policies::PolicyError,
    store::{StoreError, catalog::CatalogError},
};

/// When a call that needs the store should be tried again.
const STORE_RETRY: Duration = Duration::from_secs(1);

/// Exhaustive on purpose: a new error does not compile until it has a code and a reason.
pub(super) fn to_status(error: &CheckError) -> Status {
    let message = error.to_string();
    match error {
        CheckError::NamespaceNotFound(_) => {
            with_field(Code::NotFound, "NAMESPACE_NOT_FOUND", message, "namespace".to_owned())
        }
        CheckError::UnknownPlan(plan) => {
            let field = format!("attributes[{}]", plan.attribute);
            with_field(Code::InvalidArgument, "UNKNOWN_PLAN", message, field)
        }
        CheckError::CostAboveCapacity { .. } => {
            with_field(Code::InvalidArgument, "COST_ABOVE_CAPACITY", message, "cost".to_owned())
        }
        CheckError::NotOwn(_) => {
            status(Code::PermissionDenied, AuthError::OtherOrganization.reason(), message, None)
        }
        CheckError::IdempotencyKeyReused => {
            with_field(Code::InvalidArgument, "IDEMPOTENCY_KEY_REUSED", message, "idempotency_key".to_owned())
        }
        CheckError::LimitNotFound(_) => {
            with_field(Code::NotFound, "LIMIT_NOT_FOUND", message, "limit".to_owned())
        }
        CheckError::NoConcurrencyLimit => {
            with_field(Code::NotFound, "LIMIT_NOT_FOUND", message, "attributes".to_owned())
        }
        CheckError::LeaseTooLong(_) => {
            with_field(Code::InvalidArgument, "INVALID_REQUEST", message, "attributes".to_owned())
        }
        CheckError::LeaseNotFound => status(Code::NotFound, "LEASE_NOT_FOUND", message, None),
        CheckError::Stale => keys_status(KeysError::Changing),
        CheckError::Store(
            StoreError::Timeout
            | StoreError::Disconnected
            | StoreError::BreakerOpen
            | StoreError::Protocol
            | StoreError::Full
            | StoreError::Incomplete,
        ) => status(Code::Unavailable, "STORE_UNAVAILABLE", message, Some(STORE_RETRY)),
    }
}

/// As [`to_status`], of keys.
pub(super) fn keys_status(error: KeysError) -> Status {
    let message = error.to_string();
    match error {
        KeysError::NotConfigured => status(Code::FailedPrecondition, "KEYS_NOT_CONFIGURED", message, None),
        KeysError::NotFound => status(Code::NotFound, "KEY_NOT_FOUND", message, None),
        KeysError::Unavailable | KeysError::Busy | KeysError::QuotaUnknown | KeysError::Changing => {
            status(Code::Unavailable, "KEYS_UNAVAILABLE", message, Some(STORE_RETRY))
        }
    }
}

/// The most other entries that are named when they stand in the way.
const MAX_NAMED: usize = 10;

/// As [`to_status`], of changes of policies.
pub(super) fn change_status(error: &ChangeError) -> Status {
    let message = error.to_string();
    match error {
        ChangeError::NoDatabase => status(Code::FailedPrecondition, "DATABASE_NOT_CONFIGURED", message, None),
        ChangeError::Invalid(faults) => {
            let mut violations = Violations::default();
            for PolicyError { path, description } in faults {
                // Where the message and the policy file name things in two ways.
                let path = path.replacen("policy.plan.", "policy.plan_of.", 1);
                violations.add(path.replacen("policy.on_limit.", "policy.", 1), description);
            }
            invalid(violations)
        }
        ChangeError::NotFound(_) => status(Code::NotFound, "ENTRY_NOT_FOUND", message, None),
        ChangeError::Exists(..) => status(Code::AlreadyExists, "ENTRY_EXISTS", message, None),
        ChangeError::ReadOnly(..) => status(Code::FailedPrecondition, "ENTRY_READ_ONLY", message, None),
        ChangeError::Etag(_) => status(Code::Aborted, "ETAG_MISMATCH", message, None),
        ChangeError::InUse(faults) => {
            let mut details = ErrorDetails::with_error_info("ENTRY_IN_USE", ERROR_DOMAIN, []);
            for PolicyError { path, description } in faults.iter().take(MAX_NAMED) {
                details.add_bad_request_violation(path, description);
            }
            let first = faults.first().map(ToString::to_string).unwrap_or_default();
            let more = faults.len().saturating_sub(1);
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            Status::with_error_details(Code::FailedPrecondition, format!("{message}: {first}{more}"), details)
        }
        ChangeError::Contended | ChangeError::Store(CatalogError::Moved) => {
            status(Code::Aborted, "CONCURRENT_CHANGES", message, Some(STORE_RETRY))
        }
        ChangeError::Store(CatalogError::Unavailable(_)) => {
            status(Code::Unavailable, "DATABASE_UNAVAILABLE", message, Some(STORE_RETRY))
        }
        ChangeError::Store(CatalogError::Corrupt(_)) => status(Code::Internal, "INTERNAL", message, None),
    }
}

/// Every wrong field of a request that cannot be decided.
pub(super) fn invalid(violations: Violations) -> Status {
    violations.into_status("INVALID_REQUEST")
}

/// The same status as the answer to one check among many.
pub(super) fn to_answer(status: &Status) -> pb::CheckError {
    let details = status.get_error_details();
    let violations = details.bad_request().map_or_else(Vec::new, |bad| {
        let violations = bad.field_violations.iter();
        violations
            .map(|violation| pb::FieldViolation {
                field: violation.field.clone(),
                description: violation.description.clone(),
            })
            .collect()
    });
    pb::CheckError {
        status_code: status.code().into(),
        reason: details.error_info().map_or_else(String::new, |info| info.reason.clone()),
        message: status.message().to_owned(),
        violations,
    }
}

fn with_field(code: Code, reason: &'static str, message: String, field: String) -> Status {
    let mut details = ErrorDetails::with_error_info(reason, ERROR_DOMAIN, []);
    details.add_bad_request_violation(field, message.as_str());
    Status::with_error_details(code, message, details)
}
