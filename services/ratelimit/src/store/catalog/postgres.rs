//! The catalogue in PostgreSQL. A change is told by NOTIFY.

use std::{str::FromStr, time::Duration};

use anyhow::Context;
use async_trait::async_trait;
use sqlx::{
    PgPool, Row,
    postgres::{PgConnectOptions, PgListener, PgPoolOptions, PgRow},
};
use tidegate_migrations::RATELIMIT;
use tokio::{sync::Mutex, time::sleep};

use super::{
    CatalogError, CatalogStore, DatabaseConfig, Entry, EntryKey, Kind, Snapshot, read, stored, unavailable,
};

pub(super) const REVISION: &str = "SELECT revision FROM ratelimit.catalog";
pub(super) const ENTRIES: &str =
    "SELECT kind, scope, name, id, body::text, version, created_us, changed_us FROM ratelimit.entries";
pub(super) const CHANGES: &str = "SELECT kind, scope, name, id, body::text, version, created_us, changed_us \
     FROM ratelimit.changes WHERE version > $1 AND version <= $2 ORDER BY version, position";
pub(super) const HISTORY: &str = "SELECT kind, scope, name, id, body::text, version, created_us, changed_us \
     FROM ratelimit.changes WHERE kind = $1 AND scope = $2 AND name = $3 AND version < $4 \
     ORDER BY version DESC LIMIT $5";
/// Takes the row until the commit: the next writer waits here, and then finds another revision.
pub(super) const ADVANCE: &str =
    "UPDATE ratelimit.catalog SET revision = revision + 1 WHERE revision = $1 RETURNING revision";
pub(super) const PUT: &str = "INSERT INTO ratelimit.entries (kind, scope, name, id, body, version, created_us, changed_us) \
     SELECT kind, scope, name, id, body::json, $6, created_us, $8 \
     FROM UNNEST($1::text[], $2::text[], $3::text[], $4::uuid[], $5::text[], $7::bigint[]) \
     AS entry (kind, scope, name, id, body, created_us) WHERE body IS NOT NULL \
     ON CONFLICT (kind, scope, name) DO UPDATE SET id = excluded.id, body = excluded.body, \
     version = excluded.version, created_us = excluded.created_us, changed_us = excluded.changed_us";
pub(super) const REMOVE: &str = "DELETE FROM ratelimit.entries USING \
     UNNEST($1::text[], $2::text[], $3::text[], $4::text[]) AS gone (kind, scope, name, body) \
     WHERE gone.body IS NULL AND entries.kind = gone.kind AND entries.scope = gone.scope AND entries.name = gone.name";
pub(super) const NOTE: &str = "INSERT INTO ratelimit.changes (version, position, kind, scope, name, id, body, created_us, changed_us) \
     SELECT $6, position, kind, scope, name, id, body::json, created_us, $8 \
     FROM UNNEST($1::text[], $2::text[], $3::text[], $4::uuid[], $5::text[], $7::bigint[]) \
     WITH ORDINALITY AS entry (kind, scope, name, id, body, created_us, position)";
/// Sent when the transaction commits.
pub(super) const NOTIFY: &str = "SELECT pg_notify('tidegate_ratelimit_catalog', $1)";

const CHANNEL: &str = "tidegate_ratelimit_catalog";

/// How long to wait before listening is tried again.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(super) struct PostgresCatalog {
    pool: PgPool,
    listener: Mutex<Option<PgListener>>,
}

impl PostgresCatalog {
    /// Connects.
    ///
    /// # Errors
    ///
    /// It cannot be reached, or its tables are not those of this release.
    pub(super) async fn open(config: &DatabaseConfig) -> anyhow::Result<Self> {
        let statement_timeout = config.query_timeout.get().as_millis() * 10;
        let options = PgConnectOptions::from_str(config.url.expose())
            .context("the URL is not one of PostgreSQL")?
            .application_name("tidegate-ratelimit")
            .options([("statement_timeout", statement_timeout.to_string())]);
        let pool = PgPoolOptions::new()
            // One of them listens.
            .max_connections(config.max_connections + 1)
            .acquire_timeout(config.connect_timeout.get())
            .connect_with(options)
            .await?;
        let mut connection = pool.acquire().await?;
        match config.migrate {
            true => RATELIMIT.run_on_postgres(&mut connection).await?,
            false => RATELIMIT.check_postgres(&mut connection).await?,
        }
        drop(connection);
        Ok(Self { pool, listener: Mutex::new(None) })
    }
}

#[async_trait]
impl CatalogStore for PostgresCatalog {
    async fn load(&self) -> Result<Snapshot, CatalogError> {
        let mut all = self
            .pool
            .begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            .await
            .map_err(unavailable)?;
        let revision: i64 = sqlx::query_scalar(REVISION).fetch_one(&mut *all).await.map_err(unavailable)?;
        let rows = sqlx::query(ENTRIES).fetch_all(&mut *all).await.map_err(unavailable)?;
        all.commit().await.map_err(unavailable)?;
        let entries = rows.iter().map(entry).collect::<Result<_, _>>()?;
        Ok(Snapshot { revision: read(revision)?, entries })
    }

    async fn revision(&self) -> Result<u64, CatalogError> {
        let revision: i64 = sqlx::query_scalar(REVISION).fetch_one(&self.pool).await.map_err(unavailable)?;
        read(revision)
    }

    async fn changes(&self, after: u64, upto: u64) -> Result<Vec<Entry>, CatalogError> {
        let query = sqlx::query(CHANGES).bind(stored(after)).bind(stored(upto));
        query.fetch_all(&self.pool).await.map_err(unavailable)?.iter().map(entry).collect()
    }

    async fn write(&self, expected: u64, entries: &[Entry]) -> Result<u64, CatalogError> {
        let mut all = self.pool.begin().await.map_err(unavailable)?;
        let advanced = sqlx::query_scalar(ADVANCE).bind(stored(expected));
        let revision: Option<i64> = advanced.fetch_optional(&mut *all).await.map_err(unavailable)?;
        let revision = revision.ok_or(CatalogError::Moved)?;
        let changed_us = entries.iter().map(|entry| entry.changed_us).max().unwrap_or_default();
        let column = |of: fn(&Entry) -> &str| -> Vec<&str> { entries.iter().map(of).collect() };
        let kinds = column(|entry| entry.key.kind.as_str());
        let (scopes, names) = (column(|entry| &entry.key.scope), column(|entry| &entry.key.name));
        let ids: Vec<_> = entries.iter().map(|entry| entry.id).collect();
        let bodies: Vec<_> = entries.iter().map(|entry| entry.body.as_deref()).collect();
        let created: Vec<_> = entries.iter().map(|entry| stored(entry.created_us)).collect();
        let removed = sqlx::query(REMOVE).bind(&kinds).bind(&scopes).bind(&names).bind(&bodies);
        removed.execute(&mut *all).await.map_err(unavailable)?;
        for statement in [PUT, NOTE] {
            let query =
                sqlx::query(statement).bind(&kinds).bind(&scopes).bind(&names).bind(&ids).bind(&bodies);
            let query = query.bind(revision).bind(&created).bind(stored(changed_us));
            query.execute(&mut *all).await.map_err(unavailable)?;
        }
        let told = sqlx::query(NOTIFY).bind(revision.to_string());
        told.execute(&mut *all).await.map_err(unavailable)?;
        all.commit().await.map_err(unavailable)?;
        read(revision)
    }

    async fn history(&self, key: &EntryKey, below: u64, limit: u32) -> Result<Vec<Entry>, CatalogError> {
        let query = sqlx::query(HISTORY).bind(key.kind.as_str()).bind(&key.scope).bind(&key.name);
        let query = query.bind(stored(below)).bind(i64::from(limit));
        query.fetch_all(&self.pool).await.map_err(unavailable)?.iter().map(entry).collect()
    }

    async fn pushed(&self) {
        let mut slot = self.listener.lock().await;
        loop {
            if let Some(listener) = slot.as_mut() {
                // Nothing: the connection broke, and what was told meanwhile was missed.
                if listener.try_recv().await.is_ok_and(|told| told.is_some()) {
                    while listener.next_buffered().is_some() {}
                    return;
                }
                *slot = None;
                sleep(LISTEN_AGAIN).await;
            }
            match listen(&self.pool).await {
                Ok(listener) => *slot = Some(listener),
                Err(error) => {
                    tracing::debug!(%error, "changes are not told, the database is asked for them");
                    sleep(LISTEN_AGAIN).await;
                }
            }
        }
    }
}

async fn listen(pool: &PgPool) -> Result<PgListener, sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(CHANNEL).await?;
    Ok(listener)
}

fn entry(row: &PgRow) -> Result<Entry, CatalogError> {
    let kind: String = row.try_get(0).map_err(unavailable)?;
    let number = |index: usize| row.try_get(index).map_err(unavailable).and_then(read);
    Ok(Entry {
        key: EntryKey {
            kind: Kind::from_stored(&kind)?,
            scope: row.try_get(1).map_err(unavailable)?,
            name: row.try_get(2).map_err(unavailable)?,
        },
        id: row.try_get(3).map_err(unavailable)?,
        body: row.try_get(4).map_err(unavailable)?,
        version: number(5)?,
        created_us: number(6)?,
        changed_us: number(7)?,
    })
}

#[cfg(test)]
mod tests;
