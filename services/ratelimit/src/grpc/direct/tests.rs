//! Whoever calls, the fast way answers as the generated service does.

mod batches;
mod uncounted;

use std::sync::atomic::Ordering;

use tidegate_chassis::{
    auth::{How, Role, TokenUse},
    clock::Clock,
};
use tidegate_proto::ratelimit::v1::{
    Code, check_batch_result, check_stream_response, rate_limit_service_server::RateLimitService,
};
use tokio_util::sync::DropGuard;
use uuid::Uuid;

use super::*;
use crate::{
    grpc::tests::{api_of, backend, by},
    keys::tests::{
        fed,
        fixture::{KeysServer, id, resolved, value},
    },
    limiter::Counters,
    policies,
};

const POLICIES: &str = r#"
[[policies]]
name = "address"
namespace = "shared"
key_by = ["ip"]
limits = [{ name = "minute", limit = 10, period = "1m" }]

[[policies]]
name = "own"
namespace = "own"
key_by = ["ip", "organization"]
limits = [{ name = "minute", limit = 10, period = "1m" }]

[[policies]]
name = "key"
namespace = "by-key"
key_by = ["api_key"]
limits = [{ name = "minute", limit = 10, period = "1m" }]
"#;

/// What came of a check: whether it was allowed, why, what is left of each limit, and whose key it was; or the error.
type Told = Result<(bool, Code, Vec<(String, u64)>, String), (tonic::Code, String)>;

fn told(answer: pb::CheckResponse) -> Told {
    let limits = answer.limits.iter().map(|limit| (limit.name.clone(), limit.remaining)).collect();
    Ok((answer.allowed, answer.code(), limits, answer.key.map(|key| key.id).unwrap_or_default()))
}

fn refused_by(status: &Status) -> Told {
    Err((status.code(), status.message().to_owned()))
}

fn refused_one(error: pb::CheckError) -> Told {
    Err((tonic::Code::from(error.status_code), error.message))
}

/// How a check is asked.
#[derive(Clone, Copy, Debug)]
enum Way {
    Alone,
    InBatch,
    InStream,
}

/// A replica that counts in memory, and knows the keys that are asked for.
async fn replica(server: &KeysServer) -> (RateLimitApi, DropGuard) {
    let (keys, guard) = fed(&server.config(), Clock::system()).await;
    let policies = policies::parse(POLICIES, "test", 1).expect("valid policies");
    let (api, _) = api_of(policies, &Clock::system(), Counters::Memory, None, Some(keys.clone()));
    for number in 1..=3 {
        keys.find(&value(number)).await.unwrap();
    }
    (api, guard)
}

fn directly(api: &RateLimitApi, caller: &Caller, way: Way, check: &pb::CheckRequest) -> Told {
    let mut answer = Vec::new();
    let mut ask = |method, message: &[u8]| match RateLimitApi::answer(
        &api.turn(caller),
        method,
        message,
        &mut answer,
    ) {
        Ok(()) => Ok(std::mem::take(&mut answer)),
        Err(Unanswered::Failed(status)) => Err(status),
        Err(Unanswered::Waits) => panic!("all keys are known: {way:?} {check:?}"),
    };
    match way {
        Way::Alone => match ask(Method::Check, Encoded::from(check).as_bytes()) {
            Ok(answer) => told(prost::Message::decode(&answer[..]).unwrap()),
            Err(status) => refused_by(&status),
        },
        Way::InBatch => {
            let batch = pb::CheckBatchRequest { checks: vec![check.clone()] };
            match ask(Method::CheckBatch, Encoded::from(&batch).as_bytes()) {
                Ok(answer) => one_of_batch(&prost::Message::decode(&answer[..]).unwrap()),
                Err(status) => refused_by(&status),
            }
        }
        Way::InStream => {
            let one = pb::CheckStreamRequest { id: 7, check: Some(check.clone()) };
            let answer = ask(Method::CheckStream, Encoded::from(&one).as_bytes()).unwrap();
            one_of_stream(prost::Message::decode(&answer[..]).unwrap())
        }
    }
}

async fn by_the_service(api: &RateLimitApi, caller: &Caller, way: Way, check: &pb::CheckRequest) -> Told {
    match way {
        Way::Alone => match api.check(by(caller.clone(), Encoded::from(check))).await {
            Ok(answer) => told(answer.into_inner().decode().unwrap()),
            Err(status) => refused_by(&status),
        },
        Way::InBatch => {
            let batch = pb::CheckBatchRequest { checks: vec![check.clone()] };
            match api.check_batch(by(caller.clone(), Encoded::from(&batch))).await {
                Ok(answer) => one_of_batch(&answer.into_inner().decode().unwrap()),
                Err(status) => refused_by(&status),
            }
        }
        Way::InStream => {
            let one = pb::CheckStreamRequest { id: 7, check: Some(check.clone()) };
            let message = Encoded::from(&one).into_bytes();
            let answer = api.answer_later(caller, Method::CheckStream, message).await.unwrap();
            one_of_stream(prost::Message::decode(&answer[..]).unwrap())
        }
    }
}

fn one_of_batch(answer: &pb::CheckBatchResponse) -> Told {
    let [result] = &answer.results[..] else { panic!("one result: {answer:?}") };
    match result.outcome.clone().unwrap() {
        check_batch_result::Outcome::Result(answer) => told(answer),
        check_batch_result::Outcome::Error(error) => refused_one(error),
    }
}

fn one_of_stream(answer: pb::CheckStreamResponse) -> Told {
    assert_eq!(answer.id, 7);
    match answer.outcome.unwrap() {
        check_stream_response::Outcome::Result(answer) => told(answer),
        check_stream_response::Outcome::Error(error) => refused_one(error),
    }
}

fn callers() -> [(&'static str, Caller); 4] {
    let tenant = |organization| Caller {
        role: Role::TenantAdmin,
        organization: Some(Uuid::from_u128(organization)),
        how: How::Token { id: String::new(), token_use: TokenUse::Access, expires_at_s: u64::MAX },
        ..backend()
    };
    let how = How::Token { id: String::new(), token_use: TokenUse::Service, expires_at_s: u64::MAX };
    let service = Caller { how, ..backend() };
    [("ours", backend()), ("a backend", service), ("tenant 7", tenant(7)), ("tenant 8", tenant(8))]
}

/// Checks by what is asked of them. 1 is a key of organization 7, 2 one that was revoked, 3 nobody's.
fn checks() -> Vec<(&'static str, pb::CheckRequest)> {
    let of = |namespace: &str, attributes: &[(&str, &str)], key: &str| pb::CheckRequest {
        namespace: namespace.to_owned(),
        attributes: attributes
            .iter()
            .map(|(key, value)| pb::check_request::AttributesEntry {
                key: (*key).to_owned(),
                value: (*value).to_owned(),
            })
            .collect(),
        api_key: key.to_owned(),
        ..pb::CheckRequest::default()
    };
    let (seven, first) = (id(7), value(1));
    let last = if first.ends_with('0') { "1" } else { "0" };
    let misspelt = format!("{}{last}", &first[..first.len() - 1]);
    let plain = of("", &[("organization", &seven), ("plan", "free")], "");
    vec![
        ("its organization", plain.clone()),
        ("no organization", of("", &[("plan", "free")], "")),
        ("an unknown namespace", of("nowhere", &[("organization", &seven)], "")),
        ("a reserved namespace", of("identity", &[("organization", &seven)], "")),
        ("a key", of("", &[], &first)),
        ("a key, and another organization", of("", &[("organization", &id(9))], &first)),
        ("a key that was revoked", of("", &[], &value(2))),
        ("a key of nobody", of("", &[], &value(3))),
        ("what cannot be a key", of("", &[], &misspelt)),
        ("wrong fields", pb::CheckRequest { cost: Some(0), ..plain.clone() }),
        ("too dear", pb::CheckRequest { cost: Some(1_000), ..plain }),
        ("a counter of all", of("shared", &[("ip", "10.0.0.1"), ("organization", &seven)], "")),
        ("its own counter", of("own", &[("ip", "10.0.0.1"), ("organization", &seven)], "")),
        ("a counter of the key it names", of("by-key", &[("api_key", &id(1)), ("organization", &seven)], "")),
        ("the counter of its key", of("by-key", &[], &first)),
        ("a counter of all, by key", of("shared", &[("ip", "10.0.0.1")], &first)),
    ]
}

async fn keys_server() -> KeysServer {
    let server = KeysServer::start().await;
    server.set(&value(1), resolved(1, 7));
    let mut revoked = resolved(2, 7);
    revoked.key.as_mut().unwrap().revoked_at_ms = 1;
    server.set(&value(2), revoked);
    server
}

#[tokio::test]
async fn every_check_of_every_caller_is_answered_alike_both_ways() {
    let server = keys_server().await;
    let (fast, _first) = replica(&server).await;
    let (slow, _second) = replica(&server).await;
    let lookups = server.lookups();
    for way in [Way::Alone, Way::InBatch, Way::InStream] {
        for (who, caller) in callers() {
            for (what, check) in checks() {
                let direct = directly(&fast, &caller, way, &check);
                let generated = by_the_service(&slow, &caller, way, &check).await;
                assert_eq!(direct, generated, "{who} asks for {what}: {way:?}");
            }
        }
    }
    assert_eq!(server.lookups(), lookups, "nothing had to be looked up");
}

#[tokio::test]
async fn caller_of_one_organization_charges_nothing_that_others_are_counted_by() {
    let server = keys_server().await;
    let (api, _guard) = replica(&server).await;
    for (who, caller) in callers() {
        let mut refused = Vec::new();
        for (what, check) in checks() {
            let answer = directly(&api, &caller, Way::Alone, &check);
            if answer.is_err_and(|(code, _)| code == tonic::Code::PermissionDenied) {
                refused.push(what);
            }
        }
        let expected: &[&str] = match who {
            "ours" => &[],
            "a backend" => &["a reserved namespace"],
            "tenant 7" => &[
                "no organization",
                "a reserved namespace",
                "a key, and another organization",
                "a counter of all",
                "a counter of the key it names",
                "a counter of all, by key",
            ],
            // Keys of others are nobody's.
            _ => &[
                "its organization",
                "no organization",
                "an unknown namespace",
                "a reserved namespace",
                "a key, and another organization",
                "too dear",
                "a counter of all",
                "its own counter",
                "a counter of the key it names",
            ],
        };
        assert_eq!(refused, expected, "{who}");
    }
}

#[tokio::test]
async fn key_that_is_not_known_makes_a_check_of_a_stream_wait_and_no_other() {
    let server = keys_server().await;
    server.set(&value(20), resolved(20, 7));
    let (api, _guard) = replica(&server).await;
    let of = |key: &str| {
        let check = pb::CheckRequest { api_key: key.to_owned(), ..pb::CheckRequest::default() };
        Encoded::from(&pb::CheckStreamRequest { id: 7, check: Some(check) }).into_bytes()
    };
    let mut answer = Vec::new();
    let waits =
        RateLimitApi::answer(&api.turn(&backend()), Method::CheckStream, &of(&value(20)), &mut answer);
    assert!(matches!(waits, Err(Unanswered::Waits)));
    server.state.holds.store(true, Ordering::SeqCst);
    let later = tokio::spawn(api.answer_later(&backend(), Method::CheckStream, of(&value(20))));
    let known = RateLimitApi::answer(&api.turn(&backend()), Method::CheckStream, &of(&value(1)), &mut answer);
    assert!(known.is_ok());
    server.state.holds.store(false, Ordering::SeqCst);
    server.state.released.notify_one();
    let answer = later.await.unwrap().unwrap();
    assert!(one_of_stream(prost::Message::decode(&answer[..]).unwrap()).unwrap().0);
}

/// How often a check that was answered before takes memory, each time.
fn allocations(api: &RateLimitApi, check: &pb::CheckRequest) -> u64 {
    let message = Encoded::from(check).into_bytes();
    let (caller, mut answer) = (backend(), Vec::with_capacity(4_096));
    let mut ask = || {
        answer.clear();
        RateLimitApi::answer(&api.turn(&caller), Method::Check, &message, &mut answer).expect("answered");
    };
    // What counts use grows at first.
    (0..200).for_each(|_| ask());
    let hundred = || (0..100).for_each(|_| ask());
    allocation_counter::measure(hundred).count_total
}

#[tokio::test]
async fn check_by_a_key_that_is_known_allocates_nothing() {
    let server = keys_server().await;
    let mut limited = resolved(3, 7);
    let limit = tidegate_proto::keys::v1::KeyLimit { name: "hour".to_owned(), limit: 1_000, period_s: 3_600 };
    limited.key.as_mut().unwrap().limits = vec![limit];
    server.set(&value(3), limited);
    let (api, _guard) = replica(&server).await;
    assert_eq!(allocations(&api, &checks()[0].1), 0, "without a key");
    for number in [1, 2, 3] {
        let check = pb::CheckRequest {
            api_key: value(number),
            client_ip: "203.0.113.7".to_owned(),
            required_scopes: "invoices:read".to_owned(),
            ..pb::CheckRequest::default()
        };
        assert_eq!(allocations(&api, &check), 0, "key {number}");
    }
}
