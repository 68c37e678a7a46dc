//! Policies and plans as they are read and written. Whole calls are tried on a real service, in `tests/`.

use rstest::rstest;
use serde_json::{Value, json};
use tidegate_proto::ratelimit::v1::{EntryMeta, Origin, PlanOf, Policy};

use super::{answer::PlanBody, *};
use crate::routes::entries::merged;

fn read(body: &Value) -> Policy {
    let mut violations = Violations::default();
    let policy = request::policy(body.clone(), &mut violations);
    violations.into_result().expect("no fault");
    policy
}

fn whole() -> Value {
    json!({
        "namespace": "shop", "name": "calls", "match": {"method": ["GET"], "path": ["/v1/*", "/v2"]}, "when": "cost > 1",
        "key_by": ["user"], "descriptor": [{"key": "path", "value": "/v1/*", "shared": true}, {"key": "user"}],
        "replaces": ["other"], "plan": {"attribute": "plan", "default": "free"},
        "limits": [
            {"name": "minute", "algorithm": "token_bucket", "limit": 10, "period": "1m", "burst": 20},
            {"name": "hour", "algorithm": "fixed_window", "rate": "5/hour"},
            {"name": "running", "algorithm": "concurrency", "limit": 3, "lease": "30s"},
        ],
        "unlimited": true, "enforcement": "shadow", "failure_mode": "local", "on_data_loss": "strict", "on_limit": {"upgrade_plan": "gold"},
    })
}

#[test]
fn every_field_arrives_and_comes_back() {
    let policy = read(&whole());
    assert_eq!(policy.plan_of, Some(PlanOf { attribute: "plan".into(), default: "free".into() }));
    assert_eq!(policy.upgrade_plan, "gold");
    assert_eq!(serde_json::to_value(PolicyBody::new(&policy)).unwrap(), whole());
    let fixed = read(&json!({"plan": "free", "match": {"host": "*"}}));
    assert_eq!(
        (&*fixed.plan, &fixed.r#match[0].value.as_ref().unwrap().values[..]),
        ("free", &["*".to_owned()][..])
    );

    let plan = json!({"name": "gold", "limits": [{"name": "day", "algorithm": "sliding_log", "limit": 9, "period": "1d"}]});
    let mut violations = Violations::default();
    let read = request::plan(plan.clone(), &mut violations);
    violations.into_result().expect("no fault");
    assert_eq!(serde_json::to_value(PlanBody::new(&read)).unwrap(), plan);
}

#[test]
fn what_the_service_says_of_an_entry_is_beside_it() {
    let time = |seconds| Some(prost_types::Timestamp { seconds, nanos: 250_000_000 });
    let meta = EntryMeta {
        origin: Origin::Database.into(),
        id: "unused".into(),
        version: 7,
        etag: "1f".into(),
        create_time: time(1_735_689_600),
        update_time: time(1_735_689_601),
        hides_database_entry: false,
    };
    let policy = Policy { namespace: "a/b".into(), name: "c".into(), meta: Some(meta), ..Policy::default() };
    let shown = serde_json::to_value(PolicyAnswer::new(&policy)).unwrap();
    assert_eq!(shown["id"], "a/b:c");
    let expected = json!({
        "origin": "database", "version": 7, "etag": "1f", "created_at": "2025-01-01T00:00:00.25Z",
        "updated_at": "2025-01-01T00:00:01.25Z", "hides_database_entry": false,
    });
    assert_eq!(shown["meta"], expected);
    let meta = EntryMeta { origin: Origin::File.into(), ..EntryMeta::default() };
    let of_file = serde_json::to_value(PolicyAnswer::new(&Policy { meta: Some(meta), ..policy })).unwrap();
    assert_eq!(of_file["meta"], json!({"origin": "file", "hides_database_entry": false}));
}

#[rstest]
#[case::not_an_object(json!([]), &["body"])]
#[case::null(json!({"when": null}), &["when"])]
#[case::wrong_types(
    json!({"namespace": 1, "key_by": "user", "unlimited": 1, "plan": 5, "match": [], "descriptor": [7], "on_limit": "x"}),
    &["namespace", "match", "key_by", "descriptor[0]", "plan", "on_limit", "unlimited"]
)]
#[case::deep_inside(
    json!({"match": {"a": [1]}, "limits": [{"name": "x", "limit": -1, "rat": "5/s"}, {"algorithm": "leaky"}]}),
    &["match.a[0]", "limits[0].limit", "limits[0].rat", "limits[1].algorithm"]
)]
#[case::unknown_words(json!({"enforcement": "maybe", "failure_mode": "ajar"}), &["enforcement", "failure_mode"])]
#[case::unknown_fields(
    json!({"id": "a:b", "meta": {}, "plan": {"attribute": "a", "else": "b"}, "on_limit": {"mail": 1}}),
    &["plan.else", "on_limit.mail", "id", "meta"]
)]
fn every_wrong_field_is_named(#[case] body: Value, #[case] fields: &[&str]) {
    let mut violations = Violations::default();
    request::policy(body, &mut violations);
    let problem = violations.into_result().expect_err("refused");
    let named: Vec<_> = problem.violations.iter().map(|violation| &*violation.field).collect();
    assert_eq!(named, fields);
}

#[test]
fn a_patch_replaces_fields_as_a_whole_takes_nulls_away_and_leaves_names() {
    let before = PolicyBody::new(&read(&whole()));
    let mut violations = Violations::default();
    let patch = json!({"name": "calls", "match": {"host": ["*"]}, "limits": null, "when": null});
    let after = merged(&before, patch, &["namespace", "name"], &mut violations);
    let mut expected = whole();
    expected["match"] = json!({"host": ["*"]});
    expected.as_object_mut().unwrap().retain(|name, _| name != "limits" && name != "when");
    assert_eq!(after, expected);
    merged(&before, json!({"name": "other", "namespace": null}), &["namespace", "name"], &mut violations);
    let problem = violations.into_result().expect_err("refused");
    let named: Vec<_> = problem.violations.iter().map(|violation| &*violation.field).collect();
    assert_eq!(named, ["name", "namespace"]);
}
