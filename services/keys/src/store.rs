//! Where organizations, accounts and keys live. Every backend passes the same suite, `store::conformance`.
//!
//! Use cases read rows, decide what is to become of them, and write all of it at once: rows, feed, events and the record of an
//! idempotency key are one transaction. A row that was changed since it was read fails the whole, and the use case begins
//! anew. So nothing is half done, whenever the process is killed.

mod cells;
mod changes;
mod config;
#[cfg(test)]
pub(crate) mod conformance;
mod database;
mod error;
mod postgres;
mod rows;
mod sql;
mod sql_store;
mod sqlite;
mod statements;
mod words;
mod writes;

use std::sync::Arc;

use async_trait::async_trait;
use tidegate_chassis::config::Environment;
use tidegate_migrations::Dialect;
use uuid::Uuid;

pub use self::{
    config::DatabaseConfig,
    error::{StoreError, Unique},
};
use self::{postgres::Postgres, sql_store::SqlStore, sqlite::Sqlite};
use crate::domain::{
    ApiKey, CreditAccount, Email, EndReason, Event, ExternalIdentity, FamilyId, Invitation, InvitationId,
    KeyId, KeySecret, LedgerEntry, LineageId, Membership, Organization, OrganizationId, PasswordReset,
    RefreshFamily, RefreshToken, ServiceToken, ServiceTokenId, SigningKey, User, UserId,
};

/// Connects, and brings the tables up to date if that is wanted.
///
/// # Errors
///
/// The database cannot be reached within `connect_timeout`, or its tables are not those of this release; or this is production,
/// and it is a PostgreSQL where row-level security does not hold for the role that the URL names.
pub async fn open(config: &DatabaseConfig, environment: Environment) -> anyhow::Result<Arc<dyn KeysStore>> {
    Ok(match Dialect::of(config.url.expose())? {
        Dialect::Postgres => Arc::new(SqlStore(Postgres::open(config, environment).await?)),
        Dialect::Sqlite => Arc::new(SqlStore(Sqlite::open(config).await?)),
    })
}

/// Keeps everything the keys service knows.
///
/// What belongs to an organization is asked for with its id, and found only there. Nothing found is `None` or an empty list, never
/// an error.
///
/// # Errors
///
/// Every method: [`StoreError::Unavailable`] if the database cannot be asked, [`StoreError::Corrupt`] if it holds what was not written
/// by this service.
#[async_trait]
pub trait KeysStore: Send + Sync + 'static {
    /// Writes all of it or nothing; it is on disk when this returns. Gives the revision of its feed entries, or the present one if it
    /// has none.
    ///
    /// # Errors
    ///
    /// [`StoreError::Conflict`] if a row is not there in the version that is named, or one of version 0 is there already, or what a
    /// row belongs to is not there; [`StoreError::Taken`] if a value that no two rows may have is there, and of an idempotency key before
    /// anything else. After `Unavailable` it may have been written.
    async fn write(&self, write: &Write) -> Result<u64, StoreError>;

    /// An organization.
    async fn organization(&self, id: OrganizationId) -> Result<Option<Organization>, StoreError>;
    /// Those whose names contain `search` (without regard to ASCII case), by name, then id; the first `limit` after the cursor.
    async fn organizations(
        &self,
        search: &str,
        after: Option<(String, OrganizationId)>,
        limit: u32,
    ) -> Result<Vec<Organization>, StoreError>;

    /// An account.
    async fn user(&self, id: UserId) -> Result<Option<User>, StoreError>;
    /// The account with an address.
    async fn user_by_email(&self, email: &Email) -> Result<Option<User>, StoreError>;
    /// The account that an external issuer knows.
    async fn user_by_external(&self, identity: &ExternalIdentity) -> Result<Option<User>, StoreError>;
    /// Whether there is an account with [`User::is_admin`].
    async fn has_admin(&self) -> Result<bool, StoreError>;

    /// A membership.
    async fn membership(
        &self,
        organization: OrganizationId,
        user: UserId,
    ) -> Result<Option<Membership>, StoreError>;
    /// All of an account with their organizations, in the order of joining.
    async fn memberships_of(&self, user: UserId) -> Result<Vec<(Membership, Organization)>, StoreError>;
    /// Those of an organization with their accounts, in the order of joining, then id; the first `limit` after the cursor.
    async fn members(
        &self,
        organization: OrganizationId,
        after: Option<(u64, UserId)>,
        limit: u32,
    ) -> Result<Vec<(Membership, User)>, StoreError>;
    /// How many members of an organization are [`tidegate_chassis::auth::Role::TenantAdmin`].
    async fn count_tenant_admins(&self, organization: OrganizationId) -> Result<u64, StoreError>;

    /// The invitation with a token.
    async fn invitation_by_token(&self, token_hash: &[u8; 32]) -> Result<Option<Invitation>, StoreError>;
    /// An invitation.
    async fn invitation(
        &self,
        organization: OrganizationId,
        id: InvitationId,
    ) -> Result<Option<Invitation>, StoreError>;
    /// Those that have not ended and expire after `now_us`, by id; the first `limit` after the cursor.
    async fn invitations(
        &self,
        organization: OrganizationId,
        now_us: u64,
        after: Option<InvitationId>,
        limit: u32,
    ) -> Result<Vec<Invitation>, StoreError>;

    /// What a token to set a password is good for.
    async fn password_reset(&self, token_hash: &[u8; 32]) -> Result<Option<PasswordReset>, StoreError>;
    /// A refresh token with its family.
    async fn refresh_token(
        &self,
        token_hash: &[u8; 32],
    ) -> Result<Option<(RefreshToken, RefreshFamily)>, StoreError>;
    /// A family.
    async fn refresh_family(&self, id: FamilyId) -> Result<Option<RefreshFamily>, StoreError>;
    /// The families of an account that have not ended; those for one organization, or all.
    async fn living_families(
        &self,
        user: UserId,
        organization: Option<OrganizationId>,
    ) -> Result<Vec<RefreshFamily>, StoreError>;

    /// A key.
    async fn api_key(&self, organization: OrganizationId, id: KeyId) -> Result<Option<ApiKey>, StoreError>;
    /// Keys, the newest (highest id) first; the first `limit` after the cursor.
    async fn api_keys(
        &self,
        organization: OrganizationId,
        filter: &KeyFilter,
        after: Option<KeyId>,
        limit: u32,
    ) -> Result<Vec<ApiKey>, StoreError>;
    /// The key with the first of these hashes that there is, of whichever organization, and its organization.
    async fn key_by_hash(&self, hashes: &[[u8; 32]]) -> Result<Option<(ApiKey, Organization)>, StoreError>;
    /// All hashes by which keys are found, in their order; the first `limit` after the cursor.
    async fn key_hashes(&self, after: Option<[u8; 32]>, limit: u32) -> Result<Vec<[u8; 32]>, StoreError>;
    /// Keys of all organizations that expire before `before_us` and were not announced, revoked or expired (at `now_us`).
    async fn expiring_keys(&self, now_us: u64, before_us: u64, limit: u32)
    -> Result<Vec<ApiKey>, StoreError>;

    /// How a key was used from one day (`YYYY-MM-DD`) to another, both included: by day, then outcome.
    async fn usage(
        &self,
        organization: OrganizationId,
        key: KeyId,
        from_day: &str,
        to_day: &str,
    ) -> Result<Vec<Usage>, StoreError>;
    /// Adds to what was counted, and sets [`ApiKey::last_used_us`] where it is later; nothing if this report was taken in before. Entries
    /// of keys that are not there (in that organization) are left out. Answers whether it was new.
    async fn add_usage(&self, report: Uuid, at_us: u64, entries: &[UsageEntry]) -> Result<bool, StoreError>;

    /// The account of a lineage.
    async fn credits(
        &self,
        organization: OrganizationId,
        lineage: LineageId,
    ) -> Result<Option<CreditAccount>, StoreError>;
    /// A movement.
    async fn ledger_entry(
        &self,
        organization: OrganizationId,
        id: Uuid,
    ) -> Result<Option<LedgerEntry>, StoreError>;
    /// The movements of a lineage, in the order of time, then id; the first `limit` after the cursor.
    async fn ledger(
        &self,
        organization: OrganizationId,
        lineage: LineageId,
        after: Option<(u64, Uuid)>,
        limit: u32,
    ) -> Result<Vec<LedgerEntry>, StoreError>;

    /// A service token.
    async fn service_token(&self, id: ServiceTokenId) -> Result<Option<ServiceToken>, StoreError>;
    /// Service tokens, the newest first: those of an organization, or of all and none. The first `limit` after the cursor.
    async fn service_tokens(
        &self,
        organization: Option<OrganizationId>,
        after: Option<ServiceTokenId>,
        limit: u32,
    ) -> Result<Vec<ServiceToken>, StoreError>;
    /// Those that are revoked and would not have expired at `now_us`.
    async fn revoked_service_tokens(&self, now_us: u64) -> Result<Vec<ServiceTokenId>, StoreError>;

    /// All keys that sign tokens, the newest first.
    async fn signing_keys(&self) -> Result<Vec<SigningKey>, StoreError>;

    /// What was answered to a request with an idempotency key, unless that is over at `now_us`; then the key is free again.
    async fn idempotent(
        &self,
        caller: &str,
        key: &str,
        now_us: u64,
    ) -> Result<Option<IdempotencyRecord>, StoreError>;

    /// The revision of the feed now: 0 at first.
    async fn revision(&self) -> Result<u64, StoreError>;
    /// What the feed says after a revision, in order: at most `limit` entries, but those of one revision all or none, and those of
    /// the first even if they are more. And the oldest revision after which the feed is still complete.
    async fn feed(&self, after: u64, limit: u32) -> Result<Feed, StoreError>;
    /// Waits until the store tells that the feed has grown. It may tell too often, or never: so it is asked as well, now and then.
    async fn pushed(&self);

    /// Events that were not taken away yet, by id; the first `limit` after the cursor.
    async fn outbox(&self, after: Option<Uuid>, limit: u32) -> Result<Vec<Event>, StoreError>;
    /// Takes events away that the audit service has stored.
    async fn remove_from_outbox(&self, ids: &[Uuid]) -> Result<(), StoreError>;

    /// Forgets what is over: idempotency records, refresh tokens and families, invitations and resets that expired before `now_us`
    /// less 30 days (idempotency records: before `now_us`), reports of use and entries of the feed older than 7 days, and how keys
    /// were used on days 400 days ago. What fails keeps nothing else from being forgotten; of several errors the first is told.
    async fn forget(&self, now_us: u64) -> Result<(), StoreError>;

    /// Whether the database answers.
    async fn ping(&self) -> Result<(), StoreError>;
}

/// What is to become of the database, as one transaction.
#[derive(Clone, Debug, Default)]
pub struct Write {
    /// When it is done: Unix microseconds. For the feed, for what is over by then, and as [`ApiKey::changed_us`],
    /// [`Organization::changed_us`] and [`User::changed_us`], whatever the rows themselves say.
    pub at_us: u64,
    /// What is changed by nobody else until this is written: else it conflicts.
    pub guards: Vec<Guard>,
    /// The account whose families all end, why: whichever there are once the guards hold, but not those of this write.
    pub end_families: Option<(UserId, EndReason)>,
    /// Rows, in an order in which each may refer to those before it.
    pub changes: Vec<Change>,
    /// What replicas are told. A write with any has a revision of its own, and revisions become visible in their order.
    pub feed: Vec<FeedEntry>,
    /// What the audit service is told.
    pub events: Vec<Event>,
    /// What is answered if the request comes again.
    pub idempotency: Option<IdempotencyRecord>,
}

/// A row that a write relies on, and leaves as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// The account of this version.
    User(UserId, u64),
}

/// One row. A row with `version` 0 is new; else it replaces the one of that version, and has the next. To which organization,
/// account or family it belongs is never another.
#[derive(Clone, Debug)]
pub enum Change {
    /// See [`Organization`].
    Organization(Organization),
    /// See [`User`].
    User(User),
    /// See [`Membership`].
    Membership(Membership),
    /// Ends a membership of this version.
    RemoveMembership(Membership),
    /// See [`Invitation`].
    Invitation(Invitation),
    /// See [`PasswordReset`].
    PasswordReset(PasswordReset),
    /// See [`RefreshFamily`].
    RefreshFamily(RefreshFamily),
    /// See [`RefreshToken`].
    RefreshToken(RefreshToken),
    /// See [`ApiKey`]; [`ApiKey::last_used_us`] is left as it is.
    ApiKey(ApiKey),
    /// See [`KeySecret`]: always new.
    KeySecret(KeySecret),
    /// See [`CreditAccount`].
    Credits(CreditAccount),
    /// See [`LedgerEntry`]: always new.
    Ledger(LedgerEntry),
    /// See [`ServiceToken`].
    ServiceToken(ServiceToken),
    /// See [`SigningKey`].
    SigningKey(SigningKey),
}

/// Which keys to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyFilter {
    /// Name or prefix contains this, without regard to ASCII case; empty for all.
    pub search: String,
    /// Those that are so at a time, Unix microseconds.
    pub status: Option<(KeyStatus, u64)>,
    /// Those of this lineage.
    pub lineage: Option<LineageId>,
}

/// What a key is good for. One that is several of these is the first of: revoked, expired, disabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyStatus {
    /// It is accepted.
    Active,
    /// It is switched off.
    Disabled,
    /// Its time is over.
    Expired,
    /// It is revoked.
    Revoked,
}

/// How often a key was used, in one way on one day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// `YYYY-MM-DD`, UTC.
    pub day: String,
    /// The code of the answers.
    pub outcome: String,
    /// How many.
    pub count: u64,
}

/// Some uses of a key that are to be counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageEntry {
    /// The key.
    pub key: KeyId,
    /// Its organization.
    pub organization: OrganizationId,
    /// How, when, how often.
    pub usage: Usage,
    /// The last of them, Unix microseconds.
    pub last_used_us: u64,
}

/// What replicas are told of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedEntry {
    /// The organization of which something changed; none for service tokens that are for all.
    pub organization: Option<OrganizationId>,
    /// Its generation from now on; 0 if that is not what changed.
    pub generation: u64,
    /// The key that changed.
    pub key: Option<KeyId>,
    /// Hashes that are new, so that every replica of this service knows of them.
    pub new_hashes: Vec<[u8; 32]>,
    /// Whether some of them were imported, and so may have been asked for before.
    pub imported: bool,
    /// The service token that was revoked.
    pub revoked_service_token: Option<ServiceTokenId>,
}

/// A part of the feed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Feed {
    /// Entries with their revisions, in order.
    pub entries: Vec<(u64, FeedEntry)>,
    /// After which revision, or a later one, the feed is complete; those before were forgotten.
    pub complete_after: u64,
}

/// What was answered to a request with an idempotency key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyRecord {
    /// Whose key: told apart from those of other callers.
    pub caller: String,
    /// The key.
    pub key: String,
    /// SHA-256 of method and request.
    pub request: [u8; 32],
    /// The answer, sealed under a secret that is not in the database.
    pub sealed_answer: Vec<u8>,
    /// Until when it is kept.
    pub expires_us: u64,
}
