//! The story of a newcomer: an account, a key, its limits, its rotation, another plan, the end.

use http::{Method, StatusCode};
use serde_json::{Value, json};
use tidegate_tests::{
    rest::{Rest, text},
    stack::{Stack, StackSettings},
    test_result::TestResult,
    turn,
};

/// A check of a backend for a caller with this key: the status of the answer, as a proxy would act on it.
async fn enforced(backend: &Rest, key: &str) -> anyhow::Result<(StatusCode, Value)> {
    let body = json!({"api_key": key});
    let answer = backend.ask(Method::POST, "/v1/check?enforce=true", &body).await?;
    Ok((answer.status, answer.json()))
}

async fn told(stack: &Stack) -> TestResult {
    let (admin, backend) = (stack.admin().await?, stack.backend().await?);

    let ada = json!({
        "email": "ada@example.com",
        "password": "a long and unlikely one",
        "organization_name": "Analytical Engines",
    });
    let signed_up = stack.rest().post("/v1/auth/signup", &ada, 201).await?;
    let owner = stack.rest().with(&text(&signed_up, "/access_token")?);
    let organization = text(&signed_up, "/organization/id")?;
    assert_eq!(signed_up.pointer("/organization/plan"), Some(&json!("free")), "{signed_up}");

    let made = owner.post("/v1/auth/api-keys", &json!({"name": "Production API Key"}), 201).await?;
    let key = text(&made, "/key_value")?;
    let id = text(&made, "/id")?;
    let shown = owner.get(&format!("/v1/auth/api-keys/{id}")).await?;
    assert!(!shown.to_string().contains(&key), "the value is shown once: {shown}");

    let mut statuses = Vec::new();
    for _ in 0..12 {
        let (status, answer) = enforced(&backend, &key).await?;
        if status == StatusCode::TOO_MANY_REQUESTS {
            assert_eq!(answer["error"], "rate_limit_exceeded", "{answer}");
            assert_eq!(answer["violated_policies"], json!(["free/minute"]), "{answer}");
        }
        statuses.push(status.as_u16());
    }
    assert_eq!(statuses, [200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 429, 429]);

    let rotated = owner.post(&format!("/v1/auth/api-keys/{id}/rotate"), &json!({}), 200).await?;
    assert_eq!(rotated.pointer("/old_key/is_active"), Some(&json!(false)), "{rotated}");
    assert_eq!(rotated.pointer("/new_key/name"), Some(&json!("Production API Key (Rotated)")), "{rotated}");
    let new_key = text(&rotated, "/new_key/key_value")?;
    let new_id = text(&rotated, "/new_key/id")?;
    let (status, answer) = enforced(&backend, &key).await?;
    assert_eq!((status, &answer["error"]), (StatusCode::UNAUTHORIZED, &json!("key_revoked")), "{answer}");
    // Its limits carried on: a rotation is no way to have them anew.
    let (status, answer) = enforced(&backend, &new_key).await?;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS, "{answer}");

    admin.patch(&format!("/v1/organizations/{organization}"), &json!({"plan": "business"})).await?;
    let allowed = backend.post("/v1/check", &json!({"api_key": new_key}), 200).await?;
    assert_eq!(allowed["allowed"], true, "{allowed}");
    let minute = |limit: &Value| limit["name"] == "business/minute" && limit["limit"] == 100;
    assert!(allowed["limits"].as_array().is_some_and(|limits| limits.iter().any(minute)), "{allowed}");
    assert_eq!(allowed.pointer("/organization/id"), Some(&json!(organization)), "{allowed}");
    assert_eq!(allowed.pointer("/key/id"), Some(&json!(new_id)), "{allowed}");

    let revoked = owner.post(&format!("/v1/auth/api-keys/{new_id}/revoke"), &json!({}), 200).await?;
    assert_eq!(revoked["is_active"], false, "{revoked}");
    let (status, answer) = enforced(&backend, &new_key).await?;
    assert_eq!((status, &answer["error"]), (StatusCode::UNAUTHORIZED, &json!("key_revoked")), "{answer}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn story_is_told_with_counters_in_redis_and_keys_in_postgres() -> TestResult {
    let _turn = turn::shared().await;
    told(&Stack::start(&StackSettings { redis: true, postgres: true, ..StackSettings::default() }).await?)
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn story_is_told_with_the_embedded_stores() -> TestResult {
    let _turn = turn::shared().await;
    told(&Stack::start(&StackSettings::default()).await?).await
}
