//! The store on either database: what is the same of both.

use async_trait::async_trait;
use uuid::Uuid;

use super::{
    Feed, IdempotencyRecord, KeyFilter, KeyStatus, KeysStore, StoreError, Usage, UsageEntry, Write,
    cells::Cells,
    database::{Access, Database, Tenant},
    error::sqlx_error,
    rows,
    sql::{Sql, Value, pattern, values},
    statements as sql,
    words::Word,
};
use crate::domain::{
    ApiKey, CreditAccount, Email, Event, ExternalIdentity, FamilyId, Invitation, InvitationId, KeyId,
    LedgerEntry, LineageId, Membership, Organization, OrganizationId, PasswordReset, RefreshFamily,
    RefreshToken, ServiceToken, ServiceTokenId, SigningKey, User, UserId,
};

/// Keeps everything in a database.
#[derive(Debug)]
pub(super) struct SqlStore<D>(pub(super) D);

impl<D: Database> SqlStore<D> {
    pub(super) async fn all<T>(
        &self,
        tenant: Tenant,
        sql: Sql,
        values: Vec<Value>,
        read: impl Fn(&mut Cells<'_>) -> Result<T, StoreError> + Send,
    ) -> Result<Vec<T>, StoreError> {
        let mut transaction = self.0.begin(tenant, Access::Read).await.map_err(sqlx_error)?;
        let rows = D::rows(&mut transaction, sql, values).await.map_err(sqlx_error)?;
        // It is the end of it: what is dropped is rolled back behind the answer.
        rows.iter().map(|row| read(&mut Cells::of(row))).collect()
    }

    pub(super) async fn one<T>(
        &self,
        tenant: Tenant,
        sql: Sql,
        values: Vec<Value>,
        read: impl Fn(&mut Cells<'_>) -> Result<T, StoreError> + Send,
    ) -> Result<Option<T>, StoreError> {
        Ok(self.all(tenant, sql, values, read).await?.into_iter().next())
    }

    /// The only cell of the only row.
    async fn number(&self, tenant: Tenant, sql: Sql, values: Vec<Value>) -> Result<u64, StoreError> {
        let found = self.one(tenant, sql, values, rows::number).await?;
        found.ok_or_else(|| StoreError::Corrupt("no number".to_owned()))
    }
}

/// A cell after all ids, for lists from the highest on.
fn below(after: Option<Uuid>) -> Uuid {
    after.unwrap_or(Uuid::max())
}

/// A cell before all ids.
fn above(after: Option<Uuid>) -> Uuid {
    after.unwrap_or(Uuid::nil())
}

/// Cells before all times and ids.
fn later(after: Option<(u64, Uuid)>) -> (Value, Uuid) {
    match after {
        Some((at_us, id)) => (Value::from(at_us), id),
        None => (Value::from(-1_i64), Uuid::nil()),
    }
}

impl Word for KeyStatus {
    const ALL: &'static [Self] = &[Self::Active, Self::Disabled, Self::Expired, Self::Revoked];

    fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Disabled => "disabled",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

#[async_trait]
impl<D: Database> KeysStore for SqlStore<D> {
    async fn write(&self, write: &Write) -> Result<u64, StoreError> {
        self.write_all(write).await
    }

    async fn organization(&self, id: OrganizationId) -> Result<Option<Organization>, StoreError> {
        self.one(Tenant::One(id), sql::ORGANIZATION, values![id.0], rows::organization).await
    }

    async fn organizations(
        &self,
        search: &str,
        after: Option<(String, OrganizationId)>,
        limit: u32,
    ) -> Result<Vec<Organization>, StoreError> {
        let Some(pattern) = pattern(search) else { return Ok(Vec::new()) };
        let (name, id) = after.unwrap_or((String::new(), OrganizationId(Uuid::nil())));
        let values = values![pattern, name, id.0, limit];
        self.all(Tenant::All, sql::ORGANIZATIONS, values, rows::organization).await
    }

    async fn user(&self, id: UserId) -> Result<Option<User>, StoreError> {
        self.one(Tenant::Nobody, sql::USER, values![id.0], rows::user).await
    }

    async fn user_by_email(&self, email: &Email) -> Result<Option<User>, StoreError> {
        self.one(Tenant::Nobody, sql::USER_BY_EMAIL, values![email.as_str()], rows::user).await
    }

    async fn user_by_external(&self, identity: &ExternalIdentity) -> Result<Option<User>, StoreError> {
        let values = values![&identity.issuer, &identity.subject];
        self.one(Tenant::Nobody, sql::USER_BY_EXTERNAL, values, rows::user).await
    }

    async fn has_admin(&self) -> Result<bool, StoreError> {
        Ok(self.number(Tenant::Nobody, sql::HAS_ADMIN, values![]).await? > 0)
    }

    async fn membership(
        &self,
        organization: OrganizationId,
        user: UserId,
    ) -> Result<Option<Membership>, StoreError> {
        let values = values![organization.0, user.0];
        self.one(Tenant::One(organization), sql::MEMBERSHIP, values, rows::membership).await
    }

    async fn memberships_of(&self, user: UserId) -> Result<Vec<(Membership, Organization)>, StoreError> {
        let both = |cells: &mut Cells<'_>| Ok((rows::membership(cells)?, rows::organization(cells)?));
        self.all(Tenant::All, sql::MEMBERSHIPS_OF, values![user.0], both).await
    }

    async fn members(
        &self,
        organization: OrganizationId,
        after: Option<(u64, UserId)>,
        limit: u32,
    ) -> Result<Vec<(Membership, User)>, StoreError> {
        let (at, id) = later(after.map(|(at_us, user)| (at_us, user.0)));
        let values = values![organization.0, at, id, limit];
        let both = |cells: &mut Cells<'_>| Ok((rows::membership(cells)?, rows::user(cells)?));
        self.all(Tenant::One(organization), sql::MEMBERS, values, both).await
    }

    async fn count_tenant_admins(&self, organization: OrganizationId) -> Result<u64, StoreError> {
        let values = values![organization.0, tidegate_chassis::auth::Role::TenantAdmin.word()];
        self.number(Tenant::One(organization), sql::COUNT_MEMBERS, values).await
    }

    async fn invitation_by_token(&self, token_hash: &[u8; 32]) -> Result<Option<Invitation>, StoreError> {
        self.one(Tenant::All, sql::INVITATION_BY_TOKEN, values![token_hash], rows::invitation).await
    }

    async fn invitation(
        &self,
        organization: OrganizationId,
        id: InvitationId,
    ) -> Result<Option<Invitation>, StoreError> {
        let values = values![organization.0, id.0];
        self.one(Tenant::One(organization), sql::INVITATION, values, rows::invitation).await
    }

    async fn invitations(
        &self,
        organization: OrganizationId,
        now_us: u64,
        after: Option<InvitationId>,
        limit: u32,
    ) -> Result<Vec<Invitation>, StoreError> {
        let values = values![organization.0, now_us, above(after.map(|id| id.0)), limit];
        self.all(Tenant::One(organization), sql::INVITATIONS, values, rows::invitation).await
    }

    async fn password_reset(&self, token_hash: &[u8; 32]) -> Result<Option<PasswordReset>, StoreError> {
        self.one(Tenant::Nobody, sql::PASSWORD_RESET, values![token_hash], rows::password_reset).await
    }

    async fn refresh_token(
        &self,
        token_hash: &[u8; 32],
    ) -> Result<Option<(RefreshToken, RefreshFamily)>, StoreError> {
        let both = |cells: &mut Cells<'_>| Ok((rows::refresh_token(cells)?, rows::family(cells)?));
        self.one(Tenant::All, sql::REFRESH_TOKEN, values![token_hash], both).await
    }

    async fn refresh_family(&self, id: FamilyId) -> Result<Option<RefreshFamily>, StoreError> {
        self.one(Tenant::All, sql::REFRESH_FAMILY, values![id.0], rows::family).await
    }

    async fn living_families(
        &self,
        user: UserId,
        organization: Option<OrganizationId>,
    ) -> Result<Vec<RefreshFamily>, StoreError> {
        match organization {
            Some(one) => {
                let values = values![user.0, one.0];
                self.all(Tenant::One(one), sql::LIVING_FAMILIES_IN, values, rows::family).await
            }
            None => self.all(Tenant::All, sql::LIVING_FAMILIES, values![user.0], rows::family).await,
        }
    }

    async fn api_key(&self, organization: OrganizationId, id: KeyId) -> Result<Option<ApiKey>, StoreError> {
        let values = values![organization.0, id.0];
        self.one(Tenant::One(organization), sql::API_KEY, values, rows::api_key).await
    }

    async fn api_keys(
        &self,
        organization: OrganizationId,
        filter: &KeyFilter,
        after: Option<KeyId>,
        limit: u32,
    ) -> Result<Vec<ApiKey>, StoreError> {
        let Some(pattern) = pattern(&filter.search) else { return Ok(Vec::new()) };
        let (status, at_us) = filter.status.map_or(("", 0), |(status, at_us)| (status.word(), at_us));
        let below = below(after.map(|id| id.0));
        let mut values = values![organization.0, below, pattern, status, at_us, limit];
        let mut statement = sql::API_KEYS;
        if let Some(lineage) = filter.lineage {
            values.push(lineage.0.into());
            statement = sql::API_KEYS_OF_LINEAGE;
        }
        self.all(Tenant::One(organization), statement, values, rows::api_key).await
    }

    async fn key_by_hash(&self, hashes: &[[u8; 32]]) -> Result<Option<(ApiKey, Organization)>, StoreError> {
        let both = |cells: &mut Cells<'_>| Ok((rows::api_key(cells)?, rows::organization(cells)?));
        // There are as many as peppers: seldom more than two.
        for pair in hashes.chunks(2) {
            let values = pair.first().zip(pair.last()).map(|(one, other)| values![one, other]);
            let Some(values) = values else { continue };
            let found = self.one(Tenant::All, sql::KEY_BY_HASH, values, both).await?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    async fn key_hashes(&self, after: Option<[u8; 32]>, limit: u32) -> Result<Vec<[u8; 32]>, StoreError> {
        let after = after.map_or_else(Vec::new, |hash| hash.to_vec());
        self.all(Tenant::All, sql::KEY_HASHES, values![after, limit], rows::hash).await
    }

    async fn expiring_keys(
        &self,
        now_us: u64,
        before_us: u64,
        limit: u32,
    ) -> Result<Vec<ApiKey>, StoreError> {
        let values = values![now_us, before_us, limit];
        self.all(Tenant::All, sql::EXPIRING_KEYS, values, rows::api_key).await
    }

    async fn usage(
        &self,
        organization: OrganizationId,
        key: KeyId,
        from_day: &str,
        to_day: &str,
    ) -> Result<Vec<Usage>, StoreError> {
        let values = values![organization.0, key.0, from_day, to_day];
        self.all(Tenant::One(organization), sql::USAGE, values, rows::usage).await
    }

    async fn add_usage(&self, report: Uuid, at_us: u64, entries: &[UsageEntry]) -> Result<bool, StoreError> {
        self.count_usage(report, at_us, entries).await
    }

    async fn credits(
        &self,
        organization: OrganizationId,
        lineage: LineageId,
    ) -> Result<Option<CreditAccount>, StoreError> {
        let values = values![organization.0, lineage.0];
        self.one(Tenant::One(organization), sql::CREDITS, values, rows::credits).await
    }

    async fn ledger_entry(
        &self,
        organization: OrganizationId,
        id: Uuid,
    ) -> Result<Option<LedgerEntry>, StoreError> {
        let values = values![organization.0, id];
        self.one(Tenant::One(organization), sql::LEDGER_ENTRY, values, rows::ledger_entry).await
    }

    async fn ledger(
        &self,
        organization: OrganizationId,
        lineage: LineageId,
        after: Option<(u64, Uuid)>,
        limit: u32,
    ) -> Result<Vec<LedgerEntry>, StoreError> {
        let (at, id) = later(after);
        let values = values![organization.0, lineage.0, at, id, limit];
        self.all(Tenant::One(organization), sql::LEDGER, values, rows::ledger_entry).await
    }

    async fn service_token(&self, id: ServiceTokenId) -> Result<Option<ServiceToken>, StoreError> {
        self.one(Tenant::All, sql::SERVICE_TOKEN, values![id.0], rows::service_token).await
    }

    async fn service_tokens(
        &self,
        organization: Option<OrganizationId>,
        after: Option<ServiceTokenId>,
        limit: u32,
    ) -> Result<Vec<ServiceToken>, StoreError> {
        let mut values = values![below(after.map(|id| id.0)), limit];
        let (tenant, statement) = match organization {
            Some(one) => {
                values.push(one.0.into());
                (Tenant::One(one), sql::SERVICE_TOKENS_OF)
            }
            None => (Tenant::All, sql::SERVICE_TOKENS),
        };
        self.all(tenant, statement, values, rows::service_token).await
    }

    async fn revoked_service_tokens(&self, now_us: u64) -> Result<Vec<ServiceTokenId>, StoreError> {
        let id = |cells: &mut Cells<'_>| cells.id().map(ServiceTokenId);
        self.all(Tenant::All, sql::REVOKED_SERVICE_TOKENS, values![now_us], id).await
    }

    async fn signing_keys(&self) -> Result<Vec<SigningKey>, StoreError> {
        self.all(Tenant::Nobody, sql::SIGNING_KEYS, values![], rows::signing_key).await
    }

    async fn idempotent(
        &self,
        caller: &str,
        key: &str,
        now_us: u64,
    ) -> Result<Option<IdempotencyRecord>, StoreError> {
        self.one(Tenant::Nobody, sql::IDEMPOTENT, values![caller, key, now_us], rows::idempotency).await
    }

    async fn revision(&self) -> Result<u64, StoreError> {
        self.number(Tenant::Nobody, sql::REVISION, values![]).await
    }

    async fn feed(&self, after: u64, limit: u32) -> Result<Feed, StoreError> {
        let mut entries =
            self.all(Tenant::All, sql::FEED, values![after, u64::from(limit) + 1], rows::feed_entry).await?;
        if entries.len() > limit as usize {
            // The last one says where to cut: of its revision there may be more.
            let last = entries.last().map_or(0, |(revision, _)| *revision);
            entries.retain(|(revision, _)| *revision < last);
            if entries.is_empty() {
                entries = self.all(Tenant::All, sql::FEED_OF_ONE, values![last], rows::feed_entry).await?;
            }
        }
        // Asked last: what was forgotten in between is said to be missing, even if it was still found.
        let complete_after = self.number(Tenant::Nobody, sql::COMPLETE_AFTER, values![]).await?;
        Ok(Feed { entries, complete_after })
    }

    async fn pushed(&self) {
        self.0.pushed().await;
    }

    async fn outbox(&self, after: Option<Uuid>, limit: u32) -> Result<Vec<Event>, StoreError> {
        self.all(Tenant::All, sql::OUTBOX, values![above(after), limit], rows::event).await
    }

    async fn remove_from_outbox(&self, ids: &[Uuid]) -> Result<(), StoreError> {
        self.remove_events(ids).await
    }

    async fn forget(&self, now_us: u64) -> Result<(), StoreError> {
        self.forget_all(now_us).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.revision().await.map(|_| ())
    }
}
