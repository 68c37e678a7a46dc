//! The ledger of credits, as the database has it.

use sqlx::{Connection, PgConnection};

/// The database of the keys service.
pub(super) struct Ledger(PgConnection);

/// What the ledger says in all.
#[derive(Debug)]
pub(super) struct Sums {
    pub(super) granted: u64,
    pub(super) refilled: u64,
    /// How many refills there were.
    pub(super) refills: u64,
    pub(super) reserved: u64,
    /// What is left on the account.
    pub(super) balance: u64,
}

impl Ledger {
    pub(super) async fn open(url: &str) -> anyhow::Result<Self> {
        let mut database = PgConnection::connect(url).await?;
        sqlx::query("SELECT set_config('tidegate.tenant', '*', FALSE)").execute(&mut database).await?;
        Ok(Self(database))
    }

    /// Makes it a day later, as far as the refill is concerned: the service's clock cannot be set.
    pub(super) async fn make_refill_due(&mut self) -> anyhow::Result<()> {
        let update = "UPDATE keys.credit_accounts SET next_refill_us = 1, version = version + 1";
        sqlx::query(update).execute(&mut self.0).await?;
        Ok(())
    }

    pub(super) async fn sums(&mut self) -> anyhow::Result<Sums> {
        let query = "SELECT coalesce(sum(amount) FILTER (WHERE kind = 'grant'), 0)::bigint, \
                     coalesce(sum(amount) FILTER (WHERE kind = 'refill'), 0)::bigint, \
                     count(*) FILTER (WHERE kind = 'refill'), \
                     coalesce(sum(amount) FILTER (WHERE kind = 'reservation'), 0)::bigint, \
                     (SELECT sum(balance) FROM keys.credit_accounts)::bigint FROM keys.ledger";
        let sums: (i64, i64, i64, i64, i64) = sqlx::query_as(query).fetch_one(&mut self.0).await?;
        Ok(Sums {
            granted: sums.0.try_into()?,
            refilled: sums.1.try_into()?,
            refills: sums.2.try_into()?,
            reserved: sums.3.try_into()?,
            balance: sums.4.try_into()?,
        })
    }
}
