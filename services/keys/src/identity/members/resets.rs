//! Tokens by which a member sets a password.

use std::fmt;

use tidegate_chassis::{
    auth::{Caller, Role},
    clock::uuid_v7,
};

use super::Members;
use crate::{
    domain::{Action, Event, PasswordReset, ResourceType},
    error::KeysError,
    idempotency::Keep,
    identity::{OneTime, names},
    origin::{Actor, RequestOrigin},
    store::{Change, Write},
};

/// A token by which a password can be set.
#[derive(Clone)]
pub struct NewReset {
    /// Shown this once.
    pub token: String,
    /// Until when it can be used, Unix microseconds.
    pub expires_us: u64,
}

/// Without the token.
impl fmt::Debug for NewReset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewReset").field("expires_us", &self.expires_us).finish_non_exhaustive()
    }
}

impl Members {
    /// Makes a token by which a member can set a password.
    ///
    /// Who may set the password of an account may be that account. So a `tenant_admin` makes tokens only for accounts that are
    /// nothing outside of its organization.
    ///
    /// # Errors
    ///
    /// [`KeysError::OrganizationNotFound`], [`KeysError::MemberNotFound`], [`KeysError::RoleMissing`].
    pub async fn reset_password(
        &self,
        caller: &Caller,
        (organization, user): (&str, &str),
        origin: &RequestOrigin,
        keep: &Keep<NewReset>,
    ) -> Result<NewReset, KeysError> {
        let inner = &self.0;
        let organization = inner.organization(caller, organization).await?;
        let (_, user) = inner.member(organization.id, names::id("user_id", user)?).await?;
        let memberships = inner.store.memberships_of(user.id).await?;
        if caller.role != Role::Admin && (user.is_admin || memberships.len() > 1) {
            return Err(KeysError::RoleMissing(
                "the account is more than a member of this organization: only an admin may do this",
            ));
        }
        let now_us = inner.clock.now_us();
        let (token, token_hash) = OneTime::PasswordReset.draw();
        let expires_us = now_us.saturating_add(inner.password_reset_ttl_us);
        let reset = PasswordReset {
            token_hash,
            user_id: user.id,
            created_us: now_us,
            expires_us,
            used_us: None,
            version: 0,
        };
        let id = (uuid_v7(now_us, &inner.random), now_us);
        let resource = (ResourceType::User, user.id.to_string());
        let event = origin.event(id, Actor::caller(caller), Action::PasswordResetCreate, resource);
        let event = Event { organization_id: Some(organization.id), ..event };
        let made = NewReset { token, expires_us };
        let write = Write {
            at_us: now_us,
            changes: vec![Change::PasswordReset(reset)],
            events: vec![event],
            idempotency: keep.record(&made, now_us),
            ..Write::default()
        };
        inner.store.write(&write).await?;
        Ok(made)
    }
}
