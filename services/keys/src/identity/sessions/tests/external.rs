use serde_json::json;
use tidegate_chassis::auth::Role;

use crate::{
    domain::{Action, Email, Outcome, User, UserId},
    error::KeysError,
    idempotency::Keep,
    identity::{
        Admitted, OidcAlgorithm, OidcIssuerConfig, Proof, Tokens,
        fixture::{PASSWORD, Replica, START_US, admin, origin, store, with, with_issuers},
        oidc::tests::{ExternalIssuer, Pair},
    },
    store::{Change, Write},
};

async fn issuer() -> ExternalIssuer {
    ExternalIssuer::start(vec![Pair::ed("d")]).await
}

fn config(issuer: &ExternalIssuer) -> OidcIssuerConfig {
    issuer.config(&[OidcAlgorithm::EdDsa])
}

async fn exchange(replica: &Replica, token: &str) -> Result<Tokens, KeysError> {
    replica.sessions.exchange((token, ""), &origin(), &Keep::nothing()).await
}

#[tokio::test]
async fn whoever_comes_for_the_first_time_joins_where_the_settings_say_and_is_known_from_then_on() {
    let external = issuer().await;
    let database = store().await;
    let first = with(database.clone(), &crate::identity::fixture::config(), &Default::default()).await;
    let owner = first.sign_up("owner@example.com").await;
    let joining = OidcIssuerConfig { organization: Some(owner.organization.id.0), ..config(&external) };
    let settings =
        crate::identity::IdentityConfig { oidc: vec![joining], ..crate::identity::fixture::config() };
    let replica = with(database, &settings, &Default::default()).await;

    let pair = external.pairs().remove(0);
    let tokens = exchange(&replica, &external.token(&pair, json!({}))).await.expect("in");
    let caller = replica.caller(&tokens.access).await.expect("believed");
    assert_eq!((caller.role, caller.organization), (Role::User, Some(owner.organization.id.0)));
    // Its address may change, or no longer be told: it is the subject that is known.
    let moved = external.token(&pair, json!({ "email": "lovelace@example.com", "email_verified": false }));
    let again = exchange(&replica, &moved).await.expect("in again");
    assert_eq!(replica.caller(&again.access).await.expect("believed").subject, caller.subject);
    let told = replica.told().await;
    let count = |action| told.iter().filter(|told| **told == (action, Outcome::Success)).count();
    assert_eq!([Action::SignUp, Action::MemberAdd, Action::LogIn].map(count), [2, 1, 2], "with the owner's");
    replica.refresh(&again.refresh).await.expect("refreshed");
}

#[tokio::test]
async fn nobody_is_made_unless_the_settings_say_so() {
    let external = issuer().await;
    let replica = with_issuers(vec![config(&external)]).await;
    let refused = exchange(&replica, &external.token(&external.pairs()[0], json!({}))).await;
    assert!(matches!(refused, Err(KeysError::CredentialsInvalid)), "{refused:?}");
    let failed = |event: &crate::domain::Event| event.outcome == Outcome::Failure;
    let told = replica.events().await.into_iter().find(failed).expect("told");
    assert_eq!(told.details["reason"], json!("no_account"));
}

#[tokio::test]
async fn an_account_with_a_password_is_not_taken_over_by_its_address() {
    let external = issuer().await;
    let replica = with_issuers(vec![config(&external)]).await;
    replica.sign_up("ada@example.com").await;
    let refused = exchange(&replica, &external.token(&external.pairs()[0], json!({}))).await;
    assert!(matches!(refused, Err(KeysError::CredentialsInvalid)), "{refused:?}");
    replica.log_in("ada@example.com", PASSWORD).await.expect("its owner comes in");
}

#[tokio::test]
async fn an_account_without_a_password_is_found_by_a_verified_address_once() {
    let external = issuer().await;
    let replica = with_issuers(vec![config(&external)]).await;
    let user = User {
        id: UserId(uuid::Uuid::from_u128(7)),
        email: Email::parse("ada@example.com").expect("an address"),
        password_hash: None,
        is_admin: true,
        external: None,
        created_us: START_US,
        changed_us: START_US,
        version: 0,
    };
    let write = Write { at_us: START_US, changes: vec![Change::User(user.clone())], ..Write::default() };
    replica.store.write(&write).await.expect("written");
    let pair = external.pairs().remove(0);
    let unverified = external.token(&pair, json!({ "email_verified": false }));
    assert!(matches!(exchange(&replica, &unverified).await, Err(KeysError::CredentialsInvalid)));
    let tokens = exchange(&replica, &external.token(&pair, json!({}))).await.expect("in");
    let caller = replica.caller(&tokens.access).await.expect("believed");
    assert_eq!((caller.role, caller.subject), (Role::Admin, user.id.to_string()));
    // Another subject with the same address is somebody else.
    let other = external.token(&pair, json!({ "sub": "subject-2" }));
    assert!(matches!(exchange(&replica, &other).await, Err(KeysError::CredentialsInvalid)));
}

#[tokio::test]
async fn a_wrong_token_is_refused_and_told() {
    let external = issuer().await;
    let replica = with_issuers(vec![config(&external)]).await;
    let refused = exchange(&replica, "a.b.c").await;
    assert!(matches!(refused, Err(KeysError::CredentialsInvalid)), "{refused:?}");
    assert!(replica.told().await.contains(&(Action::LogIn, Outcome::Failure)));
}

/// An invitation of `email` to the organization of `to`, accepted by an ID token.
async fn accept(
    replica: &Replica,
    to: &Admitted,
    email: &str,
    id_token: &str,
) -> Result<Admitted, KeysError> {
    let whom = (&*to.organization.id.to_string(), email, Role::User);
    let made = replica.members.invite(&admin(), whom, &origin(), &Keep::nothing()).await.expect("invited");
    let shown = (made.token.as_str(), Proof::IdToken(id_token));
    replica.sessions.accept_invitation(shown, &origin(), &Keep::nothing()).await
}

#[tokio::test]
async fn whoever_has_an_external_identity_only_accepts_invitations_by_it() {
    let external = issuer().await;
    let replica = with_issuers(vec![config(&external)]).await;
    let [first, second] = ["owner@example.com", "other@example.com"];
    let (first, second) = (replica.sign_up(first).await, replica.sign_up(second).await);
    let token = external.token(&external.pairs()[0], json!({}));
    // A new account, which has no password.
    let joined = accept(&replica, &first, "ada@example.com", &token).await.expect("joined");
    assert!(joined.user.external.is_some() && joined.user.password_hash.is_none(), "{:?}", joined.user);
    let caller = replica.caller(&joined.tokens.access).await.expect("believed");
    assert_eq!((caller.role, caller.organization), (Role::User, Some(first.organization.id.0)));
    exchange(&replica, &token).await.expect("it comes in from then on");
    // The same account, elsewhere; what its issuer says of its address no longer matters.
    let moved = external.token(&external.pairs()[0], json!({ "email": "lovelace@example.com" }));
    let again = accept(&replica, &second, "ada@example.com", &moved).await.expect("joined");
    assert_eq!(again.user.id, joined.user.id);
    assert_eq!(replica.store.user(joined.user.id).await.expect("asked"), Some(again.user));
    assert_eq!(replica.store.memberships_of(joined.user.id).await.expect("asked").len(), 2);
}

#[tokio::test]
async fn nobody_accepts_the_invitation_of_another_by_an_identity() {
    let external = issuer().await;
    let replica = with_issuers(vec![config(&external)]).await;
    let owner = replica.sign_up("owner@example.com").await;
    replica.sign_up("bob@example.com").await;
    let pair = external.pairs().remove(0);
    let by = |changes| external.token(&pair, changes);
    for (email, id_token) in [
        ("eve@example.com", by(json!({}))),
        ("ada@example.com", by(json!({ "email_verified": false }))),
        // It has a password, so somebody can get into it already.
        ("bob@example.com", by(json!({ "email": "bob@example.com" }))),
        ("ada@example.com", "a.b.c".to_owned()),
    ] {
        let refused = accept(&replica, &owner, email, &id_token).await;
        assert!(matches!(refused, Err(KeysError::CredentialsInvalid)), "{email}: {refused:?}");
    }
    // One that has an identity is not joined by another, whatever its address.
    accept(&replica, &owner, "ada@example.com", &by(json!({}))).await.expect("joined");
    let (other, elsewhere) = (by(json!({ "sub": "subject-2" })), replica.sign_up("other@example.com").await);
    let refused = accept(&replica, &elsewhere, "ada@example.com", &other).await;
    assert!(matches!(refused, Err(KeysError::CredentialsInvalid)), "{refused:?}");
    let refusals =
        replica.told().await.iter().filter(|told| **told == (Action::LogIn, Outcome::Failure)).count();
    assert_eq!(refusals, 5, "each is told");
}
