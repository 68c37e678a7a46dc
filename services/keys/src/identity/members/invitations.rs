//! Who may join.

use std::fmt;

use tidegate_chassis::{
    auth::{Caller, Role},
    clock::uuid_v7,
    error::Violations,
};

use super::{Inner, Members};
use crate::{
    domain::{Action, Event, Invitation, InvitationId, ResourceType},
    error::{KeysError, until_written},
    idempotency::Keep,
    identity::{OneTime, names},
    origin::{Actor, RequestOrigin},
    store::{Change, Write},
};

/// An invitation, with its token.
#[derive(Clone)]
pub struct NewInvitation {
    /// What lists show.
    pub invitation: Invitation,
    /// Shown this once.
    pub token: String,
}

/// Without the token.
impl fmt::Debug for NewInvitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewInvitation").field("invitation", &self.invitation).finish_non_exhaustive()
    }
}

impl Members {
    /// Invites an address.
    ///
    /// # Errors
    ///
    /// [`KeysError::OrganizationNotFound`], [`KeysError::MemberExists`].
    pub async fn invite(
        &self,
        caller: &Caller,
        (organization, email, role): (&str, &str, Role),
        origin: &RequestOrigin,
        keep: &Keep<NewInvitation>,
    ) -> Result<NewInvitation, KeysError> {
        let inner = &self.0;
        let mut violations = Violations::default();
        let email = names::email(email, &mut violations);
        names::all_good(violations)?;
        let email = email.expect("nothing was wrong");
        let organization = inner.organization(caller, organization).await?;
        if let Some(user) = inner.store.user_by_email(&email).await?
            && inner.store.membership(organization.id, user.id).await?.is_some()
        {
            return Err(KeysError::MemberExists);
        }
        let now_us = inner.clock.now_us();
        let (token, token_hash) = OneTime::Invitation.draw();
        let invitation = Invitation {
            id: InvitationId(uuid_v7(now_us, &inner.random)),
            organization_id: organization.id,
            email,
            role,
            token_hash,
            created_us: now_us,
            expires_us: now_us.saturating_add(inner.invitation_ttl_us),
            ended_us: None,
            version: 0,
        };
        let mut event = inner.invitation_event(caller, origin, now_us, Action::InvitationCreate, &invitation);
        event.details.insert("role".to_owned(), role.name().into());
        let changes = vec![Change::Invitation(invitation.clone())];
        let made = NewInvitation { invitation, token };
        let idempotency = keep.record(&made, now_us);
        let write = Write { at_us: now_us, changes, events: vec![event], idempotency, ..Write::default() };
        inner.store.write(&write).await?;
        Ok(made)
    }

    /// Invitations that can be accepted; the first `limit` after the cursor.
    ///
    /// # Errors
    ///
    /// [`KeysError::OrganizationNotFound`].
    pub async fn invitations(
        &self,
        caller: &Caller,
        organization: &str,
        after: Option<InvitationId>,
        limit: u32,
    ) -> Result<Vec<Invitation>, KeysError> {
        let organization = self.0.organization(caller, organization).await?;
        Ok(self.0.store.invitations(organization.id, self.0.clock.now_us(), after, limit).await?)
    }

    /// Takes an invitation back.
    ///
    /// # Errors
    ///
    /// [`KeysError::OrganizationNotFound`], [`KeysError::InvitationNotFound`].
    pub async fn uninvite(
        &self,
        caller: &Caller,
        (organization, invitation): (&str, &str),
        origin: &RequestOrigin,
        keep: &Keep<()>,
    ) -> Result<(), KeysError> {
        let inner = &self.0;
        until_written(|| async {
            let organization = inner.organization(caller, organization).await?;
            let id = names::id("invitation_id", invitation)?;
            let now_us = inner.clock.now_us();
            let found = inner.store.invitation(organization.id, id).await?;
            let open = found.filter(|found| found.ended_us.is_none() && found.expires_us > now_us);
            let invitation = open.ok_or(KeysError::InvitationNotFound)?;
            let event = inner.invitation_event(caller, origin, now_us, Action::InvitationDelete, &invitation);
            let ended = Change::Invitation(Invitation { ended_us: Some(now_us), ..invitation });
            let write = Write {
                at_us: now_us,
                changes: vec![ended],
                events: vec![event],
                idempotency: keep.record(&(), now_us),
                ..Write::default()
            };
            inner.store.write(&write).await?;
            Ok(())
        })
        .await
    }
}

impl Inner {
    fn invitation_event(
        &self,
        caller: &Caller,
        origin: &RequestOrigin,
        at_us: u64,
        action: Action,
        invitation: &Invitation,
    ) -> Event {
        let id = (uuid_v7(at_us, &self.random), at_us);
        let resource = (ResourceType::Invitation, invitation.id.to_string());
        let event = origin.event(id, Actor::caller(caller), action, resource);
        Event { organization_id: Some(invitation.organization_id), ..event }
    }
}
