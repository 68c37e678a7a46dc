//! Logins by the token of an external issuer.

use super::{Sessions, standing, with_detail};
use crate::{
    domain::{Action, Event, Membership, OrganizationId, Outcome, ResourceType, User, UserId},
    error::{KeysError, until_written},
    idempotency::Keep,
    identity::{Attempt, ExternalUser, Tokens, names},
    origin::{Actor, RequestOrigin},
    store::{Change, StoreError, Unique, Write},
};

impl Sessions {
    /// Gives tokens for the ID token of an issuer that the settings name.
    ///
    /// # Errors
    ///
    /// [`KeysError::CredentialsInvalid`], [`KeysError::TooManyAttempts`].
    pub async fn exchange(
        &self,
        (id_token, organization_id): (&str, &str),
        origin: &RequestOrigin,
        keep: &Keep<Tokens>,
    ) -> Result<Tokens, KeysError> {
        let wanted = match organization_id {
            "" => None,
            text => Some(names::id("organization_id", text)?),
        };
        self.0.attempts.check(Attempt::Exchange, None, origin).await?;
        let external = match self.0.issuers.verify(id_token).await {
            Ok(external) => external,
            Err(error) => {
                self.refuse(None, "wrong_token", origin).await?;
                return Err(error);
            }
        };
        until_written(|| async {
            match self.let_external_in(&external, wanted, origin, keep).await {
                // Somebody else came in by the same address or the same identity at the same time.
                Err(KeysError::Store(StoreError::Taken(Unique::Email | Unique::ExternalIdentity))) => {
                    Err(StoreError::Conflict.into())
                }
                done => done,
            }
        })
        .await
    }

    async fn let_external_in(
        &self,
        external: &ExternalUser,
        wanted: Option<OrganizationId>,
        origin: &RequestOrigin,
        keep: &Keep<Tokens>,
    ) -> Result<Tokens, KeysError> {
        let inner = &self.0;
        let now_us = inner.clock.now_us();
        let mut write = Write { at_us: now_us, ..Write::default() };
        let Some(user) = self.find_or_make(external, &mut write, origin).await? else {
            self.refuse(None, "no_account", origin).await?;
            return Err(KeysError::CredentialsInvalid);
        };
        let as_what = match external.joins {
            // It is made along with its account, so it is not found there.
            Some((organization, role)) if user.version == 0 => {
                if wanted.is_some_and(|wanted| wanted != organization) {
                    return Err(KeysError::CredentialsInvalid);
                }
                (role, Some(organization))
            }
            _ => match standing(&user, &inner.store.memberships_of(user.id).await?, wanted) {
                Ok(as_what) => as_what,
                Err(why) => {
                    self.refuse(Some(&user), why, origin).await?;
                    return Err(KeysError::CredentialsInvalid);
                }
            },
        };
        let tokens = inner.begin(&mut write, &user, as_what).await?;
        let done = (Action::LogIn, Outcome::Success);
        let event = inner.event(origin, now_us, Actor::user(&user.id), done, Some(&user));
        let event = with_detail(event, "issuer", &external.identity.issuer);
        write.events.push(Event { organization_id: as_what.1, ..event });
        write.idempotency = keep.record(&tokens, now_us);
        inner.store.write(&write).await?;
        Ok(tokens)
    }

    /// The account of an external identity. At first it is the one that has its verified address, if that has neither a password nor
    /// another identity: nobody takes over an account that somebody can already get into.
    async fn find_or_make(
        &self,
        external: &ExternalUser,
        write: &mut Write,
        origin: &RequestOrigin,
    ) -> Result<Option<User>, KeysError> {
        let inner = &self.0;
        if let Some(user) = inner.store.user_by_external(&external.identity).await? {
            return Ok(Some(user));
        }
        let Some(email) = &external.email else { return Ok(None) };
        let identity = Some(external.identity.clone());
        if let Some(user) = inner.store.user_by_email(email).await? {
            if user.password_hash.is_some() || user.external.is_some() {
                return Ok(None);
            }
            write.changes.push(Change::User(User { external: identity, ..user.clone() }));
            return Ok(Some(user));
        }
        let Some((organization_id, role)) = external.joins else { return Ok(None) };
        let organization = inner.store.organization(organization_id).await?;
        let is_open = |status| status == crate::domain::OrganizationStatus::Active;
        if !organization.is_some_and(|organization| is_open(organization.status)) {
            return Ok(None);
        }
        let now_us = write.at_us;
        let user = User {
            id: UserId(inner.id(now_us)),
            email: email.clone(),
            password_hash: None,
            is_admin: false,
            external: identity,
            created_us: now_us,
            changed_us: now_us,
            version: 0,
        };
        let user_id = user.id;
        let membership = Membership { organization_id, user_id, role, joined_us: now_us, version: 0 };
        write.changes.extend([Change::User(user.clone()), Change::Membership(membership)]);
        let resource = (ResourceType::Membership, user_id.to_string());
        let id = (inner.id(now_us), now_us);
        let joined = origin.event(id, Actor::user(&user_id), Action::MemberAdd, resource);
        let signed_up = (Action::SignUp, Outcome::Success);
        let made = inner.event(origin, now_us, Actor::user(&user_id), signed_up, Some(&user));
        let at = |event| Event { organization_id: Some(organization_id), ..event };
        write.events.extend([at(made), with_detail(at(joined), "role", role.name())]);
        Ok(Some(user))
    }

    async fn refuse(&self, user: Option<&User>, why: &str, origin: &RequestOrigin) -> Result<(), KeysError> {
        let inner = &self.0;
        let now_us = inner.clock.now_us();
        let actor = user.map_or_else(Actor::anonymous, |user| Actor::user(&user.id));
        let event = inner.event(origin, now_us, actor, (Action::LogIn, Outcome::Failure), user);
        let events = vec![with_detail(event, "reason", why)];
        inner.store.write(&Write { at_us: now_us, events, ..Write::default() }).await?;
        Ok(())
    }
}
