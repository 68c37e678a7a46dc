//! SQLite: a file, which processes of one machine may share. It tells of nothing: the revision is asked.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::{
    SqlitePool, Transaction,
    sqlite::{SqliteArguments, SqlitePoolOptions, SqliteRow},
};
use tidegate_migrations::{KEYS, sqlite_options};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::{
    config::DatabaseConfig,
    database::{Access, Database, Tenant},
    sql::{Sql, Value, dialect},
};

/// See the module. There is no row-level security: every statement names the organization.
#[derive(Debug)]
pub(super) struct Sqlite {
    pool: SqlitePool,
    /// Held by who writes: else they would wait for the file by asking again and again, and some of them long.
    writing: std::sync::Arc<Mutex<()>>,
}

impl Sqlite {
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
            true => KEYS.run_on_sqlite(&mut connection).await?,
            false => KEYS.check_sqlite(&mut connection).await?,
        }
        drop(connection);
        Ok(Self { pool, writing: std::sync::Arc::default() })
    }
}

/// What is begun. Its fields end in their order: the next writer finds the file free.
#[derive(Debug)]
pub(super) struct Begun {
    transaction: Transaction<'static, sqlx::Sqlite>,
    _turn: Option<OwnedMutexGuard<()>>,
}

dialect!(sqlx::Sqlite, SqliteArguments, SqliteRow, sqlite);

#[async_trait]
impl Database for Sqlite {
    type Transaction = Begun;
    type Row = SqliteRow;

    async fn begin(&self, _: Tenant, access: Access) -> Result<Begun, sqlx::Error> {
        Ok(match access {
            Access::Read => Begun { transaction: self.pool.begin().await?, _turn: None },
            Access::Write => {
                let turn = self.writing.clone().lock_owned().await;
                let transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
                Begun { transaction, _turn: Some(turn) }
            }
        })
    }

    async fn rows(begun: &mut Begun, sql: Sql, values: Vec<Value>) -> Result<Vec<SqliteRow>, sqlx::Error> {
        bound(sql, values).fetch_all(&mut *begun.transaction).await
    }

    async fn execute(begun: &mut Begun, sql: Sql, values: Vec<Value>) -> Result<u64, sqlx::Error> {
        Ok(bound(sql, values).execute(&mut *begun.transaction).await?.rows_affected())
    }

    async fn tell(_: &mut Begun) -> Result<(), sqlx::Error> {
        Ok(())
    }

    async fn commit(begun: Begun) -> Result<(), sqlx::Error> {
        begun.transaction.commit().await
    }

    async fn pushed(&self) {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests;
