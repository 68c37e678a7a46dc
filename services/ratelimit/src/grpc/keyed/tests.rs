mod credits;
mod denied;
mod derived;

use std::sync::{Arc, atomic::Ordering};

use tidegate_chassis::{
    auth::{Caller, Origin},
    clock::{Clock, Random},
    direct::{DirectMethods, Unanswered},
    metrics::Metrics,
};
use tidegate_proto::{
    Encoded,
    keys::v1::{self as keys_pb, KeyLimit},
    ratelimit::v1::{
        self as pb, Code, check_batch_result::Outcome, rate_limit_service_server::RateLimitService,
    },
};
use tidegate_tests::redis_server::RedisServer;
use tokio_util::sync::DropGuard;
use uuid::Uuid;

use super::super::{
    RateLimitApi,
    direct::Method,
    tests::{api_with_keys, asked, backend},
};
use crate::{
    keys::tests::{
        fed,
        fixture::{KeysServer, eventually, id, resolved, value},
        keys,
    },
    limiter::Counters,
    store::{RedisBackend, RedisStoreConfig},
};

/// A replica that counts in memory, and asks a keys service.
fn in_memory(server: &KeysServer) -> (RateLimitApi, DropGuard) {
    let (keys, guard) = keys(&server.config(), Clock::system());
    (api_with_keys(Counters::Memory, Some(keys)), guard)
}

/// One that counts in Redis.
fn in_redis(server: &KeysServer, redis: &RedisStoreConfig) -> (RateLimitApi, DropGuard) {
    let (keys, guard) = keys(&server.config(), Clock::system());
    let backend = RedisBackend::new(redis, Random::system(), &Metrics::new()).unwrap();
    let counters = |local| Counters::Shared { store: Arc::new(backend.open()), local };
    (api_with_keys(counters, Some(keys)), guard)
}

fn by_key(key: &str) -> pb::CheckRequest {
    pb::CheckRequest { api_key: key.to_owned(), ..pb::CheckRequest::default() }
}

async fn check(api: &RateLimitApi, request: &pb::CheckRequest) -> pb::CheckResponse {
    let answer = api.check(asked(Encoded::from(request))).await.unwrap();
    answer.into_inner().decode().unwrap()
}

fn names(answer: &pb::CheckResponse) -> Vec<&str> {
    answer.limits.iter().map(|limit| limit.name.as_str()).collect()
}

fn remaining(answer: &pb::CheckResponse, name: &str) -> u64 {
    answer.limits.iter().find(|limit| limit.name == name).expect("a limit of that name").remaining
}

/// A key with a limit of its own, of an organization with a quota.
fn limited(key: u64, organization: u64, tokens: u64, quota: u64) -> keys_pb::ResolvedKey {
    let mut limited = resolved(key, organization);
    let limit = KeyLimit { name: "hour".to_owned(), limit: tokens, period_s: 3_600 };
    limited.key.as_mut().unwrap().limits = vec![limit];
    limited.organization.as_mut().unwrap().monthly_quota = quota;
    limited
}

#[tokio::test]
async fn answer_tells_whose_the_key_is_and_its_attributes_cannot_be_spoofed() {
    let server = KeysServer::start().await;
    server.set(&value(1), resolved(1, 7));
    let (api, _guard) = in_memory(&server);
    let entry = |key: &str, value: &str| pb::check_request::AttributesEntry {
        key: key.to_owned(),
        value: value.to_owned(),
    };
    let spoofed = pb::CheckRequest {
        attributes: vec![entry("organization", "other"), entry("plan", "enterprise"), entry("api_key", "x")],
        ..by_key(&value(1))
    };
    let answer = check(&api, &spoofed).await;
    assert!(answer.allowed);
    assert!(names(&answer).iter().all(|name| name.starts_with("free/")), "{answer:?}");
    let again = check(&api, &by_key(&value(1))).await;
    assert_eq!(remaining(&again, "free/minute") + 1, remaining(&answer, "free/minute"), "one subject");
    let key = answer.key.unwrap();
    assert_eq!((key.id, key.organization_id), (id(1), id(7)));
    assert_eq!((key.environment.as_str(), key.plan.as_str()), ("live", "free"));
    assert_eq!(key.scopes, ["invoices:read"]);
}

#[tokio::test]
async fn key_that_is_not_good_is_denied_by_the_first_reason_and_charged_nothing() {
    let server = KeysServer::start().await;
    let (api, _guard) = in_memory(&server);
    let nobodys = check(&api, &by_key(&value(9))).await;
    assert_eq!((nobodys.allowed, nobodys.code(), nobodys.key), (false, Code::KeyNotFound, None));

    let of = |change: fn(&mut keys_pb::ResolvedKey)| {
        let mut key = resolved(1, 7);
        change(&mut key);
        key
    };
    let suspended = |key: &mut keys_pb::ResolvedKey| {
        key.organization.as_mut().unwrap().set_status(keys_pb::OrganizationStatus::Suspended);
        key.disabled = true;
    };
    let cases = [
        (of(suspended), Code::OrganizationSuspended),
        (of(|key| key.key.as_mut().unwrap().revoked_at_ms = 1), Code::KeyRevoked),
        (of(|key| key.disabled = true), Code::KeyDisabled),
        (of(|key| key.key.as_mut().unwrap().expires_at_ms = 1), Code::KeyExpired),
        (
            of(|key| key.key.as_mut().unwrap().allowed_cidrs = vec!["10.0.0.0/8".to_owned()]),
            Code::IpForbidden,
        ),
        (of(|key| key.key.as_mut().unwrap().scopes.clear()), Code::ScopeMissing),
    ];
    for (number, (key, code)) in cases.into_iter().enumerate() {
        let value = value(100 + number as u64);
        server.set(&value, key);
        let scoped = pb::CheckRequest {
            client_ip: "203.0.113.7".to_owned(),
            required_scopes: "invoices:read".to_owned(),
            ..by_key(&value)
        };
        let denied = check(&api, &scoped).await;
        assert_eq!((denied.allowed, denied.code()), (false, code));
        assert!(denied.limits.is_empty() && denied.key.is_some());
    }
    server.set(&value(1), resolved(1, 7));
    let first = check(&api, &by_key(&value(1))).await;
    assert_eq!(remaining(&first, "free/minute"), 9, "nothing of the organization was charged");
}

#[tokio::test]
async fn key_of_another_organization_is_nobodys_to_a_caller_of_one() {
    let server = KeysServer::start().await;
    server.set(&value(1), resolved(1, 7));
    let (api, _guard) = in_memory(&server);
    for (organization, code) in [(7, Code::Ok), (8, Code::KeyNotFound)] {
        let mut request = asked(Encoded::from(&by_key(&value(1))));
        let mut origin = request.extensions_mut().remove::<Origin>().unwrap();
        let own = Some(Uuid::from_u128(organization));
        origin.caller =
            origin.caller.map(|caller| Arc::new(Caller { organization: own, ..(*caller).clone() }));
        request.extensions_mut().insert(origin);
        let answer = api.check(request).await.unwrap().into_inner().decode().unwrap();
        assert_eq!(answer.code(), code);
        assert_eq!(answer.key.is_some(), code == Code::Ok, "whose it is, is not told");
    }
}

#[tokio::test]
async fn limits_of_key_quota_and_plan_are_charged_all_or_none() {
    let server = KeysServer::start().await;
    server.set(&value(1), limited(1, 7, 2, 100));
    // Rotated: another key of the same lineage.
    let mut rotated = limited(2, 7, 2, 100);
    rotated.key.as_mut().unwrap().lineage_id = id(1);
    server.set(&value(2), rotated);
    let mut other = resolved(3, 7);
    other.organization.as_mut().unwrap().monthly_quota = 100;
    server.set(&value(3), other);
    let (api, _guard) = in_memory(&server);
    let first = check(&api, &by_key(&value(1))).await;
    assert_eq!(names(&first)[first.limits.len() - 2..], ["key/hour", "organization/quota"]);
    assert_eq!((remaining(&first, "key/hour"), remaining(&first, "organization/quota")), (1, 99));
    assert!(check(&api, &by_key(&value(2))).await.allowed, "the last of the lineage");
    for number in [1, 2] {
        let denied = check(&api, &by_key(&value(number))).await;
        assert_eq!((denied.allowed, denied.code()), (false, Code::RateLimited));
        assert_eq!(names(&denied)[denied.binding_limit() as usize], "key/hour");
    }
    let other = check(&api, &by_key(&value(3))).await;
    assert_eq!(remaining(&other, "organization/quota"), 97, "denials charged nothing");
    assert_eq!(remaining(&other, "free/minute"), 7);
}

#[tokio::test]
async fn quota_beyond_what_can_be_counted_is_the_most_that_can() {
    let server = KeysServer::start().await;
    server.set(&value(1), limited(1, 7, 2, 9_007_199_254_740_991));
    let (api, _guard) = in_memory(&server);
    let answer = check(&api, &by_key(&value(1))).await;
    assert_eq!(remaining(&answer, "organization/quota"), 999_999_999);
}

#[tokio::test]
async fn look_up_that_began_before_a_revocation_admits_nobody_after_it() {
    let server = KeysServer::start().await;
    server.set(&value(1), resolved(1, 7));
    let (api, _guard) = in_memory(&server);
    server.state.holds.store(true, Ordering::SeqCst);
    let asking = tokio::spawn({
        let api = api.clone();
        async move { check(&api, &by_key(&value(1))).await }
    });
    eventually("the look-up is under way", async || (server.lookups() == 1).then_some(())).await;
    server.change(&value(1), |key| {
        key.generation = 2;
        key.key.as_mut().unwrap().revoked_at_ms = 1;
    });
    let fence = pb::FenceOrganizationRequest { organization_id: id(7), generation: 2 };
    api.fence_organization(asked(fence)).await.unwrap();
    server.state.holds.store(false, Ordering::SeqCst);
    // Who comes now does not wait for what was asked before.
    assert_eq!(check(&api, &by_key(&value(1))).await.code(), Code::KeyRevoked);
    server.state.released.notify_one();
    assert_eq!(asking.await.unwrap().code(), Code::KeyRevoked);
}

#[tokio::test]
async fn used_up_quota_is_called_so() {
    let server = KeysServer::start().await;
    server.set(&value(1), limited(1, 7, 100, 1));
    let (api, _guard) = in_memory(&server);
    assert!(check(&api, &by_key(&value(1))).await.allowed);
    assert_eq!(check(&api, &by_key(&value(1))).await.code(), Code::QuotaExceeded);
}

#[tokio::test]
async fn many_checks_of_a_batch_are_answered_each_by_its_key_or_without() {
    let server = KeysServer::start().await;
    server.set(&value(1), resolved(1, 7));
    let (api, _guard) = in_memory(&server);
    let checks = vec![by_key(&value(1)), by_key(&value(2)), pb::CheckRequest::default()];
    let request = pb::CheckBatchRequest { checks };
    let direct = |answer: &mut Vec<u8>| {
        let message = Encoded::from(&request).as_bytes().to_vec();
        RateLimitApi::answer(&api.turn(&backend()), Method::CheckBatch, &message, answer)
    };
    assert!(matches!(direct(&mut Vec::new()), Err(Unanswered::Waits)), "keys have to be looked up");
    let whole = |answer: pb::CheckBatchResponse| {
        let results = answer.results.into_iter().map(|result| match result.outcome.unwrap() {
            Outcome::Result(answer) => (answer.allowed, answer.code(), answer.key.map(|key| key.id)),
            Outcome::Error(error) => panic!("{error:?}"),
        });
        results.collect::<Vec<_>>()
    };
    let expected = [(true, Code::Ok, Some(id(1))), (false, Code::KeyNotFound, None), (true, Code::Ok, None)];
    let answer = api.check_batch(asked(Encoded::from(&request))).await.unwrap();
    assert_eq!(whole(answer.into_inner().decode().unwrap()), expected);
    // The first word of the feed makes all be forgotten that was known before.
    let answer = eventually("keys are known", async || {
        let mut answer = Vec::new();
        match direct(&mut answer) {
            Ok(()) => Some(answer),
            Err(_) => {
                api.check_batch(asked(Encoded::from(&request))).await.unwrap();
                None
            }
        }
    });
    let answer = answer.await;
    assert_eq!(whole(prost::Message::decode(&answer[..]).unwrap()), expected);
}

#[tokio::test]
async fn check_by_key_where_no_keys_service_is_set_is_refused() {
    let api = api_with_keys(Counters::Memory, None);
    let refused = api.check(asked(Encoded::from(&by_key(&value(1))))).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
}

#[tokio::test]
async fn what_is_asked_of_a_key_is_checked_as_a_whole() {
    let api = api_with_keys(Counters::Memory, None);
    let wrong = pb::CheckRequest {
        client_ip: "here".to_owned(),
        required_scopes: "a and".to_owned(),
        cost: Some(0),
        ..by_key(&value(1))
    };
    let refused = api.check(asked(Encoded::from(&wrong))).await.unwrap_err();
    let details = tonic_types::StatusExt::get_error_details(&refused);
    let fields = details.bad_request().unwrap().field_violations.iter().map(|violation| &*violation.field);
    assert_eq!(fields.collect::<Vec<_>>(), ["client_ip", "required_scopes", "cost"]);
}

/// Two replicas with warm caches on one Redis; the feed is silent.
#[tokio::test]
async fn revocation_that_one_replica_is_told_is_seen_by_the_next_check_of_another() {
    let server = KeysServer::start().await;
    let redis = RedisServer::start().await.unwrap();
    let config = crate::store::redis_config(&redis.url());
    let (told, _first) = in_redis(&server, &config);
    let (other, _second) = in_redis(&server, &config);
    for number in 0..20 {
        let value = value(number);
        server.set(&value, resolved(number, 7 + number));
        for api in [&told, &other] {
            assert!(check(api, &by_key(&value)).await.allowed);
        }
    }
    for number in 0..20 {
        let value = value(number);
        server.change(&value, |key| {
            key.generation = 2;
            key.key.as_mut().unwrap().revoked_at_ms = 1;
        });
        let fence = pb::FenceOrganizationRequest { organization_id: id(7 + number), generation: 2 };
        assert!(told.fence_organization(asked(fence)).await.unwrap().into_inner().shared);
        let denied = check(&other, &by_key(&value)).await;
        assert_eq!((denied.allowed, denied.code()), (false, Code::KeyRevoked));
        // And back: the one that was told knows at once, the other when the feed tells it.
        server.change(&value, |key| {
            key.generation = 3;
            key.key.as_mut().unwrap().revoked_at_ms = 0;
        });
        let fence = pb::FenceOrganizationRequest { organization_id: id(7 + number), generation: 3 };
        told.fence_organization(asked(fence)).await.unwrap();
        assert!(check(&told, &by_key(&value)).await.allowed);
        let change =
            keys_pb::KeyChange { organization_id: id(7 + number), generation: 3, ..Default::default() };
        server.tell(change);
        let is_told = async || check(&other, &by_key(&value)).await.allowed.then_some(());
        eventually("the feed has told", is_told).await;
    }
}
