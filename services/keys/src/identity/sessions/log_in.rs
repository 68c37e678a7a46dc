//! Logins by a password. Whether an account is there is told by nothing: neither the answer, nor the time it takes.

use tidegate_chassis::error::Violations;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{Sessions, standing, with_detail};
use crate::{
    domain::{Action, Email, Event, OrganizationId, Outcome, User, UserId},
    error::{KeysError, until_written},
    idempotency::Keep,
    identity::{Attempt, Place, Tokens, names, rules},
    origin::{Actor, RequestOrigin},
    store::{Change, Guard, Write},
};

/// Who wants to come in.
pub struct LogIn {
    /// Address of the account.
    pub email: String,
    /// Its password.
    pub password: Zeroizing<String>,
    /// Where; empty for the organization that it joined first.
    pub organization_id: String,
}

impl Sessions {
    /// Gives tokens for an address and a password. Has the `place` until that is verified.
    ///
    /// # Errors
    ///
    /// [`KeysError::CredentialsInvalid`], [`KeysError::TooManyAttempts`], [`KeysError::Overloaded`].
    pub async fn log_in(
        &self,
        place: Place<'_>,
        asked: LogIn,
        origin: &RequestOrigin,
        keep: &Keep<Tokens>,
    ) -> Result<Tokens, KeysError> {
        let mut violations = Violations::default();
        let email = names::email(&asked.email, &mut violations);
        if !rules::is_possible(&asked.password) {
            violations.add("password", "must be 1 to 128 characters");
        }
        let wanted = match asked.organization_id.as_str() {
            "" => None,
            text => match text.parse() {
                Ok(id) => Some(id),
                Err(_) => {
                    violations.add("organization_id", "must be a UUID, or empty");
                    None
                }
            },
        };
        names::all_good(violations)?;
        let email = email.expect("nothing was wrong");
        let ticket = self.0.attempts.check(Attempt::LogIn, Some(&email), origin).await?;
        // If the account was changed meanwhile, its password may be another. That is verified without a place: few have to begin anew.
        let mut place = Some(place);
        let let_in = until_written(|| {
            let place = place.take();
            self.let_in(place, &email, (asked.password.as_str(), wanted), origin, keep)
        });
        let let_in = let_in.await;
        if !matches!(let_in, Err(KeysError::CredentialsInvalid)) {
            self.0.attempts.give_back(ticket).await;
        }
        let_in
    }

    async fn let_in(
        &self,
        place: Option<Place<'_>>,
        email: &Email,
        (password, wanted): (&str, Option<OrganizationId>),
        origin: &RequestOrigin,
        keep: &Keep<Tokens>,
    ) -> Result<Tokens, KeysError> {
        let inner = &self.0;
        let user = inner.store.user_by_email(email).await?;
        // Nobody has a nil UUID. The same is asked of the database for an account that is not there as for one that is.
        let id = user.as_ref().map_or(UserId(Uuid::nil()), |user| user.id);
        let memberships = inner.store.memberships_of(id).await?;
        let hash = user.as_ref().and_then(|user| user.password_hash.as_deref());
        let verified = inner.passwords.verify(password, hash).await?;
        drop(place);
        let Some(user) = user.filter(|_| verified.is_good) else {
            let organization = memberships.first().map(|(_, organization)| organization.id);
            return self.turn_away(None, id, organization, "wrong_password", origin).await;
        };
        let as_what = match standing(&user, &memberships, wanted) {
            Ok(as_what) => as_what,
            Err(why) => return self.turn_away(Some(&user), id, wanted, why, origin).await,
        };
        let now_us = inner.clock.now_us();
        let mut write = Write { at_us: now_us, ..Write::default() };
        let tokens = inner.begin(&mut write, &user, as_what).await?;
        let done = (Action::LogIn, Outcome::Success);
        let event = inner.event(origin, now_us, Actor::user(&user.id), done, Some(&user));
        write.events.push(Event { organization_id: as_what.1, ..event });
        write.idempotency = keep.record(&tokens, now_us);
        if verified.rehashed.is_some() {
            // A hash by older parameters is replaced along with the login.
            write.changes.push(Change::User(User { password_hash: verified.rehashed, ..user }));
        } else {
            write.guards.push(Guard::User(user.id, user.version));
        }
        inner.store.write(&write).await?;
        Ok(tokens)
    }

    /// Tells that somebody failed. `known` is who showed the right password.
    async fn turn_away(
        &self,
        known: Option<&User>,
        id: UserId,
        organization_id: Option<OrganizationId>,
        why: &str,
        origin: &RequestOrigin,
    ) -> Result<Tokens, KeysError> {
        let inner = &self.0;
        let now_us = inner.clock.now_us();
        let actor = known.map_or_else(Actor::anonymous, |user| Actor::user(&user.id));
        let event = inner.event(origin, now_us, actor, (Action::LogIn, Outcome::Failure), None);
        let resource_id = if id.0.is_nil() { String::new() } else { id.to_string() };
        // One that is named but not the account's is not where this belongs.
        let organization_id = organization_id.filter(|_| why != "no_member");
        let event = with_detail(Event { organization_id, resource_id, ..event }, "reason", why);
        let write = Write { at_us: now_us, events: vec![event], ..Write::default() };
        inner.store.write(&write).await?;
        Err(KeysError::CredentialsInvalid)
    }
}
