//! Other numbers for one organization, from the policy file to REST; and who is told when they are reached.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::json;
use tidegate_proto::ratelimit::v1::{
    LimitReachedRequest, LimitReachedResponse,
    plan_upgrade_hook_service_server::{PlanUpgradeHookService, PlanUpgradeHookServiceServer},
};
use tidegate_tests::{
    eventually::eventually,
    http_client::{self, metric},
    services::{RateLimitSettings, Service},
    test_result::TestResult,
    turn,
};
use tokio::{net::TcpListener, sync::mpsc, time::timeout};
use tonic::{
    Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};

const POLICIES: &str = r#"
[[policies]]
name = "organization"
namespace = "default"
key_by = ["organization"]
plan = { attribute = "plan", default = "free" }
on_limit = { upgrade_plan = "startup" }

[[overrides]]
namespace = "default"
policy = "organization"
limit = "minute"
key = { organization = "acme" }
rate = "3/min"
"#;

/// Passes on what it is told.
struct Hook(mpsc::UnboundedSender<LimitReachedRequest>);

#[tonic::async_trait]
impl PlanUpgradeHookService for Hook {
    async fn limit_reached(
        &self,
        request: Request<LimitReachedRequest>,
    ) -> Result<Response<LimitReachedResponse>, Status> {
        self.0.send(request.into_inner()).map_err(|_| Status::internal("the test is over"))?;
        Ok(Response::new(LimitReachedResponse {}))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overridden_limit_is_checked_shown_and_cleared_and_its_denial_is_told() -> TestResult {
    let _turn = turn::shared().await;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let toml = format!("[upgrade_hook]\nurl = \"http://{}\"", listener.local_addr()?);
    let (sender, mut told) = mpsc::unbounded_channel();
    let hook = Server::builder().add_service(PlanUpgradeHookServiceServer::new(Hook(sender)));
    tokio::spawn(hook.serve_with_incoming(TcpIncoming::from(listener)));
    let policies = Some(POLICIES.to_owned());
    let ratelimit =
        Service::ratelimit(&RateLimitSettings { policies, toml, ..RateLimitSettings::default() }).await?;
    let gateway = Service::gateway(&[ratelimit.address()], "").await?;

    let mut remaining = Vec::new();
    for _ in 0..5 {
        let body = json!({"attributes": {"organization": "acme"}});
        let answer = http_client::post(gateway.address(), "/v1/check", &body).await?;
        remaining.push((answer.json()["allowed"].clone(), answer.json()["limits"][0]["remaining"].clone()));
    }
    let expected = [(true, 2), (true, 1), (true, 0), (false, 0), (false, 0)];
    assert_eq!(remaining, expected.map(|(allowed, left)| (json!(allowed), json!(left))));

    let usage = |organization: &'static str| {
        let path = format!("/v1/organizations/{organization}/limits");
        let address = gateway.address().to_owned();
        async move { http_client::request(&address, Method::GET, &path, &[], Bytes::new()).await }
    };
    let of_acme = usage("acme").await?.json()["limits"][0].clone();
    assert_eq!(
        (&of_acme["name"], &of_acme["limit"], &of_acme["used"]),
        (&json!("free/minute"), &json!(3), &json!(3))
    );
    let of_other = usage("other").await?.json()["limits"][0].clone();
    assert_eq!((&of_other["limit"], &of_other["used"]), (&json!(10), &json!(0)));

    let body = json!({"limit": "free/minute"});
    let cleared = http_client::post(gateway.address(), "/v1/organizations/acme/limits:reset", &body).await?;
    assert_eq!(cleared.status, StatusCode::OK, "{}", cleared.text());
    assert_eq!(cleared.json()["limits"], json!(["free/minute"]));
    assert_eq!(usage("acme").await?.json()["limits"][0]["used"], json!(0));

    let first = timeout(Duration::from_secs(10), told.recv()).await?.expect("the hook runs");
    assert_eq!((&*first.limit, &*first.plan, &*first.wanted_plan), ("free/minute", "free", "startup"));
    assert_eq!(first.key[0].value, "acme");
    let counted = async || {
        let page = ratelimit.metrics().await?;
        Ok(metric(&page, "tidegate_ratelimit_plan_upgrades_total", "outcome=\"sent\"") == 1.0)
    };
    eventually("the notice is counted as sent", Duration::from_secs(10), counted).await?;
    Ok(())
}
