use axum::body::to_bytes;
use rstest::rstest;
use tidegate_chassis::error;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::*;

async fn rendered(problem: Problem) -> serde_json::Value {
    let response = problem.render("/v1/check", "order-7");
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    serde_json::from_slice(&to_bytes(response.into_body(), usize::MAX).await.unwrap()).unwrap()
}

#[tokio::test]
async fn violations_are_listed_in_order() {
    let mut violations = Violations::default();
    violations.add("cost", "must be an integer");
    violations.add("x", "is not a field of this request");
    let problem = violations.into_result().unwrap_err();
    insta::assert_json_snapshot!(rendered(*problem).await);
}

#[test]
fn no_violation_is_no_problem() {
    assert!(Violations::default().into_result().is_ok());
}

#[test]
fn violations_without_end_are_counted_rather_than_listed() {
    let mut violations = Violations::default();
    for _ in 0..MOST_VIOLATIONS + 5 {
        violations.add("x", "is wrong");
    }
    let problem = violations.into_result().unwrap_err();
    assert_eq!(problem.violations.len(), MOST_VIOLATIONS + 1);
    assert_eq!(problem.violations.last().unwrap().description, "and 5 more");
    assert_eq!(problem.detail, "1005 fields are wrong");
}

#[rstest]
#[case(Code::InvalidArgument, "INVALID_REQUEST", 400, "invalid_argument")]
#[case(Code::InvalidArgument, "COST_ABOVE_CAPACITY", 400, "cost_above_capacity")]
#[case(Code::InvalidArgument, "UNKNOWN_PLAN", 400, "unknown_plan")]
#[case(Code::InvalidArgument, "IDEMPOTENCY_KEY_REUSED", 422, "idempotency_key_reused")]
#[case(Code::NotFound, "NAMESPACE_NOT_FOUND", 404, "not_found")]
#[case(Code::NotFound, "LIMIT_NOT_FOUND", 404, "not_found")]
#[case(Code::Unavailable, "STORE_UNAVAILABLE", 503, "store_unavailable")]
#[case(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", 504, "deadline_exceeded")]
#[case(Code::Internal, "INTERNAL", 500, "internal")]
#[case(Code::ResourceExhausted, "SERVER_OVERLOADED", 503, "overloaded")]
#[case(Code::NotFound, "LEASE_NOT_FOUND", 404, "lease_not_found")]
#[case(Code::Unauthenticated, "CREDENTIALS_MISSING", 401, "unauthenticated")]
#[case(Code::Unauthenticated, "CREDENTIALS_INVALID", 401, "credentials_invalid")]
#[case(Code::PermissionDenied, "ROLE_MISSING", 403, "permission_denied")]
#[case(Code::NotFound, "ORGANIZATION_NOT_FOUND", 404, "not_found")]
#[case(Code::NotFound, "MEMBER_NOT_FOUND", 404, "not_found")]
#[case(Code::NotFound, "INVITATION_NOT_FOUND", 404, "not_found")]
#[case(Code::NotFound, "KEY_NOT_FOUND", 404, "not_found")]
#[case(Code::NotFound, "SERVICE_TOKEN_NOT_FOUND", 404, "not_found")]
#[case(Code::AlreadyExists, "EMAIL_TAKEN", 409, "email_taken")]
#[case(Code::AlreadyExists, "MEMBER_EXISTS", 409, "member_exists")]
#[case(Code::AlreadyExists, "KEY_EXISTS", 409, "key_exists")]
#[case(Code::FailedPrecondition, "KEY_REVOKED", 409, "key_revoked")]
#[case(Code::FailedPrecondition, "LAST_ADMINISTRATOR", 409, "last_administrator")]
#[case(Code::FailedPrecondition, "CREDITS_NOT_ENABLED", 409, "credits_not_enabled")]
#[case(Code::Aborted, "ETAG_MISMATCH", 412, "etag_mismatch")]
#[case(Code::Aborted, "CONCURRENT_CHANGES", 409, "conflict")]
#[case(Code::ResourceExhausted, "TOO_MANY_ATTEMPTS", 429, "too_many_attempts")]
#[case(Code::Unavailable, "DATABASE_UNAVAILABLE", 503, "database_unavailable")]
#[case(Code::Unavailable, "RATE_LIMIT_UNAVAILABLE", 503, "rate_limit_unavailable")]
#[case(Code::Unavailable, "KEYS_UNAVAILABLE", 503, "keys_unavailable")]
#[case(Code::FailedPrecondition, "KEYS_NOT_CONFIGURED", 503, "keys_not_configured")]
#[case(Code::FailedPrecondition, "ENTRY_READ_ONLY", 409, "entry_read_only")]
fn every_reason_of_the_service_has_a_status_and_a_word(
    #[case] code: Code,
    #[case] reason: &'static str,
    #[case] status: u16,
    #[case] word: &str,
) {
    let problem = from_status(&error::status(code, reason, "words", None));
    assert_eq!((problem.status.as_u16(), &*problem.error), (status, word));
    let in_batch = from_check_error(&tidegate_proto::ratelimit::v1::CheckError {
        status_code: code.into(),
        reason: reason.to_owned(),
        message: "words".to_owned(),
        violations: Vec::new(),
    });
    assert_eq!((in_batch.status, in_batch.error), (problem.status, problem.error));
}

/// Every reason of the tables in the proto files.
fn listed() -> Vec<&'static str> {
    const LISTS: [&str; 3] = [
        include_str!("../../../proto/tidegate/keys/v1/auth.proto"),
        include_str!("../../../proto/tidegate/ratelimit/v1/ratelimit.proto"),
        include_str!("../../../proto/tidegate/ratelimit/v1/policies.proto"),
    ];
    let is_constant =
        |word: &&str| word.len() > 3 && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
    let reason = |line: &'static str| {
        let mut words = line.strip_prefix("//   ").unwrap_or_default().split_ascii_whitespace();
        let (name, _code) = (words.next().filter(is_constant)?, words.next().filter(is_constant)?);
        Some(name)
    };
    let listed: Vec<_> = LISTS.iter().flat_map(|list| list.lines()).filter_map(reason).collect();
    assert!(listed.len() > 30, "only {} reasons were found", listed.len());
    listed
}

#[test]
fn every_reason_that_the_proto_files_list_is_known() {
    for name in listed() {
        assert!(reason::meaning(name).is_some(), "{name} has no status");
    }
}

#[test]
fn no_reason_makes_a_server_error_tell_what_goes_on_inside() {
    let field = Violation { field: "keys.url".to_owned(), description: "is not set".to_owned() };
    let mut server_errors = 0;
    for reason in listed().into_iter().chain(["POOL_EXHAUSTED"]) {
        for code in (0..=16).map(Code::from_i32) {
            let problem =
                upstream::translate(code, Some(reason), "redis://10.0.0.1 keys.url", vec![field.clone()]);
            if !problem.status.is_server_error() {
                continue;
            }
            server_errors += 1;
            assert!(!problem.detail.contains("10.0.0.1"), "{code:?} {reason}: {}", problem.detail);
            assert!(!problem.error.contains("pool"), "{code:?}: {}", problem.error);
            assert_eq!(problem.violations, [], "{code:?} {reason}");
        }
    }
    assert!(server_errors > 100, "{server_errors}");
}

#[test]
fn a_401_says_how_to_show_who_one_is_and_a_limit_of_attempts_when_to_come_back() {
    let invalid = from_status(&error::status(Code::Unauthenticated, "CREDENTIALS_INVALID", "no", None));
    assert_eq!(invalid.headers["www-authenticate"], "Bearer");
    let wait = Some(std::time::Duration::from_secs(30));
    let attempts =
        from_status(&error::status(Code::ResourceExhausted, "TOO_MANY_ATTEMPTS", "slow down", wait));
    assert_eq!((&*attempts.detail, &attempts.headers["retry-after"]), ("slow down", &HeaderValue::from(30)));
}

#[rstest]
#[case(Code::Unknown, 500)]
#[case(Code::DataLoss, 500)]
#[case(Code::Ok, 500)]
#[case(Code::Unavailable, 503)]
#[case(Code::ResourceExhausted, 503)]
#[case(Code::Cancelled, 504)]
#[case(Code::Unimplemented, 501)]
fn the_words_of_a_servers_error_stay_inside(#[case] code: Code, #[case] status: u16) {
    let problem = from_status(&Status::new(code, "connect 10.0.0.1:6379: refused"));
    assert_eq!(problem.status.as_u16(), status);
    assert!(!problem.detail.contains("10.0.0.1"), "{}", problem.detail);
}

#[test]
fn the_words_and_fields_of_a_callers_error_are_passed_on() {
    let mut violations = error::Violations::default();
    violations.add("attributes[plan]", "there is no plan \"platinum\"");
    let problem = from_status(&violations.into_status("UNKNOWN_PLAN"));
    assert_eq!(problem.detail, "invalid request: attributes[plan]");
    assert_eq!(problem.violations[0].field, "attributes[plan]");
}

#[test]
fn a_reason_of_another_domain_is_not_ours_to_repeat() {
    let details = tonic_types::ErrorDetails::with_error_info("SECRET_REASON", "proxy.example", []);
    let problem = from_status(&Status::with_error_details(Code::Unavailable, "", details));
    assert_eq!(problem.error, "service_unavailable");
}

#[test]
fn retry_info_becomes_retry_after_in_whole_seconds_rounded_up() {
    let after = |delay| {
        let status = error::status(Code::Unavailable, "STORE_UNAVAILABLE", "", Some(delay));
        from_status(&status).headers["retry-after"].to_str().unwrap().to_owned()
    };
    assert_eq!(after(std::time::Duration::from_millis(1001)), "2");
    assert_eq!(after(std::time::Duration::ZERO), "1");
}
