//! Requests as they are read, and whole calls against a small gRPC server.

use http::HeaderValue;
use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};
use tidegate_chassis::error::status;
use tidegate_proto::ratelimit::v1::{
    self as pb, CheckRequest, CheckResponse, Lease, check_request::AttributesEntry,
};
use tonic::{Code, Status};

use super::{request, *};
use crate::fixture::{self, Answer, LOCAL, NOBODY, Upstream, admitted, ask, config_with, denied};

/// What is wrong with one check, by field.
fn faults(body: Value, key: Option<&str>) -> Vec<String> {
    let key = key.map(|key| HeaderValue::from_bytes(key.as_bytes()).unwrap());
    match request::one(body, key.as_ref(), Violations::default()) {
        Ok(_) => Vec::new(),
        Err(problem) => {
            assert_eq!((problem.status.as_u16(), &*problem.error), (400, "invalid_argument"));
            assert!(problem.violations.iter().all(|violation| !violation.description.is_empty()));
            problem.violations.iter().map(|violation| violation.field.clone()).collect()
        }
    }
}

fn read(body: Value, key: Option<&str>) -> CheckRequest {
    let key = key.map(|key| HeaderValue::from_str(key).unwrap());
    request::one(body, key.as_ref(), Violations::default()).unwrap()
}

#[test]
fn every_field_arrives() {
    let check = read(
        json!({
            "namespace": "a/b", "attributes": {"organization": "acme"}, "cost": 3, "dry_run": true,
            "idempotency_key": "order 7", "api_key": "tk_live_x", "client_ip": "2001:db8::1",
            "required_scopes": "a or b",
        }),
        None,
    );
    let expected = CheckRequest {
        namespace: "a/b".to_owned(),
        attributes: vec![AttributesEntry { key: "organization".to_owned(), value: "acme".to_owned() }],
        cost: Some(3),
        dry_run: true,
        idempotency_key: "order 7".to_owned(),
        api_key: "tk_live_x".to_owned(),
        client_ip: "2001:db8::1".to_owned(),
        required_scopes: "a or b".to_owned(),
    };
    assert_eq!(check, expected);
    assert_eq!(read(json!({}), None), CheckRequest::default());
}

#[rstest]
#[case::not_an_object(json!([]), &["body"])]
#[case::null(json!(null), &["body"])]
#[case::misspelt(json!({"namspace": "x"}), &["namspace"])]
#[case::number_as_key(json!({"api_key": 5, "client_ip": 7}), &["api_key", "client_ip"])]
#[case::name_as_address(json!({"client_ip": "localhost"}), &["client_ip"])]
#[case::range_as_address(json!({"client_ip": "10.0.0.0/8"}), &["client_ip"])]
#[case::object_as_scopes(json!({"required_scopes": {}}), &["required_scopes"])]
#[case::odd_scopes(
    json!({"required_scopes": ["a:read", "a b", "or", "", 5, "a)"]}),
    &["required_scopes[1]", "required_scopes[2]", "required_scopes[3]", "required_scopes[4]", "required_scopes[5]"]
)]
#[case::long_scopes(json!({"required_scopes": "a ".repeat(513)}), &["required_scopes"])]
#[case::number_as_namespace(json!({"namespace": 1}), &["namespace"])]
#[case::blank_in_namespace(json!({"namespace": "a b"}), &["namespace"])]
#[case::long_namespace(json!({"namespace": "n".repeat(129)}), &["namespace"])]
#[case::list_of_attributes(json!({"attributes": []}), &["attributes"])]
#[case::attribute_of_number(json!({"attributes": {"a": 5}}), &["attributes[a]"])]
#[case::attribute_without_name(json!({"attributes": {"": "x"}}), &["attributes[]"])]
#[case::attribute_with_odd_name(json!({"attributes": {"a b": "x"}}), &["attributes[a b]"])]
#[case::odd_name_and_odd_value(json!({"attributes": {"a b": 1}}), &["attributes[a b]", "attributes[a b]"])]
#[case::cost_0(json!({"cost": 0}), &["cost"])]
#[case::negative_cost(json!({"cost": -1}), &["cost"])]
#[case::half_a_token(json!({"cost": 0.5}), &["cost"])]
#[case::cost_beyond_any(json!({"cost": 1_000_000_001}), &["cost"])]
#[case::cost_as_text(json!({"cost": "1"}), &["cost"])]
#[case::no_cost(json!({"cost": null}), &["cost"])]
#[case::number_as_dry_run(json!({"dry_run": 1}), &["dry_run"])]
#[case::control_in_key(json!({"idempotency_key": "a\u{0}"}), &["idempotency_key"])]
#[case::long_key(json!({"idempotency_key": "k".repeat(129)}), &["idempotency_key"])]
#[case::all_at_once(
    json!({"cost": 0, "namespace": "!", "idempotency_key": "é", "dry_run": 0, "attributes": 0, "x": 1}),
    &["namespace", "attributes", "cost", "dry_run", "idempotency_key", "x"]
)]
fn every_wrong_field_is_named(#[case] body: Value, #[case] fields: &[&str]) {
    assert_eq!(faults(body, None), fields);
}

#[rstest]
#[case::expression(json!("a or (b and c)"), "a or (b and c)")]
#[case::list(json!(["a:read", "b:*"]), "a:read and b:*")]
#[case::one(json!(["a"]), "a")]
#[case::none(json!([]), "")]
fn scopes_are_an_expression_or_a_list(#[case] scopes: Value, #[case] expression: &str) {
    assert_eq!(read(json!({ "required_scopes": scopes }), None).required_scopes, expression);
}

#[test]
fn attributes_beyond_the_most_are_not_read() {
    let entries = |count: usize| (0..count).map(|n| (format!("a{n}"), json!("x"))).collect();
    assert!(faults(json!({"attributes": Value::Object(entries(64))}), None).is_empty());
    assert_eq!(faults(json!({"attributes": Value::Object(entries(10_000))}), None), ["attributes"]);
}

#[test]
fn a_made_up_name_is_quoted_in_part() {
    let name = "é".repeat(500);
    let named = faults(json!({ name: 1 }), None);
    assert_eq!(named, ["é".repeat(32)]);
}

#[rstest]
#[case::header_alone(json!({}), "k", Some("k"))]
#[case::both_the_same(json!({"idempotency_key": "k"}), "k", Some("k"))]
#[case::empty_in_the_body(json!({"idempotency_key": ""}), "k", Some("k"))]
#[case::different(json!({"idempotency_key": "k"}), "other", None)]
#[case::empty_header(json!({}), "", None)]
#[case::long_header(json!({}), &"k".repeat(129), None)]
#[case::not_ascii(json!({}), "é", None)]
fn the_header_stands_in_for_the_key(#[case] body: Value, #[case] header: &str, #[case] key: Option<&str>) {
    match key {
        Some(key) => assert_eq!(read(body, Some(header)).idempotency_key, key),
        None => assert_eq!(faults(body, Some(header)), ["Idempotency-Key"]),
    }
}

#[rstest]
#[case::no_checks(json!({}), &["checks"])]
#[case::empty(json!({"checks": []}), &["checks"])]
#[case::too_many(json!({"checks": vec![json!({}); 101]}), &["checks"])]
#[case::not_a_list(json!({"checks": {}}), &["checks"])]
#[case::a_list(json!([{}]), &["body"])]
#[case::in_their_places(
    json!({"checks": [{}, {"cost": 0, "x": 1}, [], {"attributes": {"": "x"}}], "y": 1}),
    &["checks[1].cost", "checks[1].x", "checks[2]", "checks[3].attributes[]", "y"]
)]
fn every_wrong_field_of_a_batch_is_named(#[case] body: Value, #[case] fields: &[&str]) {
    let problem = request::batch(body, None, Violations::default()).unwrap_err();
    assert_eq!(problem.violations.iter().map(|violation| &violation.field).collect::<Vec<_>>(), fields);
}

#[test]
fn a_batch_has_no_key_of_its_own() {
    let header = HeaderValue::from_static("k");
    let problem = request::batch(json!({"checks": [{}]}), Some(&header), Violations::default()).unwrap_err();
    assert_eq!(problem.violations[0].field, "Idempotency-Key");
}

#[rstest]
#[case("/v1/check", Ok(false))]
#[case("/v1/check?", Ok(false))]
#[case("/v1/check?enforce=true", Ok(true))]
#[case("/v1/check?enforce=false", Ok(false))]
#[case("/v1/check?enforce=%74rue", Ok(true))]
#[case("/v1/check?enforce=yes", Err("enforce"))]
#[case("/v1/check?enforce", Err("enforce"))]
#[case("/v1/check?enforce=true&enforce=true", Err("enforce"))]
#[case("/v1/check?enforse=true", Err("enforse"))]
fn parameters_are_read_strictly(#[case] target: &str, #[case] expected: Result<bool, &str>) {
    let mut violations = Violations::default();
    let enforce = read_enforce(&target.parse().unwrap(), &mut violations);
    match expected {
        Ok(expected) => assert_eq!((enforce, violations.into_result().is_ok()), (expected, true)),
        Err(field) => assert_eq!(violations.into_result().unwrap_err().violations[0].field, field),
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,200}".prop_map(Value::from),
    ];
    let name = prop_oneof![
        prop::sample::select(
            &["namespace", "attributes", "cost", "dry_run", "idempotency_key", "checks"][..]
        )
        .prop_map(str::to_owned),
        ".{0,80}",
    ];
    leaf.prop_recursive(3, 24, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::hash_map(name.clone(), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    /// So the service never refuses a field that the gateway let through.
    #[test]
    fn what_is_taken_keeps_the_ranges_of_the_proto(body in any_json()) {
        if let Ok(check) = request::one(body.clone(), None, Violations::default()) {
            prop_assert!(check.namespace.len() <= 128);
            prop_assert!(check.attributes.len() <= 64);
            prop_assert!(check.attributes.iter().all(|entry| (1..=64).contains(&entry.key.len())));
            prop_assert!((1..=1_000_000_000).contains(&check.cost.unwrap_or(1)));
            prop_assert!(check.idempotency_key.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
        }
        match request::batch(body, None, Violations::default()) {
            Ok(batch) => prop_assert!((1..=100).contains(&batch.checks.len())),
            Err(problem) => prop_assert!(!problem.violations.is_empty()),
        }
    }
}

fn identity() -> pb::KeyIdentity {
    pb::KeyIdentity {
        id: "k-1".to_owned(),
        lineage_id: "k-0".to_owned(),
        name: "Checkout".to_owned(),
        environment: "live".to_owned(),
        scopes: vec!["a:read".to_owned()],
        expires_at_ms: 1_735_689_600_000,
        metadata: vec![pb::key_identity::MetadataEntry {
            key: "team".to_owned(),
            value: "billing".to_owned(),
        }],
        organization_id: "o-1".to_owned(),
        organization_name: "Acme".to_owned(),
        plan: "free".to_owned(),
    }
}

fn by_organization(check: &CheckRequest) -> Result<CheckResponse, Status> {
    match &*check.api_key {
        "tk_live_right" => return Ok(CheckResponse { key: Some(identity()), ..admitted(7) }),
        "tk_live_revoked" => {
            let code = pb::Code::KeyRevoked.into();
            let key = Some(identity());
            return Ok(CheckResponse {
                code,
                key,
                decision_id: admitted(7).decision_id,
                ..CheckResponse::default()
            });
        }
        _ => {}
    }
    let organization = check.attributes.first().map_or("", |entry| entry.value.as_str());
    match organization {
        "spent" => Ok(denied()),
        "unlimited" => Ok(CheckResponse { limits: Vec::new(), binding_limit: None, ..admitted(0) }),
        "leased" => {
            let lease = Some(Lease { id: "Ab_-9".to_owned(), expires_after_ms: 30_000 });
            Ok(CheckResponse { lease, ..admitted(7) })
        }
        "nowhere" => Err(status(Code::NotFound, "NAMESPACE_NOT_FOUND", "no policy in \"x\"", None)),
        "broken" => Ok(CheckResponse { binding_limit: Some(9), ..admitted(0) }),
        _ => Ok(admitted(7)),
    }
}

async fn call(target: &str, body: Value) -> Answer {
    let upstream = Upstream::start(by_organization);
    let edge = fixture::edge(config_with(&upstream.url(), "")).await;
    let mut request = fixture::request("POST", target, &body.to_string());
    request.headers_mut().insert("x-request-id", HeaderValue::from_static("order-7"));
    ask(&edge, LOCAL, request).await
}

async fn check_of(organization: &str, query: &str) -> Answer {
    call(&format!("/v1/check{query}"), json!({"attributes": {"organization": organization}})).await
}

#[tokio::test]
async fn an_admission_is_a_200_with_every_limit() {
    let answer = check_of("acme", "").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("x-ratelimit-remaining"), "7");
    insta::assert_json_snapshot!(answer.json);
}

#[tokio::test]
async fn a_denial_is_a_200_that_says_no() {
    let answer = check_of("spent", "").await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (200, "42"));
    insta::assert_json_snapshot!(answer.json);
}

#[tokio::test]
async fn a_denial_is_a_429_if_enforced() {
    let answer = check_of("spent", "?enforce=true").await;
    assert_eq!(answer.status, 429);
    insta::assert_debug_snapshot!(answer.headers);
    insta::assert_json_snapshot!(answer.json);
}

#[tokio::test]
async fn what_nothing_limits_has_no_headers_and_no_binding_limit() {
    let answer = check_of("unlimited", "?enforce=true").await;
    assert_eq!((answer.status.as_u16(), answer.header("ratelimit")), (200, ""));
    assert_eq!((&answer.json["limits"], &answer.json["binding_limit"]), (&json!([]), &json!(null)));
}

#[tokio::test]
async fn a_lease_that_a_check_takes_is_told() {
    let answer = check_of("leased", "?enforce=true").await;
    assert_eq!(answer.json["lease"], json!({"id": "Ab_-9", "expires_after_ms": 30_000}));
}

#[tokio::test]
async fn whose_a_key_is_is_told_with_the_decision() {
    let answer = call("/v1/check", json!({"api_key": "tk_live_right"})).await;
    assert_eq!(answer.status, 200);
    let expected = json!({
        "id": "k-1", "lineage_id": "k-0", "name": "Checkout", "environment": "live", "scopes": ["a:read"],
        "expires_at": "2025-01-01T00:00:00Z", "metadata": {"team": "billing"},
    });
    assert_eq!(answer.json["key"], expected);
    assert_eq!(answer.json["organization"], json!({"id": "o-1", "name": "Acme", "plan": "free"}));
}

#[tokio::test]
async fn a_denied_key_is_a_200_that_says_no_or_a_401_if_enforced() {
    let body = json!({"api_key": "tk_live_revoked"});
    let told = call("/v1/check", body.clone()).await;
    assert_eq!(
        (told.status.as_u16(), &told.json["allowed"], &told.json["code"]),
        (200, &json!(false), &json!("key_revoked"))
    );
    let enforced = call("/v1/check?enforce=true", body).await;
    assert_eq!((enforced.status.as_u16(), &enforced.json["error"]), (401, &json!("key_revoked")));
    assert_eq!((enforced.header("www-authenticate"), enforced.header("retry-after")), ("Bearer", ""));
}

#[rstest]
#[case("/v1/check", json!({"api_key": "tk_live_ignored"}))]
#[case("/v1/check:batch", json!({"checks": [{}, {"api_key": "tk_live_ignored"}]}))]
#[tokio::test]
async fn a_service_that_does_not_know_of_keys_admits_none(#[case] target: &str, #[case] body: Value) {
    let answer = call(target, body).await;
    assert_eq!((answer.status.as_u16(), &answer.json["error"]), (500, &json!("internal")));
}

#[tokio::test]
async fn an_answer_out_of_contract_is_a_500_that_tells_nothing() {
    let answer = check_of("broken", "").await;
    assert_eq!((answer.status.as_u16(), &answer.json["error"]), (500, &json!("internal")));
}

#[tokio::test]
async fn each_check_of_a_batch_has_its_own_outcome_in_its_place() {
    let of = |organization: &str| json!({"attributes": {"organization": organization}});
    let answer = call("/v1/check:batch", json!({"checks": [of("acme"), of("nowhere"), of("spent")]})).await;
    assert_eq!((answer.status.as_u16(), answer.header("ratelimit")), (200, ""));
    assert_eq!(answer.json["results"].as_array().unwrap().len(), 3);
    assert_eq!(answer.json["results"][0]["allowed"], json!(true));
    assert_eq!(answer.json["results"][2]["code"], json!("rate_limited"));
    insta::assert_json_snapshot!(answer.json["results"][1]);
}

#[tokio::test]
async fn a_service_that_cannot_be_reached_is_a_503_without_its_address() {
    let edge = fixture::edge(config_with(NOBODY, "")).await;
    for target in ["/v1/check", "/v1/check:batch"] {
        let body = if target.ends_with("batch") { r#"{"checks":[{}]}"# } else { "{}" };
        let answer = ask(&edge, LOCAL, fixture::request("POST", target, body)).await;
        assert_eq!((answer.status.as_u16(), &answer.json["error"]), (503, &json!("service_unavailable")));
        assert!(!answer.json.to_string().contains("127.0.0.1"), "{answer:?}");
    }
}

#[tokio::test]
async fn the_id_and_the_trace_of_the_request_are_passed_on() {
    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let upstream = Upstream::start(by_organization);
    let edge = fixture::edge(config_with(&upstream.url(), "")).await;
    let mut request = fixture::request("POST", "/v1/check", r#"{"cost":2}"#);
    request.headers_mut().insert("x-request-id", HeaderValue::from_static("order-7"));
    request.headers_mut().insert("traceparent", HeaderValue::from_static(TRACE));
    request.headers_mut().append("tracestate", HeaderValue::from_static("one=1"));
    request.headers_mut().append("tracestate", HeaderValue::from_static("two=2"));
    request.headers_mut().insert("authorization", HeaderValue::from_static("Bearer secret"));
    assert_eq!(ask(&edge, LOCAL, request).await.status, 200);
    let (check, metadata) = upstream.seen().remove(0);
    assert_eq!(check.cost, Some(2));
    assert_eq!(
        (&metadata["x-request-id"], &metadata["traceparent"]),
        (&"order-7".parse().unwrap(), &TRACE.parse().unwrap())
    );
    let states: Vec<_> = metadata.get_all("tracestate").iter().collect();
    assert_eq!(states, ["one=1", "two=2"]);
    assert!(metadata.contains_key("grpc-timeout"), "{metadata:?}");
    assert!(!metadata.contains_key("authorization"), "a credential was passed on");
}
