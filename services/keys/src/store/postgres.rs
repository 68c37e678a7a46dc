//! PostgreSQL. That the feed grew is told by NOTIFY. Every transaction says for which organization it is, and row-level security
//! holds it to that.

use std::{str::FromStr, time::Duration};

use anyhow::{Context, bail};
use async_trait::async_trait;
use sqlx::{
    AssertSqlSafe, PgConnection, PgPool, Transaction,
    postgres::{PgArguments, PgConnectOptions, PgListener, PgPoolOptions, PgRow},
};
use tidegate_chassis::config::Environment;
use tidegate_migrations::KEYS;
use tokio::{sync::Mutex, time::sleep};

use super::{
    config::DatabaseConfig,
    database::{Access, Database, Tenant},
    sql::{Sql, Value, dialect},
};

/// Sent when the transaction commits.
const NOTIFY: &str = "SELECT pg_notify('tidegate_keys_feed', '')";
const CHANNEL: &str = "tidegate_keys_feed";

/// Whether row-level security does not hold for who asks.
const IS_ABOVE_SECURITY: &str = "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user";

/// How long to wait before listening is tried again.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(super) struct Postgres {
    pool: PgPool,
    listener: Mutex<Option<PgListener>>,
}

impl Postgres {
    /// Connects.
    ///
    /// # Errors
    ///
    /// It cannot be reached, its tables are not those of this release, or row-level security does not hold in production.
    pub(super) async fn open(config: &DatabaseConfig, environment: Environment) -> anyhow::Result<Self> {
        let timeout = config.query_timeout.get().as_millis().to_string();
        let options = PgConnectOptions::from_str(config.url.expose())
            .context("the URL is not one of PostgreSQL")?
            .application_name("tidegate-keys")
            // The second is for a replica that the network lost in the middle of a write: what it holds is not held for hours.
            .options([("statement_timeout", &timeout), ("idle_in_transaction_session_timeout", &timeout)]);
        let pool = PgPoolOptions::new()
            // One of them listens.
            .max_connections(config.max_connections + 1)
            .acquire_timeout(config.connect_timeout.get())
            .connect_with(options)
            .await?;
        let mut connection = pool.acquire().await?;
        check_role(&mut connection, environment).await?;
        match config.migrate {
            // On a connection of its own, which waits for another replica that migrates however long that takes.
            true => tidegate_migrations::run(config.url.expose(), &KEYS).await?,
            false => KEYS.check_postgres(&mut connection).await?,
        }
        drop(connection);
        Ok(Self { pool, listener: Mutex::new(None) })
    }
}

async fn check_role(connection: &mut PgConnection, environment: Environment) -> anyhow::Result<()> {
    let is_above: bool = sqlx::query_scalar(IS_ABOVE_SECURITY).fetch_one(connection).await?;
    match (is_above, environment) {
        (false, _) => {}
        (true, Environment::Development) => tracing::warn!(
            "the role of database.url is a superuser or has BYPASSRLS: row-level security does not hold for it"
        ),
        (true, Environment::Production) => bail!(
            "ENVIRONMENT=production refuses a role of database.url that is a superuser or has BYPASSRLS, since row-level \
             security does not hold for it"
        ),
    }
    Ok(())
}

dialect!(sqlx::Postgres, PgArguments, PgRow, postgres);

#[async_trait]
impl Database for Postgres {
    type Transaction = Transaction<'static, sqlx::Postgres>;
    type Row = PgRow;

    async fn begin(&self, tenant: Tenant, access: Access) -> Result<Self::Transaction, sqlx::Error> {
        let begin = match access {
            Access::Read => "BEGIN READ ONLY",
            Access::Write => "BEGIN",
        };
        // In one message with the beginning. It ends with the transaction.
        let tenant = match tenant {
            Tenant::One(organization) => organization.to_string(),
            Tenant::All => "*".to_owned(),
            Tenant::Nobody => String::new(),
        };
        // Nothing in it is from outside but an id, which has digits and hyphens.
        let begin = format!("{begin}; SELECT set_config('tidegate.tenant', '{tenant}', TRUE)");
        self.pool.begin_with(AssertSqlSafe(begin)).await
    }

    async fn rows(
        transaction: &mut Self::Transaction,
        sql: Sql,
        values: Vec<Value>,
    ) -> Result<Vec<PgRow>, sqlx::Error> {
        bound(sql, values).fetch_all(&mut **transaction).await
    }

    async fn execute(
        transaction: &mut Self::Transaction,
        sql: Sql,
        values: Vec<Value>,
    ) -> Result<u64, sqlx::Error> {
        Ok(bound(sql, values).execute(&mut **transaction).await?.rows_affected())
    }

    async fn tell(transaction: &mut Self::Transaction) -> Result<(), sqlx::Error> {
        sqlx::query(NOTIFY).execute(&mut **transaction).await.map(|_| ())
    }

    async fn commit(transaction: Self::Transaction) -> Result<(), sqlx::Error> {
        transaction.commit().await
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
                    tracing::debug!(%error, "the growth of the feed is not told, the database is asked for it");
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

#[cfg(test)]
mod tests;
