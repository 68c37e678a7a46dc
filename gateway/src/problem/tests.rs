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
