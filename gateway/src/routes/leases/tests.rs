//! Requests as they are read. Whole lives of leases are tried on a real service, in `tests/`.

use http::HeaderValue;
use rstest::rstest;
use serde_json::{Value, json};
use tidegate_proto::ratelimit::v1::{AcquireLeaseRequest, acquire_lease_request::AttributesEntry};

use super::*;

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
