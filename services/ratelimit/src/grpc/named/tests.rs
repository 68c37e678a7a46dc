use tidegate_chassis::{
    auth::{Caller, How, Role, TokenUse},
    clock::Clock,
};
use tidegate_proto::{
    Encoded,
    keys::v1 as keys_pb,
    ratelimit::v1::{self as pb, rate_limit_service_server::RateLimitService},
};
use tokio_util::sync::DropGuard;

use super::*;
use crate::{
    grpc::{
        RateLimitApi,
        tests::{api_of, asked, backend, by},
    },
    keys::tests::{
        fixture::{KeysServer, id, resolved, value},
        keys,
    },
    limiter::Counters,
    policies,
};

const POLICIES: &str = r#"
builtin = false

[[policies]]
name = "own"
namespace = "default"
key_by = ["organization"]
limits = [{ name = "minute", limit = 10, period = "1m" }]

[[policies]]
name = "all"
namespace = "shared"
key_by = []
limits = [{ name = "minute", limit = 10, period = "1m" }]
"#;

/// A replica whose keys service knows key 1 of organization 7, with a limit of its own and a quota.
async fn replica() -> (KeysServer, RateLimitApi, DropGuard) {
    let server = KeysServer::start().await;
    let mut key = resolved(1, 7);
    let limit = keys_pb::KeyLimit { name: "hour".to_owned(), limit: 5, period_s: 3_600 };
    key.key.as_mut().unwrap().limits = vec![limit];
    let of = key.organization.as_mut().unwrap();
    of.monthly_quota = 100;
    server.state.organizations.lock().unwrap().insert(id(7), of.clone());
    server.set(&value(1), key);
    let (keys, guard) = keys(&server.config(), Clock::system());
    let policies = policies::parse(POLICIES, "test", 1).unwrap();
    let (api, _) = api_of(policies, &Clock::system(), Counters::Memory, None, Some(keys));
    for _ in 0..3 {
        let check = pb::CheckRequest { api_key: value(1), ..pb::CheckRequest::default() };
        api.check(asked(Encoded::from(&check))).await.unwrap();
    }
    (server, api, guard)
}

fn tenant(organization: u128) -> Caller {
    Caller {
        role: Role::TenantAdmin,
        organization: Some(Uuid::from_u128(organization)),
        how: How::Token { id: String::new(), token_use: TokenUse::Access, expires_at_s: u64::MAX },
        ..backend()
    }
}

/// What is used of each limit, as `who` is told.
async fn used(
    api: &RateLimitApi,
    who: Caller,
    organization: &str,
    api_key: &str,
) -> Result<Vec<(String, u64)>, Status> {
    let entry = |value: &str| pb::get_usage_request::AttributesEntry {
        key: "organization".to_owned(),
        value: value.to_owned(),
    };
    let request = pb::GetUsageRequest {
        attributes: Some(organization).filter(|of| !of.is_empty()).map(entry).into_iter().collect(),
        api_key: api_key.to_owned(),
        ..pb::GetUsageRequest::default()
    };
    let answer = api.get_usage(by(who, request)).await?.into_inner();
    Ok(answer.limits.into_iter().map(|limit| (limit.name, limit.used)).collect())
}

async fn reset(
    api: &RateLimitApi,
    who: Caller,
    namespace: &str,
    organization: &str,
    api_key: &str,
    limit: &str,
) -> Result<Vec<String>, Status> {
    let entry = |value: &str| pb::reset_request::AttributesEntry {
        key: "organization".to_owned(),
        value: value.to_owned(),
    };
    let request = pb::ResetRequest {
        namespace: namespace.to_owned(),
        attributes: Some(organization).filter(|of| !of.is_empty()).map(entry).into_iter().collect(),
        api_key: api_key.to_owned(),
        limit: limit.to_owned(),
    };
    Ok(api.reset(by(who, request)).await?.into_inner().limits)
}

fn of(limits: &[(&str, u64)]) -> Vec<(String, u64)> {
    limits.iter().map(|(name, used)| ((*name).to_owned(), *used)).collect()
}

#[tokio::test]
async fn use_of_an_organization_shows_its_quota_and_that_of_a_key_its_own_limits_too() {
    let (_server, api, _guard) = replica().await;
    let own = of(&[("own/minute", 3), ("organization/quota", 3)]);
    assert_eq!(used(&api, backend(), &id(7), "").await.unwrap(), own);
    assert_eq!(used(&api, tenant(7), &id(7), "").await.unwrap(), own);
    let by_key = of(&[("own/minute", 3), ("key/hour", 3), ("organization/quota", 3)]);
    assert_eq!(used(&api, backend(), "", &value(1)).await.unwrap(), by_key);
    assert_eq!(used(&api, tenant(7), "", &value(1)).await.unwrap(), by_key);
    // Whom the keys service does not know, has no quota.
    for organization in [id(8), "acme".to_owned()] {
        assert_eq!(used(&api, backend(), &organization, "").await.unwrap(), of(&[("own/minute", 0)]));
    }
}

#[tokio::test]
async fn key_of_another_organization_is_nobodys_here_as_well() {
    let (_server, api, _guard) = replica().await;
    for api_key in [value(1), value(2)] {
        let refused = used(&api, tenant(8), "", &api_key).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::NotFound);
        let refused = reset(&api, tenant(8), "", "", &api_key, "").await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::NotFound);
    }
    assert_eq!(used(&api, backend(), &id(7), "").await.unwrap()[0].1, 3, "nothing was cleared");
}

#[tokio::test]
async fn quota_and_limits_of_a_key_are_cleared_with_the_others_or_by_their_names() {
    let (_server, api, _guard) = replica().await;
    let cleared = reset(&api, tenant(7), "", "", &value(1), "key/hour").await.unwrap();
    assert_eq!(cleared, ["key/hour"]);
    let left = of(&[("own/minute", 3), ("key/hour", 0), ("organization/quota", 3)]);
    assert_eq!(used(&api, backend(), "", &value(1)).await.unwrap(), left);
    let cleared = reset(&api, backend(), "", &id(7), "", "organization/quota").await.unwrap();
    assert_eq!(cleared, ["organization/quota"]);
    let left = of(&[("own/minute", 3), ("key/hour", 0), ("organization/quota", 0)]);
    assert_eq!(used(&api, backend(), "", &value(1)).await.unwrap(), left);
    let cleared = reset(&api, backend(), "", &id(7), "", "").await.unwrap();
    assert_eq!(cleared, ["own/minute", "organization/quota"]);
    assert_eq!(used(&api, backend(), &id(7), "").await.unwrap()[0], ("own/minute".to_owned(), 0));
}

#[tokio::test]
async fn counters_of_several_organizations_are_cleared_by_none_of_them() {
    let (_server, api, _guard) = replica().await;
    let refused = reset(&api, tenant(7), "shared", &id(7), "", "").await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);
    let refused = reset(&api, tenant(7), "shared", "", &value(1), "").await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);
    let admin = Caller { role: Role::Admin, ..backend() };
    let cleared = reset(&api, admin, "shared", "acme", "", "").await.unwrap();
    assert_eq!(cleared, ["all/minute"]);
}

#[tokio::test]
async fn organization_does_not_clear_its_own_quota() {
    let (_server, api, _guard) = replica().await;
    for (organization, api_key) in [(&*id(7), ""), ("", &*value(1))] {
        let refused =
            reset(&api, tenant(7), "", organization, api_key, "organization/quota").await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::PermissionDenied);
        let details = tonic_types::StatusExt::get_error_details(&refused);
        assert_eq!(details.error_info().unwrap().metadata["needed_roles"], "admin");
    }
    assert_eq!(reset(&api, tenant(7), "", &id(7), "", "").await.unwrap(), ["own/minute"]);
    assert_eq!(reset(&api, tenant(7), "", "", &value(1), "").await.unwrap(), ["own/minute", "key/hour"]);
    let left = of(&[("own/minute", 0), ("key/hour", 0), ("organization/quota", 3)]);
    assert_eq!(used(&api, backend(), "", &value(1)).await.unwrap(), left);
}

#[tokio::test]
async fn quota_of_an_organization_is_the_same_however_its_id_is_spelt() {
    let (_server, api, _guard) = replica().await;
    let spelt = id(7).replace('-', "");
    let told = of(&[("own/minute", 0), ("organization/quota", 3)]);
    assert_eq!(used(&api, backend(), &spelt, "").await.unwrap(), told);
    reset(&api, backend(), "", &spelt, "", "organization/quota").await.unwrap();
    let left = of(&[("own/minute", 3), ("organization/quota", 0)]);
    assert_eq!(used(&api, backend(), &id(7), "").await.unwrap(), left);
}

#[tokio::test]
async fn what_is_no_quota_is_cleared_while_the_keys_service_is_away() {
    let (server, api, _guard) = replica().await;
    server.state.holds.store(true, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(reset(&api, backend(), "", &id(7), "", "own/minute").await.unwrap(), ["own/minute"]);
    assert_eq!(reset(&api, tenant(7), "", &id(7), "", "").await.unwrap(), ["own/minute"]);
    let failed = reset(&api, backend(), "", &id(7), "", "").await.unwrap_err();
    assert_eq!(failed.code(), tonic::Code::Unavailable);
    assert!(failed.message().contains("quota"), "{}", failed.message());
}

#[tokio::test]
async fn what_the_keys_service_does_not_say_is_not_left_out() {
    let (server, api, _guard) = replica().await;
    server.state.holds.store(true, std::sync::atomic::Ordering::SeqCst);
    let failed = used(&api, backend(), &id(7), "").await.unwrap_err();
    assert_eq!(failed.code(), tonic::Code::Unavailable);
}
