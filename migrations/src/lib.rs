//! The tables of Tidegate, step by step. The rules are in `migrations/README.md`.

use std::{str::FromStr, time::Duration};

use sqlx::{
    ConnectOptions, Connection, PgConnection, SqlStr, SqliteConnection,
    migrate::{MigrateError, Migration, MigrationType, Migrator},
    postgres::PgConnectOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode},
};

/// How long a migration waits for another process that migrates the same SQLite file.
const WAIT_FOR_OTHERS: Duration = Duration::from_secs(30);

/// One file in both dialects.
#[derive(Debug)]
struct Step {
    version: i64,
    name: &'static str,
    postgres: &'static str,
    sqlite: &'static str,
}

/// The tables of one service.
#[derive(Debug)]
pub struct Tables {
    schema: &'static str,
    steps: &'static [Step],
}

macro_rules! step {
    ($version:literal, $service:literal, $name:literal) => {
        Step {
            version: $version,
            name: $name,
            postgres: include_str!(concat!("../postgres/", $service, "/", $name, ".sql")),
            sqlite: include_str!(concat!("../sqlite/", $service, "/", $name, ".sql")),
        }
    };
}

/// The tables of the rate-limit service.
pub const RATELIMIT: Tables = Tables { schema: "ratelimit", steps: &[step!(1, "ratelimit", "0001_catalog")] };

/// The tables of the keys service.
pub const KEYS: Tables = Tables { schema: "keys", steps: &[step!(1, "keys", "0001_identity")] };

/// Those of every service.
pub const ALL: &[&Tables] = &[&RATELIMIT, &KEYS];

/// Why the tables are not what they should be.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// The URL names no database that is known here.
    #[error("the URL of a database begins with postgres:// or sqlite://")]
    UnknownDatabase,
    /// The database cannot be reached, or refuses.
    #[error("the database cannot be used: {0}")]
    Database(#[from] sqlx::Error),
    /// A migration failed, or the database is of another release.
    #[error("the tables cannot be brought up to date: {0}")]
    Migration(#[from] MigrateError),
    /// Migrations are not to be run, and some are missing.
    #[error("{missing} migrations are missing: run `tidegate migrate`")]
    Behind {
        /// How many.
        missing: usize,
    },
}

/// Whether a database is one or the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `postgres://` or `postgresql://`.
    Postgres,
    /// `sqlite:`.
    Sqlite,
}

impl Dialect {
    /// What a URL names.
    ///
    /// # Errors
    ///
    /// [`MigrationError::UnknownDatabase`].
    pub fn of(url: &str) -> Result<Self, MigrationError> {
        match url.split_once(':').map(|(scheme, _)| scheme) {
            Some("postgres" | "postgresql") => Ok(Self::Postgres),
            Some("sqlite") => Ok(Self::Sqlite),
            _ => Err(MigrationError::UnknownDatabase),
        }
    }
}

/// Brings the tables up to date on a connection of its own; an SQLite file that is not there is made. Processes that do so
/// at the same time wait for each other.
///
/// # Errors
///
/// [`MigrationError`]; then nothing of the failing migration remains.
pub async fn run(url: &str, tables: &Tables) -> Result<(), MigrationError> {
    match Dialect::of(url)? {
        Dialect::Postgres => {
            let mut connection = PgConnectOptions::from_str(url)?.connect().await?;
            tables.run_on_postgres(&mut connection).await?;
            Ok(connection.close().await?)
        }
        Dialect::Sqlite => {
            let mut connection = sqlite_options(url)?.connect().await?;
            tables.run_on_sqlite(&mut connection).await?;
            Ok(connection.close().await?)
        }
    }
}

/// How SQLite files are opened everywhere: made if absent, with a write-ahead log, so that readers and a writer do not wait
/// for each other, and every commit on disk before it is told.
///
/// # Errors
///
/// The URL is none of SQLite.
pub fn sqlite_options(url: &str) -> Result<SqliteConnectOptions, sqlx::Error> {
    let options = SqliteConnectOptions::from_str(url)?;
    Ok(options
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(sqlx::sqlite::SqliteSynchronous::Full)
        .busy_timeout(WAIT_FOR_OTHERS))
}

impl Tables {
    /// Whose they are: the schema in PostgreSQL, what names begin with in SQLite.
    #[must_use]
    pub fn service(&self) -> &'static str {
        self.schema
    }

    /// Brings them up to date.
    ///
    /// # Errors
    ///
    /// As [`run`].
    pub async fn run_on_postgres(&self, connection: &mut PgConnection) -> Result<(), MigrationError> {
        let mut migrator = self.migrator(|step| step.postgres);
        migrator.dangerous_set_table_name(format!("{}._sqlx_migrations", self.schema));
        migrator.create_schema(self.schema);
        Ok(migrator.run(connection).await?)
    }

    /// Brings them up to date.
    ///
    /// # Errors
    ///
    /// As [`run`].
    pub async fn run_on_sqlite(&self, connection: &mut SqliteConnection) -> Result<(), MigrationError> {
        let mut migrator = self.migrator(|step| step.sqlite);
        migrator.dangerous_set_table_name(format!("_sqlx_migrations_{}", self.schema));
        // Nothing else keeps two processes apart.
        let mut all = connection.begin_with("BEGIN IMMEDIATE").await?;
        migrator.run(&mut *all).await?;
        Ok(all.commit().await?)
    }

    /// Refuses a PostgreSQL where a migration is missing.
    ///
    /// # Errors
    ///
    /// [`MigrationError::Behind`], or the database cannot be asked.
    pub async fn check_postgres(&self, connection: &mut PgConnection) -> Result<(), MigrationError> {
        let there: bool = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
            .bind(format!("{}._sqlx_migrations", self.schema))
            .fetch_one(&mut *connection)
            .await?;
        let query = format!("SELECT count(*) FROM {}._sqlx_migrations WHERE success", self.schema);
        let done: i64 = match there {
            true => sqlx::query_scalar(sqlx::AssertSqlSafe(query)).fetch_one(connection).await?,
            false => 0,
        };
        self.refuse_fewer(done)
    }

    /// Refuses an SQLite file where a migration is missing.
    ///
    /// # Errors
    ///
    /// [`MigrationError::Behind`], or the file cannot be read.
    pub async fn check_sqlite(&self, connection: &mut SqliteConnection) -> Result<(), MigrationError> {
        let table = format!("_sqlx_migrations_{}", self.schema);
        let there: bool = sqlx::query_scalar("SELECT count(*) > 0 FROM sqlite_master WHERE name = $1")
            .bind(&table)
            .fetch_one(&mut *connection)
            .await?;
        let query = format!("SELECT count(*) FROM {table} WHERE success");
        let done: i64 = match there {
            true => sqlx::query_scalar(sqlx::AssertSqlSafe(query)).fetch_one(connection).await?,
            false => 0,
        };
        self.refuse_fewer(done)
    }

    fn refuse_fewer(&self, done: i64) -> Result<(), MigrationError> {
        let done = usize::try_from(done).unwrap_or_default();
        match self.steps.len().saturating_sub(done) {
            0 => Ok(()),
            missing => Err(MigrationError::Behind { missing }),
        }
    }

    fn migrator(&self, sql: impl Fn(&Step) -> &'static str) -> Migrator {
        let migration = |step: &Step| {
            let text = sql(step);
            let no_transaction = text.starts_with("-- no-transaction");
            Migration::new(
                step.version,
                step.name.into(),
                MigrationType::Simple,
                SqlStr::from_static(text),
                no_transaction,
            )
        };
        let mut migrator = Migrator::with_migrations(self.steps.iter().map(migration).collect());
        // A replica of the release before runs on the tables of this one.
        migrator.set_ignore_missing(true);
        migrator
    }
}

#[cfg(test)]
mod tests;
