//! Requests as they are read, and answers by a small gRPC server. Whole lives of leases are tried on a real service, in `tests/`.

use http::HeaderValue;
use rstest::rstest;
use serde_json::{Value, json};
use tidegate_chassis::error::status;
use tidegate_proto::ratelimit::v1::{
    AcquireLeaseRequest, CheckRequest, CheckResponse, acquire_lease_request::AttributesEntry,
};
use tonic::{Code, Status};

use super::*;
use crate::fixture::{self, Answer, LOCAL, Upstream, admitted, ask, config_with, denied};

fn fields<T>(read: Result<T, Box<Problem>>) -> Vec<String> {
    let Err(problem) = read else { return Vec::new() };
    assert_eq!((problem.status.as_u16(), &*problem.error), (400, "invalid_argument"));
    problem.violations.into_iter().map(|violation| violation.field).collect()
}

#[test]
fn every_field_arrives() {
    let whole = json!({
        "namespace": "a/b", "attributes": {"organization": "acme"}, "cost": 3, "ttl_ms": 86_400_000, "idempotency_key": "job 7",
    });
    let expected = AcquireLeaseRequest {
        namespace: "a/b".to_owned(),
        attributes: vec![AttributesEntry { key: "organization".to_owned(), value: "acme".to_owned() }],
        cost: Some(3),
        ttl_ms: Some(86_400_000),
        idempotency_key: "job 7".to_owned(),
    };
    assert_eq!(request::acquire(whole, None, Violations::default()).unwrap(), expected);
    let header = HeaderValue::from_static("job 7");
    let keyed = AcquireLeaseRequest { idempotency_key: "job 7".to_owned(), ..Default::default() };
    assert_eq!(request::acquire(json!({}), Some(&header), Violations::default()).unwrap(), keyed);

    let id = "Ab_-9".repeat(1_200);
    let renewal = json!({"lease_id": id, "ttl_ms": 1});
    assert_eq!(request::renew(renewal, Violations::default()).unwrap(), (id.clone(), Some(1)));
    assert_eq!(request::renew(json!({"lease_id": "a"}), Violations::default()).unwrap().1, None);
    assert_eq!(request::release(json!({"lease_id": id}), Violations::default()).unwrap(), id);
}

#[rstest]
#[case::not_an_object(json!([]), &["body"])]
#[case::of_a_check(json!({"dry_run": true}), &["dry_run"])]
#[case::no_time(json!({"ttl_ms": 0}), &["ttl_ms"])]
#[case::above_a_day(json!({"ttl_ms": 86_400_001}), &["ttl_ms"])]
#[case::time_as_text(json!({"ttl_ms": "30s"}), &["ttl_ms"])]
#[case::null(json!({"ttl_ms": null}), &["ttl_ms"])]
#[case::all_at_once(
    json!({"cost": 0, "namespace": "!", "idempotency_key": "é", "ttl_ms": 0.5, "attributes": {"": 1}, "x": 1}),
    &["namespace", "attributes[]", "attributes[]", "cost", "ttl_ms", "idempotency_key", "x"]
)]
fn every_wrong_field_of_what_is_to_be_taken_is_named(#[case] body: Value, #[case] wrong: &[&str]) {
    assert_eq!(fields(request::acquire(body, None, Violations::default())), wrong);
}

#[rstest]
#[case::nothing(json!({}), &["lease_id"])]
#[case::empty(json!({"lease_id": ""}), &["lease_id"])]
#[case::number(json!({"lease_id": 7}), &["lease_id"])]
#[case::odd_characters(json!({"lease_id": "a b"}), &["lease_id"])]
#[case::too_long(json!({"lease_id": "a".repeat(6_001)}), &["lease_id"])]
#[case::misspelt(json!({"id": "a"}), &["lease_id", "id"])]
fn an_id_is_required_and_looked_at(#[case] body: Value, #[case] wrong: &[&str]) {
    assert_eq!(fields(request::release(body.clone(), Violations::default())), wrong);
    assert_eq!(fields(request::renew(body, Violations::default())), wrong);
}

#[test]
fn every_wrong_field_of_a_renewal_is_named() {
    let body = json!({"lease_id": "?", "ttl_ms": -1, "namespace": "jobs"});
    assert_eq!(fields(request::renew(body, Violations::default())), ["lease_id", "ttl_ms", "namespace"]);
    let body = json!({"lease_id": "a", "ttl_ms": 1});
    assert_eq!(fields(request::release(body, Violations::default())), ["ttl_ms"]);
}

fn by_organization(check: &CheckRequest) -> Result<CheckResponse, Status> {
    let lease = Some(Lease { id: "Ab_-9".to_owned(), expires_after_ms: 29_999 });
    match check.attributes.first().map_or("", |entry| entry.value.as_str()) {
        "spent" => Ok(denied()),
        "unlimited" => Ok(CheckResponse { limits: Vec::new(), binding_limit: None, ..admitted(0) }),
        "rates" => Err(status(Code::NotFound, "LIMIT_NOT_FOUND", "no concurrency limit applies", None)),
        "ended" => Err(status(Code::NotFound, "LEASE_NOT_FOUND", "the lease has ended", None)),
        "broken" => Ok(CheckResponse { binding_limit: Some(9), lease, ..admitted(0) }),
        _ => Ok(CheckResponse { lease, ..admitted(7) }),
    }
}

async fn call(target: &str, body: Value) -> Answer {
    let upstream = Upstream::start(by_organization);
    let edge = fixture::edge(config_with(&upstream.url(), "")).await;
    ask(&edge, LOCAL, fixture::request("POST", target, &body.to_string())).await
}

async fn acquire_of(organization: &str) -> Answer {
    call("/v1/leases", json!({"attributes": {"organization": organization}})).await
}

#[tokio::test]
async fn a_lease_is_a_201_with_the_decision_and_its_headers() {
    let answer = acquire_of("acme").await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (201, "application/json"));
    assert_eq!(answer.json["lease"], json!({"id": "Ab_-9", "expires_after_ms": 29_999}));
    assert_eq!(
        (&answer.json["allowed"], &answer.json["binding_limit"]),
        (&json!(true), &json!("free/minute"))
    );
    assert_eq!(answer.header("ratelimit"), r#""free/minute";r=7;t=60"#);
}

#[tokio::test]
async fn a_denial_is_a_429_as_that_of_a_check() {
    let answer = acquire_of("spent").await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (429, "42"));
    assert_eq!(answer.header("ratelimit"), r#""free/minute";r=0;t=60"#);
    assert_eq!(answer.json["violated_policies"], json!(["free/minute"]));
}

#[tokio::test]
async fn an_admission_without_a_lease_is_a_200() {
    let answer = acquire_of("unlimited").await;
    assert_eq!((answer.status.as_u16(), answer.json.get("lease")), (200, None));
    assert_eq!(answer.json["allowed"], json!(true));
}

#[rstest]
#[case("rates", 404, "not_found")]
#[case("ended", 404, "lease_not_found")]
#[case("broken", 500, "internal")]
#[tokio::test]
async fn what_is_no_decision_is_a_problem(
    #[case] organization: &str,
    #[case] status: u16,
    #[case] word: &str,
) {
    let answer = acquire_of(organization).await;
    assert_eq!((answer.status.as_u16(), &answer.json["error"]), (status, &json!(word)));
}

#[tokio::test]
async fn a_renewal_out_of_contract_is_a_500_that_tells_nothing() {
    let answer = call("/v1/leases:renew", json!({"lease_id": "a"})).await;
    assert_eq!((answer.status.as_u16(), &answer.json["error"]), (500, &json!("internal")));
}
