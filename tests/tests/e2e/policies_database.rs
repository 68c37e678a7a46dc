//! Policies that are set over the API, by clients of services that share a database.

mod replicas;
mod size;

use tidegate_proto::ratelimit::v1::{
    Algorithm, Assignment, CreatePlanRequest, CreatePolicyRequest, DeletePlanRequest, DeletePolicyRequest,
    Enforcement, EntryMeta, FailureMode, GetPolicyRequest, LimitSpec, ListPlansRequest, ListPoliciesRequest,
    ListPolicyVersionsRequest, OnDataLoss, Origin, Patterns, Plan, PlanOf, Policy, RollbackPolicyRequest,
    SetAssignmentRequest, UpdatePolicyRequest, policy::MatchEntry,
};
use tidegate_tests::{
    postgres_server::PostgresServer,
    rpc::{self, Client, Explained},
    services::{RateLimitSettings, Service},
    test_result::TestResult,
    turn,
};
use tonic::{Code, Status};

/// One limit an hour.
fn hour(limit: u64) -> LimitSpec {
    LimitSpec { name: "hour".into(), limit, period: "1h".into(), ..LimitSpec::default() }
}

/// A policy of namespace `shop` that counts by user.
fn policy(name: &str, limit: u64) -> Policy {
    let (namespace, key_by) = ("shop".into(), vec!["user".into()]);
    Policy { namespace, name: name.into(), key_by, limits: vec![hour(limit)], ..Policy::default() }
}

async fn create(client: &mut Client, policy: Policy) -> Result<Policy, Status> {
    let request = CreatePolicyRequest { policy: Some(policy), validate_only: false };
    Ok(client.create_policy(request).await?.into_inner().policy.unwrap_or_default())
}

async fn update(client: &mut Client, policy: Policy, etag: &str) -> Result<Policy, Status> {
    let request = UpdatePolicyRequest { policy: Some(policy), etag: etag.into(), validate_only: false };
    Ok(client.update_policy(request).await?.into_inner().policy.unwrap_or_default())
}

fn etag(policy: &Policy) -> String {
    policy.meta.as_ref().map(|meta| meta.etag.clone()).unwrap_or_default()
}

fn refused<T: std::fmt::Debug>(answer: Result<T, Status>) -> anyhow::Result<Explained> {
    rpc::explain(&answer.expect_err("it is to be refused"))
}

/// A service on a database of its own.
async fn service(toml: &str) -> anyhow::Result<Service> {
    let url = PostgresServer::shared().await?.database().await?;
    on(&url, toml).await
}

async fn on(url: &str, toml: &str) -> anyhow::Result<Service> {
    let toml = format!("{toml}\n[database]\nurl = {url:?}\n");
    Service::ratelimit(&RateLimitSettings { toml, ..RateLimitSettings::default() }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_lives_from_its_creation_to_its_return() -> TestResult {
    let _turn = turn::shared().await;
    let service = service("").await?;
    let mut client = rpc::client(service.address())?;
    let whole = Policy {
        r#match: vec![MatchEntry {
            key: "path".into(),
            value: Some(Patterns { values: vec!["/v1/*".into()] }),
        }],
        when: "cost > 0".into(),
        enforcement: Enforcement::Enforce.into(),
        ..policy("calls", 2)
    };
    let created = create(&mut client, whole.clone()).await?;
    let meta = created.meta.clone().expect("it has meta");
    assert_eq!((meta.origin(), meta.id.len(), meta.etag.is_empty()), (Origin::Database, 36, false));
    assert_eq!((&created.r#match, &created.when), (&whole.r#match, &whole.when));
    assert_eq!(created.limits[0].algorithm(), Algorithm::SlidingWindow);
    let check = rpc::check("shop", &[("user", "ann"), ("path", "/v1/x")]);
    for allowed in [true, true, false] {
        assert_eq!(client.check(check.clone()).await?.into_inner().allowed, allowed);
    }
    let raised =
        update(&mut client, Policy { limits: vec![hour(5)], ..whole.clone() }, &etag(&created)).await?;
    assert_eq!(rpc::usage(&mut client, &check).await?[0].used, 2, "what was counted stays counted");
    let lowered =
        update(&mut client, Policy { limits: vec![hour(1)], ..whole.clone() }, &etag(&raised)).await?;
    assert!(!client.check(check.clone()).await?.into_inner().allowed);
    assert_eq!(refused(update(&mut client, whole.clone(), &etag(&raised)).await)?.reason, "ETAG_MISMATCH");

    let delete = |etag: String| DeletePolicyRequest {
        namespace: "shop".into(),
        name: "calls".into(),
        etag,
        validate_only: false,
    };
    assert_eq!(refused(client.delete_policy(delete(etag(&raised))).await)?.reason, "ETAG_MISMATCH");
    client.delete_policy(delete(etag(&lowered))).await?;
    let gone = refused(client.check(check.clone()).await)?;
    assert_eq!(gone.reason, "NAMESPACE_NOT_FOUND");

    let versions = ListPolicyVersionsRequest {
        namespace: "shop".into(),
        name: "calls".into(),
        page_size: 3,
        ..Default::default()
    };
    let page = client.list_policy_versions(versions.clone()).await?.into_inner();
    let told: Vec<_> =
        page.versions.iter().map(|v| (v.deleted, v.policy.as_ref().map(|p| p.limits[0].limit))).collect();
    assert_eq!(told, [(true, None), (false, Some(1)), (false, Some(5))]);
    let rest = ListPolicyVersionsRequest { page_token: page.next_page_token, ..versions };
    let rest = client.list_policy_versions(rest).await?.into_inner();
    assert_eq!((rest.versions.len(), rest.next_page_token.as_str()), (1, ""));

    let version = page.versions[2].version;
    let get = |version| GetPolicyRequest { namespace: "shop".into(), name: "calls".into(), version };
    assert_eq!(refused(client.get_policy(get(0)).await)?.reason, "ENTRY_NOT_FOUND");
    let earlier = client.get_policy(get(version)).await?.into_inner().policy.expect("it was there");
    assert_eq!(earlier.limits[0].limit, 5);
    let rollback = RollbackPolicyRequest {
        namespace: "shop".into(),
        name: "calls".into(),
        version,
        ..Default::default()
    };
    let back = client.rollback_policy(rollback).await?.into_inner().policy.expect("it is back");
    assert_eq!(back.limits[0].limit, 5);
    assert!(client.check(check).await?.into_inner().allowed, "2 of 5 were used");
    service.assert_no_panic().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_of_a_policy_is_named_where_it_stands_in_the_request() -> TestResult {
    let _turn = turn::shared().await;
    let service = service("").await?;
    let mut client = rpc::client(service.address())?;
    let faulty = Policy {
        name: "Calls".into(),
        plan_of: Some(PlanOf { attribute: "plan of".into(), default: "lead".into() }),
        limits: Vec::new(),
        failure_mode: 77,
        ..policy("", 1)
    };
    let told = refused(create(&mut client, faulty).await)?;
    assert_eq!((told.code, told.reason.as_str()), (Code::InvalidArgument, "INVALID_REQUEST"));
    assert_eq!(told.fields, ["policy.name", "policy.plan_of.attribute", "policy.failure_mode"]);
    let unknown = Policy { limits: Vec::new(), plan: "lead".into(), ..policy("calls", 1) };
    assert_eq!(refused(create(&mut client, unknown).await)?.fields, ["policy.plan"]);
    let limit = LimitSpec { limit: 0, period: "1y".into(), ..hour(1) };
    let told =
        refused(create(&mut client, Policy { limits: vec![hour(1), limit], ..policy("calls", 1) }).await)?;
    assert_eq!(told.fields, ["policy.limits[1].name", "policy.limits[1].limit", "policy.limits[1].period"]);
    let strict = Policy {
        failure_mode: FailureMode::Local.into(),
        on_data_loss: OnDataLoss::Strict.into(),
        ..policy("calls", 1)
    };
    let told = refused(create(&mut client, strict).await)?;
    assert_eq!((told.code, told.fields), (Code::InvalidArgument, vec!["policy.on_data_loss".to_owned()]));
    let missing = client.create_policy(CreatePolicyRequest::default()).await;
    assert_eq!(refused(missing)?.fields, ["policy"]);
    let listed = client.list_policies(ListPoliciesRequest {
        page_size: -1,
        page_token: "x".into(),
        ..Default::default()
    });
    assert_eq!(refused(listed.await)?.fields, ["page_size", "page_token"]);
    service.assert_no_panic().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn plans_are_sold_to_callers_and_stay_while_they_are_needed() -> TestResult {
    let _turn = turn::shared().await;
    let service = service("").await?;
    let mut client = rpc::client(service.address())?;
    let gold = Plan { name: "gold".into(), limits: vec![hour(7)], ..Plan::default() };
    let request = CreatePlanRequest { plan: Some(gold.clone()), validate_only: false };
    client.create_plan(request.clone()).await?;
    let exists = refused(client.create_plan(request).await)?;
    assert_eq!((exists.code, exists.reason.as_str()), (Code::AlreadyExists, "ENTRY_EXISTS"));
    let assignment = Assignment {
        attribute: "organization".into(),
        value: "acme".into(),
        plan: "gold".into(),
        meta: None,
    };
    let set = SetAssignmentRequest { assignment: Some(assignment), ..Default::default() };
    client.set_assignment(set).await?;
    let usage = rpc::usage(&mut client, &rpc::organization("acme")).await?;
    assert_eq!(
        usage.iter().map(|limit| (limit.name.as_str(), limit.limit)).collect::<Vec<_>>(),
        [("gold/hour", 7)]
    );
    let delete = |name: &str| DeletePlanRequest { name: name.into(), ..Default::default() };
    let in_use = refused(client.delete_plan(delete("gold")).await)?;
    assert_eq!((in_use.code, in_use.reason.as_str()), (Code::FailedPrecondition, "ENTRY_IN_USE"));
    assert_eq!(in_use.fields, ["assignment organization/acme"]);
    let fixed = refused(client.delete_plan(delete("free")).await)?;
    assert_eq!((fixed.code, fixed.reason.as_str()), (Code::FailedPrecondition, "ENTRY_READ_ONLY"));
    let plans = client.list_plans(ListPlansRequest::default()).await?.into_inner().plans;
    let shown: Vec<_> =
        plans.iter().map(|p| (p.name.as_str(), p.meta.as_ref().map(EntryMeta::origin))).collect();
    let (builtin, database) = (Some(Origin::Builtin), Some(Origin::Database));
    let expected = [
        ("business", builtin),
        ("enterprise", builtin),
        ("free", builtin),
        ("gold", database),
        ("startup", builtin),
    ];
    assert_eq!(shown, expected);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_hold_every_policy_once() -> TestResult {
    let _turn = turn::shared().await;
    let service = service("").await?;
    let mut client = rpc::client(service.address())?;
    for n in 0..7 {
        create(&mut client, policy(&format!("p{n}"), 1)).await?;
    }
    let (mut names, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListPoliciesRequest { namespace: "shop".into(), page_size: 3, page_token };
        let page = client.list_policies(request).await?.into_inner();
        names.extend(page.policies.into_iter().map(|policy| policy.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(names, ["p0", "p1", "p2", "p3", "p4", "p5", "p6"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_database_policies_are_read_and_not_changed() -> TestResult {
    let _turn = turn::shared().await;
    let service = Service::ratelimit(&RateLimitSettings::default()).await?;
    let mut client = rpc::client(service.address())?;
    let told = refused(create(&mut client, policy("p", 1)).await)?;
    assert_eq!((told.code, told.reason.as_str()), (Code::FailedPrecondition, "DATABASE_NOT_CONFIGURED"));
    let listed = client.list_policies(ListPoliciesRequest::default()).await?.into_inner().policies;
    let shown: Vec<_> = listed
        .iter()
        .map(|policy| (policy.namespace.as_str(), policy.name.as_str()))
        .filter(|(namespace, _)| *namespace != "identity")
        .collect();
    assert_eq!(shown, [("default", "organization"), ("gateway", "anonymous")]);
    assert!(!service.metrics().await?.contains("tidegate_ratelimit_catalog"));
    Ok(())
}
