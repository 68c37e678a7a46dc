//! Refresh tokens: each is good once. One that is used again was stolen, from its owner or by its owner's successor: nobody can tell
//! which, so that all that came of the login end (RFC 9700, section 4.14.2).

use tidegate_chassis::auth::Role;

use super::{Sessions, Standing, standing};
use crate::{
    domain::{Action, EndReason, Event, Outcome, RefreshFamily, RefreshToken, ResourceType, User, UserId},
    error::{KeysError, until_written},
    idempotency::Keep,
    identity::{OneTime, Tokens},
    origin::{Actor, RequestOrigin},
    store::{Change, Write},
};

impl Sessions {
    /// Gives new tokens for a refresh token, which is used up. The role is as of now.
    ///
    /// # Errors
    ///
    /// [`KeysError::CredentialsInvalid`].
    pub async fn refresh(
        &self,
        token: &str,
        origin: &RequestOrigin,
        keep: &Keep<Tokens>,
    ) -> Result<Tokens, KeysError> {
        let hash = OneTime::Refresh.hash(token).ok_or(KeysError::CredentialsInvalid)?;
        until_written(|| self.use_up(hash, origin, keep)).await
    }

    async fn use_up(
        &self,
        hash: [u8; 32],
        origin: &RequestOrigin,
        keep: &Keep<Tokens>,
    ) -> Result<Tokens, KeysError> {
        let inner = &self.0;
        let found = inner.store.refresh_token(&hash).await?;
        let (token, family) = found.ok_or(KeysError::CredentialsInvalid)?;
        let now_us = inner.clock.now_us();
        if family.ended.is_some() || now_us >= token.expires_us {
            return Err(KeysError::CredentialsInvalid);
        }
        if token.used_us.is_some() {
            keep.fail_if_answered(inner.store.as_ref(), now_us).await?;
            self.end(family, EndReason::Reused, (Action::RefreshReuse, Outcome::Denied), origin).await?;
            return Err(KeysError::CredentialsInvalid);
        }
        let (user, as_what) = self.as_of_now(&family).await?;
        let signer = inner.minter.signer().await?;
        let (refresh, next) = inner.draw_refresh(family.id, now_us);
        let tokens = inner.minter.tokens(&signer, &user, as_what, refresh)?;
        let used = RefreshToken { used_us: Some(now_us), ..token };
        let changes = vec![Change::RefreshToken(used), Change::RefreshToken(next)];
        let idempotency = keep.record(&tokens, now_us);
        // Of two that come at the same time one finds the row changed, reads it again, and finds it used.
        inner.store.write(&Write { at_us: now_us, changes, idempotency, ..Write::default() }).await?;
        Ok(tokens)
    }

    async fn as_of_now(&self, family: &RefreshFamily) -> Result<(User, Standing), KeysError> {
        let store = &self.0.store;
        let user = store.user(family.user_id).await?.ok_or(KeysError::CredentialsInvalid)?;
        let as_what = match family.organization_id {
            None if user.is_admin => (Role::Admin, None),
            None => return Err(KeysError::CredentialsInvalid),
            wanted => {
                let memberships = store.memberships_of(user.id).await?;
                standing(&user, &memberships, wanted).map_err(|_| KeysError::CredentialsInvalid)?
            }
        };
        Ok((user, as_what))
    }

    /// Ends the family of a refresh token. One that is not known, or has ended, is no error.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn log_out(&self, token: &str, origin: &RequestOrigin) -> Result<(), KeysError> {
        let Some(hash) = OneTime::Refresh.hash(token) else { return Ok(()) };
        until_written(|| async {
            match self.0.store.refresh_token(&hash).await? {
                Some((_, family)) if family.ended.is_none() => {
                    self.end(family, EndReason::LoggedOut, (Action::LogOut, Outcome::Success), origin).await
                }
                _ => Ok(()),
            }
        })
        .await
    }

    async fn end(
        &self,
        family: RefreshFamily,
        reason: EndReason,
        what: (Action, Outcome),
        origin: &RequestOrigin,
    ) -> Result<(), KeysError> {
        let inner = &self.0;
        let now_us = inner.clock.now_us();
        // Whoever uses a token a second time is not known to be its owner.
        let actor = match reason {
            EndReason::LoggedOut => Actor::user(&family.user_id),
            EndReason::Reused | EndReason::PasswordChanged | EndReason::MembershipChanged => {
                Actor::anonymous()
            }
        };
        let resource = (ResourceType::Session, family.id.to_string());
        let event = origin.event((inner.id(now_us), now_us), actor, what.0, resource);
        let event = Event { organization_id: family.organization_id, outcome: what.1, ..event };
        let event = super::with_detail(event, "user_id", &user_text(family.user_id));
        let ended = RefreshFamily { ended: Some((now_us, reason)), ..family };
        let changes = vec![Change::RefreshFamily(ended)];
        let write = Write { at_us: now_us, changes, events: vec![event], ..Write::default() };
        inner.store.write(&write).await?;
        Ok(())
    }
}

fn user_text(id: UserId) -> String {
    id.to_string()
}
