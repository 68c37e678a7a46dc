use std::time::Duration;

use serde_json::json;
use tonic::{Request, metadata::MetadataValue, service::Interceptor};

use super::{
    super::{AuthConfig, AuthError, BearerToken, How, InternalTokens, Role, TokenUse},
    fixture::{Fixture, NOW_S, claims_but, settings, shared},
};
use crate::clock::Clock;

#[tokio::test]
async fn service_believes_what_another_shows() {
    let fixture = Fixture::new();
    let (clock, time) = Clock::manual(NOW_S * 1_000_000);
    let tokens = InternalTokens::new(&settings(), "tidegate-keys", clock).unwrap();
    let first = tokens.header();
    assert!(first.is_sensitive());
    let caller = fixture.auth.authenticate(first.as_bytes()).await.unwrap();
    assert_eq!(
        (caller.role, caller.organization, caller.subject.as_str()),
        (Role::Service, None, "tidegate-keys")
    );
    assert!(matches!(caller.how, How::Token { token_use: TokenUse::Internal, .. }));

    time.advance(Duration::from_secs(179));
    assert_eq!(tokens.header(), first, "the same while it is good");
    time.advance(Duration::from_secs(1));
    let second = tokens.header();
    assert_ne!(second, first);
    fixture.time.advance(Duration::from_secs(330));
    assert!(fixture.auth.authenticate(first.as_bytes()).await.is_err());
    fixture.auth.authenticate(second.as_bytes()).await.unwrap();
}

#[tokio::test]
async fn without_a_secret_there_are_no_internal_tokens() {
    assert!(InternalTokens::new(&AuthConfig::default(), "tidegate-keys", Clock::system()).is_none());
    let fixture = Fixture::with(&AuthConfig::default());
    let told = claims_but(json!({"role": "service", "use": "internal", "exp": NOW_S + 300}));
    for secret in [&b""[..], b"guess"] {
        let refused = fixture.refused(&shared("internal", &told, secret)).await;
        assert!(matches!(refused, AuthError::Invalid(_) | AuthError::KeysUnavailable), "{refused:?}");
    }
}

#[test]
fn client_shows_its_token_unless_the_call_names_a_caller() {
    let tokens = InternalTokens::new(&settings(), "tidegate-gateway", Clock::system());
    let mut bearer = BearerToken(tokens.clone());
    let request = bearer.call(Request::new(())).unwrap();
    assert_eq!(
        request.metadata().get("authorization").unwrap().as_bytes(),
        tokens.unwrap().header().as_bytes()
    );
    let mut request = Request::new(());
    request.metadata_mut().insert("authorization", MetadataValue::from_static("Bearer theirs"));
    let request = bearer.call(request).unwrap();
    assert_eq!(request.metadata().get("authorization").unwrap(), "Bearer theirs");
    let request = BearerToken(None).call(Request::new(())).unwrap();
    assert!(request.metadata().is_empty());
}
