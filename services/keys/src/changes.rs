//! What changes have in common: they are written, then put in force.

use std::sync::{Arc, PoisonError};

use serde_json::Value;
use tidegate_chassis::clock::{Clock, Random, uuid_v7};
use tokio::{
    runtime::Handle,
    sync::{Mutex, OwnedMutexGuard},
};
use uuid::Uuid;

use crate::{
    domain::{Action, Event, Organization, OrganizationId, ResourceType},
    error::KeysError,
    fence::Fences,
    hashes::KnownHashes,
    origin::{Actor, RequestOrigin},
    peppers::StoredHash,
    store::{Change, FeedEntry, KeysStore, Write},
};

/// Who wants something done, and from where.
#[derive(Clone, Debug)]
pub struct By {
    /// Who.
    pub actor: Actor,
    /// From where.
    pub origin: RequestOrigin,
}

/// Writes changes and puts them in force. Clones are the same.
#[derive(Clone)]
pub struct Changes(Arc<Inner>);

struct Inner {
    store: Arc<dyn KeysStore>,
    clock: Clock,
    random: Random,
    hashes: KnownHashes,
    fences: Fences,
    turns: [Arc<Mutex<()>>; TURNS],
    runtime: Handle,
}

/// While it lasts, nobody else changes the organization in this process. Clones are the same. It ends with what is written in it: others
/// need not wait until that is in force.
#[derive(Clone)]
pub struct Turn {
    /// Whose it is.
    pub organization: OrganizationId,
    held: Arc<std::sync::Mutex<Option<OwnedMutexGuard<()>>>>,
}

impl Turn {
    /// Lets the next one change the organization.
    pub fn end(&self) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// Organizations that have the same turn change one after the other. There are so many that those of different organizations seldom
/// meet.
const TURNS: usize = 64;

impl Changes {
    /// Changes what `store` keeps. Called on the runtime on which changes are finished that somebody waits for no more.
    #[must_use]
    pub fn new(
        store: Arc<dyn KeysStore>,
        hashes: KnownHashes,
        fences: Fences,
        (clock, random): (Clock, Random),
    ) -> Self {
        let turns = std::array::from_fn(|_| Arc::default());
        let runtime = Handle::current();
        Self(Arc::new(Inner { store, clock, random, hashes, fences, turns, runtime }))
    }

    /// Where everything is read.
    #[must_use]
    pub fn store(&self) -> &dyn KeysStore {
        self.0.store.as_ref()
    }

    /// Unix microseconds.
    #[must_use]
    pub fn now_us(&self) -> u64 {
        self.0.clock.now_us()
    }

    /// A new id.
    #[must_use]
    pub fn id(&self, now_us: u64) -> Uuid {
        uuid_v7(now_us, &self.0.random)
    }

    /// Waits until no other change of the organization is under way in this process, so that they do not fail each other. Those of other
    /// replicas are seen by the versions of rows.
    pub async fn turn(&self, organization: OrganizationId) -> Turn {
        // The last bits of a UUIDv7 are random.
        let turn = organization.0.as_u128() % TURNS as u128;
        let turn = &self.0.turns[usize::try_from(turn).expect("fewer than 64")];
        let held = Some(Arc::clone(turn).lock_owned().await);
        Turn { organization, held: Arc::new(std::sync::Mutex::new(held)) }
    }

    /// An organization that there has to be.
    ///
    /// # Errors
    ///
    /// [`KeysError::OrganizationNotFound`], or what the store says.
    pub async fn organization(&self, id: OrganizationId) -> Result<Organization, KeysError> {
        self.store().organization(id).await?.ok_or(KeysError::OrganizationNotFound)
    }

    /// Writes a change, and puts it in force: once this returns, the next use of a key of the organization that is fenced is
    /// decided by what was written. It goes on when its caller is gone.
    ///
    /// # Errors
    ///
    /// What the store says. That a rate-limit service cannot be told is no error: it is told later.
    pub async fn commit(&self, write: Write, fence: Option<(OrganizationId, u64)>) -> Result<(), KeysError> {
        self.finish(write, None, fence).await
    }

    /// As [`Self::commit`], of a change of the organization whose turn it is, which is at this generation then if that is raised. The
    /// turn ends as soon as the change is written.
    ///
    /// # Errors
    ///
    /// As [`Self::commit`].
    pub async fn commit_in(
        &self,
        turn: &Turn,
        write: Write,
        generation: Option<u64>,
    ) -> Result<(), KeysError> {
        let fence = generation.map(|generation| (turn.organization, generation));
        self.finish(write, Some(turn.clone()), fence).await
    }

    async fn finish(
        &self,
        write: Write,
        turn: Option<Turn>,
        fence: Option<(OrganizationId, u64)>,
    ) -> Result<(), KeysError> {
        let inner = Arc::clone(&self.0);
        let finished = self.0.runtime.spawn(async move {
            inner.store.write(&write).await?;
            let new_hashes = write.feed.iter().flat_map(|entry| &entry.new_hashes);
            inner.hashes.add(new_hashes);
            if let Some(turn) = turn {
                turn.end();
            }
            if let Some((organization, generation)) = fence {
                inner.fences.raise(organization, generation).await;
            }
            Ok(())
        });
        finished.await.map_err(|error| KeysError::Internal(format!("a change was not finished: {error}")))?
    }

    /// Whether a key with one of these hashes may be there: it is not if another replica made it within the last moments.
    #[must_use]
    pub fn may_have(&self, hashes: &[StoredHash]) -> bool {
        self.0.hashes.may_have(hashes)
    }

    /// Puts everything in force once more that was written of an organization before this was called.
    ///
    /// # Errors
    ///
    /// As [`Self::organization`].
    pub async fn put_in_force(&self, organization: OrganizationId) -> Result<(), KeysError> {
        let Organization { generation, .. } = self.organization(organization).await?;
        self.0.fences.raise(organization, generation).await;
        Ok(())
    }

    /// An event for the audit service.
    #[must_use]
    pub fn event(
        &self,
        by: &By,
        at_us: u64,
        organization: OrganizationId,
        (action, resource_type, resource_id): (Action, ResourceType, Uuid),
        details: impl IntoIterator<Item = (&'static str, Value)>,
    ) -> Event {
        let resource = (resource_type, resource_id.to_string());
        let event = by.origin.event((self.id(at_us), at_us), by.actor.clone(), action, resource);
        let details = details.into_iter().map(|(name, value)| (name.to_owned(), value));
        Event { organization_id: Some(organization), details: details.collect(), ..event }
    }
}

/// Raises the generation of an organization as part of a write: what replicas remember of it and its keys is over.
pub(crate) fn raise_generation(write: &mut Write, organization: &mut Organization, entry: FeedEntry) {
    organization.generation += 1;
    write.changes.push(Change::Organization(organization.clone()));
    write.feed.push(FeedEntry { generation: organization.generation, ..entry });
    // As the store has it then.
    organization.version += 1;
    organization.changed_us = write.at_us;
}

/// What the feed says of an organization as long as nothing is added.
pub(crate) fn feed_entry(organization: OrganizationId) -> FeedEntry {
    FeedEntry {
        organization: Some(organization),
        generation: 0,
        key: None,
        new_hashes: Vec::new(),
        imported: false,
        revoked_service_token: None,
    }
}
