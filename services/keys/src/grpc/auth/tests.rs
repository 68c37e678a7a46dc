//! As callers see it, on a real store.

use std::iter;

use futures_util::future::join_all;
use tidegate_chassis::auth::{Caller, Origin, Role};
use tonic::Code;
use tonic_types::StatusExt;

use super::*;
use crate::{
    identity::fixture::{PASSWORD, Replica, SECRET, replica},
    sealing::Sealing,
};

async fn served() -> (AuthApi, Replica) {
    let replica = replica().await;
    let sealing = Arc::new(Sealing::new(SECRET, ""));
    let idempotency = Idempotency::new(replica.store.clone(), sealing, replica.clock.clone());
    (AuthApi::new(replica.sessions.clone(), idempotency, TrustedProxies::default()), replica)
}

fn with_key<T>(message: T, key: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("idempotency-key", key.parse().expect("a value"));
    request
}

fn by<T>(mut request: Request<T>, caller: Caller) -> Request<T> {
    let peer = "192.0.2.1".parse().expect("an address");
    request.extensions_mut().insert(Origin { caller: Some(Arc::new(caller)), peer });
    request
}

fn sign_up(email: &str) -> pb::SignUpRequest {
    pb::SignUpRequest {
        email: email.to_owned(),
        password: PASSWORD.to_owned(),
        organization_name: "Analytical Engines".to_owned(),
    }
}

fn told(status: &Status) -> (Code, String) {
    let reason = status.get_error_details().error_info().expect("ErrorInfo").reason.clone();
    (status.code(), reason)
}

async fn signed_up(api: &AuthApi) -> pb::SignUpResponse {
    api.sign_up(Request::new(sign_up("ada@example.com"))).await.expect("signed up").into_inner()
}

fn tokens_of(response: &pb::SignUpResponse) -> pb::Tokens {
    response.tokens.clone().expect("tokens")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_comes_again_is_answered_the_same_and_nothing_is_done_again() {
    let (api, replica) = served().await;
    let calls = (0..5).map(|_| api.sign_up(with_key(sign_up("ada@example.com"), "k-1")));
    let mut answers: Vec<_> =
        join_all(calls).await.into_iter().map(|answer| answer.expect("answered").into_inner()).collect();
    let later = api.sign_up(with_key(sign_up("ada@example.com"), "k-1")).await.expect("answered");
    answers.push(later.into_inner());
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    assert_eq!(replica.store.organizations("", None, 10).await.expect("asked").len(), 1);
    // Another who happens to say the same key is another.
    api.sign_up(with_key(sign_up("bob@example.com"), "k-1")).await.expect("signed up");
    let without = api.sign_up(Request::new(sign_up("ada@example.com"))).await.expect_err("taken");
    assert_eq!(told(&without), (Code::AlreadyExists, "EMAIL_TAKEN".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_that_comes_again_with_its_key_is_no_reuse() {
    let (api, _replica) = served().await;
    let tokens = tokens_of(&signed_up(&api).await);
    let refresh = |token: &str| pb::RefreshRequest { refresh_token: token.to_owned() };
    let calls = (0..6).map(|_| api.refresh(with_key(refresh(&tokens.refresh_token), "r-1")));
    let answers: Vec<_> =
        join_all(calls).await.into_iter().map(|answer| answer.expect("answered").into_inner()).collect();
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    let next = answers[0].tokens.clone().expect("tokens");
    api.refresh(Request::new(refresh(&next.refresh_token))).await.expect("the family goes on");
    let reuse = api.refresh(with_key(refresh(&tokens.refresh_token), "r-2")).await.expect_err("reused");
    assert_eq!(told(&reuse), (Code::Unauthenticated, "CREDENTIALS_INVALID".to_owned()));
}

#[tokio::test]
async fn a_key_that_a_caller_used_for_another_request_is_refused() {
    let (api, replica) = served().await;
    let tokens = tokens_of(&signed_up(&api).await);
    let caller = replica.caller(&tokens.access_token).await.expect("believed");
    let change = |new: &str, key: &str| {
        let message =
            pb::ChangePasswordRequest { current_password: PASSWORD.to_owned(), new_password: new.to_owned() };
        by(with_key(message, key), caller.clone())
    };
    let first = api.change_password(change("another password of some length", "c")).await.expect("changed");
    let again = api.change_password(change("another password of some length", "c")).await.expect("answered");
    assert_eq!(first.into_inner(), again.into_inner(), "though the present password is another by now");
    let refused = api.change_password(change("a third password of some length", "c")).await;
    assert_eq!(
        told(&refused.expect_err("refused")),
        (Code::InvalidArgument, "IDEMPOTENCY_KEY_REUSED".to_owned())
    );
    for wrong in ["", &"k".repeat(129)] {
        let refused = api.sign_up(with_key(sign_up("eve@example.com"), wrong)).await.expect_err("refused");
        assert_eq!(told(&refused), (Code::InvalidArgument, "INVALID_REQUEST".to_owned()));
    }
}

#[tokio::test]
async fn in_a_storm_of_logins_not_even_what_was_kept_is_looked_for() {
    let (api, replica) = served().await;
    let first = api.sign_up(with_key(sign_up("ada@example.com"), "k")).await.expect("signed up").into_inner();
    let storm: Vec<_> = iter::from_fn(|| replica.sessions.place().ok()).collect();
    let refused = api.sign_up(with_key(sign_up("ada@example.com"), "k")).await.expect_err("no room");
    assert_eq!(told(&refused), (Code::ResourceExhausted, "SERVER_OVERLOADED".to_owned()));
    // A key that is none is not even read.
    let log_in = pb::LogInRequest { email: "ada@example.com".to_owned(), ..pb::LogInRequest::default() };
    let refused = api.log_in(with_key(log_in, "")).await.expect_err("no room");
    assert_eq!(told(&refused), (Code::ResourceExhausted, "SERVER_OVERLOADED".to_owned()));
    drop(storm);
    let again = api.sign_up(with_key(sign_up("ada@example.com"), "k")).await.expect("there is room again");
    assert_eq!(again.into_inner(), first);
}

#[tokio::test]
async fn whoever_finds_no_room_is_not_looked_for_again() {
    let (api, _replica) = served().await;
    let request = with_key(sign_up("ada@example.com"), "k");
    let meanwhile = async |_: Keep<()>| {
        api.sign_up(with_key(sign_up("ada@example.com"), "k")).await.expect("signed up");
        Err(KeysError::Overloaded)
    };
    let asked = nobody("AuthService.SignUp", &request);
    let render = |(): &()| pb::SignUpResponse::default();
    let answer = api.0.idempotency.run(asked, request.get_ref(), render, meanwhile).await;
    assert!(matches!(answer, Err(KeysError::Overloaded)), "{answer:?}");
}

#[tokio::test]
async fn what_was_kept_is_answered_for_a_day_and_sealed() {
    let (api, replica) = served().await;
    let first = api.sign_up(with_key(sign_up("ada@example.com"), "k")).await.expect("signed up").into_inner();
    replica.hand.advance(std::time::Duration::from_secs(86_399));
    let again = api.sign_up(with_key(sign_up("ada@example.com"), "k")).await.expect("answered");
    assert_eq!(again.into_inner(), first);
    replica.hand.advance(std::time::Duration::from_secs(1));
    let later = api.sign_up(with_key(sign_up("ada@example.com"), "k")).await.expect_err("taken");
    assert_eq!(told(&later).1, "EMAIL_TAKEN");
}

#[tokio::test]
async fn errors_have_the_reasons_of_the_contract() {
    let (api, _replica) = served().await;
    signed_up(&api).await;
    let log_in = |password: &str| {
        Request::new(pb::LogInRequest {
            email: "ada@example.com".to_owned(),
            password: password.to_owned(),
            organization_id: String::new(),
        })
    };
    let refused = api.log_in(log_in("not the password")).await.expect_err("refused");
    assert_eq!(told(&refused), (Code::Unauthenticated, "CREDENTIALS_INVALID".to_owned()));
    for _ in 0..9 {
        api.log_in(log_in("not the password")).await.expect_err("refused");
    }
    let refused = api.log_in(log_in(PASSWORD)).await.expect_err("too many");
    assert_eq!(told(&refused), (Code::ResourceExhausted, "TOO_MANY_ATTEMPTS".to_owned()));
    assert!(refused.get_error_details().retry_info().is_some());
    let nobody = api.get_me(Request::new(pb::GetMeRequest {})).await.expect_err("nobody");
    assert_eq!(told(&nobody), (Code::Unauthenticated, "CREDENTIALS_MISSING".to_owned()));
}

#[tokio::test]
async fn an_account_learns_who_it_is_and_a_rotation_shows_in_the_keys() {
    let (api, replica) = served().await;
    let made = signed_up(&api).await;
    let caller = replica.caller(&tokens_of(&made).access_token).await.expect("believed");
    let me = api.get_me(by(Request::new(pb::GetMeRequest {}), caller)).await.expect("known").into_inner();
    assert_eq!((me.role(), me.memberships[0].role()), (pb::Role::TenantAdmin, pb::Role::TenantAdmin));
    assert_eq!((me.user, me.organization), (made.user, made.organization));

    let admin = crate::identity::fixture::admin();
    assert_eq!(admin.role, Role::Admin);
    let rotate = by(Request::new(pb::RotateSigningKeyRequest {}), admin);
    let rotated = api.rotate_signing_key(rotate).await.expect("rotated").into_inner().key.expect("a key");
    let listed = api.list_signing_keys(Request::new(pb::ListSigningKeysRequest {})).await.expect("listed");
    let keys = listed.into_inner().keys;
    assert_eq!((keys.len(), &keys[0]), (2, &rotated));
    assert_eq!((rotated.algorithm.as_str(), rotated.public_key.len()), ("EdDSA", 32));
    assert!(keys[1].retired_at_ms > 0);
}
