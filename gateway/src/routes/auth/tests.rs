//! Whole calls against a small gRPC server in the place of the keys service.

use prost::Message;
use rstest::rstest;
use serde_json::json;
use tidegate_chassis::error::status;
use tidegate_proto::keys::v1::{
    self as pb, AcceptInvitationRequest, ChangePasswordRequest, ExchangeIdTokenRequest, GetMeResponse,
    ListSigningKeysResponse, LogInRequest, LogInResponse, Membership, Organization, ResetPasswordRequest,
    Role, RotateSigningKeyResponse, SignUpRequest, SignUpResponse, SigningKey, Tokens, User,
};
use tonic::{Code, Status};

use crate::fixture::{
    self, Answer, Call, Keys, NOBODY, REMOTE, ask, by_operator, config_with_keys, request, with_header,
};

const NOW_MS: u64 = 1_735_689_600_000;

fn tokens() -> Option<Tokens> {
    Some(Tokens {
        access_token: "a.b.c".to_owned(),
        refresh_token: "r".to_owned(),
        expires_in_s: 1800,
        refresh_expires_in_s: 604_800,
    })
}

fn user() -> Option<User> {
    Some(User { id: "u-1".to_owned(), email: "ada@example.com".to_owned(), created_at_ms: NOW_MS })
}

fn organization() -> Option<Organization> {
    Some(Organization {
        id: "o-1".to_owned(),
        name: "Acme".to_owned(),
        plan: "free".to_owned(),
        status: pb::OrganizationStatus::Active.into(),
        monthly_quota: 0,
        created_at_ms: NOW_MS,
        updated_at_ms: NOW_MS + 250,
        etag: "1f".to_owned(),
    })
}

fn answer(call: &Call) -> Result<Vec<u8>, Status> {
    let reason = |code, reason, after| Err(status(code, reason, "words", after));
    let of_login = |email: &str| match email {
        "wrong@example.com" => reason(Code::Unauthenticated, "CREDENTIALS_INVALID", None),
        "often@example.com" => {
            reason(Code::ResourceExhausted, "TOO_MANY_ATTEMPTS", Some(std::time::Duration::from_secs(30)))
        }
        _ => Ok(LogInResponse { tokens: tokens() }.encode_to_vec()),
    };
    match &*call.method {
        "SignUp" => {
            let made = SignUpResponse { user: user(), organization: organization(), tokens: tokens() };
            Ok(made.encode_to_vec())
        }
        "AcceptInvitation" => reason(Code::AlreadyExists, "MEMBER_EXISTS", None),
        "LogIn" => of_login(&call.message::<LogInRequest>().email),
        "GetMe" => {
            let membership = Membership {
                organization_id: "o-1".to_owned(),
                organization_name: "Acme".to_owned(),
                role: Role::TenantAdmin.into(),
            };
            let me = GetMeResponse {
                role: Role::TenantAdmin.into(),
                user: user(),
                organization: organization(),
                memberships: vec![membership],
                service_name: String::new(),
            };
            Ok(me.encode_to_vec())
        }
        "ListSigningKeys" => {
            let key = SigningKey {
                kid: "k1".to_owned(),
                algorithm: "EdDSA".to_owned(),
                public_key: vec![0xfb; 32].into(),
                created_at_ms: NOW_MS,
                retired_at_ms: 0,
            };
            Ok(ListSigningKeysResponse { keys: vec![key] }.encode_to_vec())
        }
        "RotateSigningKey" => Ok(RotateSigningKeyResponse::default().encode_to_vec()),
        // Of the same form: tokens, or nothing.
        _ => Ok(LogInResponse { tokens: tokens() }.encode_to_vec()),
    }
}

async fn asked(request: axum::extract::Request) -> (Answer, Vec<Call>) {
    let keys = Keys::start(answer);
    let edge = fixture::edge(config_with_keys(NOBODY, &keys, "[anonymous]\nenabled = false")).await;
    let answer = ask(&edge, REMOTE, with_header(request, "x-request-id", "order-7")).await;
    (answer, keys.seen())
}

#[tokio::test]
async fn who_signs_up_gets_an_account_an_organization_and_tokens() {
    let body = r#"{"email":"Ada@example.com","password":"correct horse","organization_name":"Acme"}"#;
    let (answer, seen) = asked(request("POST", "/v1/auth/signup", body)).await;
    assert_eq!(answer.status, 201);
    insta::assert_json_snapshot!(answer.json);
    let expected = SignUpRequest {
        email: "Ada@example.com".to_owned(),
        password: "correct horse".to_owned(),
        organization_name: "Acme".to_owned(),
    };
    assert_eq!(seen[0].message::<SignUpRequest>(), expected);
}

#[tokio::test]
async fn a_login_gives_tokens() {
    let body = r#"{"email":"ada@example.com","password":"x","organization_id":"o-1"}"#;
    let (answer, seen) = asked(request("POST", "/v1/auth/login", body)).await;
    let expected = json!({
        "access_token": "a.b.c", "refresh_token": "r", "token_type": "Bearer", "expires_in": 1800,
        "refresh_expires_in": 604_800,
    });
    assert_eq!((answer.status.as_u16(), answer.json), (200, expected));
    assert_eq!(seen[0].message::<LogInRequest>().organization_id, "o-1");
}

#[tokio::test]
async fn a_wrong_pair_is_a_401_and_too_many_are_a_429_that_says_when_to_come_back() {
    let body = |email: &str| json!({ "email": email, "password": "x" }).to_string();
    let (wrong, _) = asked(request("POST", "/v1/auth/login", &body("wrong@example.com"))).await;
    assert_eq!((wrong.status.as_u16(), &wrong.json["error"]), (401, &json!("credentials_invalid")));
    assert_eq!(wrong.header("www-authenticate"), "Bearer");
    let (often, _) = asked(request("POST", "/v1/auth/login", &body("often@example.com"))).await;
    assert_eq!((often.status.as_u16(), &often.json["error"]), (429, &json!("too_many_attempts")));
    assert_eq!(often.header("retry-after"), "30");
}

#[rstest]
#[case::refresh("/v1/auth/refresh", r#"{"refresh_token":"r"}"#, "Refresh", 200)]
#[case::log_out("/v1/auth/logout", r#"{"refresh_token":"r"}"#, "LogOut", 204)]
#[case::id_token("/v1/auth/id-token", r#"{"id_token":"x.y.z"}"#, "ExchangeIdToken", 200)]
#[case::password(
    "/v1/auth/password",
    r#"{"current_password":"a","new_password":"b"}"#,
    "ChangePassword",
    200
)]
#[case::reset("/v1/auth/password:reset", r#"{"token":"t","new_password":"b"}"#, "ResetPassword", 204)]
#[case::invited("/v1/auth/invitations:accept", r#"{"token":"t","password":"b"}"#, "AcceptInvitation", 409)]
#[case::invited_with_an_identity(
    "/v1/auth/invitations:accept",
    r#"{"token":"t","id_token":"x.y.z"}"#,
    "AcceptInvitation",
    409
)]
#[case::signing_key("/v1/auth/signing-keys:rotate", "", "RotateSigningKey", 200)]
#[tokio::test]
async fn each_call_is_one_call_of_the_service(
    #[case] target: &str,
    #[case] body: &str,
    #[case] method: &str,
    #[case] status: u16,
) {
    let (answer, seen) = asked(by_operator("POST", target, body)).await;
    assert_eq!((answer.status.as_u16(), seen.len(), &*seen[0].method), (status, 1, method), "{answer:?}");
    let call = &seen[0];
    match method {
        "ExchangeIdToken" => assert_eq!(call.message::<ExchangeIdTokenRequest>().id_token, "x.y.z"),
        "ChangePassword" => {
            let asked: ChangePasswordRequest = call.message();
            assert_eq!((&*asked.current_password, &*asked.new_password), ("a", "b"));
        }
        "ResetPassword" => {
            let asked: ResetPasswordRequest = call.message();
            assert_eq!((&*asked.token, &*asked.new_password), ("t", "b"));
        }
        "AcceptInvitation" => {
            let asked: AcceptInvitationRequest = call.message();
            let expected = if body.contains("id_token") { ("t", "", "x.y.z") } else { ("t", "b", "") };
            assert_eq!((&*asked.token, &*asked.password, &*asked.id_token), expected);
        }
        _ => {}
    }
}

#[tokio::test]
async fn a_caller_learns_who_it_is() {
    let (answer, seen) = asked(by_operator("GET", "/v1/auth/me", "")).await;
    assert_eq!((answer.status.as_u16(), seen[0].metadata("authorization")), (200, fixture::OPERATOR));
    insta::assert_json_snapshot!(answer.json);
}

#[tokio::test]
async fn public_keys_are_a_json_web_key_set() {
    let (answer, _) = asked(request("GET", "/.well-known/jwks.json", "")).await;
    let x = "-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_s";
    let expected = json!({"keys": [
        {"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": "k1", "x": x}
    ]});
    assert_eq!((answer.status.as_u16(), answer.json), (200, expected));
}

#[tokio::test]
async fn an_idempotency_key_is_passed_on() {
    let body = r#"{"email":"a@b.example","password":"x","organization_name":"A"}"#;
    let request = with_header(request("POST", "/v1/auth/signup", body), "idempotency-key", "order 7");
    let (answer, seen) = asked(request).await;
    assert_eq!((answer.status.as_u16(), seen[0].metadata("idempotency-key")), (201, "order 7"));
}

#[rstest]
#[case::unknown_fields(r#"{"email":1,"pasword":"x","organization_name":null}"#, "k", &["email", "organization_name", "pasword"])]
#[case::long_key("{}", &"k".repeat(129), &["Idempotency-Key"])]
#[case::odd_key("{}", "é", &["Idempotency-Key"])]
#[case::empty_key(r#"{"emial":"x"}"#, "", &["Idempotency-Key", "emial"])]
#[tokio::test]
async fn everything_wrong_is_told_at_once_and_nothing_is_asked(
    #[case] body: &str,
    #[case] key: &str,
    #[case] fields: &[&str],
) {
    let request = with_header(request("POST", "/v1/auth/signup?dry=1", body), "idempotency-key", key);
    let (answer, seen) = asked(request).await;
    assert_eq!((answer.status.as_u16(), &answer.json["error"]), (400, &json!("invalid_argument")));
    let violations = answer.json["violations"].as_array().unwrap();
    let mut named: Vec<_> = violations.iter().map(|of| of["field"].as_str().unwrap()).collect();
    named.retain(|field| *field != "dry");
    assert_eq!(named.len() + 1, violations.len(), "the parameter is not named: {violations:?}");
    assert_eq!(named, fields);
    assert!(seen.is_empty(), "{seen:?}");
}
