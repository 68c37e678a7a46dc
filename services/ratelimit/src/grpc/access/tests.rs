//! Every method with every role and with none, over a real port with real tokens.

use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use tidegate_chassis::{
    auth::{Claims, InternalTokens, Role, TokenUse},
    clock::{Clock, Random},
    config::{self, Source},
    metrics::Metrics,
};
use tidegate_proto::{
    envoy::service::ratelimit::v3::{
        RateLimitRequest, rate_limit_service_client::RateLimitServiceClient as EnvoyClient,
    },
    ratelimit::v1::{self as pb, rate_limit_service_client::RateLimitServiceClient},
};
use tidegate_tests::{
    roles::{self, Caller, Credentials, Method},
    rpc,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tonic::{Code, Request, Status, transport::Channel};
use uuid::Uuid;

use super::*;
use crate::{CONFIG_DEFAULTS, Config, Service as RateLimit};

const SECRET: &str = "b7d0a4c1e95f4e0f8a63d2279c1b5e84";
const INTERNAL: &str = "5e1c9f07b3a24d6e90c8f1a27d4b6e35";
const OWN: Uuid = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_00aa);
const ANOTHER: Uuid = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_00bb);

/// A service that believes nobody without credentials, until it is dropped.
struct Running {
    channel: Channel,
    config: Config,
    _stop: tokio_util::sync::DropGuard,
    _serving: AbortOnDropHandle<anyhow::Result<()>>,
}

impl Running {
    async fn start() -> Self {
        let env = [
            ("TIDEGATE_SERVER__LISTEN", "127.0.0.1:0"),
            ("TIDEGATE_SERVER__OPS_LISTEN", "127.0.0.1:0"),
            ("TIDEGATE_SERVER__WORKERS", "1"),
            ("TIDEGATE_SERVER__LAME_DUCK", "0s"),
            ("TIDEGATE_AUTH__ANONYMOUS", "nobody"),
            ("TIDEGATE_AUTH__HS256_SECRETS__SHARED", SECRET),
            ("TIDEGATE_AUTH__INTERNAL_SECRET", INTERNAL),
        ];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let config: Config =
            config::load(&Source { defaults: CONFIG_DEFAULTS, env, ..Source::default() }).unwrap();
        let service =
            RateLimit::bind(config.clone(), Metrics::new(), Clock::system(), Random::system()).await.unwrap();
        let channel = rpc::channel(&service.addr().to_string()).unwrap();
        let stop = CancellationToken::new();
        let serving = tokio::spawn(service.serve(stop.clone()));
        Self { channel, config, _stop: stop.drop_guard(), _serving: AbortOnDropHandle::new(serving) }
    }
}

fn token(role: Role, org: Option<Uuid>) -> String {
    let now_s = Clock::system().now_us() / 1_000_000;
    let claims = Claims {
        iss: "tidegate".to_owned(),
        aud: "tidegate".to_owned(),
        sub: "somebody".to_owned(),
        role,
        org,
        email: None,
        exp: now_s + 600,
        nbf: None,
        iat: now_s,
        jti: String::new(),
        token_use: TokenUse::Service,
    };
    let header = Header { kid: Some("shared".to_owned()), ..Header::new(Algorithm::HS256) };
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    format!("Bearer {}", jsonwebtoken::encode(&header, &claims, &key).unwrap())
}

#[tokio::test]
async fn each_method_lets_in_those_whom_the_table_names_and_nobody_else() {
    let running = Running::start().await;
    let methods: Vec<_> = ACCESS
        .iter()
        .map(|(path, access)| Method {
            path,
            roles: match access {
                Access::Public => None,
                Access::Roles(roles) => Some(roles.iter().map(|role| role.name()).collect()),
            },
        })
        .collect();
    let by_role = |name, role: Role, org| Caller {
        name,
        authorization: Some(token(role, org)),
        shows: Credentials::Role(role.name()),
    };
    let internal = InternalTokens::new(&running.config.auth, "tidegate-gateway", Clock::system()).unwrap();
    let callers = [
        Caller { name: "nobody", authorization: None, shows: Credentials::None },
        Caller {
            name: "somebody whose token was tampered with",
            authorization: Some(format!("{}A", token(Admin, None))),
            shows: Credentials::Bad,
        },
        by_role("an administrator", Admin, None),
        // There is none such.
        Caller {
            shows: Credentials::Bad,
            ..by_role("an administrator of one organization", Admin, Some(OWN))
        },
        by_role("a tenant's administrator", TenantAdmin, Some(OWN)),
        by_role("a user", User, Some(OWN)),
        by_role("a backend", Service, None),
        by_role("a backend of one organization", Service, Some(OWN)),
        Caller {
            name: "one of our own services",
            authorization: Some(internal.header().to_str().unwrap().to_owned()),
            shows: Credentials::Role("service"),
        },
    ];
    let violations = roles::violations(&running.channel, &methods, &callers).await.unwrap();
    assert!(violations.is_empty(), "{violations:#?}");
}

#[test]
fn proto_file_names_the_roles_of_each_method() {
    let proto = include_str!("../../../../../proto/tidegate/ratelimit/v1/ratelimit.proto");
    let own = "/tidegate.ratelimit.v1.RateLimitService/";
    for (path, access) in ACCESS {
        let Some(name) = path.strip_prefix(own) else { continue };
        let Access::Roles(allowed) = access else { panic!("{path} is for anybody") };
        let (before, _) = proto.split_once(&format!("  rpc {name}(")).unwrap();
        let comment = before.rsplit("\n\n").next().unwrap();
        let names: Vec<_> =
            Role::ALL.iter().filter(|role| allowed.contains(role)).map(|role| role.name()).collect();
        assert!(comment.contains(&format!("// Roles: {}.", names.join(", "))), "{name}: {comment}");
    }
}

/// Whether a call was refused for the organization that it is about.
fn is_refused<T>(answer: Result<T, Status>) -> bool {
    answer.is_err_and(|status| status.code() == Code::PermissionDenied)
}

/// Calls every method about an organization; none if the call names none. Gives those that were refused.
async fn refused(channel: &Channel, token: &str, about: Option<&str>) -> Vec<&'static str> {
    let mut client = RateLimitServiceClient::new(channel.clone());
    macro_rules! attributes {
        ($entry:ident) => {
            about
                .map(|value| pb::$entry::AttributesEntry { key: "organization".into(), value: value.into() })
                .into_iter()
                .collect()
        };
    }
    let check = pb::CheckRequest { attributes: attributes!(check_request), ..Default::default() };
    let mut refused = Vec::new();
    macro_rules! ask {
        ($method:ident, $message:expr) => {
            let mut request = Request::new($message);
            request.metadata_mut().insert("authorization", token.parse().unwrap());
            request.set_timeout(Duration::from_secs(20));
            if is_refused(client.$method(request).await) {
                refused.push(stringify!($method));
            }
        };
    }
    ask!(check, check.clone());
    ask!(check_batch, pb::CheckBatchRequest { checks: vec![check.clone()] });
    ask!(peek, pb::PeekRequest { attributes: attributes!(peek_request), ..Default::default() });
    ask!(reset, pb::ResetRequest { attributes: attributes!(reset_request), ..Default::default() });
    ask!(get_usage, pb::GetUsageRequest { attributes: attributes!(get_usage_request), ..Default::default() });
    ask!(
        acquire_lease,
        pb::AcquireLeaseRequest { attributes: attributes!(acquire_lease_request), ..Default::default() }
    );
    let key = about
        .map(|value| pb::get_override_request::KeyEntry { key: "organization".into(), value: value.into() });
    ask!(
        get_override,
        pb::GetOverrideRequest {
            namespace: "default".into(),
            policy: "organizations".into(),
            limit: "minute".into(),
            key: key.into_iter().collect(),
            version: 0,
        }
    );
    let streamed = pb::CheckStreamRequest { id: 1, check: Some(check) };
    let mut request = Request::new(tokio_stream::once(streamed));
    request.metadata_mut().insert("authorization", token.parse().unwrap());
    let mut answers = client.check_stream(request).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().expect("an answer").outcome;
    if let Some(pb::check_stream_response::Outcome::Error(error)) = answer
        && error.reason == "ROLE_MISSING"
    {
        refused.push("check_stream");
    }
    refused
}

const ABOUT_ONE: [&str; 8] =
    ["check", "check_batch", "peek", "reset", "get_usage", "acquire_lease", "get_override", "check_stream"];

#[tokio::test]
async fn caller_of_one_organization_touches_no_other() {
    let running = Running::start().await;
    let (own, another) = (OWN.to_string(), ANOTHER.to_string());
    let tenant = token(TenantAdmin, Some(OWN));
    assert!(refused(&running.channel, &tenant, Some(&own)).await.is_empty());
    assert_eq!(refused(&running.channel, &tenant, Some(&another)).await, ABOUT_ONE);
    assert_eq!(refused(&running.channel, &tenant, None).await, ABOUT_ONE);
    // Attributes tell text apart by its bytes: this is another subject.
    assert_eq!(refused(&running.channel, &tenant, Some(&own.to_uppercase())).await, ABOUT_ONE);
    assert!(refused(&running.channel, &token(Admin, None), Some(&another)).await.is_empty());

    let backend = token(Service, Some(OWN));
    let mut client = RateLimitServiceClient::new(running.channel.clone());
    macro_rules! asked {
        ($client:ident.$method:ident($message:expr)) => {{
            let mut request = Request::new($message);
            request.metadata_mut().insert("authorization", backend.parse().unwrap());
            $client.$method(request).await
        }};
    }
    assert!(is_refused(asked!(client.list_top_keys(pb::ListTopKeysRequest::default()))));
    assert!(is_refused(asked!(client.list_policy_stats(pb::ListPolicyStatsRequest::default()))));
    let fence = |organization: Uuid| pb::FenceOrganizationRequest {
        organization_id: organization.to_string(),
        generation: 1,
    };
    assert!(is_refused(asked!(client.fence_organization(fence(ANOTHER)))));
    assert!(is_refused(asked!(client.fence_organization(fence(OWN)))));
    let mut envoy = EnvoyClient::new(running.channel.clone());
    assert!(is_refused(asked!(envoy.should_rate_limit(RateLimitRequest::default()))));
}

#[tokio::test]
async fn what_our_own_services_count_is_charged_and_cleared_by_nobody_else() {
    let running = Running::start().await;
    let entry = |key: &str, value: &str| pb::check_request::AttributesEntry {
        key: key.to_owned(),
        value: value.to_owned(),
    };
    let mut client = RateLimitServiceClient::new(running.channel.clone());
    let internal = InternalTokens::new(&running.config.auth, "tidegate-keys", Clock::system()).unwrap();
    let internal = internal.header().to_str().unwrap().to_owned();
    let callers = [
        (token(TenantAdmin, Some(OWN)), true),
        (token(Service, Some(OWN)), true),
        (token(Service, None), true),
        (token(Admin, None), false),
        (internal, false),
    ];
    for (authorization, is_other) in callers {
        for namespace in ["identity", "gateway"] {
            let check = pb::CheckRequest {
                namespace: namespace.to_owned(),
                attributes: vec![
                    entry("account", "ada@example.com"),
                    entry("organization", &OWN.to_string()),
                ],
                ..pb::CheckRequest::default()
            };
            let mut request = Request::new(check.clone());
            request.metadata_mut().insert("authorization", authorization.parse().unwrap());
            assert_eq!(is_refused(client.check(request).await), is_other, "check in {namespace}");
            let mut request = Request::new(pb::CheckBatchRequest { checks: vec![check.clone()] });
            request.metadata_mut().insert("authorization", authorization.parse().unwrap());
            assert_eq!(is_refused(client.check_batch(request).await), is_other, "batch in {namespace}");
            let streamed = pb::CheckStreamRequest { id: 1, check: Some(check) };
            let mut request = Request::new(tokio_stream::once(streamed));
            request.metadata_mut().insert("authorization", authorization.parse().unwrap());
            let mut answers = client.check_stream(request).await.unwrap().into_inner();
            let outcome = answers.message().await.unwrap().expect("an answer").outcome;
            let is_denied = matches!(
                outcome,
                Some(pb::check_stream_response::Outcome::Error(error)) if error.reason == "ROLE_MISSING"
            );
            assert_eq!(is_denied, is_other, "stream in {namespace}");
        }
    }
}
