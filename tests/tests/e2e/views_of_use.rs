//! Who asks, who is denied, and what the policies say: over gRPC, REST, the metrics and the command.

use std::{collections::HashMap, process::Command};

use serde_json::Value;
use tidegate_proto::ratelimit::v1::{
    CheckBatchRequest, CheckRequest, ListPolicyStatsRequest, ListTopKeysRequest, TopKey, TopKeyKind,
};
use tidegate_tests::{
    http_client,
    rpc::{self, Client},
    services::{RateLimitSettings, Service},
    test_result::TestResult,
    tools, turn,
};
use tonic::Code;

const POLICIES: &str = r#"
builtin = false

[namespaces.shop]
derive = [{ attribute = "client", hash_of = "secret" }]

[[policies]]
name = "users"
namespace = "shop"
key_by = ["user"]
limits = [{ name = "hour", limit = 500, period = "1h" }]

[[policies]]
name = "secrets"
namespace = "shop"
key_by = ["client"]
enforcement = "shadow"
limits = [{ name = "hour", limit = 1, period = "1h" }]
"#;

/// What an attribute of a request says must be no label of a metric.
const MARK: &str = "caller-";

async fn service() -> anyhow::Result<Service> {
    let policies = Some(POLICIES.to_owned());
    // So few keys that most of the callers have no place.
    let toml = "[usage]\nkeys = 100".to_owned();
    Service::ratelimit(&RateLimitSettings { policies, toml, ..RateLimitSettings::default() }).await
}

/// Checks of many users, the n-th of which comes about 1/n as often as the first: how many of each there were.
async fn zipf(client: &mut Client, batches: u32) -> anyhow::Result<HashMap<String, u64>> {
    let mut sent: HashMap<String, u64> = HashMap::new();
    for batch in 0..batches {
        // Multiples of the golden ratio, which lie evenly in 0..1.
        let evenly = (500 * batch..500 * (batch + 1)).map(|n| (f64::from(n) * 0.618_033_988_749_895).fract());
        let users = evenly.map(|part| format!("{MARK}{}", (1_000_f64.ln() * part).exp().floor()));
        let checks = users.map(|user| {
            *sent.entry(user.clone()).or_default() += 1;
            rpc::check("shop", &[("user", &user)])
        });
        let checks: Vec<CheckRequest> = checks.collect();
        client.check_batch(CheckBatchRequest { checks }).await?;
    }
    Ok(sent)
}

fn user(key: &TopKey) -> &str {
    &key.attributes[0].value
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_and_denied_keys_are_listed_within_the_stated_error() -> TestResult {
    let _turn = turn::shared().await;
    let service = service().await?;
    let mut client = rpc::client(service.address())?;
    let sent = zipf(&mut client, 16).await?;
    let request = ListTopKeysRequest { namespace: "shop".into(), limit: 1000, ..Default::default() };
    let hot = client.list_top_keys(request.clone()).await?.into_inner();
    let replica = hot.replica.clone().unwrap_or_default();
    assert!(replica.instance_id.len() == 16 && replica.started_at_ms > 0 && replica.at_ms > 0, "{replica:?}");
    for key in &hot.keys {
        let truth = sent[user(key)];
        // Five standard errors: of thousands of keys, in all runs of this test, hardly one is beyond.
        let sampling = 5 * key.standard_error;
        let (least, most) = ((key.count - key.overcount).saturating_sub(sampling), key.count + sampling);
        assert!((least..=most).contains(&truth), "{key:?} came {truth} times");
    }
    assert!(user(&hot.keys[0]) == "caller-1" && user(&hot.keys[1]) == "caller-2", "{:?}", &hot.keys[..2]);

    let denied = ListTopKeysRequest { kind: TopKeyKind::Denied.into(), ..request };
    let denied = client.list_top_keys(denied).await?.into_inner();
    let over: HashMap<_, _> = sent.iter().filter(|(_, count)| **count > 500).collect();
    assert!(!over.is_empty() && denied.keys.len() == over.len(), "{:?} of {over:?}", denied.keys);
    for key in &denied.keys {
        assert!(key.count == sent[user(key)] - 500, "{key:?}");
    }

    let stats = client.list_policy_stats(ListPolicyStatsRequest::default()).await?.into_inner();
    let users = stats.policies.iter().find(|policy| policy.policy == "users").expect("it was in use");
    let counts = users.since_start.expect("it is set");
    assert!(counts.checks == 16 * 500 && counts.denied == denied.total, "{counts:?}, {}", denied.total);
    assert!(counts.admitted == counts.checks - counts.denied && counts.near_limit > 0, "{counts:?}");

    let metrics = service.metrics().await?;
    let line = format!(
        "tidegate_ratelimit_policy_checks_total{{namespace=\"shop\",policy=\"users\",outcome=\"denied\"}} {}\n",
        counts.denied
    );
    assert!(metrics.contains(&line), "no {line}{metrics}");
    assert!(!metrics.contains(MARK), "a caller is in the metrics: {metrics}");
    service.assert_no_panic().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn gateway_adds_all_replicas_up_and_says_which_are_missing() -> TestResult {
    let _turn = turn::shared().await;
    let (one, mut two) = (service().await?, service().await?);
    let gateway = Service::gateway(&[one.address(), two.address()], "").await?;
    for (service, times) in [(&one, 3), (&two, 4)] {
        let mut client = rpc::client(service.address())?;
        for _ in 0..times {
            client.check(rpc::check("shop", &[("user", "ada"), ("secret", "s3cret")])).await?;
        }
    }
    let view = async |path: &str| -> anyhow::Result<Value> {
        let answer = http_client::get(gateway.address(), path).await?;
        assert!(answer.status == 200, "{path}: {answer:?}");
        Ok(serde_json::from_str(&answer.text())?)
    };
    let hot = view("/v1/usage/top-keys?namespace=shop&policy=users").await?;
    assert!(hot["keys"][0]["count"] == 7 && hot["keys"][0]["attributes"][0]["value"] == "ada", "{hot}");
    assert!(hot["replicas"].as_array().is_some_and(|of| of.len() == 2), "{hot}");
    // The key of a secret is its hash, which is all that may be shown of it.
    let shadow = view("/v1/usage/top-keys?kind=shadow_denied").await?;
    assert!(shadow["keys"][0]["policy"] == "secrets" && shadow["keys"][0]["count"] == 5, "{shadow}");
    assert!(!shadow.to_string().contains("s3cret"), "{shadow}");
    let policies = view("/v1/usage/policies?order_by=shadow_denied").await?;
    assert!(policies["policies"][0]["policy"] == "secrets", "{policies}");
    assert!(policies["policies"][0]["in_window"]["shadow_denied"] == 5, "{policies}");
    two.kill()?;
    let left = view("/v1/usage/policies?policy=users").await?;
    assert!(left["unreachable_replicas"] == 1 && left["policies"][0]["in_window"]["checks"] == 3, "{left}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn command_shows_what_a_replica_saw_and_bad_requests_name_every_field() -> TestResult {
    let _turn = turn::shared().await;
    let service = service().await?;
    let mut client = rpc::client(service.address())?;
    client.check(rpc::check("shop", &[("user", "ada")])).await?;
    let run = |more: &[&str]| -> anyhow::Result<String> {
        let output = Command::new(tools::binary("tidegate")?)
            .args(["top", "--addr", service.address()])
            .args(more)
            .output()?;
        assert!(output.status.success(), "{output:?}");
        Ok(String::from_utf8(output.stdout)?)
    };
    let picture = run(&[])?;
    assert!(picture.contains("user=ada") && picture.contains("shop/users"), "{picture}");
    let json: Value = serde_json::from_str(&run(&["--json", "--once"])?)?;
    assert!(json["keys"][0]["count"] == 1 && json["policies"][0]["in_window"]["admitted"] == 1, "{json}");

    let request = ListTopKeysRequest {
        namespace: "no name".into(),
        policy: "p".repeat(129),
        kind: 77,
        window: -1,
        limit: 1001,
    };
    let status = client.list_top_keys(request).await.expect_err("everything is wrong");
    assert!(status.code() == Code::InvalidArgument, "{status:?}");
    let fields = rpc::explain(&status)?.fields;
    assert!(fields == ["namespace", "policy", "kind", "window", "limit"], "{status:?}");
    let request = ListPolicyStatsRequest { order_by: 9, limit: 10_001, ..Default::default() };
    let status = client.list_policy_stats(request).await.expect_err("two are wrong");
    assert!(rpc::explain(&status)?.fields == ["limit", "order_by"], "{status:?}");
    Ok(())
}
