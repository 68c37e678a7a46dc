//! Overrides over gRPC and REST, on a real service with a database.

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tidegate_proto::ratelimit::v1::{
    DeleteOverrideRequest, GetOverrideRequest, ListOverridesRequest, Override, SetOverrideRequest,
    SetOverridesRequest, delete_override_request, get_override_request, r#override::KeyEntry,
};
use tidegate_tests::{
    http_client::{self, Answer},
    rpc,
    services::{RateLimitSettings, Service},
    test_result::TestResult,
    turn,
};

/// A service with a database of its own, and a gateway before it.
async fn services(folder: &std::path::Path) -> anyhow::Result<(Service, Service)> {
    let toml = format!("[database]\nurl = \"sqlite://{}/policies.db\"\n", folder.display());
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
    let mut headers = vec![("content-type", "application/json")];
    headers.extend((!if_match.is_empty()).then_some(("if-match", if_match)));
    let body = body.map_or_else(Bytes::new, |body| body.to_string().into());
    http_client::request(gateway.address(), method, path, &headers, body).await
}

fn fields(answer: &Answer) -> Vec<String> {
    let listed = answer.json()["violations"].as_array().cloned().unwrap_or_default();
    listed.iter().filter_map(|violation| violation["field"].as_str().map(str::to_owned)).collect()
}

/// Limits of an organization as REST shows them: name and tokens.
async fn limits(gateway: &Service, organization: &str) -> anyhow::Result<Vec<(String, u64)>> {
    let path = format!("/v1/organizations/{organization}/limits");
    let shown = ask(gateway, Method::GET, &path, "", None).await?.json();
    let shown = shown["limits"].as_array().cloned().unwrap_or_default();
    let limit =
        |of: &Value| (of["name"].as_str().unwrap_or("").to_owned(), of["limit"].as_u64().unwrap_or(0));
    Ok(shown.iter().map(limit).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_limit_of_one_organization_is_set_and_given_back() -> TestResult {
    let _turn = turn::shared().await;
    let folder = tempfile::tempdir()?;
    let (_ratelimit, gateway) = services(folder.path()).await?;
    let path = "/v1/organizations/acme/limits/minute";
    let check = json!({"attributes": {"organization": "acme"}});
    for _ in 0..3 {
        http_client::post(gateway.address(), "/v1/check", &check).await?;
    }
    let set = ask(&gateway, Method::PUT, path, "", Some(json!({"limit": 4}))).await?;
    assert_eq!(set.status, StatusCode::OK, "{}", set.text());
    assert_eq!(
        (&set.json()["key"], &set.json()["tokens"], &set.json()["meta"]["origin"]),
        (&json!({"organization": "acme"}), &json!(4), &json!("database"))
    );
    let of_acme = limits(&gateway, "acme").await?;
    assert_eq!(of_acme[0], ("free/minute".to_owned(), 4));
    assert_eq!(limits(&gateway, "other").await?[0].1, 10);
    let decided = http_client::post(gateway.address(), "/v1/check", &check).await?.json();
    assert_eq!(
        (&decided["allowed"], &decided["limits"][0]["remaining"]),
        (&json!(true), &json!(0)),
        "what was counted stays: {decided}"
    );

    let etag = set.header("etag").to_owned();
    let raised =
        ask(&gateway, Method::PUT, path, &etag, Some(json!({"limit": 50, "period_seconds": 60}))).await?;
    assert_eq!(raised.status, StatusCode::OK, "{}", raised.text());
    let stale = ask(&gateway, Method::PUT, path, &etag, Some(json!({"limit": 60}))).await?;
    assert_eq!(stale.status, StatusCode::PRECONDITION_FAILED, "{}", stale.text());
    assert_eq!(limits(&gateway, "acme").await?[0].1, 50);
    let on_plan = "/v1/organizations/acme/limits/startup%2Fminute";
    let set = ask(&gateway, Method::PUT, on_plan, "", Some(json!({"limit": 70}))).await?;
    assert_eq!(set.status, StatusCode::OK, "{}", set.text());
    assert_eq!(limits(&gateway, "acme").await?[0].1, 50, "it is not on that plan");

    let path_of_hour = "/v1/organizations/acme/limits/hour";
    for (faulty, fields_of_it) in [
        (json!({"limit": 0, "burst": -1, "period": "1m"}), &["burst", "period"][..]),
        (json!({"limit": 0}), &["limit"]),
        (json!({"limit": 1, "period_seconds": 0, "burst": 3}), &["period_seconds", "burst"]),
        (json!({}), &["limit"]),
    ] {
        let refused = ask(&gateway, Method::PUT, path_of_hour, "", Some(faulty.clone())).await?;
        assert_eq!(
            (refused.status, &fields(&refused)[..]),
            (StatusCode::BAD_REQUEST, &fields_of_it.iter().map(ToString::to_string).collect::<Vec<_>>()[..]),
            "{faulty}"
        );
    }
    let unknown =
        ask(&gateway, Method::PUT, "/v1/organizations/acme/limits/century", "", Some(json!({"limit": 1})))
            .await?;
    assert_eq!((unknown.status, fields(&unknown)), (StatusCode::BAD_REQUEST, vec!["name".to_owned()]));
    let body = json!({"limit": 1, "policy": "none"});
    let unknown = ask(&gateway, Method::PUT, path, "", Some(body)).await?;
    assert_eq!((unknown.status, fields(&unknown)), (StatusCode::BAD_REQUEST, vec!["policy".to_owned()]));
    for id in ["ac*", "*"] {
        let all = format!("/v1/organizations/{id}/limits/minute");
        let refused = ask(&gateway, Method::PUT, &all, "", Some(json!({"limit": 1}))).await?;
        assert_eq!((refused.status, fields(&refused)), (StatusCode::BAD_REQUEST, vec!["id".to_owned()]));
    }

    assert_eq!(
        ask(&gateway, Method::DELETE, path, &etag, None).await?.status,
        StatusCode::PRECONDITION_FAILED
    );
    assert_eq!(ask(&gateway, Method::DELETE, path, "", None).await?.status, StatusCode::NO_CONTENT);
    assert_eq!(ask(&gateway, Method::DELETE, path, "", None).await?.status, StatusCode::NOT_FOUND);
    assert_eq!(limits(&gateway, "acme").await?[0].1, 10);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn overrides_are_set_together_or_not_at_all() -> TestResult {
    let _turn = turn::shared().await;
    let folder = tempfile::tempdir()?;
    let (_ratelimit, gateway) = services(folder.path()).await?;
    let of = |organization: &str, tokens: u64| json!({"namespace": "default", "policy": "organization", "limit": "minute", "key": {"organization": organization}, "tokens": tokens});
    let put = async |overrides: Value, query: &str| {
        let body = Some(json!({"overrides": overrides}));
        ask(&gateway, Method::PUT, &format!("/v1/overrides{query}"), "", body).await
    };
    let faulty = put(json!([of("acme", 20), of("beta", 0), of("acme", 30)]), "").await?;
    assert_eq!((faulty.status, fields(&faulty)), (StatusCode::BAD_REQUEST, vec!["overrides[2]".to_owned()]));
    let faulty = put(json!([of("acme", 20), of("beta", 0)]), "").await?;
    assert_eq!(
        (faulty.status, fields(&faulty)),
        (StatusCode::BAD_REQUEST, vec!["overrides[1].tokens".to_owned()])
    );
    let none = put(json!([]), "").await?;
    assert_eq!((none.status, fields(&none)), (StatusCode::BAD_REQUEST, vec!["overrides".to_owned()]));
    assert_eq!(put(json!([of("acme", 20)]), "?validate_only=true").await?.status, StatusCode::OK);
    assert_eq!(limits(&gateway, "acme").await?[0].1, 10, "nothing has changed");

    let set = put(json!([of("trial-*", 2), of("acme", 20), of("trial-7", 3)]), "").await?;
    assert_eq!(set.status, StatusCode::OK, "{}", set.text());
    let shown: Vec<_> =
        set.json()["overrides"].as_array().into_iter().flatten().map(|of| of["tokens"].clone()).collect();
    assert_eq!(shown, [json!(2), json!(20), json!(3)]);
    for (organization, tokens) in [("trial-1", 2), ("trial-7", 3), ("acme", 20), ("other", 10)] {
        assert_eq!(limits(&gateway, organization).await?[0].1, tokens, "{organization}");
    }
    let page = ask(
        &gateway,
        Method::GET,
        "/v1/overrides?namespace=default&policy=organization&page_size=2",
        "",
        None,
    )
    .await?
    .json();
    let token = page["next_page_token"].as_str().unwrap_or_default();
    let rest = format!("/v1/overrides?namespace=default&policy=organization&page_size=2&page_token={token}");
    let rest = ask(&gateway, Method::GET, &rest, "", None).await?.json();
    let keys = |page: &Value| -> Vec<Value> {
        page["overrides"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|of| of["key"]["organization"].clone())
            .collect()
    };
    assert_eq!(
        ([keys(&page), keys(&rest)].concat(), &rest["next_page_token"]),
        (["acme", "trial-*", "trial-7"].map(|key| json!(key)).to_vec(), &json!(""))
    );

    let policy = ask(&gateway, Method::DELETE, "/v1/policies/default:organization", "", None).await?;
    assert_eq!(policy.status, StatusCode::CONFLICT, "it is built in");
    let target = |organization: &str| {
        Some(
            json!({"namespace": "default", "policy": "organization", "limit": "minute", "key": {"organization": organization}}),
        )
    };
    let delete = async |organization: &str| {
        ask(&gateway, Method::POST, "/v1/overrides:delete", "", target(organization)).await
    };
    assert_eq!(delete("trial-7").await?.status, StatusCode::NO_CONTENT);
    assert_eq!(delete("trial-7").await?.status, StatusCode::NOT_FOUND);
    assert_eq!(limits(&gateway, "trial-7").await?[0].1, 2, "the less specific one");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn overrides_over_grpc_have_etags_and_versions() -> TestResult {
    let _turn = turn::shared().await;
    let folder = tempfile::tempdir()?;
    let (ratelimit, _gateway) = services(folder.path()).await?;
    let mut client = rpc::client(ratelimit.address())?;
    let of = |rate: &str| Override {
        namespace: "default".into(),
        policy: "organization".into(),
        limit: "hour".into(),
        key: vec![KeyEntry { key: "organization".into(), value: "acme".into() }],
        rate: rate.into(),
        ..Override::default()
    };
    let set = |rate: &str, etag: &str| SetOverrideRequest {
        r#override: Some(of(rate)),
        etag: etag.into(),
        validate_only: false,
    };
    let first = client.set_override(set("7/h", "")).await?.into_inner().r#override.expect("set");
    let meta = first.meta.clone().expect("it has meta");
    client.set_override(set("8/h", &meta.etag)).await?;
    let stale = client.set_override(set("9/h", &meta.etag)).await.expect_err("it has changed");
    assert_eq!(rpc::explain(&stale)?.reason, "ETAG_MISMATCH");
    let key = || vec![get_override_request::KeyEntry { key: "organization".into(), value: "acme".into() }];
    let get = |version| GetOverrideRequest {
        namespace: "default".into(),
        policy: "organization".into(),
        limit: "hour".into(),
        key: key(),
        version,
    };
    let now = client.get_override(get(0)).await?.into_inner().r#override.expect("there");
    assert_eq!((&*now.rate, now.tokens, &now.key), ("8/h", 0, &first.key));
    let before = client.get_override(get(meta.version)).await?.into_inner().r#override.expect("there");
    assert_eq!(before, first);
    let all = ListOverridesRequest { policy: "organization".into(), ..ListOverridesRequest::default() };
    let refused = client.list_overrides(all).await.expect_err("no namespace");
    assert_eq!(rpc::explain(&refused)?.fields, ["namespace"]);
    let many = SetOverridesRequest { overrides: vec![of("1/h"); 1_001], validate_only: false };
    let refused = client.set_overrides(many).await.expect_err("too many");
    assert_eq!(rpc::explain(&refused)?.fields, ["overrides"]);
    let twice = Override { key: vec![first.key[0].clone(), first.key[0].clone()], ..of("1/h") };
    let request = SetOverrideRequest { r#override: Some(twice), ..SetOverrideRequest::default() };
    let refused = client.set_override(request).await.expect_err("an attribute twice");
    assert_eq!(rpc::explain(&refused)?.fields, ["override.key.organization"]);
    let delete = DeleteOverrideRequest {
        namespace: "default".into(),
        policy: "organization".into(),
        limit: "hour".into(),
        key: vec![delete_override_request::KeyEntry { key: "organization".into(), value: "acme".into() }],
        ..DeleteOverrideRequest::default()
    };
    client.delete_override(delete.clone()).await?;
    let gone = client.delete_override(delete).await.expect_err("it is gone");
    assert_eq!(rpc::explain(&gone)?.reason, "ENTRY_NOT_FOUND");
    Ok(())
}
