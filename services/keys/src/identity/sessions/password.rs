//! Passwords that are changed by their owner, or set by a one-time token.

use tidegate_chassis::{auth::Caller, error::Violations};

use super::{Sessions, account, standing};
use crate::{
    domain::{Action, EndReason, Event, OrganizationId, Outcome, PasswordReset, User},
    error::{KeysError, until_written},
    idempotency::Keep,
    identity::{Attempt, OneTime, Tokens, names, rules},
    origin::{Actor, RequestOrigin},
    store::{Change, Guard, StoreError, Write},
};

impl Sessions {
    /// Changes the caller's password, ends all families of the account, and begins a new one.
    ///
    /// # Errors
    ///
    /// [`KeysError::CredentialsInvalid`] if the present password is wrong, [`KeysError::TooManyAttempts`],
    /// [`KeysError::Overloaded`].
    pub async fn change_password(
        &self,
        caller: &Caller,
        (current, new): (&str, &str),
        origin: &RequestOrigin,
        keep: &Keep<Tokens>,
    ) -> Result<Tokens, KeysError> {
        let inner = &self.0;
        let id = account(caller)?;
        let user = inner.store.user(id).await?.ok_or(KeysError::CredentialsInvalid)?;
        let mut violations = Violations::default();
        rules::check(new, &user.email, "new_password", &mut violations);
        if !rules::is_possible(current) {
            violations.add("current_password", "must be 1 to 128 characters");
        }
        names::all_good(violations)?;
        let ticket = inner.attempts.check(Attempt::LogIn, Some(&user.email), origin).await?;
        let verified = inner.passwords.verify(current, user.password_hash.as_deref()).await;
        if !matches!(&verified, Ok(verified) if !verified.is_good) {
            inner.attempts.give_back(ticket).await;
        }
        let verified = verified?;
        let organization = caller.organization.map(OrganizationId);
        let actor = || Actor::caller(caller);
        if !verified.is_good {
            let now_us = inner.clock.now_us();
            let failed = (Action::PasswordChange, Outcome::Failure);
            let event = inner.event(origin, now_us, actor(), failed, Some(&user));
            let events = vec![Event { organization_id: organization, ..event }];
            inner.store.write(&Write { at_us: now_us, events, ..Write::default() }).await?;
            return Err(KeysError::CredentialsInvalid);
        }
        let password_hash = Some(inner.passwords.hash(new).await?);
        let shown = user.password_hash.clone();
        until_written(|| async {
            // The password that was shown has to be the one that is replaced.
            let user = inner.store.user(id).await?.filter(|user| user.password_hash == shown);
            let user = user.ok_or(KeysError::CredentialsInvalid)?;
            let memberships = inner.store.memberships_of(id).await?;
            let as_what =
                standing(&user, &memberships, organization).map_err(|_| KeysError::CredentialsInvalid)?;
            let now_us = inner.clock.now_us();
            let mut write = Write { at_us: now_us, ..Write::default() };
            end_all(&mut write, &user);
            let tokens = inner.begin(&mut write, &user, as_what).await?;
            let done = (Action::PasswordChange, Outcome::Success);
            let event = inner.event(origin, now_us, actor(), done, Some(&user));
            write.events.push(Event { organization_id: organization, ..event });
            write.changes.push(Change::User(User { password_hash: password_hash.clone(), ..user }));
            write.idempotency = keep.record(&tokens, now_us);
            inner.store.write(&write).await?;
            Ok(tokens)
        })
        .await
    }

    /// Sets a password by a one-time token, which is used up, and ends all families of the account.
    ///
    /// # Errors
    ///
    /// [`KeysError::CredentialsInvalid`] if the token is not good, or the account was changed since it was made;
    /// [`KeysError::Overloaded`].
    pub async fn reset_password(
        &self,
        (token, new): (&str, &str),
        origin: &RequestOrigin,
        keep: &Keep<()>,
    ) -> Result<(), KeysError> {
        let inner = &self.0;
        let hash = OneTime::PasswordReset.hash(token).ok_or(KeysError::CredentialsInvalid)?;
        // Looked at before anything is hashed, so that made-up tokens cost nothing.
        let (_, user) = self.good_reset(&hash).await?;
        let mut violations = Violations::default();
        rules::check(new, &user.email, "new_password", &mut violations);
        names::all_good(violations)?;
        let password_hash = Some(inner.passwords.hash(new).await?);
        until_written(|| async {
            let (reset, user) = self.good_reset(&hash).await?;
            let now_us = inner.clock.now_us();
            let mut write = Write { at_us: now_us, ..Write::default() };
            end_all(&mut write, &user);
            let done = (Action::PasswordReset, Outcome::Success);
            write.events.push(inner.event(origin, now_us, Actor::user(&user.id), done, Some(&user)));
            write.changes.extend([
                Change::PasswordReset(PasswordReset { used_us: Some(now_us), ..reset }),
                Change::User(User { password_hash: password_hash.clone(), ..user }),
            ]);
            write.idempotency = keep.record(&(), now_us);
            inner.store.write(&write).await?;
            Ok(())
        })
        .await
    }

    /// A token that is good, and its account. A password that was changed later ends it, even if it was not used.
    async fn good_reset(&self, hash: &[u8; 32]) -> Result<(PasswordReset, User), KeysError> {
        let store = &self.0.store;
        let reset = store.password_reset(hash).await?.ok_or(KeysError::CredentialsInvalid)?;
        let user = store.user(reset.user_id).await?;
        let user = user.ok_or_else(|| StoreError::Corrupt("a reset of no account".to_owned()))?;
        let is_good = reset.used_us.is_none()
            && self.0.clock.now_us() < reset.expires_us
            && user.changed_us <= reset.created_us;
        if is_good { Ok((reset, user)) } else { Err(KeysError::CredentialsInvalid) }
    }
}

/// Ends all families of an account whose password is another from now on. Logins by the one before are written before the account is
/// held, so that they are among them, or find it changed.
fn end_all(write: &mut Write, user: &User) {
    write.guards.push(Guard::User(user.id, user.version));
    write.end_families = Some((user.id, EndReason::PasswordChanged));
}
