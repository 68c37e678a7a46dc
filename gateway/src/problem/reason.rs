//! Every reason that the services give, by what it means over REST. The proto files list them, and a test holds this table
//! against them.

use http::StatusCode;

/// HTTP status and machine word of a reason; `None` if it is not known here, so that the code of the status must do.
///
/// Whatever is not there is `not_found`, whichever it is: the words say it. A word of its own is for what a caller can act on.
pub(super) fn meaning(reason: &str) -> Option<(StatusCode, &'static str)> {
    Some(match reason {
        "INVALID_REQUEST" => (StatusCode::BAD_REQUEST, "invalid_argument"),
        "COST_ABOVE_CAPACITY" => (StatusCode::BAD_REQUEST, "cost_above_capacity"),
        "UNKNOWN_PLAN" => (StatusCode::BAD_REQUEST, "unknown_plan"),
        "CREDENTIALS_MISSING" => (StatusCode::UNAUTHORIZED, "unauthenticated"),
        "CREDENTIALS_INVALID" => (StatusCode::UNAUTHORIZED, "credentials_invalid"),
        "ROLE_MISSING" => (StatusCode::FORBIDDEN, "permission_denied"),
        "NAMESPACE_NOT_FOUND"
        | "LIMIT_NOT_FOUND"
        | "ENTRY_NOT_FOUND"
        | "ORGANIZATION_NOT_FOUND"
        | "MEMBER_NOT_FOUND"
        | "INVITATION_NOT_FOUND"
        | "KEY_NOT_FOUND"
        | "RESERVATION_NOT_FOUND"
        | "SERVICE_TOKEN_NOT_FOUND" => (StatusCode::NOT_FOUND, "not_found"),
        "LEASE_NOT_FOUND" => (StatusCode::NOT_FOUND, "lease_not_found"),
        "ENTRY_EXISTS" | "CONCURRENT_CHANGES" => (StatusCode::CONFLICT, "conflict"),
        "ENTRY_READ_ONLY" => (StatusCode::CONFLICT, "entry_read_only"),
        "ENTRY_IN_USE" => (StatusCode::CONFLICT, "entry_in_use"),
        "DATABASE_NOT_CONFIGURED" => (StatusCode::CONFLICT, "database_not_configured"),
        "EMAIL_TAKEN" => (StatusCode::CONFLICT, "email_taken"),
        "MEMBER_EXISTS" => (StatusCode::CONFLICT, "member_exists"),
        "KEY_EXISTS" => (StatusCode::CONFLICT, "key_exists"),
        "KEY_REVOKED" => (StatusCode::CONFLICT, "key_revoked"),
        "LAST_ADMINISTRATOR" => (StatusCode::CONFLICT, "last_administrator"),
        "CREDITS_NOT_ENABLED" => (StatusCode::CONFLICT, "credits_not_enabled"),
        "ETAG_MISMATCH" => (StatusCode::PRECONDITION_FAILED, "etag_mismatch"),
        "IDEMPOTENCY_KEY_REUSED" => (StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused"),
        // A limit denied the caller, and not the service its load.
        "TOO_MANY_ATTEMPTS" => (StatusCode::TOO_MANY_REQUESTS, "too_many_attempts"),
        "INTERNAL" => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        "SERVER_OVERLOADED" => (StatusCode::SERVICE_UNAVAILABLE, "overloaded"),
        "STORE_UNAVAILABLE" => (StatusCode::SERVICE_UNAVAILABLE, "store_unavailable"),
        "DATABASE_UNAVAILABLE" => (StatusCode::SERVICE_UNAVAILABLE, "database_unavailable"),
        "KEYS_UNAVAILABLE" => (StatusCode::SERVICE_UNAVAILABLE, "keys_unavailable"),
        "KEYS_NOT_CONFIGURED" => (StatusCode::SERVICE_UNAVAILABLE, "keys_not_configured"),
        "RATE_LIMIT_UNAVAILABLE" => (StatusCode::SERVICE_UNAVAILABLE, "rate_limit_unavailable"),
        "DEADLINE_EXCEEDED" => (StatusCode::GATEWAY_TIMEOUT, "deadline_exceeded"),
        _ => return None,
    })
}
