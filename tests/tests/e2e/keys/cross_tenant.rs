//! Nobody sees or changes what is another organization's.

use http::Method;
use serde_json::{Value, json};
use tidegate_tests::{
    rest::{Rest, text},
    stack::{Stack, StackSettings},
    test_result::TestResult,
    turn,
};

struct Tenant {
    owner: Rest,
    organization: String,
    user: String,
    key: String,
    key_value: String,
    invitation: String,
    service_token: String,
    backend: Rest,
}

async fn tenant(stack: &Stack, name: &str) -> anyhow::Result<Tenant> {
    let (owner, organization) = stack.tenant(&format!("{name}@example.com"), name).await?;
    let me = owner.get("/v1/auth/me").await?;
    let made = owner.post("/v1/auth/api-keys", &json!({"name": format!("key of {name}")}), 201).await?;
    let path = format!("/v1/organizations/{organization}/invitations");
    let body = json!({"email": format!("friend.of.{name}@example.com"), "role": "user"});
    let invited = owner.post(&path, &body, 201).await?;
    let token =
        owner.post("/v1/auth/service-tokens", &json!({"name": format!("{name} backend")}), 201).await?;
    Ok(Tenant {
        user: text(&me, "/user/id")?,
        key: text(&made, "/id")?,
        key_value: text(&made, "/key_value")?,
        invitation: text(&invited, "/id").or_else(|_| text(&invited, "/invitation/id"))?,
        service_token: text(&token, "/id").or_else(|_| text(&token, "/service_token/id"))?,
        backend: stack.rest().with(&text(&token, "/token")?),
        owner,
        organization,
    })
}

/// Every call that names something of `of`.
fn calls(of: &Tenant) -> Vec<(Method, String, Value)> {
    let Tenant { organization, user, key, invitation, service_token, .. } = of;
    let keys = format!("/v1/auth/api-keys/{key}");
    let org = format!("/v1/organizations/{organization}");
    vec![
        (Method::GET, keys.clone(), Value::Null),
        (Method::PATCH, keys.clone(), json!({"name": "mine now"})),
        (Method::POST, format!("{keys}/rotate"), json!({})),
        (Method::POST, format!("{keys}/revoke"), json!({})),
        (Method::DELETE, keys.clone(), Value::Null),
        (Method::GET, format!("{keys}/usage"), Value::Null),
        (Method::GET, format!("{keys}/credits"), Value::Null),
        (Method::POST, format!("{keys}/credits"), json!({"amount": 5})),
        (Method::GET, org.clone(), Value::Null),
        (Method::PATCH, org.clone(), json!({"name": "mine now"})),
        (Method::GET, format!("{org}/members"), Value::Null),
        (Method::DELETE, format!("{org}/members/{user}"), Value::Null),
        (Method::PATCH, format!("{org}/members/{user}"), json!({"role": "user"})),
        (Method::GET, format!("{org}/invitations"), Value::Null),
        (Method::POST, format!("{org}/invitations"), json!({"email": "x@example.com", "role": "user"})),
        (Method::DELETE, format!("{org}/invitations/{invitation}"), Value::Null),
        (Method::GET, format!("{org}/limits"), Value::Null),
        (Method::POST, format!("{org}/limits:reset"), json!({})),
        (Method::DELETE, format!("/v1/auth/service-tokens/{service_token}"), Value::Null),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_another_organization_is_seen_or_changed() -> TestResult {
    let _turn = turn::shared().await;
    let stack = Stack::start(&StackSettings { postgres: true, ..StackSettings::default() }).await?;
    let (a, b) = (tenant(&stack, "anna").await?, tenant(&stack, "berta").await?);
    let secrets = [&a.organization, &a.key, &a.user, &a.key_value, "key of anna", "friend.of.anna"];
    for (method, path, body) in calls(&a) {
        for (who, other) in [("another's owner", &b.owner), ("another's backend", &b.backend)] {
            let answer = other.ask(method.clone(), &path, &body).await?;
            let shown = format!("{method} {path} by {who}: {} {}", answer.status, answer.text());
            assert!([403, 404].contains(&answer.status.as_u16()), "{shown}");
            // What was asked for stands in `instance`; nothing else is told.
            let mut told = answer.json();
            if let Some(problem) = told.as_object_mut() {
                problem.remove("instance");
            }
            for secret in secrets {
                assert!(!told.to_string().contains(secret), "{secret} is told: {shown}");
            }
        }
        let nobody = stack.rest().ask(method.clone(), &path, &body).await?;
        assert_eq!(nobody.status, 401, "{method} {path} by nobody: {}", nobody.text());
    }
    // Lists of the other hold nothing of it.
    for path in ["/v1/auth/api-keys", "/v1/auth/service-tokens"] {
        let listed = b.owner.get(path).await?.to_string();
        assert!(secrets.iter().all(|secret| !listed.contains(*secret)), "{path}: {listed}");
    }
    // A check by the key of another is by nobody's key.
    let checked = b.backend.post("/v1/check", &json!({"api_key": a.key_value}), 200).await?;
    assert_eq!(checked["code"], "key_not_found", "{checked}");
    let own = a.backend.post("/v1/check", &json!({"api_key": a.key_value}), 200).await?;
    assert_eq!((&own["code"], own.pointer("/key/id")), (&json!("ok"), Some(&json!(a.key))), "{own}");
    // And nothing of it was changed.
    let key = a.owner.get(&format!("/v1/auth/api-keys/{}", a.key)).await?;
    assert_eq!((&key["name"], &key["is_active"]), (&json!("key of anna"), &json!(true)), "{key}");
    stack.assert_no_panic().await?;
    Ok(())
}
