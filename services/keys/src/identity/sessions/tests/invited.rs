use tidegate_chassis::auth::Role;

use crate::{
    domain::{Action, Outcome},
    error::KeysError,
    idempotency::Keep,
    identity::{
        Admitted, Proof,
        fixture::{PASSWORD, Replica, admin, caller_of, origin, replica},
    },
};

async fn invite(replica: &Replica, to: &Admitted, email: &str, role: Role) -> String {
    let whom = (&*to.organization.id.to_string(), email, role);
    let made = replica.members.invite(&admin(), whom, &origin(), &Keep::nothing()).await;
    made.expect("invited").token
}

async fn accept(replica: &Replica, token: &str, password: &str) -> Result<Admitted, KeysError> {
    replica.sessions.accept_invitation((token, Proof::Password(password)), &origin(), &Keep::nothing()).await
}

/// Makes somebody a member of the organization of `to`.
pub(super) async fn join(replica: &Replica, to: &Admitted, email: &str, role: Role) -> Admitted {
    let token = invite(replica, to, email, role).await;
    accept(replica, &token, PASSWORD).await.expect("joined")
}

#[tokio::test]
async fn whoever_is_invited_joins_once_with_a_new_account() {
    let replica = replica().await;
    let ada = replica.sign_up("ada@example.com").await;
    let token = invite(&replica, &ada, "bob@example.com", Role::User).await;
    assert!(matches!(accept(&replica, &token, "short").await, Err(KeysError::Invalid(_))));
    let bob = accept(&replica, &token, PASSWORD).await.expect("joined");
    assert_eq!((bob.user.email.as_str(), bob.organization.id), ("bob@example.com", ada.organization.id));
    let caller = replica.caller(&bob.tokens.access).await.expect("believed");
    assert_eq!((caller.role, caller.organization), (Role::User, Some(ada.organization.id.0)));
    assert!(matches!(accept(&replica, &token, PASSWORD).await, Err(KeysError::CredentialsInvalid)));
    assert!(replica.told().await.contains(&(Action::MemberAdd, Outcome::Success)));
}

#[tokio::test]
async fn whoever_has_an_account_shows_its_password() {
    let replica = replica().await;
    let ada = replica.sign_up("ada@example.com").await;
    let bob = replica.sign_up("bob@example.com").await;
    let token = invite(&replica, &ada, "bob@example.com", Role::User).await;
    let refused = accept(&replica, &token, "not the password").await;
    assert!(matches!(refused, Err(KeysError::CredentialsInvalid)), "{refused:?}");
    let joined = accept(&replica, &token, PASSWORD).await.expect("joined");
    assert_eq!(joined.user.id, bob.user.id);
    let memberships = replica.store.memberships_of(bob.user.id).await.expect("asked");
    assert_eq!(memberships.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_those_that_accept_at_the_same_time_one_joins() {
    let replica = replica().await;
    let ada = replica.sign_up("ada@example.com").await;
    let token = invite(&replica, &ada, "bob@example.com", Role::User).await;
    let all = futures_util::future::join_all((0..4).map(|_| accept(&replica, &token, PASSWORD))).await;
    assert_eq!(all.iter().filter(|done| done.is_ok()).count(), 1, "{all:?}");
}

#[tokio::test]
async fn an_invitation_is_over_when_it_is_taken_back_or_a_week_has_passed() {
    let replica = replica().await;
    let ada = replica.sign_up("ada@example.com").await;
    let organization = ada.organization.id.to_string();
    let whom = (&*organization, "bob@example.com", Role::User);
    let made = replica.members.invite(&admin(), whom, &origin(), &Keep::nothing()).await.expect("invited");
    let taken_back = (&*organization, &*made.invitation.id.to_string());
    replica.members.uninvite(&admin(), taken_back, &origin(), &Keep::nothing()).await.expect("taken back");
    assert!(matches!(accept(&replica, &made.token, PASSWORD).await, Err(KeysError::CredentialsInvalid)));
    let again = replica.members.uninvite(&admin(), taken_back, &origin(), &Keep::nothing()).await;
    assert!(matches!(again, Err(KeysError::InvitationNotFound)), "{again:?}");
    let token = invite(&replica, &ada, "bob@example.com", Role::User).await;
    replica.hand.advance(std::time::Duration::from_secs(7 * 86_400));
    assert!(matches!(accept(&replica, &token, PASSWORD).await, Err(KeysError::CredentialsInvalid)));
}

#[tokio::test]
async fn a_token_to_set_a_password_is_over_when_the_account_joins_another_organization() {
    let replica = replica().await;
    let ada = replica.sign_up("ada@example.com").await;
    let bob = replica.sign_up("bob@example.com").await;
    let whose = (&*bob.organization.id.to_string(), &*bob.user.id.to_string());
    let by = caller_of(&bob, Role::TenantAdmin);
    replica.hand.advance(std::time::Duration::from_secs(1));
    let made = replica.members.reset_password(&by, whose, &origin(), &Keep::nothing()).await.expect("made");
    replica.hand.advance(std::time::Duration::from_secs(1));
    let token = invite(&replica, &ada, "bob@example.com", Role::TenantAdmin).await;
    let joined = accept(&replica, &token, PASSWORD).await.expect("joined");
    assert_eq!(replica.store.user(bob.user.id).await.expect("asked"), Some(joined.user));
    let wanted = (&*made.token, "another password of some length");
    let set = replica.sessions.reset_password(wanted, &origin(), &Keep::nothing()).await;
    assert!(matches!(set, Err(KeysError::CredentialsInvalid)), "{set:?}");
}
