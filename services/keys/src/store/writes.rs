//! What changes the database, each in one transaction.

use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    FeedEntry, StoreError, UsageEntry, Write,
    cells::Cells,
    changes::{END_FAMILIES, Owner, guarded, hexadecimal, json, owner, statement},
    database::{Access, Database, Tenant},
    error::{sqlx_error, stored},
    rows,
    sql::{Sql, Value, values},
    sql_store::SqlStore,
    statements as sql,
    words::Word,
};
use crate::domain::Event;

const DAY_US: u64 = 24 * 60 * 60 * 1_000_000;
/// How long tokens, invitations and keys that sign are kept that have expired.
const KEEP_EXPIRED_US: u64 = 30 * DAY_US;
/// How long it is kept how keys were used on a day: a year, and a month to look back on it.
const KEEP_USAGE_US: u64 = 400 * DAY_US;
/// Rows of usage that are forgotten in one go, which is well within `statement_timeout`.
const USAGE_BATCH: u64 = 2_000;
/// How long the feed and reports of use are kept.
const KEEP_FEED_US: u64 = 7 * DAY_US;

impl<D: Database> SqlStore<D> {
    /// See [`super::KeysStore::write`].
    pub(super) async fn write_all(&self, write: &Write) -> Result<u64, StoreError> {
        let mut transaction = self.0.begin(tenant(write), Access::Write).await.map_err(sqlx_error)?;
        // First: a request that comes twice waits here for its twin, and fails by this and by nothing that its twin did.
        if let Some(record) = &write.idempotency {
            let values = values![
                &record.caller,
                &record.key,
                &record.request,
                &record.sealed_answer,
                record.expires_us,
                write.at_us,
            ];
            let put = D::execute(&mut transaction, sql::PUT_IDEMPOTENCY, values).await.map_err(sqlx_error)?;
            if put == 0 {
                return Err(StoreError::Taken(super::Unique::IdempotencyKey));
            }
        }
        for guard in &write.guards {
            let (sql, values) = guarded(*guard);
            if D::execute(&mut transaction, sql, values).await.map_err(sqlx_error)? == 0 {
                return Err(StoreError::Conflict);
            }
        }
        if let Some((user, reason)) = write.end_families {
            let values = values![user.0, write.at_us, reason.word()];
            D::execute(&mut transaction, END_FAMILIES, values).await.map_err(sqlx_error)?;
        }
        for change in &write.changes {
            let (sql, values) = statement(change, write.at_us)?;
            if D::execute(&mut transaction, sql, values).await.map_err(sqlx_error)? == 0 {
                return Err(StoreError::Conflict);
            }
        }
        for event in &write.events {
            let values = of_event(event)?;
            D::execute(&mut transaction, sql::PUT_EVENT, values).await.map_err(sqlx_error)?;
        }
        // Last: who has a revision is held up by nothing but the commit, and holds up those who want one no longer than that.
        let sql = if write.feed.is_empty() { sql::REVISION } else { sql::ADVANCE };
        let revision = number::<D>(&mut transaction, sql).await?;
        for (entry, position) in write.feed.iter().zip(1_i64..) {
            let values = of_entry(entry, revision, position, write.at_us);
            D::execute(&mut transaction, sql::PUT_FEED, values).await.map_err(sqlx_error)?;
        }
        if !write.feed.is_empty() {
            D::tell(&mut transaction).await.map_err(sqlx_error)?;
        }
        D::commit(transaction).await.map_err(sqlx_error)?;
        Ok(revision)
    }

    /// See [`super::KeysStore::add_usage`].
    pub(super) async fn count_usage(
        &self,
        report: Uuid,
        at_us: u64,
        entries: &[UsageEntry],
    ) -> Result<bool, StoreError> {
        let entries: Vec<_> = entries.iter().map(of_usage).collect();
        let entries = json(&entries)?;
        let mut transaction = self.0.begin(Tenant::All, Access::Write).await.map_err(sqlx_error)?;
        let put = D::execute(&mut transaction, sql::PUT_USAGE_REPORT, values![report, at_us]);
        if put.await.map_err(sqlx_error)? == 0 {
            return Ok(false);
        }
        for sql in [sql::ADD_USAGE, sql::SET_LAST_USED] {
            D::execute(&mut transaction, sql, values![&entries]).await.map_err(gave_way)?;
        }
        D::commit(transaction).await.map_err(gave_way)?;
        Ok(true)
    }

    /// See [`super::KeysStore::remove_from_outbox`].
    pub(super) async fn remove_events(&self, ids: &[Uuid]) -> Result<(), StoreError> {
        let ids: Vec<_> = ids.iter().map(|id| hexadecimal(*id)).collect();
        self.alone(sql::REMOVE_EVENTS, values![json(&ids)?]).await.map(drop)
    }

    /// See [`super::KeysStore::forget`].
    pub(super) async fn forget_all(&self, now_us: u64) -> Result<(), StoreError> {
        let expired_us = now_us.saturating_sub(KEEP_EXPIRED_US);
        let old_us = now_us.saturating_sub(KEEP_FEED_US);
        let steps = [
            (sql::FORGET_IDEMPOTENCY, now_us),
            (sql::FORGET_TOKENS, expired_us),
            (sql::FORGET_FAMILIES, expired_us),
            (sql::FORGET_INVITATIONS, expired_us),
            (sql::FORGET_RESETS, expired_us),
            (sql::FORGET_SERVICE_TOKENS, expired_us),
            (sql::FORGET_SIGNING_KEYS, expired_us),
            (sql::FORGET_REPORTS, old_us),
        ];
        let mut outcome = Ok(());
        // Each by itself: what one holds is not held while another runs, and none waits for one that fails.
        for (sql, before_us) in steps {
            outcome = outcome.and(self.alone(sql, values![before_us]).await.map(drop));
        }
        outcome = outcome.and(self.forget_feed(old_us).await);
        outcome.and(self.forget_usage(now_us.saturating_sub(KEEP_USAGE_US)).await)
    }

    async fn forget_usage(&self, before_us: u64) -> Result<(), StoreError> {
        let before = day(before_us)?;
        while self.alone(sql::FORGET_USAGE, values![&before, USAGE_BATCH]).await? >= USAGE_BATCH {}
        Ok(())
    }

    async fn forget_feed(&self, old_us: u64) -> Result<(), StoreError> {
        let upto = self.one(Tenant::All, sql::FEED_TO_FORGET, values![old_us], rows::number).await?;
        let upto = upto.unwrap_or_default();
        let mut transaction = self.0.begin(Tenant::All, Access::Write).await.map_err(sqlx_error)?;
        D::execute(&mut transaction, sql::FORGET_FEED, values![upto]).await.map_err(gave_way)?;
        D::execute(&mut transaction, sql::SET_COMPLETE_AFTER, values![upto]).await.map_err(gave_way)?;
        D::commit(transaction).await.map_err(gave_way)
    }

    /// Rows that it was about.
    async fn alone(&self, sql: Sql, values: Vec<Value>) -> Result<u64, StoreError> {
        let mut transaction = self.0.begin(Tenant::All, Access::Write).await.map_err(sqlx_error)?;
        let rows = D::execute(&mut transaction, sql, values).await.map_err(gave_way)?;
        D::commit(transaction).await.map_err(gave_way)?;
        Ok(rows)
    }
}

/// For whom a write is: for one organization if every row is of it.
fn tenant(write: &Write) -> Tenant {
    let of = |organization: Option<_>| organization.map_or(Owner::All, Owner::One);
    let of_feed = write.feed.iter().map(|entry| of(entry.organization));
    let of_events = write.events.iter().map(|event| of(event.organization_id));
    let of_families = write.end_families.iter().map(|_| Owner::All);
    let owners = write.changes.iter().map(owner).chain(of_feed).chain(of_events).chain(of_families);
    owners.fold(Tenant::Nobody, |tenant, owner| match (tenant, owner) {
        (tenant, Owner::Nobody) => tenant,
        (Tenant::Nobody, Owner::One(one)) => Tenant::One(one),
        (Tenant::One(known), Owner::One(one)) if known == one => tenant,
        (Tenant::One(_) | Tenant::All, Owner::One(_)) | (_, Owner::All) => Tenant::All,
    })
}

/// The day of a time, as `2026-11-29`.
fn day(at_us: u64) -> Result<String, StoreError> {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(at_us) * 1_000);
    time.map(|time| time.date().to_string()).map_err(|error| StoreError::Corrupt(error.to_string()))
}

async fn number<D: Database>(transaction: &mut D::Transaction, sql: Sql) -> Result<u64, StoreError> {
    let rows = D::rows(transaction, sql, values![]).await.map_err(sqlx_error)?;
    let row = rows.first().ok_or_else(|| StoreError::Corrupt("the feed has no revision".to_owned()))?;
    Cells::of(row).number()
}

/// Of what is no write with versions, a conflict is a bad moment: it is to be tried again.
fn gave_way(error: sqlx::Error) -> StoreError {
    let text = error.to_string();
    match sqlx_error(error) {
        StoreError::Conflict => StoreError::Unavailable(text),
        other @ (StoreError::Taken(_) | StoreError::Unavailable(_) | StoreError::Corrupt(_)) => other,
    }
}

fn of_event(event: &Event) -> Result<Vec<Value>, StoreError> {
    Ok(values![
        event.id,
        event.organization_id.map(|organization| organization.0),
        event.action.word(),
        event.outcome.word(),
        &event.actor,
        event.actor_type.word(),
        event.resource_type.word(),
        &event.resource_id,
        &event.ip_address,
        &event.user_agent,
        &event.request_id,
        json(&event.details)?,
        event.at_us,
    ])
}

fn of_entry(entry: &FeedEntry, revision: u64, position: i64, at_us: u64) -> Vec<Value> {
    values![
        revision,
        position,
        at_us,
        entry.organization.map(|organization| organization.0),
        entry.generation,
        entry.key.map(|key| key.0),
        entry.new_hashes.concat(),
        entry.imported,
        entry.revoked_service_token.map(|token| token.0),
    ]
}

/// As [`sql::ADD_USAGE`] says.
fn of_usage(entry: &UsageEntry) -> (String, String, &str, &str, i64, i64) {
    let usage = &entry.usage;
    (
        hexadecimal(entry.key.0),
        hexadecimal(entry.organization.0),
        &usage.day,
        &usage.outcome,
        stored(usage.count),
        stored(entry.last_used_us),
    )
}
