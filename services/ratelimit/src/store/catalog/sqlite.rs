//! The catalogue in an SQLite file, which processes of one machine may share. It tells of nothing: the revision is asked.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::{
    Row, SqlitePool,
    sqlite::{SqlitePoolOptions, SqliteRow},
};
use tidegate_migrations::{RATELIMIT, sqlite_options};

use super::{
    CatalogError, CatalogStore, DatabaseConfig, Entry, EntryKey, Kind, Snapshot, read, stored, unavailable,
};

pub(super) const REVISION: &str = "SELECT revision FROM ratelimit_catalog";
pub(super) const ENTRIES: &str =
    "SELECT kind, scope, name, id, body, version, created_us, changed_us FROM ratelimit_entries";
pub(super) const CHANGES: &str = "SELECT kind, scope, name, id, body, version, created_us, changed_us \
     FROM ratelimit_changes WHERE version > $1 AND version <= $2 ORDER BY version, position";
pub(super) const HISTORY: &str = "SELECT kind, scope, name, id, body, version, created_us, changed_us \
     FROM ratelimit_changes WHERE kind = $1 AND scope = $2 AND name = $3 AND version < $4 \
     ORDER BY version DESC LIMIT $5";
pub(super) const ADVANCE: &str =
    "UPDATE ratelimit_catalog SET revision = revision + 1 WHERE revision = $1 RETURNING revision";
pub(super) const PUT: &str = "INSERT INTO ratelimit_entries (kind, scope, name, id, body, version, created_us, changed_us) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (kind, scope, name) DO UPDATE SET id = excluded.id, \
     body = excluded.body, version = excluded.version, created_us = excluded.created_us, changed_us = excluded.changed_us";
pub(super) const REMOVE: &str = "DELETE FROM ratelimit_entries WHERE kind = $1 AND scope = $2 AND name = $3";
pub(super) const NOTE: &str = "INSERT INTO ratelimit_changes (kind, scope, name, id, body, version, created_us, changed_us, position) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";

/// See the module.
#[derive(Debug)]
pub(super) struct SqliteCatalog {
    pool: SqlitePool,
}

impl SqliteCatalog {
    /// Opens the file, or makes it. `sqlite::memory:` is one that ends with the process.
    ///
    /// # Errors
    ///
    /// It cannot be opened, or its tables are not those of this release.
    pub(super) async fn open(config: &DatabaseConfig) -> anyhow::Result<Self> {
        let options = sqlite_options(config.url.expose())?.busy_timeout(config.query_timeout.get());
        let in_memory = config.url.expose().contains(":memory:");
        let pool = SqlitePoolOptions::new()
            // Each connection to memory has a database of its own, which ends with it.
            .max_connections(if in_memory { 1 } else { config.max_connections })
            .min_connections(1)
            .max_lifetime((!in_memory).then_some(Duration::from_secs(1_800)))
            .idle_timeout((!in_memory).then_some(Duration::from_secs(600)))
            .acquire_timeout(config.connect_timeout.get())
            .connect_with(options)
            .await?;
        let mut connection = pool.acquire().await?;
        match config.migrate {
            true => RATELIMIT.run_on_sqlite(&mut connection).await?,
            false => RATELIMIT.check_sqlite(&mut connection).await?,
        }
        drop(connection);
        Ok(Self { pool })
    }
}

#[async_trait]
impl CatalogStore for SqliteCatalog {
    async fn load(&self) -> Result<Snapshot, CatalogError> {
        // What a transaction reads first is what it sees to its end.
        let mut all = self.pool.begin().await.map_err(unavailable)?;
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
        let mut all = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(unavailable)?;
        let advanced = sqlx::query_scalar(ADVANCE).bind(stored(expected));
        let revision: Option<i64> = advanced.fetch_optional(&mut *all).await.map_err(unavailable)?;
        let revision = revision.ok_or(CatalogError::Moved)?;
        let changed_us = entries.iter().map(|entry| entry.changed_us).max().unwrap_or_default();
        for (entry, position) in entries.iter().zip(1_i64..) {
            let EntryKey { kind, scope, name } = &entry.key;
            let statement = if entry.body.is_some() { PUT } else { REMOVE };
            for statement in [statement, NOTE] {
                let mut query = sqlx::query(statement).bind(kind.as_str()).bind(scope).bind(name);
                if statement != REMOVE {
                    query = query.bind(entry.id.to_string()).bind(&entry.body).bind(revision);
                    query = query.bind(stored(entry.created_us)).bind(stored(changed_us));
                }
                if statement == NOTE {
                    query = query.bind(position);
                }
                query.execute(&mut *all).await.map_err(unavailable)?;
            }
        }
        all.commit().await.map_err(unavailable)?;
        read(revision)
    }

    async fn history(&self, key: &EntryKey, below: u64, limit: u32) -> Result<Vec<Entry>, CatalogError> {
        let query = sqlx::query(HISTORY).bind(key.kind.as_str()).bind(&key.scope).bind(&key.name);
        let query = query.bind(stored(below)).bind(i64::from(limit));
        query.fetch_all(&self.pool).await.map_err(unavailable)?.iter().map(entry).collect()
    }

    async fn pushed(&self) {
        std::future::pending::<()>().await;
    }
}

fn entry(row: &SqliteRow) -> Result<Entry, CatalogError> {
    let text = |index: usize| row.try_get::<String, _>(index).map_err(unavailable);
    let number = |index: usize| row.try_get(index).map_err(unavailable).and_then(read);
    let id = text(3)?;
    Ok(Entry {
        key: EntryKey { kind: Kind::from_stored(&text(0)?)?, scope: text(1)?, name: text(2)? },
        id: id.parse().map_err(|_| CatalogError::Corrupt(format!("id {id:?}")))?,
        body: row.try_get(4).map_err(unavailable)?,
        version: number(5)?,
        created_us: number(6)?,
        changed_us: number(7)?,
    })
}

#[cfg(test)]
mod tests;
