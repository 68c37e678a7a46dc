//! Whole questions, with a keys service on a real socket behind.

use std::{collections::BTreeMap, sync::Arc};

use rstest::rstest;
use serde_json::{Value, json};
use tidegate_chassis::{
    auth::{Caller, Origin},
    clock::Clock,
};
use tidegate_proto::envoy::{
    config::core::v3::{
        Address, HeaderValueOption, SocketAddress, address, header_value_option::HeaderAppendAction,
    },
    service::auth::v3::{
        AttributeContext, DeniedHttpResponse, OkHttpResponse,
        attribute_context::{
            ContextExtensionsEntry, HttpRequest, Peer, Request as Held, http_request::HeadersEntry,
        },
        check_response::HttpResponse,
    },
};
use tokio_util::sync::DropGuard;
use tonic::Code;
use tonic_types::StatusExt;
use uuid::Uuid;

use super::*;
use crate::{
    grpc::tests::{api_with_keys, asked},
    keys::tests::{
        fixture::{KeysServer, id, resolved, value},
        keys,
    },
    limiter::Counters,
};

/// Of a key whose checksum is good, which nobody has.
const NOBODYS: u64 = 9;

async fn started() -> (KeysServer, AuthorizationApi, DropGuard) {
    let server = KeysServer::start().await;
    server.set(&value(1), resolved(1, 7));
    let (keys, guard) = keys(&server.config(), Clock::system());
    (server, AuthorizationApi(api_with_keys(Counters::Memory, Some(keys))), guard)
}

/// A call of `/invoices/7?page=2` with those headers, where the route has those settings.
fn question(headers: &[(&str, &str)], settings: &[(&str, &str)]) -> CheckRequest {
    let headers = headers
        .iter()
        .map(|(name, value)| HeadersEntry { key: (*name).to_owned(), value: (*value).to_owned() });
    let settings = settings
        .iter()
        .map(|(name, value)| ContextExtensionsEntry { key: (*name).to_owned(), value: (*value).to_owned() });
    let http = HttpRequest {
        method: "PUT".to_owned(),
        path: "/invoices/7?page=2".to_owned(),
        host: "Shop.example".to_owned(),
        headers: headers.collect(),
        ..HttpRequest::default()
    };
    let socket = SocketAddress { address: "10.0.0.1".to_owned(), ..SocketAddress::default() };
    let address = Address { address: Some(address::Address::SocketAddress(socket)) };
    let attributes = AttributeContext {
        source: Some(Peer { address: Some(address), ..Peer::default() }),
        request: Some(Held { http: Some(http) }),
        context_extensions: settings.collect(),
        ..AttributeContext::default()
    };
    CheckRequest { attributes: Some(attributes) }
}

async fn ask(api: &AuthorizationApi, request: CheckRequest) -> CheckResponse {
    api.check(asked(request)).await.expect("decided").into_inner()
}

async fn by_key(api: &AuthorizationApi, number: u64, settings: &[(&str, &str)]) -> CheckResponse {
    ask(api, question(&[("x-api-key", &value(number))], settings)).await
}

fn admitted(answer: CheckResponse) -> OkHttpResponse {
    match (answer.status.expect("a status").code, answer.http_response) {
        (0, Some(HttpResponse::OkResponse(response))) => response,
        other => panic!("{other:?}"),
    }
}

/// HTTP status, headers and body of a denial.
fn denied(answer: CheckResponse) -> (i32, BTreeMap<String, String>, Value) {
    let Some(HttpResponse::DeniedResponse(DeniedHttpResponse { status, headers, body })) =
        answer.http_response
    else {
        panic!("let through")
    };
    assert_ne!(answer.status.expect("a status").code, 0);
    (status.expect("a status").code, lines(&headers), serde_json::from_str(&body).expect("JSON"))
}

/// Headers, each of which takes the place of what is there.
fn lines(headers: &[HeaderValueOption]) -> BTreeMap<String, String> {
    let line = |of: &HeaderValueOption| {
        assert_eq!(of.append_action(), HeaderAppendAction::OverwriteIfExistsOrAdd);
        let header = of.header.clone().expect("a header");
        (header.key, header.value)
    };
    headers.iter().map(line).collect()
}

#[tokio::test]
async fn backend_learns_whose_the_key_is_and_the_caller_what_is_left() {
    let (server, api, _guard) = started().await;
    let mut key = resolved(2, 7);
    key.key.as_mut().unwrap().name = "Größe 100%\r\nX-Evil: 1".to_owned();
    key.key.as_mut().unwrap().scopes.clear();
    server.set(&value(2), key);

    let told = admitted(by_key(&api, 1, &[]).await);
    let names = ["organization", "key-id", "key-name", "plan", "scopes", "environment"];
    let headers = lines(&told.headers);
    let identity = names.map(|name| headers[&format!("x-tidegate-{name}")].clone());
    assert_eq!(identity, [&id(7), &id(1), "key 1", "free", "invoices:read", "live"]);
    assert!(told.headers_to_remove.is_empty());
    let left = lines(&told.response_headers_to_add);
    assert_eq!((&*left["x-ratelimit-limit"], &*left["x-ratelimit-remaining"]), ("10", "9"));
    assert!(left["ratelimit-policy"].starts_with("\"free/minute\";q=10;w=60, "), "{left:?}");
    assert!(left["ratelimit"].starts_with("\"free/minute\";r=9;t="), "{left:?}");

    let told = admitted(by_key(&api, 2, &[]).await);
    assert_eq!(lines(&told.headers)["x-tidegate-key-name"], "Gr%C3%B6%C3%9Fe 100%25%0D%0AX-Evil: 1");
    assert_eq!(told.headers_to_remove, ["x-tidegate-scopes"], "what a caller wrote does not stay");
}

#[rstest]
#[case::header(&[("x-api-key", "K")], Some("x-api-key"))]
#[case::bearer(&[("authorization", "bearer K")], Some("authorization"))]
#[case::beside_a_token_of_the_backend(&[("authorization", "Bearer a.b.c"), ("x-api-key", " K ")], Some("x-api-key"))]
#[case::nothing(&[], None)]
#[case::empty(&[("x-api-key", " ")], None)]
#[case::password(&[("authorization", "Basic dXNlcjpwdw==")], None)]
#[tokio::test]
async fn key_is_that_of_the_request_and_need_not_reach_the_backend(
    #[case] headers: &[(&str, &str)],
    #[case] removed: Option<&str>,
) {
    let (server, api, _guard) = started().await;
    let headers: Vec<_> = headers.iter().map(|(name, text)| (*name, text.replace('K', &value(1)))).collect();
    let headers: Vec<_> = headers.iter().map(|(name, text)| (*name, &**text)).collect();
    let answer = ask(&api, question(&headers, &[("remove_key", "true")])).await;
    if let Some(removed) = removed {
        assert_eq!(admitted(answer).headers_to_remove, [removed]);
        let answer = ask(&api, question(&headers, &[("remove_key", "false")])).await;
        assert!(admitted(answer).headers_to_remove.is_empty());
    } else {
        let (status, headers, problem) = denied(answer);
        assert_eq!((status, &*headers["www-authenticate"]), (401, "Bearer"));
        assert_eq!(
            (&problem["error"], &problem["instance"]),
            (&json!("unauthenticated"), &json!("/invoices/7"))
        );
        assert_eq!(server.lookups(), 0);
    }
}

#[tokio::test]
async fn key_that_is_not_good_is_told_by_the_status_and_never_repeated() {
    let (server, api, _guard) = started().await;
    let mut bound = resolved(2, 7);
    bound.key.as_mut().unwrap().allowed_cidrs = vec!["203.0.113.0/24".to_owned()];
    server.set(&value(2), bound);
    let mut revoked = resolved(3, 7);
    revoked.key.as_mut().unwrap().revoked_at_ms = 1;
    server.set(&value(3), revoked);
    let scoped = [("required_scopes", "invoices:write")];
    for (number, settings, expected, error) in [
        (NOBODYS, &[][..], 401, "key_not_found"),
        (3, &[], 401, "key_revoked"),
        (2, &[], 403, "ip_forbidden"),
        (1, &scoped, 403, "scope_missing"),
    ] {
        let (status, headers, problem) = denied(by_key(&api, number, settings).await);
        assert_eq!((status, &problem["error"]), (expected, &json!(error)));
        assert_eq!(headers["content-type"], "application/problem+json");
        assert_eq!(headers.contains_key("www-authenticate"), expected == 401);
        assert!(!headers.contains_key("retry-after"), "waiting does not help");
        assert!(!format!("{headers:?}{problem}").contains(&value(number)));
    }
    let named = [("x-api-key", &*value(2)), ("x-forwarded-for", "198.51.100.1, 203.0.113.7")];
    let settings = [("trusted_proxies", "192.0.2.0/24, 10.0.0.0/8")];
    admitted(ask(&api, question(&named, &settings)).await);
    assert_eq!(denied(ask(&api, question(&named, &[])).await).0, 403, "nobody is trusted unasked");
}

#[tokio::test]
async fn used_up_limit_is_a_429_that_says_until_when() {
    let (_server, api, _guard) = started().await;
    admitted(by_key(&api, 1, &[("cost", "9")]).await);
    admitted(by_key(&api, 1, &[]).await);
    let (status, headers, problem) = denied(by_key(&api, 1, &[]).await);
    let wait: u64 = headers["retry-after"].parse().unwrap();
    assert!(status == 429 && (1..=120).contains(&wait), "{status}, {wait} s");
    assert_eq!(headers["x-ratelimit-remaining"], "0");
    assert_eq!((&problem["error"], &problem["retry_after"]), (&json!("rate_limit_exceeded"), &json!(wait)));
    assert_eq!(problem["violated_policies"], json!(["free/minute"]));
}

#[test]
fn policy_that_refuses_for_want_of_the_store_is_a_503() {
    let decided = pb::CheckResponse {
        code: pb::Code::StoreUnavailable.into(),
        retry_after_ms: 1_500,
        ..pb::CheckResponse::default()
    };
    let (status, headers, problem) = denied(Answer { path: "/", now_us: 0 }.to(&decided, None));
    assert_eq!((status, &*headers["retry-after"]), (503, "2"));
    assert_eq!(problem["error"], json!("store_unavailable"));
}

#[test]
fn check_is_of_what_envoy_and_the_route_say() {
    let settings = [
        ("namespace", "shop"),
        ("required_scopes", "a:read or b"),
        ("cost", "3"),
        ("attribute.host", "shop"),
        ("attribute.tier", "gold"),
    ];
    let request = question(&[("x-api-key", "key")], &settings);
    let question = Question::read(&request).unwrap();
    let view = question.view();
    let expected =
        [("method", "PUT"), ("path", "/invoices/7"), ("ip", "10.0.0.1"), ("host", "shop"), ("tier", "gold")];
    assert_eq!(view.attributes[..], expected);
    assert_eq!((view.namespace, view.required_scopes, view.cost), ("shop", "a:read or b", Some(3)));
    assert_eq!((view.api_key, view.client_ip), ("key", "10.0.0.1"));
}

#[test]
fn everything_wrong_with_the_settings_is_named() {
    let settings = [
        ("cost", "many"),
        ("remove_key", "yes"),
        ("trusted_proxies", "10.0.0.1, proxy"),
        ("required_scope", "a"),
        ("namespace", "not a name"),
        ("required_scopes", "a and"),
        ("attribute.", "x"),
    ];
    let status = Question::read(&question(&[], &settings)).expect_err("refused");
    let details = status.get_error_details();
    let violations = &details.bad_request().expect("fields").field_violations;
    let named: Vec<_> =
        violations.iter().map(|of| of.field.replace("attributes.context_extensions.", "")).collect();
    let expected = [
        "cost",
        "remove_key",
        "trusted_proxies",
        "required_scope",
        "required_scopes",
        "namespace",
        "attributes[]",
    ];
    assert_eq!((status.code(), &named[..]), (Code::InvalidArgument, &expected.map(str::to_owned)[..]));
    for (request, field) in [
        (CheckRequest::default(), "attributes"),
        (CheckRequest { attributes: Some(AttributeContext::default()) }, "attributes.request.http"),
    ] {
        let status = Question::read(&request).expect_err("refused");
        let details = status.get_error_details();
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, field);
    }
}

#[tokio::test]
async fn nothing_that_a_caller_chooses_makes_a_question_invalid() {
    let (_server, api, _guard) = started().await;
    let long = "x".repeat(10_000);
    let headers = [("x-api-key", &*long), ("x-forwarded-for", &long), ("", "")];
    let mut request = question(&headers, &[("trusted_proxies", "10.0.0.0/8")]);
    let http = request.attributes.as_mut().unwrap().request.as_mut().unwrap().http.as_mut().unwrap();
    [&mut http.path, &mut http.host, &mut http.method].into_iter().for_each(|text| text.clone_from(&long));
    assert_eq!(denied(ask(&api, request).await).0, 401);
}

#[tokio::test]
async fn key_of_another_organization_is_nobodys_to_an_envoy_of_one() {
    let (_server, api, _guard) = started().await;
    for (organization, is_known) in [(7, true), (8, false)] {
        let mut request = asked(question(&[("x-api-key", &value(1))], &[]));
        let mut origin = request.extensions_mut().remove::<Origin>().unwrap();
        let own = Some(Uuid::from_u128(organization));
        origin.caller =
            origin.caller.map(|caller| Arc::new(Caller { organization: own, ..(*caller).clone() }));
        request.extensions_mut().insert(origin);
        let answer = api.check(request).await.unwrap().into_inner();
        match is_known {
            true => assert!(!admitted(answer).headers.is_empty()),
            false => assert_eq!(denied(answer).2["error"], json!("key_not_found")),
        }
    }
}
