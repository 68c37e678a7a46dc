use std::{
    future::poll_fn,
    iter,
    pin::pin,
    time::{Duration, Instant},
};

use tidegate_chassis::auth::Role;

use crate::{
    domain::{Action, Membership, Organization, OrganizationStatus, Outcome, User},
    error::KeysError,
    identity::fixture::{PASSWORD, Replica, START_US, replica},
    store::{Change, Write},
};

async fn write(replica: &Replica, changes: Vec<Change>) {
    let write = Write { at_us: START_US, changes, ..Write::default() };
    replica.store.write(&write).await.expect("written");
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_address_are_refused_alike_and_told() {
    let replica = replica().await;
    let admitted = replica.sign_up("ada@example.com").await;
    replica.log_in("ADA@example.com", PASSWORD).await.expect("without regard to case");
    for email in ["ada@example.com", "nobody@example.com"] {
        replica.hand.advance(Duration::from_secs(1));
        let refused = replica.log_in(email, "not the password").await;
        assert!(matches!(refused, Err(KeysError::CredentialsInvalid)), "{email}: {refused:?}");
    }
    let events = replica.events().await;
    let failed: Vec<_> = events.iter().filter(|event| event.outcome == Outcome::Failure).collect();
    assert_eq!(failed.len(), 2);
    let user = admitted.user.id.to_string();
    assert_eq!(failed.iter().map(|event| &event.resource_id).collect::<Vec<_>>(), [&user, ""]);
    assert_eq!(failed[0].organization_id, Some(admitted.organization.id), "its administrators see it");
    assert!(failed.iter().all(|event| event.action == Action::LogIn && event.actor.is_empty()));
    assert!(events.iter().all(|event| !format!("{:?}", event.details).contains("example.com")));
}

/// The time of an answer must not tell whether there is an account. Medians of interleaved attempts are compared: a hash takes some
/// 20 ms, so that one that is left out would make them differ by more than ten times.
#[tokio::test]
async fn an_unknown_address_takes_as_long_as_a_wrong_password() {
    let replica = replica().await;
    replica.sign_up("ada@example.com").await;
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for round in 0..9_u32 {
        let nobody = format!("nobody{round}@example.com");
        for (email, times) in [("ada@example.com", &mut known), (nobody.as_str(), &mut unknown)] {
            let before = Instant::now();
            replica.log_in(email, "not the password").await.expect_err("refused");
            times.push(before.elapsed());
        }
    }
    let median = |mut times: Vec<Duration>| {
        times.sort();
        times[times.len() / 2]
    };
    let (known, unknown) = (median(known), median(unknown));
    assert!(known < unknown * 3 && unknown < known * 3, "{known:?} and {unknown:?}");
    assert!(known > Duration::from_millis(2), "a password was not hashed: {known:?}");
}

#[tokio::test]
async fn a_login_has_its_place_until_its_password_is_verified_and_no_longer() {
    let replica = replica().await;
    replica.sign_up("ada@example.com").await;
    let free = || iter::from_fn(|| replica.passwords.place().ok()).collect::<Vec<_>>().len();
    let all = free();
    let (mut was_held, mut was_given_up) = (false, false);
    // A database that answers at once leaves no moment in which it could be seen.
    for _ in 0..50 {
        let mut log_in = pin!(replica.log_in("ada@example.com", PASSWORD));
        let mut is_held = false;
        let logged_in = poll_fn(|context| {
            let polled = log_in.as_mut().poll(context);
            if polled.is_pending() {
                is_held |= free() < all;
                was_given_up |= is_held && free() == all;
            }
            polled
        });
        logged_in.await.expect("logged in");
        was_held |= is_held;
        if was_given_up {
            break;
        }
    }
    assert!(was_held && was_given_up, "held: {was_held}, given up before it was written: {was_given_up}");
}

#[tokio::test]
async fn an_account_has_ten_failures_in_a_quarter_of_an_hour_and_the_right_password_is_none() {
    let replica = replica().await;
    replica.sign_up("ada@example.com").await;
    for _ in 0..9 {
        replica.log_in("ada@example.com", "not the password").await.expect_err("refused");
        replica.log_in("ada@example.com", PASSWORD).await.expect("that is no failure");
    }
    let refused = replica.log_in("ada@example.com", "not the password").await;
    assert!(matches!(refused, Err(KeysError::CredentialsInvalid)), "the tenth: {refused:?}");
    let refused = replica.log_in("ada@example.com", PASSWORD).await;
    let Err(KeysError::TooManyAttempts { retry_after }) = refused else { panic!("{refused:?}") };
    replica.hand.advance(retry_after);
    replica.log_in("ada@example.com", PASSWORD).await.expect("later");
}

#[tokio::test]
async fn a_suspended_organization_cannot_be_logged_in_to() {
    let replica = replica().await;
    let admitted = replica.sign_up("ada@example.com").await;
    let organization = replica.store.organization(admitted.organization.id).await.expect("asked");
    let suspended = Organization { status: OrganizationStatus::Suspended, ..organization.expect("there") };
    write(&replica, vec![Change::Organization(suspended)]).await;
    let refused = replica.log_in("ada@example.com", PASSWORD).await;
    assert!(matches!(refused, Err(KeysError::CredentialsInvalid)), "{refused:?}");
    let refused = replica.refresh(&admitted.tokens.refresh).await;
    assert!(matches!(refused, Err(KeysError::CredentialsInvalid)), "{refused:?}");
    let failed = |event: &crate::domain::Event| event.outcome == Outcome::Failure;
    let last = replica.events().await.into_iter().find(failed).expect("told");
    assert_eq!(last.details["reason"], "organization_suspended");
}

#[tokio::test]
async fn a_member_of_two_organizations_says_which_and_an_outsider_comes_into_none() {
    let replica = replica().await;
    let ada = replica.sign_up("ada@example.com").await;
    let bob = replica.sign_up("bob@example.com").await;
    write(
        &replica,
        vec![Change::Membership(Membership {
            organization_id: bob.organization.id,
            user_id: ada.user.id,
            role: Role::User,
            joined_us: START_US + 1,
            version: 0,
        })],
    )
    .await;
    let first = replica.log_in("ada@example.com", PASSWORD).await.expect("in");
    let caller = replica.caller(&first.access).await.expect("believed");
    assert_eq!((caller.role, caller.organization), (Role::TenantAdmin, Some(ada.organization.id.0)));
    let other = bob.organization.id.to_string();
    let second = replica.log_in_at("ada@example.com", PASSWORD, &other).await.expect("in");
    let caller = replica.caller(&second.access).await.expect("believed");
    assert_eq!((caller.role, caller.organization), (Role::User, Some(bob.organization.id.0)));
    let outsider = replica.log_in_at("bob@example.com", PASSWORD, &ada.organization.id.to_string()).await;
    assert!(matches!(outsider, Err(KeysError::CredentialsInvalid)), "{outsider:?}");
}

#[tokio::test]
async fn an_admin_comes_in_for_everything_unless_it_names_an_organization() {
    let replica = replica().await;
    let admitted = replica.sign_up("root@example.com").await;
    let user = replica.store.user(admitted.user.id).await.expect("asked").expect("there");
    write(&replica, vec![Change::User(User { is_admin: true, ..user })]).await;
    let tokens = replica.log_in("root@example.com", PASSWORD).await.expect("in");
    let caller = replica.caller(&tokens.access).await.expect("believed");
    assert_eq!((caller.role, caller.organization), (Role::Admin, None));
    let refreshed = replica.refresh(&tokens.refresh).await.expect("refreshed");
    assert_eq!(replica.caller(&refreshed.access).await.map(|caller| caller.role), Some(Role::Admin));
    let own = admitted.organization.id.to_string();
    let tokens = replica.log_in_at("root@example.com", PASSWORD, &own).await.expect("in");
    let caller = replica.caller(&tokens.access).await.expect("believed");
    assert_eq!((caller.role, caller.organization), (Role::TenantAdmin, Some(admitted.organization.id.0)));
}

#[tokio::test]
async fn a_hash_by_older_parameters_is_replaced_at_the_next_login() {
    use argon2::{Algorithm, Argon2, Params, PasswordHasher, Version};

    let replica = replica().await;
    let admitted = replica.sign_up("ada@example.com").await;
    let user = replica.store.user(admitted.user.id).await.expect("asked").expect("there");
    let weak =
        Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(64, 1, 1, None).expect("parameters"));
    let old = weak.hash_password(PASSWORD.as_bytes()).expect("hashed").to_string();
    write(&replica, vec![Change::User(User { password_hash: Some(old.clone()), ..user })]).await;
    replica.log_in("ada@example.com", PASSWORD).await.expect("in by the old hash");
    let user = replica.store.user(admitted.user.id).await.expect("asked").expect("there");
    let new = user.password_hash.expect("a hash");
    assert!(new.contains("m=19456,t=2,p=1") && new != old, "{new}");
    replica.log_in("ada@example.com", PASSWORD).await.expect("in by the new one");
    let user = replica.store.user(admitted.user.id).await.expect("asked").expect("there");
    assert_eq!(user.password_hash, Some(new), "once is enough");
}
