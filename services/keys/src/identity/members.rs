//! Who belongs to an organization, and who may join.

mod invitations;
mod resets;

use std::sync::Arc;

use tidegate_chassis::{
    auth::{Caller, Role},
    clock::{Clock, Random, uuid_v7},
};

pub use self::{invitations::NewInvitation, resets::NewReset};
use super::names;
use crate::{
    domain::{
        Action, EndReason, Event, Membership, Organization, OrganizationId, RefreshFamily, ResourceType,
        User, UserId,
    },
    error::{KeysError, until_written},
    idempotency::Keep,
    origin::{Actor, RequestOrigin},
    store::{Change, KeysStore, Write},
};

/// The use cases of members. Clones are the same.
#[derive(Clone)]
pub struct Members(Arc<Inner>);

struct Inner {
    store: Arc<dyn KeysStore>,
    clock: Clock,
    random: Random,
    invitation_ttl_us: u64,
    password_reset_ttl_us: u64,
}

impl Members {
    /// Keeps members in `store`.
    #[must_use]
    pub fn new(
        store: Arc<dyn KeysStore>,
        config: &super::IdentityConfig,
        (clock, random): (Clock, Random),
    ) -> Self {
        let invitation_ttl_us = super::tokens::micros(&config.invitation_ttl);
        let password_reset_ttl_us = super::tokens::micros(&config.password_reset_ttl);
        Self(Arc::new(Inner { store, clock, random, invitation_ttl_us, password_reset_ttl_us }))
    }

    /// Members in the order of joining; the first `limit` after the cursor.
    ///
    /// # Errors
    ///
    /// [`KeysError::OrganizationNotFound`].
    pub async fn list(
        &self,
        caller: &Caller,
        organization: &str,
        after: Option<(u64, UserId)>,
        limit: u32,
    ) -> Result<Vec<(Membership, User)>, KeysError> {
        let organization = self.0.organization(caller, organization).await?;
        Ok(self.0.store.members(organization.id, after, limit).await?)
    }

    /// Gives a member another role. Refresh tokens give it from then on.
    ///
    /// # Errors
    ///
    /// [`KeysError::OrganizationNotFound`], [`KeysError::MemberNotFound`], [`KeysError::LastAdministrator`].
    pub async fn update(
        &self,
        caller: &Caller,
        (organization, user, role): (&str, &str, Role),
        origin: &RequestOrigin,
        keep: &Keep<(Membership, User)>,
    ) -> Result<(Membership, User), KeysError> {
        let inner = &self.0;
        until_written(|| async {
            let organization = inner.organization(caller, organization).await?;
            let (member, user) = inner.member(organization.id, names::id("user_id", user)?).await?;
            let now_us = inner.clock.now_us();
            let updated = (Membership { role, ..member.clone() }, user);
            let mut write = Write { at_us: now_us, ..Write::default() };
            if member.role != role {
                inner.keep_an_administrator(&member, role, &organization, &mut write).await?;
                write.changes.push(Change::Membership(updated.0.clone()));
                let mut event = inner.event(caller, origin, now_us, Action::MemberUpdate, &member);
                event.details.insert("role".to_owned(), role.name().into());
                write.events.push(event);
            }
            write.idempotency = keep.record(&updated, now_us);
            inner.store.write(&write).await?;
            Ok(updated)
        })
        .await
    }

    /// Ends a membership, and the families of refresh tokens that are for this organization.
    ///
    /// # Errors
    ///
    /// As [`Self::update`].
    pub async fn remove(
        &self,
        caller: &Caller,
        (organization, user): (&str, &str),
        origin: &RequestOrigin,
        keep: &Keep<()>,
    ) -> Result<(), KeysError> {
        let inner = &self.0;
        until_written(|| async {
            let organization = inner.organization(caller, organization).await?;
            let (member, _) = inner.member(organization.id, names::id("user_id", user)?).await?;
            let now_us = inner.clock.now_us();
            let mut write = Write { at_us: now_us, ..Write::default() };
            inner.keep_an_administrator(&member, Role::User, &organization, &mut write).await?;
            for family in inner.store.living_families(member.user_id, Some(organization.id)).await? {
                let ended = Some((now_us, EndReason::MembershipChanged));
                write.changes.push(Change::RefreshFamily(RefreshFamily { ended, ..family }));
            }
            write.events.push(inner.event(caller, origin, now_us, Action::MemberRemove, &member));
            write.changes.push(Change::RemoveMembership(member));
            write.idempotency = keep.record(&(), now_us);
            inner.store.write(&write).await?;
            Ok(())
        })
        .await
    }
}

impl Inner {
    /// The organization that a caller means, which has to be there.
    async fn organization(&self, caller: &Caller, text: &str) -> Result<Organization, KeysError> {
        let id = names::organization(caller, text)?;
        self.store.organization(id).await?.ok_or(KeysError::OrganizationNotFound)
    }

    async fn member(
        &self,
        organization: OrganizationId,
        user: UserId,
    ) -> Result<(Membership, User), KeysError> {
        let member = self.store.membership(organization, user).await?.ok_or(KeysError::MemberNotFound)?;
        let user = self.store.user(user).await?.ok_or(KeysError::MemberNotFound)?;
        Ok((member, user))
    }

    /// Refuses to leave an organization without a `tenant_admin`. Two that go at the same time change the same row, that of the
    /// organization: one of them sees the other gone.
    async fn keep_an_administrator(
        &self,
        member: &Membership,
        role: Role,
        organization: &Organization,
        write: &mut Write,
    ) -> Result<(), KeysError> {
        if member.role != Role::TenantAdmin || role == Role::TenantAdmin {
            return Ok(());
        }
        if self.store.count_tenant_admins(organization.id).await? <= 1 {
            return Err(KeysError::LastAdministrator);
        }
        write.changes.push(Change::Organization(organization.clone()));
        Ok(())
    }

    fn event(
        &self,
        caller: &Caller,
        origin: &RequestOrigin,
        at_us: u64,
        action: Action,
        member: &Membership,
    ) -> Event {
        let id = (uuid_v7(at_us, &self.random), at_us);
        let resource = (ResourceType::Membership, member.user_id.to_string());
        let event = origin.event(id, Actor::caller(caller), action, resource);
        Event { organization_id: Some(member.organization_id), ..event }
    }
}

#[cfg(test)]
mod tests;
