use tempfile::TempDir;

use super::*;
use crate::store::{
    KeysStore, changes,
    conformance::{config, keys_store_conformance},
    sql_store::SqlStore,
    statements,
};

async fn opened() -> (SqlStore<Sqlite>, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite://{}", folder.path().join("keys.db").display());
    (SqlStore(Sqlite::open(&config(&url)).await.expect("opened")), folder)
}

keys_store_conformance!(opened().await);

#[tokio::test]
async fn every_statement_fits_the_tables() {
    use sqlx::{Executor, SqlSafeStr};
    let (store, _folder) = opened().await;
    for (name, sql) in statements::ALL.iter().chain(changes::ALL) {
        let prepared = store.0.pool.prepare(sql.sqlite.into_sql_str()).await;
        assert!(prepared.is_ok(), "{name}: {prepared:?}");
    }
}

#[tokio::test]
async fn memory_is_one_database_for_as_long_as_it_is_open() {
    let store = SqlStore(Sqlite::open(&config("sqlite::memory:")).await.expect("opened"));
    crate::store::conformance::feed::no_reader_of_the_feed_misses_a_revision(&store).await;
}

#[tokio::test]
async fn what_was_written_is_there_after_a_restart() {
    let (store, folder) = opened().await;
    crate::store::conformance::feed::entries_of_one_revision_are_told_together(&store).await;
    drop(store);
    let url = format!("sqlite://{}", folder.path().join("keys.db").display());
    let store = SqlStore(Sqlite::open(&config(&url)).await.expect("opened again"));
    assert_eq!(store.revision().await, Ok(4));
    assert_eq!(store.feed(3, 9).await.expect("asked").entries.len(), 1);
}
