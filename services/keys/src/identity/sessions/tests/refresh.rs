use std::time::Duration;

use futures_util::future::join_all;
use tidegate_chassis::auth::Role;

use crate::{
    domain::{Action, Outcome, UserId},
    error::KeysError,
    idempotency::Keep,
    identity::fixture::{Replica, admin, origin, replica},
};

async fn living(replica: &Replica, user: UserId) -> usize {
    replica.store.living_families(user, None).await.expect("asked").len()
}

#[tokio::test]
async fn a_refresh_token_is_good_once_and_its_second_use_ends_all_that_came_of_the_login() {
    let replica = replica().await;
    let admitted = replica.sign_up("ada@example.com").await;
    let other = replica.log_in("ada@example.com", crate::identity::fixture::PASSWORD).await.expect("in");
    let second = replica.refresh(&admitted.tokens.refresh).await.expect("refreshed");
    let third = replica.refresh(&second.refresh).await.expect("refreshed again");
    assert!(replica.caller(&third.access).await.is_some());

    let reused = replica.refresh(&second.refresh).await;
    assert!(matches!(reused, Err(KeysError::CredentialsInvalid)), "{reused:?}");
    let last = replica.refresh(&third.refresh).await;
    assert!(matches!(last, Err(KeysError::CredentialsInvalid)), "the family has ended: {last:?}");
    assert!(replica.told().await.contains(&(Action::RefreshReuse, Outcome::Denied)));
    assert_eq!(living(&replica, admitted.user.id).await, 1, "another login goes on");
    replica.refresh(&other.refresh).await.expect("refreshed");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_those_that_use_a_token_at_the_same_time_one_is_given_others() {
    let replica = replica().await;
    let admitted = replica.sign_up("ada@example.com").await;
    for _ in 0..5 {
        let tokens = replica.log_in("ada@example.com", crate::identity::fixture::PASSWORD).await.expect("in");
        let all = join_all((0..8).map(|_| replica.refresh(&tokens.refresh))).await;
        assert_eq!(all.iter().filter(|done| done.is_ok()).count(), 1, "{all:?}");
        assert!(all.iter().all(|done| matches!(done, Ok(_) | Err(KeysError::CredentialsInvalid))), "{all:?}");
    }
    assert_eq!(living(&replica, admitted.user.id).await, 1, "that of the sign-up");
}

#[tokio::test]
async fn a_token_is_over_after_seven_days() {
    let replica = replica().await;
    let admitted = replica.sign_up("ada@example.com").await;
    assert_eq!((admitted.tokens.access_s, admitted.tokens.refresh_s), (1_800, 604_800));
    replica.hand.advance(Duration::from_secs(604_800 - 1));
    let next = replica.refresh(&admitted.tokens.refresh).await.expect("in time");
    assert!(replica.caller(&admitted.tokens.access).await.is_none(), "an access token lasts half an hour");
    replica.hand.advance(Duration::from_secs(604_800));
    assert!(matches!(replica.refresh(&next.refresh).await, Err(KeysError::CredentialsInvalid)));
}

#[tokio::test]
async fn another_role_takes_effect_at_the_refresh_and_a_removal_ends_it() {
    let replica = replica().await;
    let ada = replica.sign_up("ada@example.com").await;
    let (organization, user) = (ada.organization.id.to_string(), ada.user.id.to_string());
    let bob = super::invited::join(&replica, &ada, "bob@example.com", Role::TenantAdmin).await;
    let (keep, role) = (Keep::nothing(), Role::User);
    replica.members.update(&admin(), (&organization, &user, role), &origin(), &keep).await.expect("updated");
    let tokens = replica.refresh(&ada.tokens.refresh).await.expect("refreshed");
    let caller = replica.caller(&tokens.access).await.expect("believed");
    assert_eq!(caller.role, Role::User);
    replica
        .members
        .remove(&admin(), (&organization, &user), &origin(), &Keep::nothing())
        .await
        .expect("removed");
    assert!(matches!(replica.refresh(&tokens.refresh).await, Err(KeysError::CredentialsInvalid)));
    replica.refresh(&bob.tokens.refresh).await.expect("others go on");
}

#[tokio::test]
async fn a_logout_ends_the_family_and_an_unknown_token_is_no_error() {
    let replica = replica().await;
    let admitted = replica.sign_up("ada@example.com").await;
    let next = replica.refresh(&admitted.tokens.refresh).await.expect("refreshed");
    for token in [admitted.tokens.refresh.as_str(), &admitted.tokens.refresh, "tgr_unknown", ""] {
        replica.sessions.log_out(token, &origin()).await.expect("no error");
    }
    assert!(matches!(replica.refresh(&next.refresh).await, Err(KeysError::CredentialsInvalid)));
    let told = replica.told().await;
    let logouts = told.iter().filter(|(action, _)| *action == Action::LogOut);
    assert_eq!(logouts.count(), 1, "what has ended does not end again");
}
