//! What differs between the databases.

use async_trait::async_trait;

use super::{
    cells::Row,
    sql::{Sql, Value},
};
use crate::domain::OrganizationId;

/// What differs between the databases.
#[async_trait]
pub(super) trait Database: Send + Sync + 'static {
    /// What ends without a trace if it is dropped.
    type Transaction: Send;
    /// What is found.
    type Row: Row;

    /// Begins a transaction in which rows of `tenant` are seen.
    async fn begin(&self, tenant: Tenant, access: Access) -> Result<Self::Transaction, sqlx::Error>;
    /// What a statement gives.
    async fn rows(
        transaction: &mut Self::Transaction,
        sql: Sql,
        values: Vec<Value>,
    ) -> Result<Vec<Self::Row>, sqlx::Error>;
    /// How many rows a statement changes.
    async fn execute(
        transaction: &mut Self::Transaction,
        sql: Sql,
        values: Vec<Value>,
    ) -> Result<u64, sqlx::Error>;
    /// Tells those who listen that the feed has grown, once this is committed.
    async fn tell(transaction: &mut Self::Transaction) -> Result<(), sqlx::Error>;
    /// Ends it; what it did is on disk then.
    async fn commit(transaction: Self::Transaction) -> Result<(), sqlx::Error>;
    /// See [`KeysStore::pushed`].
    async fn pushed(&self);
}

/// For whom a transaction is: of which organization it sees rows in tables that have organizations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tenant {
    /// Of this one.
    One(OrganizationId),
    /// Of all: the question is by nature not about one.
    All,
    /// Of none: no such table is touched.
    Nobody,
}

/// What a transaction does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// It asks.
    Read,
    /// It changes something, or is to.
    Write,
}
