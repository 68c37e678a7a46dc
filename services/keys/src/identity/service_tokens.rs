//! Tokens of backends: JWTs of which only the ids are kept, so that they can be revoked.

use std::{fmt, sync::Arc};

use tidegate_chassis::{
    auth::{Authenticator, Caller, Role},
    clock::{Clock, Random, uuid_v7},
    error::Violations,
};
use tokio::sync::Mutex;

use super::{Minter, names};
use crate::{
    domain::{Action, Event, OrganizationId, ResourceType, ServiceToken, ServiceTokenId},
    error::{KeysError, until_written},
    idempotency::Keep,
    origin::{Actor, RequestOrigin},
    store::{Change, FeedEntry, KeysStore, Write},
};

const DAY_US: u64 = 86_400_000_000;
/// How long a token is good if nothing is said.
const DEFAULT_US: u64 = 365 * DAY_US;
/// How long at most.
const MOST_US: u64 = 1_098 * DAY_US;

/// The use cases of service tokens. Clones are the same.
#[derive(Clone)]
pub struct ServiceTokens(Arc<Inner>);

struct Inner {
    store: Arc<dyn KeysStore>,
    minter: Minter,
    authenticator: Authenticator,
    clock: Clock,
    random: Random,
    /// Tokens are made one after the other: each is written with the key that signs it, so two at once would fail each other, and of
    /// many some would fail too often. Those of other replicas are seen by the version of that key.
    turn: Mutex<()>,
}

/// What token is asked for.
#[derive(Clone, Debug)]
pub struct ServiceTokenRequest {
    /// Its name.
    pub name: String,
    /// The organization that it is for; empty for all of them, or that of the caller.
    pub organization_id: String,
    /// Until when it is to be good, Unix microseconds; none for a year.
    pub expires_us: Option<u64>,
}

/// A token that was made.
#[derive(Clone)]
pub struct NewServiceToken {
    /// What lists show.
    pub row: ServiceToken,
    /// The JWT, shown this once.
    pub token: String,
}

/// Without the token.
impl fmt::Debug for NewServiceToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewServiceToken").field("row", &self.row).finish_non_exhaustive()
    }
}

impl ServiceTokens {
    /// Keeps them in `store`; those that are revoked are refused by `authenticator` at once.
    #[must_use]
    pub fn new(
        store: Arc<dyn KeysStore>,
        minter: Minter,
        authenticator: Authenticator,
        (clock, random): (Clock, Random),
    ) -> Self {
        Self(Arc::new(Inner { store, minter, authenticator, clock, random, turn: Mutex::new(()) }))
    }

    /// Makes a token for a backend.
    ///
    /// # Errors
    ///
    /// [`KeysError::OrganizationNotFound`].
    pub async fn create(
        &self,
        caller: &Caller,
        asked: &ServiceTokenRequest,
        origin: &RequestOrigin,
        keep: &Keep<NewServiceToken>,
    ) -> Result<NewServiceToken, KeysError> {
        let inner = &self.0;
        let now_us = inner.clock.now_us();
        let mut violations = Violations::default();
        names::name("name", &asked.name, &mut violations);
        let expires_us = asked.expires_us.unwrap_or(now_us + DEFAULT_US);
        if expires_us <= now_us || expires_us > now_us + MOST_US {
            violations.add("expires_at_ms", "must be later than now, and at most in 1,098 days");
        }
        names::all_good(violations)?;
        let organization_id = inner.organization(caller, &asked.organization_id).await?;
        let _turn = inner.turn.lock().await;
        until_written(|| async {
            let row = ServiceToken {
                id: ServiceTokenId(uuid_v7(now_us, &inner.random)),
                name: asked.name.clone(),
                organization_id,
                created_us: now_us,
                created_by: super::sessions::account(caller).ok(),
                expires_us,
                revoked_us: None,
                version: 0,
            };
            let signer = inner.minter.fresh_signer().await?;
            let token = inner.minter.service_token(&signer, &row)?;
            // A key that is retired at the same time has to be listed for as long as this token lasts.
            let changes = signer.still_signs().into_iter().chain([Change::ServiceToken(row.clone())]);
            let event = inner.event(caller, origin, now_us, Action::ServiceTokenCreate, &row);
            let made = NewServiceToken { row, token };
            let write = Write {
                at_us: now_us,
                changes: changes.collect(),
                events: vec![event],
                idempotency: keep.record(&made, now_us),
                ..Write::default()
            };
            inner.store.write(&write).await?;
            Ok(made)
        })
        .await
    }

    /// Service tokens, the newest first; the first `limit` after the cursor.
    ///
    /// # Errors
    ///
    /// [`KeysError::OrganizationNotFound`].
    pub async fn list(
        &self,
        caller: &Caller,
        organization: &str,
        after: Option<ServiceTokenId>,
        limit: u32,
    ) -> Result<Vec<ServiceToken>, KeysError> {
        let organization = self.0.organization(caller, organization).await?;
        Ok(self.0.store.service_tokens(organization, after, limit).await?)
    }

    /// Every token that is revoked and would not have expired yet.
    ///
    /// # Errors
    ///
    /// What the store says.
    pub async fn revoked(&self) -> Result<Vec<ServiceTokenId>, KeysError> {
        Ok(self.0.store.revoked_service_tokens(self.0.clock.now_us()).await?)
    }

    /// Revokes a token: this replica refuses it at once, others when the feed has told them. One that is revoked stays as it is.
    ///
    /// # Errors
    ///
    /// [`KeysError::ServiceTokenNotFound`].
    pub async fn revoke(
        &self,
        caller: &Caller,
        id: &str,
        origin: &RequestOrigin,
        keep: &Keep<ServiceToken>,
    ) -> Result<ServiceToken, KeysError> {
        let inner = &self.0;
        let id = names::id("service_token_id", id)?;
        let revoked = until_written(|| async {
            let found = inner.store.service_token(id).await?;
            let is_theirs = |row: &ServiceToken| match row.organization_id {
                Some(organization) => caller.may_touch(organization.0),
                None => caller.organization.is_none(),
            };
            let row = found.filter(is_theirs).ok_or(KeysError::ServiceTokenNotFound)?;
            let now_us = inner.clock.now_us();
            let mut write = Write { at_us: now_us, ..Write::default() };
            let mut revoked = row.clone();
            if row.revoked_us.is_none() {
                revoked.revoked_us = Some(now_us);
                write.changes.push(Change::ServiceToken(revoked.clone()));
                write.feed.push(told(&row));
                write.events.push(inner.event(caller, origin, now_us, Action::ServiceTokenRevoke, &row));
            }
            write.idempotency = keep.record(&revoked, now_us);
            inner.store.write(&write).await?;
            Ok(revoked)
        })
        .await?;
        inner.authenticator.revoke(revoked.id.to_string());
        Ok(revoked)
    }

    /// Refuses a token here that was revoked, perhaps by another replica or before this one was started.
    ///
    /// # Errors
    ///
    /// The id is none.
    pub fn put_in_force(&self, revoked: &str) -> Result<(), KeysError> {
        let id: ServiceTokenId = names::id("service_token_id", revoked)?;
        self.0.authenticator.revoke(id.to_string());
        Ok(())
    }
}

fn told(row: &ServiceToken) -> FeedEntry {
    FeedEntry {
        organization: row.organization_id,
        generation: 0,
        key: None,
        new_hashes: Vec::new(),
        imported: false,
        revoked_service_token: Some(row.id),
    }
}

impl Inner {
    /// The organization that is meant, which has to be there; none for all of them.
    async fn organization(&self, caller: &Caller, text: &str) -> Result<Option<OrganizationId>, KeysError> {
        if text.is_empty() && caller.role == Role::Admin {
            return Ok(None);
        }
        let id = names::organization(caller, text)?;
        self.store.organization(id).await?.ok_or(KeysError::OrganizationNotFound)?;
        Ok(Some(id))
    }

    fn event(
        &self,
        caller: &Caller,
        origin: &RequestOrigin,
        at_us: u64,
        action: Action,
        row: &ServiceToken,
    ) -> Event {
        let id = (uuid_v7(at_us, &self.random), at_us);
        let resource = (ResourceType::ServiceToken, row.id.to_string());
        let event = origin.event(id, Actor::caller(caller), action, resource);
        Event { organization_id: row.organization_id, ..event }
    }
}

#[cfg(test)]
mod tests;
