//! Overrides as they are read and written. Whole calls are tried on a real service, in `tests/`.

use serde_json::json;

use super::*;

#[test]
fn every_field_arrives_and_comes_back() {
    let whole = json!([
        {"namespace": "shop", "policy": "calls", "limit": "gold/minute", "key": {"path": "/v1/*", "user": "ann"}, "tokens": 5, "period": "1h", "burst": 9},
        {"namespace": "shop", "policy": "calls", "limit": "hour", "key": {}, "rate": "5/hour"},
    ]);
    let mut violations = Violations::default();
    let read = body::overrides(json!({"overrides": whole}), &mut violations);
    violations.into_result().expect("no fault");
    let mut back = serde_json::to_value(read.iter().map(OverrideAnswer::new).collect::<Vec<_>>()).unwrap();
    for of in back.as_array_mut().into_iter().flatten() {
        let meta = of.as_object_mut().and_then(|of| of.remove("meta")).expect("it is beside");
        assert_eq!(meta, json!({"origin": "unspecified", "hides_database_entry": false}));
    }
    assert_eq!(back, whole);
}

#[test]
fn every_field_of_a_wrong_type_or_name_is_told() {
    let mut violations = Violations::default();
    let faulty = json!({"overrides": [
        {"namespace": 1, "policy": [], "limit": {}, "key": {"user": 5}, "tokens": -1, "period": 60, "burst": "9", "rate": 5, "tokns": 1},
        7,
    ], "more": 1});
    body::overrides(faulty, &mut violations);
    body::target(json!({"key": "acme", "tokens": 1}), &mut violations);
    let problem = violations.into_result().expect_err("it has faults");
    let mut told: Vec<_> = problem.violations.iter().map(|violation| violation.field.clone()).collect();
    told.sort();
    let fields = ["burst", "key.user", "limit", "namespace", "period", "policy", "rate", "tokens", "tokns"];
    let of_first = fields.map(|field| format!("overrides[0].{field}"));
    let mut expected: Vec<_> = of_first.into_iter().collect();
    expected.extend(["key", "more", "overrides[1]", "tokens"].map(str::to_owned));
    expected.sort();
    assert_eq!(told, expected);
}
