//! Errors of the use case as gRPC statuses, and as answers within a batch or a stream.

use std::time::Duration;

use tidegate_chassis::error::{ERROR_DOMAIN, Violations, status};
use tidegate_proto::ratelimit::v1 as pb;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::{limiter::CheckError, store::StoreError};

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
        CheckError::IdempotencyKeyReused => {
            with_field(Code::InvalidArgument, "IDEMPOTENCY_KEY_REUSED", message, "idempotency_key".to_owned())
        }
        CheckError::LimitNotFound(_) => {
            with_field(Code::NotFound, "LIMIT_NOT_FOUND", message, "limit".to_owned())
        }
        CheckError::Store(
            StoreError::Timeout
            | StoreError::Disconnected
            | StoreError::BreakerOpen
            | StoreError::Protocol
            | StoreError::Full,
        ) => status(Code::Unavailable, "STORE_UNAVAILABLE", message, Some(STORE_RETRY)),
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
