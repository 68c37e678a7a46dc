//! Organizations: made, changed, listed.

use serde_json::Value;

use crate::{
    changes::{By, Changes, Turn, feed_entry, raise_generation},
    domain::{Action, Organization, OrganizationId, OrganizationStatus, ResourceType},
    error::{KeysError, until_written},
    idempotency::Keep,
    store::{Change, Write},
};

/// What is done with organizations. Clones are the same.
#[derive(Clone)]
pub struct Organizations {
    changes: Changes,
}

/// What is to be changed; what is absent stays.
#[derive(Clone, Debug, Default)]
pub struct OrganizationUpdate {
    /// 1 to 128 characters.
    pub name: Option<String>,
    /// Name of a plan of the rate-limit service.
    pub plan: Option<String>,
    /// Whether it may do anything.
    pub status: Option<OrganizationStatus>,
    /// Tokens a calendar month; 0 for no such quota.
    pub monthly_quota: Option<u64>,
    /// The version that is meant; whichever if absent.
    pub etag: Option<String>,
}

impl Organizations {
    /// Works on what `changes` writes.
    #[must_use]
    pub fn new(changes: Changes) -> Self {
        Self { changes }
    }

    /// Makes an organization without members.
    ///
    /// # Errors
    ///
    /// What the store says.
    pub async fn create(
        &self,
        by: &By,
        name: String,
        plan: String,
        keep: Keep<Organization>,
    ) -> Result<Organization, KeysError> {
        let now_us = self.changes.now_us();
        let id = OrganizationId(self.changes.id(now_us));
        let organization = Organization {
            id,
            name,
            plan,
            status: OrganizationStatus::Active,
            monthly_quota: 0,
            generation: 0,
            created_us: now_us,
            changed_us: now_us,
            version: 0,
        };
        let created = Organization { version: 1, ..organization.clone() };
        let resource = (Action::OrganizationCreate, ResourceType::Organization, id.0);
        let details = [("name", created.name.clone().into()), ("plan", created.plan.clone().into())];
        let write = Write {
            at_us: now_us,
            changes: vec![Change::Organization(organization)],
            feed: Vec::new(),
            events: vec![self.changes.event(by, now_us, id, resource, details)],
            idempotency: keep.record(&created, now_us),
            ..Write::default()
        };
        self.changes.commit(write, None).await?;
        Ok(created)
    }

    /// An organization.
    ///
    /// # Errors
    ///
    /// There is none of this id.
    pub async fn get(&self, id: OrganizationId) -> Result<Organization, KeysError> {
        self.changes.organization(id).await
    }

    /// Those whose names contain `search`, by name: at most `limit` of those after `after`.
    ///
    /// # Errors
    ///
    /// What the store says.
    pub async fn list(
        &self,
        search: &str,
        after: Option<(String, OrganizationId)>,
        limit: u32,
    ) -> Result<Vec<Organization>, KeysError> {
        Ok(self.changes.store().organizations(search, after, limit).await?)
    }

    /// Changes an organization; for the next check of its keys it is what it is now.
    ///
    /// # Errors
    ///
    /// There is none of this id, or it is not the version that is meant.
    pub async fn update(
        &self,
        by: &By,
        id: OrganizationId,
        update: OrganizationUpdate,
        keep: Keep<Organization>,
    ) -> Result<Organization, KeysError> {
        let turn = self.changes.turn(id).await;
        until_written(|| self.try_update(by, &turn, &update, &keep)).await
    }

    async fn try_update(
        &self,
        by: &By,
        turn: &Turn,
        update: &OrganizationUpdate,
        keep: &Keep<Organization>,
    ) -> Result<Organization, KeysError> {
        let id = turn.organization;
        let mut organization = self.changes.organization(id).await?;
        let etag = organization.version.to_string();
        if update.etag.as_ref().is_some_and(|meant| *meant != etag) {
            return Err(KeysError::EtagMismatch(etag));
        }
        let now_us = self.changes.now_us();
        let details = apply(&mut organization, update);
        let resource = (Action::OrganizationUpdate, ResourceType::Organization, id.0);
        let mut write = Write {
            at_us: now_us,
            events: vec![self.changes.event(by, now_us, id, resource, details)],
            ..Write::default()
        };
        raise_generation(&mut write, &mut organization, feed_entry(id));
        write.idempotency = keep.record(&organization, now_us);
        self.changes.commit_in(turn, write, Some(organization.generation)).await?;
        Ok(organization)
    }

    /// Puts everything in force once more that was written of an organization until now, since whoever wrote it may have been stopped
    /// before it was in force.
    ///
    /// # Errors
    ///
    /// There is none of this id.
    pub async fn put_in_force(&self, id: OrganizationId) -> Result<(), KeysError> {
        self.changes.put_in_force(id).await
    }
}

/// Changes it, and tells what is another than before.
fn apply(organization: &mut Organization, update: &OrganizationUpdate) -> Vec<(&'static str, Value)> {
    let OrganizationUpdate { name, plan, status, monthly_quota, etag: _ } = update;
    let mut details = Vec::new();
    if let Some(name) = name.as_ref().filter(|name| **name != organization.name) {
        details.push(("name", Value::from(name.as_str())));
        organization.name.clone_from(name);
    }
    if let Some(plan) = plan.as_ref().filter(|plan| **plan != organization.plan) {
        details.push(("plan_before", Value::from(organization.plan.as_str())));
        details.push(("plan", Value::from(plan.as_str())));
        organization.plan.clone_from(plan);
    }
    if let Some(status) = status.filter(|status| *status != organization.status) {
        let word = match status {
            OrganizationStatus::Active => "active",
            OrganizationStatus::Suspended => "suspended",
        };
        details.push(("status", Value::from(word)));
        organization.status = status;
    }
    if let Some(quota) = monthly_quota.filter(|quota| *quota != organization.monthly_quota) {
        details.push(("monthly_quota", Value::from(quota)));
        organization.monthly_quota = quota;
    }
    details
}
