//! Whole calls against a small gRPC server, which says what it was asked.

use rstest::rstest;
use serde_json::{Value, json};

use crate::fixture::{self, Answer, LOCAL, Upstream, admitted, ask, config_with};

async fn call(method: &str, target: &str, body: &str) -> Answer {
    let upstream = Upstream::start(|_| Ok(admitted(7)));
    let edge = fixture::edge(config_with(&upstream.url(), "")).await;
    ask(&edge, LOCAL, fixture::request(method, target, body)).await
}

#[tokio::test]
async fn use_is_shown_of_every_limit() {
    let answer = call("GET", "/v1/organizations/acme/limits", "").await;
    let expected = json!({
        "organization": "acme",
        "limits": [{
            "name": ": organization=acme", "algorithm": "token_bucket", "limit": 10, "used": 5, "remaining": 15,
            "capacity": 20, "reset": 1_735_689_630, "period_seconds": 1.5, "shadow": true,
        }],
    });
    assert_eq!((answer.status.as_u16(), answer.json), (200, expected));
}

#[rstest]
#[case::of_a_namespace_and_a_plan(
    "acme/limits?namespace=shop&plan=free",
    "shop: organization=acme plan=free"
)]
#[case::with_a_slash_and_a_blank("a%2Fb%20c/limits", ": organization=a/b c")]
#[case::not_ascii("zo%C3%AB/limits", ": organization=zoë")]
#[tokio::test]
async fn it_is_asked_for(#[case] target: &str, #[case] asked: &str) {
    let answer = call("GET", &format!("/v1/organizations/{target}"), "").await;
    assert_eq!(answer.json["limits"][0]["name"], asked, "{answer:?}");
}

#[rstest]
#[case::everything("{}", ": organization=acme: ")]
#[case::one_limit(r#"{"limit":"free/minute"}"#, ": organization=acme: free/minute")]
#[case::of_another_plan(
    r#"{"limit":"gold/day","plan":"gold","namespace":"shop"}"#,
    "shop: organization=acme plan=gold: gold/day"
)]
#[tokio::test]
async fn what_is_cleared_is_what_was_asked_for(#[case] body: &str, #[case] asked: &str) {
    let answer = call("POST", "/v1/organizations/acme/limits:reset", body).await;
    let expected = json!({"organization": "acme", "limits": [asked]});
    assert_eq!((answer.status.as_u16(), answer.json), (200, expected));
}

#[rstest]
#[case::of_the_query("GET", "acme/limits?namspace=x&plan=a&plan=b", "", &["plan", "namspace"])]
#[case::of_the_path("GET", &format!("{}/limits", "x".repeat(513)), "", &["id"])]
#[case::of_the_body(
    "POST", "acme/limits:reset?dry_run=true", r#"{"limit":5,"plan":null,"what":"else"}"#,
    &["dry_run", "plan", "limit", "what"]
)]
#[case::no_object("POST", "acme/limits:reset", "[]", &["body"])]
#[tokio::test]
async fn every_wrong_field_is_named(
    #[case] method: &str,
    #[case] target: &str,
    #[case] body: &str,
    #[case] fields: &[&str],
) {
    let answer = call(method, &format!("/v1/organizations/{target}"), body).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.json["error"]),
        (400, &json!("invalid_argument")),
        "{answer:?}"
    );
    let violations = answer.json["violations"].as_array().expect("they are listed");
    let named: Vec<_> =
        violations.iter().map(|violation| violation["field"].as_str().unwrap_or("")).collect();
    assert_eq!(named, fields);
}

#[tokio::test]
async fn a_namespace_without_policies_is_not_found() {
    let answer = call("GET", "/v1/organizations/acme/limits?namespace=nowhere", "").await;
    assert_eq!((answer.status.as_u16(), &answer.json["error"]), (404, &json!("not_found")));
    assert_eq!(answer.json["limits"], Value::Null);
}
