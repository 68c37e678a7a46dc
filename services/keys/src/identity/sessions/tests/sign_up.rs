use std::iter;

use futures_util::future::join_all;
use tidegate_chassis::auth::Role;

use crate::{
    domain::{Action, OrganizationStatus, Outcome},
    error::KeysError,
    identity::fixture::{PASSWORD, replica},
};

#[tokio::test]
async fn a_sign_up_gives_tokens_that_every_service_believes() {
    let replica = replica().await;
    let admitted = replica.sign_up("Ada@Example.com").await;
    assert_eq!(admitted.user.email.as_str(), "ada@example.com");
    assert_eq!(
        (admitted.organization.plan.as_str(), admitted.organization.status),
        ("free", OrganizationStatus::Active)
    );
    let caller = replica.caller(&admitted.tokens.access).await.expect("believed");
    assert_eq!((caller.role, caller.subject.clone()), (Role::TenantAdmin, admitted.user.id.to_string()));
    assert_eq!(caller.organization, Some(admitted.organization.id.0));
    assert_eq!(caller.email.as_deref(), Some("ada@example.com"));

    let me = replica.sessions.me(&caller).await.expect("known");
    assert_eq!(me.user.as_ref().map(|user| user.id), Some(admitted.user.id));
    assert_eq!(me.organization, Some(admitted.organization.clone()), "as it was answered");
    assert_eq!(me.memberships.len(), 1);
    assert_eq!(me.service_name, "");
}

#[tokio::test]
async fn what_was_done_is_told_from_where_it_was_done() {
    let replica = replica().await;
    let admitted = replica.sign_up("ada@example.com").await;
    let events = replica.events().await;
    let told = |action| events.iter().find(|event| event.action == action);
    assert!(told(Action::SigningKeyRotate).is_some() && told(Action::OrganizationCreate).is_some());
    let event = told(Action::SignUp).expect("told");
    assert_eq!((events.len(), event.outcome), (3, Outcome::Success));
    assert_eq!(event.ip_address.as_deref(), Some("203.0.113.7"));
    assert_eq!((event.user_agent.as_deref(), event.request_id.as_deref()), (Some("test/1"), Some("r-1")));
    assert_eq!(
        (&event.actor, event.organization_id),
        (&admitted.user.id.to_string(), Some(admitted.organization.id))
    );
}

#[tokio::test]
async fn everything_that_is_wrong_is_listed() {
    let replica = replica().await;
    let asked = super::super::SignUp {
        email: "nowhere".to_owned(),
        password: "short".to_owned().into(),
        organization_name: String::new(),
    };
    let origin = crate::identity::fixture::origin();
    let place = replica.sessions.place().expect("there is room");
    let refused = replica.sessions.sign_up(place, asked, &origin, &crate::idempotency::Keep::nothing()).await;
    let Err(KeysError::Invalid(violations)) = refused else { panic!("{refused:?}") };
    let fields: Vec<_> = violations.iter().map(|violation| violation.field.as_str()).collect();
    // A password is compared with the address, which has to be one first.
    assert_eq!(fields, ["email", "organization_name"]);
    let refused = replica.try_sign_up("ada@example.com", "ada@example.com").await;
    assert!(matches!(refused, Err(KeysError::Invalid(_))), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_sign_ups_with_one_address_one_is_done() {
    let replica = replica().await;
    let all = join_all((0..6).map(|_| replica.try_sign_up("ada@example.com", PASSWORD))).await;
    assert_eq!(all.iter().filter(|done| done.is_ok()).count(), 1);
    assert!(all.iter().all(|done| matches!(done, Ok(_) | Err(KeysError::EmailTaken))), "{all:?}");
    assert_eq!(replica.store.organizations("", None, 10).await.expect("asked").len(), 1);
}

#[tokio::test]
async fn an_address_makes_twenty_accounts_an_hour() {
    let replica = replica().await;
    for number in 0..20 {
        replica.sign_up(&format!("ada{number}@example.com")).await;
    }
    let refused = replica.try_sign_up("one-more@example.com", PASSWORD).await;
    assert!(matches!(refused, Err(KeysError::TooManyAttempts { .. })), "{refused:?}");
}

#[tokio::test]
async fn in_a_storm_of_logins_who_finds_no_room_is_turned_away_and_it_costs_no_attempt() {
    let replica = replica().await;
    let storm: Vec<_> = iter::from_fn(|| replica.passwords.place().ok()).collect();
    // An address has twenty attempts in an hour.
    for number in 0..30 {
        let refused = replica.try_sign_up(&format!("user{number}@example.com"), PASSWORD).await;
        assert!(matches!(refused, Err(KeysError::Overloaded)), "{refused:?}");
        let refused = replica.log_in(&format!("user{number}@example.com"), PASSWORD).await;
        assert!(matches!(refused, Err(KeysError::Overloaded)), "{refused:?}");
    }
    drop(storm);
    replica.sign_up("ada@example.com").await;
    replica.log_in("ada@example.com", PASSWORD).await.expect("there is room again");
}
