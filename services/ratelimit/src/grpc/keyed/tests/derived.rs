//! Namespaces that derive attributes of the names that a key gives.

use tidegate_chassis::auth::{How, Role, TokenUse};

use super::*;
use crate::{
    grpc::tests::{api_of, by},
    policies,
};

const POLICIES: &str = r#"
builtin = false

[namespaces.shop]
derive = [
    { attribute = "api_key", hash_of = "api_key" },
    { attribute = "organization", hash_of = "organization" },
]

[namespaces.web]
derive = [{ attribute = "api_key", hash_of = "authorization" }]

[[policies]]
name = "address"
namespace = "default"
key_by = ["ip"]
limits = [{ name = "minute", limit = 10, period = "1m" }]

[[policies]]
name = "address"
namespace = "shop"
key_by = ["ip"]
limits = [{ name = "minute", limit = 10, period = "1m" }]

[[policies]]
name = "secret"
namespace = "web"
key_by = ["api_key"]
limits = [{ name = "minute", limit = 10, period = "1m" }]
"#;

fn deriving(server: &KeysServer) -> (RateLimitApi, DropGuard) {
    let (keys, guard) = keys(&server.config(), Clock::system());
    let policies = policies::parse(POLICIES, "test", 1).unwrap();
    let (api, _) = api_of(policies, &Clock::system(), Counters::Memory, None, Some(keys));
    (api, guard)
}

fn within(namespace: &str, authorization: &str) -> pb::CheckRequest {
    let entry = |value: &str| pb::check_request::AttributesEntry {
        key: "authorization".to_owned(),
        value: value.to_owned(),
    };
    pb::CheckRequest {
        namespace: namespace.to_owned(),
        attributes: Some(authorization).filter(|value| !value.is_empty()).map(entry).into_iter().collect(),
        ..by_key(&value(1))
    }
}

#[tokio::test]
async fn limits_of_a_key_and_the_quota_are_one_in_all_namespaces_whatever_these_derive() {
    let server = KeysServer::start().await;
    server.set(&value(1), limited(1, 7, 4, 100));
    let (api, _guard) = deriving(&server);
    // Nothing is derived from what is absent; the key is what it is all the same.
    let uses = [within("", ""), within("shop", ""), within("web", ""), within("web", "Bearer another")];
    for (number, check_of) in (0..).zip(&uses) {
        let answer = check(&api, check_of).await;
        assert!(answer.allowed, "{check_of:?}");
        assert_eq!(remaining(&answer, "key/hour"), 3 - number, "{check_of:?}");
        assert_eq!(remaining(&answer, "organization/quota"), 99 - number, "{check_of:?}");
    }
    for check_of in &uses {
        assert_eq!(check(&api, check_of).await.code(), Code::RateLimited, "{check_of:?}");
    }
}

#[tokio::test]
async fn counter_of_what_a_namespace_derives_is_no_counter_of_the_key() {
    let server = KeysServer::start().await;
    server.set(&value(1), resolved(1, 7));
    let (api, _guard) = deriving(&server);
    let tenant = Caller {
        role: Role::TenantAdmin,
        organization: Some(Uuid::from_u128(7)),
        how: How::Token { id: String::new(), token_use: TokenUse::Access, expires_at_s: u64::MAX },
        ..backend()
    };
    let charges = within("web", "Bearer somebody else");
    let refused = api.check(by(tenant.clone(), Encoded::from(&charges))).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);
    assert!(refused.message().contains("\"secret\""), "the policy is named: {}", refused.message());
    let entry = pb::reset_request::AttributesEntry {
        key: "authorization".to_owned(),
        value: "Bearer somebody else".to_owned(),
    };
    let clears = pb::ResetRequest {
        namespace: "web".to_owned(),
        attributes: vec![entry],
        api_key: value(1),
        ..pb::ResetRequest::default()
    };
    let refused = api.reset(by(tenant, clears)).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);
    let answer = check(&api, &charges).await;
    assert_eq!(remaining(&answer, "secret/minute"), 9, "nothing was charged before");
}
