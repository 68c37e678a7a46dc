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
