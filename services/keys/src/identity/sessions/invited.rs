//! Somebody who was invited joins.

use tidegate_chassis::error::Violations;

use super::{Admitted, Sessions, taken};
use crate::{
    domain::{
        Action, Email, Event, Invitation, Membership, Organization, OrganizationStatus, Outcome,
        ResourceType, User, UserId,
    },
    error::KeysError,
    idempotency::Keep,
    identity::{Attempt, ExternalUser, OneTime, names, rules},
    origin::{Actor, RequestOrigin},
    store::{Change, StoreError, Write},
};

/// By what somebody who accepts an invitation shows to be the one who is invited.
#[derive(Clone, Copy)]
pub enum Proof<'a> {
    /// The password of the account, or of the one that is to be made.
    Password(&'a str),
    /// An ID token of an external issuer.
    IdToken(&'a str),
}

impl Sessions {
    /// Makes the invited address a member, with an account if there is none.
    ///
    /// # Errors
    ///
    /// [`KeysError::CredentialsInvalid`] if the token or what is shown is not good, [`KeysError::MemberExists`],
    /// [`KeysError::TooManyAttempts`], [`KeysError::Overloaded`].
    pub async fn accept_invitation(
        &self,
        (token, proof): (&str, Proof<'_>),
        origin: &RequestOrigin,
        keep: &Keep<Admitted>,
    ) -> Result<Admitted, KeysError> {
        let inner = &self.0;
        let hash = OneTime::Invitation.hash(token).ok_or(KeysError::CredentialsInvalid)?;
        let (invitation, organization) = self.good_invitation(&hash).await?;
        let now_us = inner.clock.now_us();
        let mut write = Write { at_us: now_us, ..Write::default() };
        let user = match proof {
            Proof::Password(password) => {
                self.by_password(&invitation.email, password, &mut write, origin).await?
            }
            Proof::IdToken(id_token) => {
                self.by_id_token(&invitation.email, id_token, &mut write, origin).await?
            }
        };
        if inner.store.membership(organization.id, user.id).await?.is_some() {
            return Err(KeysError::MemberExists);
        }
        write.changes.push(Change::Membership(Membership {
            organization_id: organization.id,
            user_id: user.id,
            role: invitation.role,
            joined_us: now_us,
            version: 0,
        }));
        let as_what = (invitation.role, Some(organization.id));
        write.changes.push(Change::Invitation(Invitation { ended_us: Some(now_us), ..invitation }));
        let tokens = inner.begin(&mut write, &user, as_what).await?;
        let resource = (ResourceType::Membership, user.id.to_string());
        let id = (inner.id(now_us), now_us);
        let event = origin.event(id, Actor::user(&user.id), Action::MemberAdd, resource);
        let event = Event { organization_id: Some(organization.id), ..event };
        write.events.push(super::with_detail(event, "role", as_what.0.name()));
        let admitted = Admitted { user, organization, tokens };
        write.idempotency = keep.record(&admitted, now_us);
        match inner.store.write(&write).await {
            Ok(_) => Ok(admitted),
            // The invitation was accepted or taken back meanwhile, or the account joined by another one.
            Err(StoreError::Conflict) => Err(KeysError::CredentialsInvalid),
            Err(error) => Err(taken(error)),
        }
    }

    async fn by_password(
        &self,
        email: &Email,
        password: &str,
        write: &mut Write,
        origin: &RequestOrigin,
    ) -> Result<User, KeysError> {
        let inner = &self.0;
        if let Some(user) = inner.store.user_by_email(email).await? {
            self.show_password(&user, password, origin).await?;
            // It stays as it is, but changed: its password is the one that was shown, and who could set it while it was in other
            // organizations only no longer can.
            return Ok(changed(user, write));
        }
        let mut violations = Violations::default();
        rules::check(password, email, "password", &mut violations);
        names::all_good(violations)?;
        inner.attempts.check(Attempt::SignUp, None, origin).await?;
        let password_hash = Some(inner.passwords.hash(password).await?);
        Ok(self.make(User { password_hash, ..self.nobody(email, write.at_us) }, write))
    }

    /// The account of the invited address, if the token is of its identity, or nobody could get into it yet and the token has that
    /// address; without one that of the identity, or a new one, if the token has the address.
    async fn by_id_token(
        &self,
        email: &Email,
        id_token: &str,
        write: &mut Write,
        origin: &RequestOrigin,
    ) -> Result<User, KeysError> {
        let inner = &self.0;
        inner.attempts.check(Attempt::Exchange, None, origin).await?;
        let Ok(ExternalUser { identity, email: verified, .. }) = self.0.issuers.verify(id_token).await else {
            return self.refuse_proof(None, "wrong_token", origin).await;
        };
        let has_address = verified.as_ref() == Some(email);
        match inner.store.user_by_email(email).await? {
            Some(user) if user.external.as_ref() == Some(&identity) => Ok(changed(user, write)),
            Some(user) if user.external.is_none() && user.password_hash.is_none() && has_address => {
                Ok(changed(User { external: Some(identity), ..user }, write))
            }
            None if has_address => match inner.store.user_by_external(&identity).await? {
                Some(user) => Ok(changed(user, write)),
                None => {
                    inner.attempts.check(Attempt::SignUp, None, origin).await?;
                    let external = Some(identity);
                    Ok(self.make(User { external, ..self.nobody(email, write.at_us) }, write))
                }
            },
            user => self.refuse_proof(user.as_ref(), "another_identity", origin).await,
        }
    }

    /// An account that nobody can get into.
    fn nobody(&self, email: &Email, now_us: u64) -> User {
        User {
            id: UserId(self.0.id(now_us)),
            email: email.clone(),
            password_hash: None,
            is_admin: false,
            external: None,
            created_us: now_us,
            changed_us: now_us,
            version: 0,
        }
    }

    fn make(&self, user: User, write: &mut Write) -> User {
        write.changes.push(Change::User(user.clone()));
        user
    }

    async fn good_invitation(&self, hash: &[u8; 32]) -> Result<(Invitation, Organization), KeysError> {
        let store = &self.0.store;
        let invitation = store.invitation_by_token(hash).await?.ok_or(KeysError::CredentialsInvalid)?;
        let is_over = invitation.ended_us.is_some() || self.0.clock.now_us() >= invitation.expires_us;
        let organization = store.organization(invitation.organization_id).await?;
        match organization {
            Some(organization) if !is_over && organization.status == OrganizationStatus::Active => {
                Ok((invitation, organization))
            }
            _ => Err(KeysError::CredentialsInvalid),
        }
    }

    async fn show_password(
        &self,
        user: &User,
        password: &str,
        origin: &RequestOrigin,
    ) -> Result<(), KeysError> {
        let inner = &self.0;
        if !rules::is_possible(password) {
            return Err(KeysError::field("password", "must be 1 to 128 characters"));
        }
        let ticket = inner.attempts.check(Attempt::LogIn, Some(&user.email), origin).await?;
        let verified = inner.passwords.verify(password, user.password_hash.as_deref()).await;
        if !matches!(&verified, Ok(verified) if !verified.is_good) {
            inner.attempts.give_back(ticket).await;
        }
        if verified?.is_good {
            return Ok(());
        }
        self.refuse_proof(Some(user), "wrong_password", origin).await
    }

    async fn refuse_proof<T>(
        &self,
        user: Option<&User>,
        why: &str,
        origin: &RequestOrigin,
    ) -> Result<T, KeysError> {
        let inner = &self.0;
        let now_us = inner.clock.now_us();
        let failed = (Action::LogIn, Outcome::Failure);
        let event = inner.event(origin, now_us, Actor::anonymous(), failed, user);
        let events = vec![super::with_detail(event, "reason", why)];
        inner.store.write(&Write { at_us: now_us, events, ..Write::default() }).await?;
        Err(KeysError::CredentialsInvalid)
    }
}

/// Adds an account that is there to the write, and gives it as it is then.
fn changed(user: User, write: &mut Write) -> User {
    write.changes.push(Change::User(user.clone()));
    User { version: user.version + 1, changed_us: write.at_us, ..user }
}
