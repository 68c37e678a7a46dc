//! Policies and plans over REST, on a real service with a database.

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tidegate_tests::{
    http_client::{self, Answer},
    services::{RateLimitSettings, Service},
    test_result::TestResult,
    turn,
};

/// A gateway before a service, which keeps policies in a database of its own if it has a folder for it.
async fn gateway(folder: Option<&std::path::Path>) -> anyhow::Result<(Service, Service)> {
    let database = |folder: &std::path::Path| {
        format!("[database]\nurl = \"sqlite://{}/policies.db\"\n", folder.display())
    };
    let toml = folder.map(database).unwrap_or_default();
    let ratelimit = Service::ratelimit(&RateLimitSettings { toml, ..RateLimitSettings::default() }).await?;
    let gateway = Service::gateway(&[ratelimit.address()], "").await?;
    Ok((ratelimit, gateway))
}

async fn ask(
    gateway: &Service,
    method: Method,
    path: &str,
    if_match: &str,
    body: Option<Value>,
) -> anyhow::Result<Answer> {
    let mut headers = Vec::new();
    if body.is_some() {
        headers.push(("content-type", "application/json"));
    }
    if !if_match.is_empty() {
        headers.push(("if-match", if_match));
    }
    let body = body.map_or_else(Bytes::new, |body| body.to_string().into());
    http_client::request(gateway.address(), method, path, &headers, body).await
}

fn violations(answer: &Answer) -> Vec<String> {
    let listed = answer.json()["violations"].as_array().cloned().unwrap_or_default();
    listed.iter().filter_map(|violation| violation["field"].as_str().map(str::to_owned)).collect()
}

async fn allowed(gateway: &Service) -> anyhow::Result<Value> {
    let body = json!({"namespace": "shop/eu", "attributes": {"user": "ann"}});
    Ok(http_client::post(gateway.address(), "/v1/check", &body).await?.json()["allowed"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_is_created_changed_rolled_back_and_deleted() -> TestResult {
    let _turn = turn::shared().await;
    let folder = tempfile::tempdir()?;
    let (_ratelimit, gateway) = gateway(Some(folder.path())).await?;
    let hour = |limit: u64| json!([{"name": "hour", "limit": limit, "period": "1h"}]);
    let policy = json!({"namespace": "shop/eu", "name": "calls", "key_by": ["user"], "limits": hour(1)});
    let path = "/v1/policies/shop%2Feu:calls";

    let faulty = json!({"namespace": "shop eu", "name": "calls", "limits": [{"name": "hour", "limit": 1}]});
    let refused = ask(&gateway, Method::POST, "/v1/policies", "", Some(faulty)).await?;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{}", refused.text());
    let wrong = violations(&refused);
    for field in ["namespace", "limits[0].period"] {
        assert!(wrong.iter().any(|of| of == field), "{field} is not in {wrong:?}");
    }

    let looked =
        ask(&gateway, Method::POST, "/v1/policies?validate_only=true", "", Some(policy.clone())).await?;
    assert_eq!(looked.status, StatusCode::OK, "{}", looked.text());
    assert_eq!(ask(&gateway, Method::GET, path, "", None).await?.status, StatusCode::NOT_FOUND);

    let created = ask(&gateway, Method::POST, "/v1/policies", "", Some(policy.clone())).await?;
    assert_eq!(created.status, StatusCode::CREATED, "{}", created.text());
    assert_eq!(
        (&created.json()["id"], &created.json()["meta"]["origin"]),
        (&json!("shop/eu:calls"), &json!("database"))
    );
    let first_etag = created.header("etag").to_owned();
    let again = ask(&gateway, Method::POST, "/v1/policies", "", Some(policy)).await?;
    assert_eq!((again.status, &again.json()["error"]), (StatusCode::CONFLICT, &json!("conflict")));
    assert_eq!((allowed(&gateway).await?, allowed(&gateway).await?), (json!(true), json!(false)));

    let raised = ask(&gateway, Method::PATCH, path, &first_etag, Some(json!({"limits": hour(2)}))).await?;
    assert_eq!(raised.status, StatusCode::OK, "{}", raised.text());
    assert_eq!(raised.json()["key_by"], json!(["user"]), "what the patch does not name stays");
    assert_eq!((allowed(&gateway).await?, allowed(&gateway).await?), (json!(true), json!(false)));
    let stale = ask(&gateway, Method::PATCH, path, &first_etag, Some(json!({"limits": hour(9)}))).await?;
    assert_eq!(
        (stale.status, &stale.json()["error"]),
        (StatusCode::PRECONDITION_FAILED, &json!("etag_mismatch"))
    );

    let page = ask(&gateway, Method::GET, &format!("{path}/versions?page_size=1"), "", None).await?.json();
    assert_eq!(page["versions"][0]["policy"]["limits"][0]["limit"], json!(2));
    let token = page["next_page_token"].as_str().unwrap_or_default();
    let next = format!("{path}/versions?page_size=1&page_token={token}");
    let earlier = ask(&gateway, Method::GET, &next, "", None).await?.json();
    let version = earlier["versions"][0]["version"].clone();
    assert_eq!(earlier["versions"][0]["policy"]["limits"][0]["limit"], json!(1));
    let foreign = format!("/v1/policies?page_token={token}");
    assert_eq!(ask(&gateway, Method::GET, &foreign, "", None).await?.status, StatusCode::BAD_REQUEST);

    let body = Some(json!({"version": version}));
    let back = ask(&gateway, Method::POST, &format!("{path}/rollback"), "", body).await?;
    assert_eq!(
        (back.status, &back.json()["limits"]),
        (StatusCode::OK, &earlier["versions"][0]["policy"]["limits"])
    );

    let deleted = ask(&gateway, Method::DELETE, path, back.header("etag"), None).await?;
    assert_eq!((deleted.status, &*deleted.text()), (StatusCode::NO_CONTENT, ""));
    assert_eq!(ask(&gateway, Method::DELETE, path, "", None).await?.status, StatusCode::NOT_FOUND);
    assert_eq!(
        ask(&gateway, Method::GET, "/v1/policies/calls", "", None).await?.status,
        StatusCode::NOT_FOUND
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn plans_are_listed_made_and_kept_while_they_are_needed() -> TestResult {
    let _turn = turn::shared().await;
    let folder = tempfile::tempdir()?;
    let (_ratelimit, gateway) = gateway(Some(folder.path())).await?;
    let built_in = ask(&gateway, Method::GET, "/v1/plans", "", None).await?.json();
    let names: Vec<_> =
        built_in["plans"].as_array().into_iter().flatten().map(|plan| plan["name"].clone()).collect();
    assert_eq!(names, ["business", "enterprise", "free", "startup"].map(|name| json!(name)));
    let read_only =
        ask(&gateway, Method::PATCH, "/v1/plans/free", "", Some(json!({"unlimited": true, "limits": null})))
            .await?;
    assert_eq!(
        (read_only.status, &read_only.json()["error"]),
        (StatusCode::CONFLICT, &json!("entry_read_only"))
    );

    let gold = json!({"name": "gold", "limits": [{"name": "minute", "rate": "7/min"}]});
    let created = ask(&gateway, Method::POST, "/v1/plans", "", Some(gold)).await?;
    assert_eq!(
        (created.status, &created.json()["limits"][0]["rate"]),
        (StatusCode::CREATED, &json!("7/min"))
    );
    let usage = "/v1/organizations/acme/limits?plan=gold";
    let shown = ask(&gateway, Method::GET, usage, "", None).await?;
    assert_eq!(shown.json()["limits"][0]["limit"], json!(7), "{}", shown.text());

    let user = json!({"namespace": "shop", "name": "fixed", "key_by": ["user"], "plan": "gold"});
    let needs_it = ask(&gateway, Method::POST, "/v1/policies", "", Some(user)).await?;
    assert_eq!(needs_it.status, StatusCode::CREATED, "{}", needs_it.text());
    let kept = ask(&gateway, Method::DELETE, "/v1/plans/gold", "", None).await?;
    assert_eq!(
        (kept.status, &kept.json()["error"]),
        (StatusCode::CONFLICT, &json!("entry_in_use")),
        "{}",
        kept.text()
    );
    assert_eq!(
        ask(&gateway, Method::DELETE, "/v1/policies/shop:fixed", "", None).await?.status,
        StatusCode::NO_CONTENT
    );
    assert_eq!(
        ask(&gateway, Method::DELETE, "/v1/plans/gold", "", None).await?.status,
        StatusCode::NO_CONTENT
    );
    assert_eq!(ask(&gateway, Method::GET, "/v1/plans/gold", "", None).await?.status, StatusCode::NOT_FOUND);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_database_policies_are_read_and_not_changed() -> TestResult {
    let _turn = turn::shared().await;
    let (_ratelimit, gateway) = gateway(None).await?;
    let listed = ask(&gateway, Method::GET, "/v1/policies?namespace=default", "", None).await?.json();
    assert_eq!(listed["policies"][0]["id"], json!("default:organization"), "{listed}");
    let policy = json!({"namespace": "shop", "name": "calls", "unlimited": true});
    let refused = ask(&gateway, Method::POST, "/v1/policies", "", Some(policy)).await?;
    let error = refused.json()["error"].clone();
    assert_eq!((refused.status, error), (StatusCode::CONFLICT, json!("database_not_configured")));
    Ok(())
}
