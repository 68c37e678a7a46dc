//! On a real store, believed by what every service believes by.

use super::*;
use crate::{
    domain::Outcome,
    identity::fixture::{Replica, START_US, admin, caller_of, origin, replica},
};

async fn create(
    replica: &Replica,
    caller: &Caller,
    organization: &str,
) -> Result<NewServiceToken, KeysError> {
    let asked = ServiceTokenRequest {
        name: "billing".to_owned(),
        organization_id: organization.to_owned(),
        expires_us: None,
    };
    replica.service_tokens.create(caller, &asked, &origin(), &Keep::nothing()).await
}

async fn revoke(replica: &Replica, caller: &Caller, id: &str) -> Result<ServiceToken, KeysError> {
    replica.service_tokens.revoke(caller, id, &origin(), &Keep::nothing()).await
}

#[tokio::test]
async fn a_token_is_a_backend_until_it_is_revoked() {
    let replica = replica().await;
    let made = create(&replica, &admin(), "").await.expect("made");
    assert_eq!(made.row.expires_us, START_US + DEFAULT_US);
    let caller = replica.caller(&made.token).await.expect("believed");
    assert_eq!((caller.role, caller.organization), (Role::Service, None));
    assert_eq!(replica.sessions.me(&caller).await.expect("known").service_name, "billing");
    let id = made.row.id.to_string();
    let revoked = revoke(&replica, &admin(), &id).await.expect("revoked");
    assert_eq!(revoked.revoked_us, Some(START_US));
    assert_eq!(replica.caller(&made.token).await, None);
    assert_eq!(replica.store.revoked_service_tokens(START_US).await, Ok(vec![made.row.id]));
    let feed = replica.store.feed(0, 10).await.expect("asked");
    assert_eq!(feed.entries.last().map(|(_, entry)| entry.revoked_service_token), Some(Some(made.row.id)));
    let told = (Action::ServiceTokenRevoke, Outcome::Success);
    assert!(replica.told().await.contains(&told));
    let before = replica.events().await.len();
    revoke(&replica, &admin(), &id).await.expect("it stays revoked");
    assert_eq!(replica.events().await.len(), before, "and nothing is told again");
}

#[tokio::test]
async fn a_tenants_token_is_for_it_and_neither_seen_nor_revoked_by_another() {
    let replica = replica().await;
    let ada = replica.sign_up("ada@example.com").await;
    let mallory = replica.sign_up("mallory@example.com").await;
    let (own, other) = (caller_of(&ada, Role::TenantAdmin), caller_of(&mallory, Role::TenantAdmin));
    let made = create(&replica, &own, "").await.expect("made");
    replica.hand.advance(std::time::Duration::from_secs(1));
    let for_all = create(&replica, &admin(), "").await.expect("made");
    let caller = replica.caller(&made.token).await.expect("believed");
    assert_eq!(caller.organization, Some(ada.organization.id.0));

    let theirs = ada.organization.id.to_string();
    assert!(matches!(create(&replica, &other, &theirs).await, Err(KeysError::OrganizationNotFound)));
    let listed = replica.service_tokens.list(&other, &theirs, None, 10).await;
    assert!(matches!(listed, Err(KeysError::OrganizationNotFound)), "{listed:?}");
    for id in [made.row.id, for_all.row.id] {
        let refused = revoke(&replica, &other, &id.to_string()).await;
        assert!(matches!(refused, Err(KeysError::ServiceTokenNotFound)), "{refused:?}");
    }
    let ids = |rows: Vec<ServiceToken>| rows.into_iter().map(|row| row.id).collect::<Vec<_>>();
    let list = async |caller| ids(replica.service_tokens.list(caller, "", None, 10).await.expect("listed"));
    assert_eq!(list(&own).await, [made.row.id]);
    assert_eq!(list(&other).await, []);
    assert_eq!(list(&admin()).await, [for_all.row.id, made.row.id]);
    revoke(&replica, &own, &made.row.id.to_string()).await.expect("revoked");
}

#[tokio::test]
async fn what_is_wrong_is_listed() {
    let replica = replica().await;
    for expires_us in [START_US, START_US + MOST_US + 1] {
        let asked = ServiceTokenRequest {
            name: String::new(),
            organization_id: String::new(),
            expires_us: Some(expires_us),
        };
        let refused = replica.service_tokens.create(&admin(), &asked, &origin(), &Keep::nothing()).await;
        let Err(KeysError::Invalid(violations)) = refused else { panic!("{refused:?}") };
        let fields: Vec<_> = violations.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!(fields, ["name", "expires_at_ms"]);
    }
    let nowhere = uuid_v7(START_US, &Random::seeded(1)).to_string();
    let refused = create(&replica, &admin(), &nowhere).await;
    assert!(matches!(refused, Err(KeysError::OrganizationNotFound)), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_those_that_are_made_at_the_same_time_each_is_made() {
    let replica = replica().await;
    let caller = admin();
    let made = futures_util::future::join_all((0..24).map(|_| create(&replica, &caller, ""))).await;
    for made in made {
        let made = made.expect("made");
        assert!(replica.caller(&made.token).await.is_some());
    }
}

#[tokio::test]
async fn a_revoked_token_is_remembered_until_it_has_expired_and_no_longer() {
    let replica = replica().await;
    let day = std::time::Duration::from_secs(86_400);
    let asked = |days: u64| ServiceTokenRequest {
        name: "billing".to_owned(),
        organization_id: String::new(),
        expires_us: Some(START_US + days * DAY_US),
    };
    let mut made = Vec::new();
    for days in [1, 2, 3] {
        let token = replica.service_tokens.create(&admin(), &asked(days), &origin(), &Keep::nothing()).await;
        made.push(token.expect("made"));
    }
    for made in &made[..2] {
        revoke(&replica, &admin(), &made.row.id.to_string()).await.expect("revoked");
    }
    let auth = &replica.authenticator;
    let forget = async || {
        let now_us = replica.clock.now_us();
        crate::jobs::forget(replica.store.as_ref(), now_us, auth).await.expect("forgotten");
    };
    let known = || auth.revoked_ids().len();
    forget().await;
    assert_eq!(known(), 2);
    // Clocks may differ, so one that has just expired is refused still.
    replica.hand.advance(day + std::time::Duration::from_secs(59));
    forget().await;
    assert_eq!(known(), 2);
    replica.hand.advance(std::time::Duration::from_secs(1));
    forget().await;
    assert_eq!(auth.revoked_ids(), [made[1].row.id.to_string()].into());
    assert_eq!(replica.caller(&made[1].token).await, None);
    assert!(replica.caller(&made[2].token).await.is_some());
    // A clock that was two days ahead, and is right again.
    let ahead_us = replica.clock.now_us() + 2 * DAY_US;
    crate::jobs::forget(replica.store.as_ref(), ahead_us, auth).await.expect("forgotten");
    assert_eq!(known(), 0);
    forget().await;
    assert_eq!(auth.revoked_ids(), [made[1].row.id.to_string()].into());
    assert_eq!(replica.caller(&made[1].token).await, None);
}
