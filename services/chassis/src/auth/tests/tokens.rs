use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey};
use rstest::rstest;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    super::{AuthError, How, Role, TokenUse},
    fixture::{Fixture, INTERNAL, NOW_S, SHARED, Signer, claims, claims_but, shared, signed},
};

#[tokio::test(start_paused = true)]
async fn token_of_a_signing_key_names_its_caller() {
    let fixture = Fixture::new();
    fixture.keep_keys();
    let organization = Uuid::from_u128(7);
    let told = claims_but(json!({"role": "tenant_admin", "org": organization, "email": "a@example.com"}));
    let caller = fixture.show(&fixture.signer.sign(&told)).await.unwrap();
    assert_eq!((caller.role, caller.subject.as_str()), (Role::TenantAdmin, "somebody"));
    assert_eq!((caller.organization, caller.email.as_deref()), (Some(organization), Some("a@example.com")));
    assert!(caller.may_touch(organization) && !caller.may_touch(Uuid::from_u128(8)));
    let token =
        How::Token { id: "token-1".to_owned(), token_use: TokenUse::Access, expires_at_s: NOW_S + 600 };
    assert_eq!(caller.how, token);
}

#[tokio::test]
async fn token_of_a_shared_secret_names_its_caller() {
    let told = claims_but(json!({"role": "service", "use": "service"}));
    let caller = Fixture::new().show(&shared("shared", &told, SHARED.as_bytes())).await.unwrap();
    assert_eq!((caller.role, caller.organization), (Role::Service, None));
}

#[rstest]
#[case::another_issuer(json!({"iss": "somebody else"}), "of another issuer")]
#[case::another_audience(json!({"aud": "somebody else"}), "for another audience")]
#[case::no_issuer(json!({"iss": null}), "a claim is missing or malformed")]
#[case::no_audience(json!({"aud": null}), "a claim is missing or malformed")]
#[case::no_role(json!({"role": null}), "a claim is missing or malformed")]
#[case::no_use(json!({"use": null}), "a claim is missing or malformed")]
#[case::no_end(json!({"exp": null}), "a claim is missing or malformed")]
#[case::an_end_in_words(json!({"exp": "never"}), "a claim is missing or malformed")]
#[case::invented_role(json!({"role": "root"}), "a claim is missing or malformed")]
#[case::organization_that_is_none(json!({"org": "mine"}), "a claim is missing or malformed")]
#[case::for_later(json!({"nbf": NOW_S + 31}), "not good yet")]
#[case::expired(json!({"exp": NOW_S - 30}), "expired")]
#[case::of_our_own_by_another_key(
    json!({"use": "internal", "role": "service"}),
    "signed by a key that is not for its use"
)]
#[case::tenant_admin_everywhere(
    json!({"role": "tenant_admin"}),
    "a role that is had within an organization, and none is named"
)]
#[case::admin_of_one_organization(
    json!({"role": "admin", "org": Uuid::from_u128(7)}),
    "admin is a role in all organizations, and one is named"
)]
#[case::user_everywhere(json!({"role": "user"}), "a role that is had within an organization, and none is named")]
#[tokio::test(start_paused = true)]
async fn token_that_says_something_else_is_refused(#[case] changes: Value, #[case] why: &'static str) {
    let fixture = Fixture::new();
    fixture.keep_keys();
    let told = claims_but(changes);
    for token in [fixture.signer.sign(&told), shared("shared", &told, SHARED.as_bytes())] {
        assert_eq!(fixture.refused(&token).await, AuthError::Invalid(why));
    }
}

#[tokio::test(start_paused = true)]
async fn clocks_may_differ_by_half_a_minute() {
    let fixture = Fixture::new();
    for changes in [json!({"exp": NOW_S - 29}), json!({"nbf": NOW_S + 30})] {
        fixture.show(&shared("shared", &claims_but(changes), SHARED.as_bytes())).await.unwrap();
    }
}

#[tokio::test]
async fn token_that_was_good_expires() {
    let fixture = Fixture::new();
    let token = shared("shared", &claims(), SHARED.as_bytes());
    fixture.time.advance(Duration::from_secs(629));
    fixture.show(&token).await.unwrap();
    fixture.time.advance(Duration::from_secs(1));
    assert_eq!(fixture.refused(&token).await, AuthError::Invalid("expired"));
}

/// A JWT without a signature, or with one that nobody made.
fn forged(header: &Value, claims: &Value, signature: &str) -> String {
    // An honest token has its parts in the right encoding.
    let part = |value: &Value| {
        let honest = shared("shared", value, b"any");
        honest.split('.').nth(1).unwrap().to_owned()
    };
    format!("{}.{}.{signature}", part(header), part(claims))
}

#[rstest]
#[case("none")]
#[case("None")]
#[case("NONE")]
#[tokio::test(start_paused = true)]
async fn token_without_a_signature_is_refused(#[case] algorithm: &str) {
    let fixture = Fixture::new();
    fixture.keep_keys();
    for kid in ["first", "shared", "internal"] {
        let header = json!({"alg": algorithm, "typ": "JWT", "kid": kid});
        for signature in ["", "AA"] {
            let refused = fixture.refused(&forged(&header, &claims(), signature)).await;
            assert!(matches!(refused, AuthError::Invalid(_)), "{refused:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn algorithm_is_that_of_the_key_whatever_the_token_says() {
    let fixture = Fixture::new();
    fixture.keep_keys();
    // The public key is no secret: whoever knows it could sign with it if the token chose HS256.
    let public = fixture.signer.verifying().public_key;
    let other = AuthError::Invalid("another algorithm than its key has");
    assert_eq!(fixture.refused(&shared("first", &claims(), &public)).await, other);
    let secret = EncodingKey::from_secret(SHARED.as_bytes());
    for algorithm in [Algorithm::HS384, Algorithm::HS512] {
        assert_eq!(fixture.refused(&signed(algorithm, Some("shared"), &claims(), &secret)).await, other);
    }
    let ours = EncodingKey::from_ed_der(&fixture.signer.pair.serialize_der());
    let token = signed(Algorithm::EdDSA, Some("shared"), &claims(), &ours);
    assert_eq!(fixture.refused(&token).await, other);
}

#[tokio::test(start_paused = true)]
async fn token_that_was_tampered_with_is_refused() {
    let fixture = Fixture::new();
    fixture.keep_keys();
    let not_of_it = AuthError::Invalid("the signature is not of it");
    let (lesser, greater) = (json!({"role": "service"}), json!({"role": "admin"}));
    let sign_both: [&dyn Fn(&Value) -> String; 2] =
        [&|claims| fixture.signer.sign(claims), &|claims| shared("shared", claims, SHARED.as_bytes())];
    for sign in sign_both {
        let (lesser, greater) = (sign(&claims_but(lesser.clone())), sign(&claims_but(greater.clone())));
        let (lesser, greater): (Vec<_>, Vec<_>) = (lesser.split('.').collect(), greater.split('.').collect());
        let mixed = [lesser[0], greater[1], lesser[2]].join(".");
        assert_eq!(fixture.refused(&mixed).await, not_of_it);
    }
    let stranger = Signer::new("first");
    assert_eq!(fixture.refused(&stranger.sign(&claims())).await, not_of_it);
    assert_eq!(fixture.refused(&shared("shared", &claims(), b"another secret")).await, not_of_it);
}

#[tokio::test(start_paused = true)]
async fn token_that_names_no_key_is_refused() {
    let fixture = Fixture::new();
    let key = EncodingKey::from_secret(SHARED.as_bytes());
    let token = signed(Algorithm::HS256, None, &claims(), &key);
    assert_eq!(fixture.refused(&token).await, AuthError::Invalid("names no key"));
}

#[rstest]
#[case("")]
#[case("Bearer")]
#[case("Bearer ")]
#[case("Bearer a.b")]
#[case("Bearer a.b.c.d")]
#[case("Basic dXNlcjpwYXNzd29yZA==")]
#[case("Bearer \u{fc}.\u{fc}.\u{fc}")]
#[tokio::test]
async fn header_that_is_no_token_is_refused(#[case] header: &str) {
    let refused = Fixture::new().auth.authenticate(header.as_bytes()).await.expect_err("refused");
    assert!(matches!(refused, AuthError::Invalid(_)), "{refused:?}");
}

#[tokio::test]
async fn scheme_is_written_in_any_case() {
    let token = shared("shared", &claims(), SHARED.as_bytes());
    for scheme in ["bearer", "BEARER"] {
        Fixture::new().auth.authenticate(format!("{scheme} {token}").as_bytes()).await.unwrap();
    }
}

#[tokio::test]
async fn revoked_token_is_refused_and_others_are_not() {
    let fixture = Fixture::new();
    let sign = |id: &str| shared("shared", &claims_but(json!({"jti": id})), SHARED.as_bytes());
    fixture.auth.revoke("token-1");
    assert_eq!(fixture.refused(&sign("token-1")).await, AuthError::Invalid("revoked"));
    fixture.show(&sign("token-2")).await.unwrap();
    fixture.auth.revoke("token-2");
    fixture.auth.revoke("");
    assert_eq!(fixture.auth.revoked_ids(), ["token-1", "token-2"].map(str::to_owned).into());
    fixture.auth.forget_revoked(&["token-1".to_owned(), "token-3".to_owned()].into());
    fixture.show(&sign("token-1")).await.unwrap();
    assert_eq!(fixture.refused(&sign("token-2")).await, AuthError::Invalid("revoked"));
    // Those without an id are not meant by an empty one.
    fixture.show(&sign("")).await.unwrap();
}

#[rstest]
#[case::with_more_than_a_service_has(json!({"role": "admin"}))]
#[case::within_an_organization(json!({"org": Uuid::from_u128(7)}))]
#[case::for_an_hour(json!({"exp": NOW_S + 3_600}))]
#[tokio::test]
async fn internal_token_is_what_a_service_makes_and_no_more(#[case] changes: Value) {
    let fixture = Fixture::new();
    let mut told = claims_but(json!({"role": "service", "use": "internal", "exp": NOW_S + 300}));
    fixture.show(&shared("internal", &told, INTERNAL.as_bytes())).await.unwrap();
    for (name, value) in changes.as_object().unwrap() {
        told[name] = value.clone();
    }
    let refused = fixture.refused(&shared("internal", &told, INTERNAL.as_bytes())).await;
    assert_eq!(refused, AuthError::Invalid("not what a service shows another"));
}
