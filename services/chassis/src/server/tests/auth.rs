use std::{fs, sync::Arc, time::Duration};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use rstest::rstest;
use tidegate_proto::ratelimit::v1::{CheckRequest, rate_limit_service_client::RateLimitServiceClient};
use tonic::{
    Code,
    transport::{Certificate, ClientTlsConfig, Endpoint, Identity},
};
use tonic_types::StatusExt;
use uuid::Uuid;

use super::fixture::{
    Answer, CHECK, Client, HEALTH, Running, SERVICES, check, serve_believing, start_believing, told,
};
use crate::{
    auth::{Access, Anonymous, AuthConfig, CertificateIdentity, Claims, NEEDED_ROLES, Role, TokenUse},
    clock::{Clock, ManualClock},
    config::Secret,
    direct::{
        Direct,
        tests::{Echo, UNARY, echoes},
    },
    server::methods::tests::open,
    tls::TlsConfig,
};

const SECRET: &str = "a shared secret that is drawn at random";
const NOW_S: u64 = 1_800_000_000;

fn settings(anonymous: Anonymous) -> AuthConfig {
    AuthConfig {
        anonymous,
        hs256_secrets: [("shared".to_owned(), Secret::new(SECRET))].into(),
        ..AuthConfig::default()
    }
}

/// Serves those who may: Check is for backends, and CheckStream for anybody.
async fn start(auth: &AuthConfig) -> (Running, ManualClock) {
    let (clock, time) = Clock::manual(NOW_S * 1_000_000);
    let access = open(SERVICES).into_iter().map(|(path, access)| match path {
        CHECK => (path, Access::Roles(&[Role::Service, Role::TenantAdmin])),
        "/tidegate.ratelimit.v1.RateLimitService/Peek" => (path, Access::Public),
        path => (path, access),
    });
    let access = Vec::leak(access.collect());
    (start_believing(auth, clock, access, |_| {}, told).await, time)
}

fn claims(role: Role, organization: Option<u128>) -> Claims {
    Claims {
        iss: "tidegate".to_owned(),
        aud: "tidegate".to_owned(),
        sub: "somebody".to_owned(),
        role,
        org: organization.map(Uuid::from_u128),
        email: None,
        exp: NOW_S + 60,
        nbf: None,
        iat: NOW_S,
        jti: "token-1".to_owned(),
        token_use: TokenUse::Service,
    }
}

fn signed(claims: &Claims) -> String {
    let header = Header { kid: Some("shared".to_owned()), ..Header::new(Algorithm::HS256) };
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    format!("Bearer {}", jsonwebtoken::encode(&header, claims, &key).unwrap())
}

fn token(role: Role, organization: Option<u128>) -> String {
    signed(&claims(role, organization))
}

async fn show(client: &Client, token: &str) -> Answer {
    client.call(CHECK, &check("who"), &[("authorization", token)]).await
}

fn refused(answer: &Answer) -> (Code, String) {
    (answer.status.code(), answer.reason())
}

fn counted(server: &Running, reason: &str) -> u64 {
    server.metric(&format!(r#"tidegate_auth_refused_calls_total{{reason="{reason}"}}"#))
}

#[tokio::test]
async fn call_without_credentials_is_refused_before_its_handler_and_health_is_not() {
    let (server, _) = start(&settings(Anonymous::Nobody)).await;
    let client = server.client().await;
    let answer = client.check("panic").await;
    assert_eq!(refused(&answer), (Code::Unauthenticated, "CREDENTIALS_MISSING".to_owned()));
    assert_eq!(counted(&server, "CREDENTIALS_MISSING"), 1);
    assert_eq!(server.ended("Check", "UNAUTHENTICATED"), 1);
    assert_eq!(client.call(HEALTH, &[], &[]).await.status.code(), Code::Ok);
    let reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    assert_eq!(
        client.call(reflection, &[], &[]).await.status.code(),
        Code::InvalidArgument,
        "an empty question"
    );
    assert_eq!(client.call("/no.Such/Method", &[], &[]).await.status.code(), Code::Unimplemented);
}

#[rstest]
#[case(Anonymous::Nobody)]
#[case(Anonymous::Loopback)]
#[case(Anonymous::Network)]
#[tokio::test]
async fn bad_credentials_are_refused_even_where_none_are_believed(#[case] anonymous: Anonymous) {
    let (server, _) = start(&settings(anonymous)).await;
    let client = server.client().await;
    for bad in ["Bearer a.b.c", "Basic dXNlcjpwYXNzd29yZA==", &format!("{}x", token(Role::Service, None))] {
        let answer = show(&client, bad).await;
        assert_eq!(refused(&answer), (Code::Unauthenticated, "CREDENTIALS_INVALID".to_owned()), "{bad}");
    }
    assert_eq!(counted(&server, "CREDENTIALS_INVALID"), 3);
}

#[tokio::test]
async fn caller_without_the_role_is_told_which_would_do() {
    let (server, _) = start(&settings(Anonymous::Loopback)).await;
    let client = server.client().await;
    let answer = show(&client, &token(Role::User, Some(7))).await;
    assert_eq!(refused(&answer), (Code::PermissionDenied, "ROLE_MISSING".to_owned()));
    let details = answer.status.get_error_details();
    assert_eq!(details.error_info().unwrap().metadata[NEEDED_ROLES], "service,tenant_admin");
    // Nor has a caller on this machine, who is an administrator.
    assert_eq!(refused(&client.check("").await).0, Code::PermissionDenied);
    assert_eq!(counted(&server, "ROLE_MISSING"), 2);
}

#[tokio::test]
async fn handler_knows_the_caller() {
    let (server, _) = start(&settings(Anonymous::Network)).await;
    let client = server.client().await;
    for _ in 0..3 {
        assert_eq!(client.check("who").await.status.message(), "Anonymous");
        let answer = show(&client, &token(Role::Service, None)).await;
        assert!(
            answer.status.message().contains(r#"id: "token-1", token_use: Service"#),
            "{:?}",
            answer.status
        );
    }
}

#[tokio::test]
async fn token_is_refused_on_its_next_use_once_it_has_expired_or_is_revoked() {
    let (server, time) = start(&settings(Anonymous::Nobody)).await;
    let (client, other) = (server.client().await, server.client().await);
    let brief = token(Role::Service, None);
    let long =
        signed(&Claims { exp: NOW_S + 3_600, jti: "token-2".to_owned(), ..claims(Role::Service, None) });
    for token in [&brief, &long, &brief, &brief] {
        assert_eq!(show(&client, token).await.status.code(), Code::Aborted, "the handler saw it");
    }
    time.advance(Duration::from_secs(90));
    for client in [&client, &other] {
        assert_eq!(refused(&show(client, &brief).await).1, "CREDENTIALS_INVALID");
        assert_eq!(show(client, &long).await.status.code(), Code::Aborted);
    }
    server.auth.revoke("token-2");
    for client in [&client, &other] {
        assert_eq!(refused(&show(client, &long).await).1, "CREDENTIALS_INVALID");
    }
}

#[tokio::test]
async fn refusal_is_remembered_nowhere() {
    let (server, time) = start(&settings(Anonymous::Nobody)).await;
    let client = server.client().await;
    let later = signed(&Claims { nbf: Some(NOW_S + 60), exp: NOW_S + 600, ..claims(Role::Service, None) });
    for _ in 0..2 {
        assert_eq!(refused(&show(&client, &later).await).1, "CREDENTIALS_INVALID");
    }
    time.advance(Duration::from_secs(60));
    assert_eq!(show(&client, &later).await.status.code(), Code::Aborted, "the handler saw it");
    assert_eq!(counted(&server, "CREDENTIALS_INVALID"), 2);
}

#[tokio::test]
async fn method_for_anybody_takes_bad_credentials_for_none() {
    let (server, _) = start(&settings(Anonymous::Nobody)).await;
    let client = server.client().await;
    let peek = "/tidegate.ratelimit.v1.RateLimitService/Peek";
    for headers in [&[][..], &[("authorization", "Bearer a.b.c")]] {
        assert_eq!(client.call(peek, &[], headers).await.status.code(), Code::Unimplemented, "the handler's");
    }
}

#[tokio::test]
async fn direct_methods_are_refused_like_others_and_told_who_calls() {
    let auth = settings(Anonymous::Nobody);
    let (clock, _time) = Clock::manual(NOW_S * 1_000_000);
    let access = open(SERVICES).into_iter().map(|(path, _)| (path, Access::Roles(&[Role::Service])));
    let echo = Echo::default();
    let organizations = Arc::clone(&echo.organizations);
    let make = move |gate: &super::fixture::Gate| Direct::new(echo.clone(), told(gate), 4_096);
    let server = start_believing(&auth, clock, Vec::leak(access.collect()), |_| {}, make).await;
    let client = server.client().await;
    assert_eq!(refused(&client.check("who").await).1, "CREDENTIALS_MISSING");
    assert_eq!(refused(&show(&client, &token(Role::Admin, None)).await).1, "ROLE_MISSING");
    let answer = show(&client, &token(Role::Service, None)).await;
    assert_eq!(echoes(&answer.messages), [(0, &*check("who"))], "{UNARY} is answered directly");
    let answer = show(&client, &token(Role::Service, Some(7))).await;
    assert_eq!(echoes(&answer.messages), [(1, &*check("who"))], "those of one organization too");
    assert_eq!(*organizations.lock().unwrap(), [None, Some(Uuid::from_u128(7))]);
}

#[tokio::test]
async fn certificate_of_the_connection_names_the_caller_unless_a_token_does() {
    let issuer = {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "an authority");
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    };
    let issue = |name: SanType| {
        let mut params = CertificateParams::new([]).unwrap();
        params.subject_alt_names = vec![name];
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
    };
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let (cert, key) = issue(SanType::DnsName("localhost".try_into().unwrap()));
    let tls = TlsConfig {
        cert: write("cert.pem", &cert),
        key: write("key.pem", &key),
        client_ca: write("ca.pem", &issuer.pem()),
    };
    let backend = "spiffe://here/backend";
    let identity = CertificateIdentity { name: backend.to_owned(), role: Role::Service, organization: None };
    let auth = AuthConfig { certificates: vec![identity], ..settings(Anonymous::Nobody) };
    let (clock, _time) = Clock::manual(NOW_S * 1_000_000);
    let access = open(SERVICES).into_iter().map(|(path, _)| (path, Access::Roles(&[Role::Service])));
    // Its own first call, for health, is in plain text.
    let set = |config: &mut crate::server::ServerConfig| config.tls = Some(tls);
    let server = serve_believing(&auth, clock, Vec::leak(access.collect()), set, told).await;
    let client = |name: SanType| {
        let (cert, key) = issue(name);
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(issuer.pem()))
            .identity(Identity::from_pem(cert, key))
            .domain_name("localhost");
        let endpoint = Endpoint::from_shared(format!("https://{}", server.address)).unwrap();
        RateLimitServiceClient::new(endpoint.tls_config(tls).unwrap().connect_lazy())
    };
    let who = || CheckRequest { namespace: "who".to_owned(), ..CheckRequest::default() };
    let mut known = client(SanType::URI(backend.try_into().unwrap()));
    let status = known.check(who()).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Aborted, "Certificate"));
    let mut request = tonic::Request::new(who());
    request.metadata_mut().insert("authorization", token(Role::User, Some(7)).parse().unwrap());
    assert_eq!(known.check(request).await.unwrap_err().code(), Code::PermissionDenied);
    // It is signed by the authority, but nobody said who it is.
    let mut stranger = client(SanType::DnsName("backend".try_into().unwrap()));
    assert_eq!(stranger.check(who()).await.unwrap_err().code(), Code::Unauthenticated);
}
