use std::collections::BTreeSet;

use http::StatusCode;
use rstest::rstest;
use serde_json::{Value, json};

use crate::{
    access,
    edge::Edge,
    fixture::{LOCAL, NOBODY, ask, config_with, edge, request},
};

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
/// Described as GET and served by any method.
const ANY_METHOD: &str = "/v1/forward-auth";
/// Described there, since the paths of others follow.
const BELOW: [&str; 2] = [access::FORWARD_AUTH_ROOT, access::FORWARD_AUTH_BELOW];
const REFERENCE: &str = include_str!("../../../docs/reference/rest.md");

async fn unlimited() -> Edge {
    edge(config_with(NOBODY, "[anonymous]\nenabled = false")).await
}

fn document() -> Value {
    serde_json::from_str(&super::openapi()).unwrap()
}

/// `POST /v1/check` and so on, of the OpenAPI document.
fn described() -> BTreeSet<String> {
    let document = document();
    let paths = document["paths"].as_object().unwrap().iter();
    paths
        .flat_map(|(path, item)| {
            item.as_object().unwrap().keys().map(move |method| format!("{} {path}", method.to_uppercase()))
        })
        .collect()
}

#[tokio::test]
async fn what_is_described_is_served_and_nothing_else_is() {
    let (edge, described) = (unlimited().await, described());
    let document = document();
    for path in document["paths"].as_object().unwrap().keys() {
        for method in METHODS {
            // What could be there, so that 404 says that the call is not.
            let example =
                path.replace("{id}", "shop:calls").replace("{name}", "free").replace(['{', '}'], "");
            let served = ask(&edge, LOCAL, request(method, &example, "{}")).await.status;
            // HEAD comes with GET.
            let asked = if method == "HEAD" { "GET" } else { method };
            let is_described = path == ANY_METHOD || described.contains(&format!("{asked} {path}"));
            assert_ne!(served, StatusCode::NOT_FOUND, "{path}");
            assert_eq!(served != StatusCode::METHOD_NOT_ALLOWED, is_described, "{method} {path}: {served}");
        }
    }
    // The router prints the path of each route that it knows, and those of its own fallback.
    let router = format!("{:?}", edge.router());
    let quoted = router.split('"').filter(|word| word.starts_with('/'));
    let is_elsewhere = |path: &str| path == "/" || path.contains("__private__") || BELOW.contains(&path);
    let routed: BTreeSet<_> = quoted.filter(|path| !is_elsewhere(path)).collect();
    let paths: BTreeSet<_> = document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(routed, paths);
    assert_eq!(ask(&edge, LOCAL, request("GET", "/", "")).await.status, StatusCode::NOT_FOUND);
}

#[test]
fn the_reference_describes_the_same_calls() {
    let headings = REFERENCE.lines().filter_map(|line| line.strip_prefix("## `")?.strip_suffix('`'));
    let written: BTreeSet<_> = headings.map(str::to_owned).collect();
    assert_eq!(written, described());
}

#[test]
fn whatever_needs_no_credentials_says_so() {
    let document = document();
    for (path, item) in document["paths"].as_object().unwrap() {
        let is_open = !path.starts_with("/v1/") || access::OPEN.contains(&&**path) || path == ANY_METHOD;
        for (method, operation) in item.as_object().unwrap() {
            let says_so = operation["security"] == json!([{}]);
            assert_eq!(says_so, is_open, "{method} {path}: {}", operation["security"]);
        }
    }
}

#[tokio::test]
async fn the_document_is_served_as_it_is_generated() {
    let answer = ask(&unlimited().await, LOCAL, request("GET", "/openapi.json", "")).await;
    assert_eq!((answer.status, answer.header("content-type")), (StatusCode::OK, "application/json"));
    assert_eq!(answer.json, document());
    assert!(answer.json["openapi"].as_str().unwrap().starts_with("3.1."), "{}", answer.json["openapi"]);
}

/// Every `$ref` below `value`.
fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[test]
fn every_schema_that_is_referred_to_is_there() {
    let document = document();
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    assert!(found.len() > 5, "{found:?}");
    for reference in found {
        assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
    }
}

#[test]
fn an_unknown_or_null_field_is_refused_by_the_schema_too() {
    let schemas = &document()["components"]["schemas"];
    for name in [
        "Check",
        "CheckBatch",
        "AcquireLease",
        "RenewLease",
        "ReleaseLease",
        "LogIn",
        "UpdateOrganization",
        "GrantCredits",
    ] {
        assert_eq!(schemas[name]["additionalProperties"], Value::Bool(false), "{name}");
        for (field, schema) in schemas[name]["properties"].as_object().unwrap() {
            assert!(schema["type"].is_string(), "{name}.{field} may be null: {schema}");
        }
    }
}

#[test]
fn every_call_and_field_is_explained() {
    let document = document();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{method} {path}");
        }
    }
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        for (field, property) in schema["properties"].as_object().into_iter().flatten() {
            // What may be null is explained where it is something else.
            let is_explained =
                property["description"].is_string() || property["oneOf"][0]["description"].is_string();
            assert!(is_explained, "{name}.{field}: {property}");
        }
    }
}

#[rstest]
#[case("/v1/check", r#"{"cost":1,"cost":7,"attributes":{"organization":"a","organization":"b"}}"#, &["cost", "attributes[organization]"])]
#[case("/v1/check:batch", r#"{"checks":[{"cost":1,"cost":7}]}"#, &["checks[0].cost"])]
#[tokio::test]
async fn a_name_given_twice_is_a_violation(#[case] path: &str, #[case] body: &str, #[case] fields: &[&str]) {
    let edge = unlimited().await;
    let answer = ask(&edge, LOCAL, request("POST", path, body)).await;
    assert_eq!((answer.status.as_u16(), &answer.json["error"]), (400, &json!("invalid_argument")));
    let violations = answer.json["violations"].as_array().unwrap();
    let named: Vec<_> = violations.iter().map(|violation| violation["field"].as_str().unwrap()).collect();
    assert_eq!(named, fields);
}
