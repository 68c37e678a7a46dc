//! On a real store.

use tidegate_chassis::auth::Role;

use super::*;
use crate::{
    domain::Outcome,
    identity::{
        Admitted, Proof,
        fixture::{self, PASSWORD, Replica, admin, caller_of, origin, replica},
    },
};

async fn join(replica: &Replica, to: &Admitted, email: &str, role: Role) -> Admitted {
    let whom = (&*to.organization.id.to_string(), email, role);
    let made = replica.members.invite(&admin(), whom, &origin(), &Keep::nothing()).await.expect("invited");
    let shown = (made.token.as_str(), Proof::Password(PASSWORD));
    replica.sessions.accept_invitation(shown, &origin(), &Keep::nothing()).await.expect("joined")
}

async fn update(replica: &Replica, caller: &Caller, whom: &Admitted, role: Role) -> Result<(), KeysError> {
    let what = (&*whom.organization.id.to_string(), &*whom.user.id.to_string(), role);
    replica.members.update(caller, what, &origin(), &Keep::nothing()).await.map(drop)
}

async fn remove(replica: &Replica, caller: &Caller, whom: &Admitted) -> Result<(), KeysError> {
    let what = (&*whom.organization.id.to_string(), &*whom.user.id.to_string());
    replica.members.remove(caller, what, &origin(), &Keep::nothing()).await
}

#[tokio::test]
async fn members_are_listed_in_the_order_of_joining() {
    let replica = replica().await;
    let ada = replica.sign_up("ada@example.com").await;
    replica.hand.advance(std::time::Duration::from_secs(1));
    let bob = join(&replica, &ada, "bob@example.com", Role::User).await;
    let caller = caller_of(&ada, Role::TenantAdmin);
    let listed = replica.members.list(&caller, "", None, 10).await.expect("listed");
    let listed: Vec<_> = listed.iter().map(|(member, user)| (user.id, member.role)).collect();
    assert_eq!(listed, [(ada.user.id, Role::TenantAdmin), (bob.user.id, Role::User)]);
}

#[tokio::test]
async fn an_organization_keeps_an_administrator() {
    let replica = replica().await;
    let ada = replica.sign_up("ada@example.com").await;
    for refused in
        [update(&replica, &admin(), &ada, Role::User).await, remove(&replica, &admin(), &ada).await]
    {
        assert!(matches!(refused, Err(KeysError::LastAdministrator)), "{refused:?}");
    }
    update(&replica, &admin(), &ada, Role::TenantAdmin).await.expect("nothing changes");
    let bob = join(&replica, &ada, "bob@example.com", Role::TenantAdmin).await;
    remove(&replica, &admin(), &ada).await.expect("another is left");
    assert!(matches!(remove(&replica, &admin(), &bob).await, Err(KeysError::LastAdministrator)));
    assert!(replica.told().await.contains(&(Action::MemberRemove, Outcome::Success)));
}

#[tokio::test(flavor = "multi_thread")]
async fn administrators_that_go_at_the_same_time_do_not_all_go() {
    let replica = replica().await;
    for round in 0..5 {
        let ada = replica.sign_up(&format!("ada{round}@example.com")).await;
        let bob = join(&replica, &ada, &format!("bob{round}@example.com"), Role::TenantAdmin).await;
        let root = admin();
        let (first, second) =
            tokio::join!(remove(&replica, &root, &ada), update(&replica, &root, &bob, Role::User));
        assert!(first.is_ok() != second.is_ok(), "{first:?} {second:?}");
        let left = replica.store.count_tenant_admins(ada.organization.id).await.expect("asked");
        assert_eq!(left, 1);
    }
}

#[tokio::test]
async fn nothing_of_another_tenant_is_seen_or_changed() {
    let replica = replica().await;
    let ada = replica.sign_up("ada@example.com").await;
    let mallory = replica.sign_up("mallory@example.com").await;
    let caller = caller_of(&mallory, Role::TenantAdmin);
    let theirs = ada.organization.id.to_string();
    let (origin, user) = (origin(), ada.user.id.to_string());
    let members = &replica.members;
    let invited = (&*theirs, "eve@example.com", Role::TenantAdmin);
    let refused = [
        members.list(&caller, &theirs, None, 10).await.err(),
        members.invitations(&caller, &theirs, None, 10).await.err(),
        members.invite(&caller, invited, &origin, &Keep::nothing()).await.err(),
        members.uninvite(&caller, (&theirs, &user), &origin, &Keep::nothing()).await.err(),
        members.reset_password(&caller, (&theirs, &user), &origin, &Keep::nothing()).await.err(),
        update(&replica, &caller, &ada, Role::User).await.err(),
        remove(&replica, &caller, &ada).await.err(),
    ];
    for error in refused {
        assert!(matches!(error, Some(KeysError::OrganizationNotFound)), "{error:?}");
    }
    // Nor by naming somebody of another organization in one's own.
    let own = mallory.organization.id.to_string();
    let refused = members.reset_password(&caller, (&own, &user), &origin, &Keep::nothing()).await;
    assert!(matches!(refused, Err(KeysError::MemberNotFound)), "{refused:?}");
}

#[tokio::test]
async fn whoever_is_more_than_a_member_has_its_password_set_by_an_admin_only() {
    let replica = replica().await;
    let ada = replica.sign_up("ada@example.com").await;
    let mallory = replica.sign_up("mallory@example.com").await;
    let whom = (&*mallory.organization.id.to_string(), "ada@example.com", Role::User);
    let made = replica.members.invite(&admin(), whom, &origin(), &Keep::nothing()).await.expect("invited");
    let shown = (made.token.as_str(), Proof::Password(PASSWORD));
    replica.sessions.accept_invitation(shown, &origin(), &Keep::nothing()).await.expect("joined");

    let caller = caller_of(&mallory, Role::TenantAdmin);
    let whose = (&*mallory.organization.id.to_string(), &*ada.user.id.to_string());
    let refused = replica.members.reset_password(&caller, whose, &origin(), &Keep::nothing()).await;
    assert!(matches!(refused, Err(KeysError::RoleMissing(_))), "{refused:?}");
    replica.members.reset_password(&admin(), whose, &origin(), &Keep::nothing()).await.expect("made");

    let root = join(&replica, &mallory, "root@example.com", Role::User).await;
    let user = replica.store.user(root.user.id).await.expect("asked").expect("there");
    let changes = vec![Change::User(User { is_admin: true, ..user })];
    let at_us = fixture::START_US;
    replica.store.write(&Write { at_us, changes, ..Write::default() }).await.expect("written");
    let whose = (&*mallory.organization.id.to_string(), &*root.user.id.to_string());
    let refused = replica.members.reset_password(&caller, whose, &origin(), &Keep::nothing()).await;
    assert!(matches!(refused, Err(KeysError::RoleMissing(_))), "{refused:?}");
}

#[tokio::test]
async fn a_member_is_not_invited_and_an_invitation_is_listed_until_it_is_over() {
    let replica = replica().await;
    let ada = replica.sign_up("ada@example.com").await;
    let caller = caller_of(&ada, Role::TenantAdmin);
    let invite = async |email: &str| {
        replica.members.invite(&caller, ("", email, Role::User), &origin(), &Keep::nothing()).await
    };
    assert!(matches!(invite("ada@example.com").await, Err(KeysError::MemberExists)));
    assert!(matches!(invite("nowhere").await, Err(KeysError::Invalid(_))));
    let made = invite("bob@example.com").await.expect("invited");
    let listed = replica.members.invitations(&caller, "", None, 10).await.expect("listed");
    assert_eq!(listed.iter().map(|invitation| invitation.id).collect::<Vec<_>>(), [made.invitation.id]);
    replica.hand.set_us(made.invitation.expires_us);
    assert_eq!(replica.members.invitations(&caller, "", None, 10).await.expect("listed"), []);
}
