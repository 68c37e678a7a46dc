use tidegate_chassis::auth::{Caller, Role};

use crate::{
    domain::{Action, Outcome},
    error::KeysError,
    idempotency::Keep,
    identity::{
        Admitted, NewReset, Tokens,
        fixture::{PASSWORD, Replica, admin, caller_of, origin, replica},
    },
};

const NEW: &str = "another password of some length";

async fn change(replica: &Replica, caller: &Caller, current: &str) -> Result<Tokens, KeysError> {
    replica.sessions.change_password(caller, (current, NEW), &origin(), &Keep::nothing()).await
}

async fn make_reset(replica: &Replica, admitted: &Admitted) -> NewReset {
    let whose = (&*admitted.organization.id.to_string(), &*admitted.user.id.to_string());
    replica.members.reset_password(&admin(), whose, &origin(), &Keep::nothing()).await.expect("made")
}

async fn reset(replica: &Replica, token: &str, password: &str) -> Result<(), KeysError> {
    replica.sessions.reset_password((token, password), &origin(), &Keep::nothing()).await
}

#[tokio::test]
async fn a_change_of_the_password_ends_all_families_but_the_new_one() {
    let replica = replica().await;
    let admitted = replica.sign_up("ada@example.com").await;
    let other = replica.log_in("ada@example.com", PASSWORD).await.expect("in");
    let caller = replica.caller(&admitted.tokens.access).await.expect("believed");
    let wrong = change(&replica, &caller, "not the password").await;
    assert!(matches!(wrong, Err(KeysError::CredentialsInvalid)), "{wrong:?}");
    let tokens = change(&replica, &caller, PASSWORD).await.expect("changed");
    for ended in [&admitted.tokens.refresh, &other.refresh] {
        assert!(matches!(replica.refresh(ended).await, Err(KeysError::CredentialsInvalid)));
    }
    let next = replica.refresh(&tokens.refresh).await.expect("the new one goes on");
    let is_same = replica.caller(&next.access).await.expect("believed");
    assert_eq!((is_same.role, is_same.organization), (caller.role, caller.organization));
    assert!(matches!(replica.log_in("ada@example.com", PASSWORD).await, Err(KeysError::CredentialsInvalid)));
    replica.log_in("ada@example.com", NEW).await.expect("in by the new one");
    let told = replica.told().await;
    assert!(told.contains(&(Action::PasswordChange, Outcome::Failure)));
    assert!(told.contains(&(Action::PasswordChange, Outcome::Success)));
}

#[tokio::test]
async fn a_backend_has_no_password_to_change() {
    let replica = replica().await;
    let admitted = replica.sign_up("ada@example.com").await;
    let caller = Caller { how: tidegate_chassis::auth::How::Certificate, ..caller_of(&admitted, Role::User) };
    assert!(matches!(change(&replica, &caller, PASSWORD).await, Err(KeysError::CredentialsInvalid)));
}

#[tokio::test]
async fn a_reset_is_good_once_and_a_bad_password_does_not_use_it_up() {
    let replica = replica().await;
    let admitted = replica.sign_up("ada@example.com").await;
    replica.hand.advance(std::time::Duration::from_secs(1));
    let NewReset { token, .. } = make_reset(&replica, &admitted).await;
    assert!(matches!(reset(&replica, &token, "short").await, Err(KeysError::Invalid(_))));
    reset(&replica, &token, NEW).await.expect("set");
    let again = reset(&replica, &token, PASSWORD).await;
    assert!(matches!(again, Err(KeysError::CredentialsInvalid)), "{again:?}");
    assert!(matches!(replica.refresh(&admitted.tokens.refresh).await, Err(KeysError::CredentialsInvalid)));
    replica.log_in("ada@example.com", NEW).await.expect("in");
    for made_up in ["", "tgp_x", &token.replace("tgp_", "tgr_")] {
        assert!(matches!(reset(&replica, made_up, NEW).await, Err(KeysError::CredentialsInvalid)));
    }
}

#[tokio::test]
async fn a_reset_is_over_after_an_hour_and_when_the_password_was_changed_since() {
    let replica = replica().await;
    let admitted = replica.sign_up("ada@example.com").await;
    let (first, second) = (make_reset(&replica, &admitted).await, make_reset(&replica, &admitted).await);
    replica.hand.advance(std::time::Duration::from_secs(1));
    reset(&replica, &first.token, NEW).await.expect("set");
    assert!(matches!(reset(&replica, &second.token, PASSWORD).await, Err(KeysError::CredentialsInvalid)));
    replica.hand.advance(std::time::Duration::from_secs(1));
    let third = make_reset(&replica, &admitted).await;
    assert_eq!(third.expires_us, replica.clock.now_us() + 3_600_000_000);
    replica.hand.set_us(third.expires_us);
    assert!(matches!(reset(&replica, &third.token, PASSWORD).await, Err(KeysError::CredentialsInvalid)));
}

#[tokio::test]
async fn a_login_by_the_password_before_does_not_outlive_its_change() {
    let replica = replica().await;
    let admitted = replica.sign_up("ada@example.com").await;
    replica.hand.advance(std::time::Duration::from_secs(1));
    let NewReset { token, .. } = make_reset(&replica, &admitted).await;
    // Either is first; the login reads the password before it is another.
    let (set, login) =
        tokio::join!(reset(&replica, &token, NEW), replica.log_in("ada@example.com", PASSWORD));
    set.expect("set");
    match login {
        Err(error) => assert!(matches!(error, KeysError::CredentialsInvalid), "{error:?}"),
        Ok(tokens) => {
            let refreshed = replica.refresh(&tokens.refresh).await;
            assert!(matches!(refreshed, Err(KeysError::CredentialsInvalid)), "{refreshed:?}");
        }
    }
    replica.log_in("ada@example.com", NEW).await.expect("in by the new one");
}
