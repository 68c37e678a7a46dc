//! Somebody who was invited joins.

use tidegate_chassis::error::Violations;

use super::{Admitted, Sessions, taken};
use crate::{
    domain::{
        Action, Event, Invitation, Membership, Organization, OrganizationStatus, Outcome, ResourceType, User,
        UserId,
    },
    error::KeysError,
    idempotency::Keep,
    identity::{Attempt, OneTime, names, rules},
    origin::{Actor, RequestOrigin},
    store::{Change, StoreError, Write},
};

impl Sessions {
    /// Makes the invited address a member, with an account if there is none.
    ///
    /// # Errors
    ///
    /// [`KeysError::CredentialsInvalid`] if the token or the password of the account is not good, [`KeysError::MemberExists`],
    /// [`KeysError::TooManyAttempts`], [`KeysError::Overloaded`].
    pub async fn accept_invitation(
        &self,
        (token, password): (&str, &str),
        origin: &RequestOrigin,
        keep: &Keep<Admitted>,
    ) -> Result<Admitted, KeysError> {
        let inner = &self.0;
        let hash = OneTime::Invitation.hash(token).ok_or(KeysError::CredentialsInvalid)?;
        let (invitation, organization) = self.good_invitation(&hash).await?;
        let now_us = inner.clock.now_us();
        let mut write = Write { at_us: now_us, ..Write::default() };
        let user = match inner.store.user_by_email(&invitation.email).await? {
            Some(user) => {
                self.show_password(&user, password, origin).await?;
                // It stays as it is, but changed: its password is the one that was shown, and who could set it while it was in other
                // organizations only no longer can.
                write.changes.push(Change::User(user.clone()));
                User { version: user.version + 1, changed_us: now_us, ..user }
            }
            None => {
                let mut violations = Violations::default();
                rules::check(password, &invitation.email, "password", &mut violations);
                names::all_good(violations)?;
                inner.attempts.check(Attempt::SignUp, None, origin).await?;
                let user = User {
                    id: UserId(inner.id(now_us)),
                    email: invitation.email.clone(),
                    password_hash: Some(inner.passwords.hash(password).await?),
                    is_admin: false,
                    external: None,
                    created_us: now_us,
                    changed_us: now_us,
                    version: 0,
                };
                write.changes.push(Change::User(user.clone()));
                user
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
        let now_us = inner.clock.now_us();
        let failed = (Action::LogIn, Outcome::Failure);
        let event = inner.event(origin, now_us, Actor::anonymous(), failed, Some(user));
        let events = vec![super::with_detail(event, "reason", "wrong_password")];
        inner.store.write(&Write { at_us: now_us, events, ..Write::default() }).await?;
        Err(KeysError::CredentialsInvalid)
    }
}
