//! Why the store did not do what it was asked.

use sqlx::error::{DatabaseError, ErrorKind};

/// Why the store did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// A row was changed since it was read; nothing was written.
    #[error("something else was changed at the same time")]
    Conflict,
    /// A value that no two rows may have is there already; nothing was written.
    #[error("{0:?} is taken")]
    Taken(Unique),
    /// It cannot be reached, or did not answer in time. A write may have happened.
    #[error("the database cannot be used: {0}")]
    Unavailable(String),
    /// What is stored was not written by this service.
    #[error("the database holds what it should not: {0}")]
    Corrupt(String),
}

/// What no two rows have the same of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unique {
    /// The address of an account.
    Email,
    /// What an external issuer knows an account by.
    ExternalIdentity,
    /// The hash of a key.
    KeyHash,
    /// The id of a movement of credits.
    LedgerEntry,
    /// The idempotency key of a caller.
    IdempotencyKey,
}

/// Constraints of PostgreSQL, what SQLite says instead, and what there are no two of. All others are of ids.
const UNIQUE: [(&str, &str, Unique); 5] = [
    ("users_email", "keys_users.email", Unique::Email),
    ("users_external", "keys_users.external_issuer", Unique::ExternalIdentity),
    ("key_secrets_pkey", "keys_key_secrets.hash", Unique::KeyHash),
    ("ledger_pkey", "keys_ledger.id", Unique::LedgerEntry),
    ("idempotency_pkey", "keys_idempotency.caller", Unique::IdempotencyKey),
];

/// States of PostgreSQL in which a transaction gives way to another: two that cannot be put in order, two that wait for each other.
const GAVE_WAY: [&str; 2] = ["40001", "40P01"];

/// What an error of the database means.
pub(super) fn sqlx_error(error: sqlx::Error) -> StoreError {
    match error {
        sqlx::Error::Database(error) => refused(&*error),
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => StoreError::Corrupt(error.to_string()),
        error => StoreError::Unavailable(error.to_string()),
    }
}

fn refused(error: &dyn DatabaseError) -> StoreError {
    match error.kind() {
        ErrorKind::UniqueViolation => {
            let told = error.constraint().unwrap_or_default();
            let is_it = |(postgres, sqlite, _): &&(&str, &str, Unique)| {
                told == *postgres || error.message().contains(sqlite)
            };
            UNIQUE.iter().find(is_it).map_or(StoreError::Conflict, |(_, _, what)| StoreError::Taken(*what))
        }
        ErrorKind::ForeignKeyViolation => StoreError::Conflict,
        ErrorKind::NotNullViolation | ErrorKind::CheckViolation => {
            StoreError::Corrupt(error.message().to_owned())
        }
        _ if error.code().is_some_and(|code| GAVE_WAY.contains(&&*code)) => StoreError::Conflict,
        _ => StoreError::Unavailable(error.to_string()),
    }
}

/// Numbers are stored as signed ones; none of ours reaches 2^63.
pub(super) fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn read(number: i64) -> Result<u64, StoreError> {
    u64::try_from(number).map_err(|_| StoreError::Corrupt(format!("number {number}")))
}
