use tempfile::TempDir;

use super::*;
use crate::store::{
    Feed, KeysStore, Write, changes,
    conformance::{config, feed_entry, keys_store_conformance},
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

#[tokio::test]
async fn what_cannot_be_forgotten_keeps_nothing_else_from_it() {
    let (store, _folder) = opened().await;
    let told = Write { at_us: 1, feed: vec![feed_entry(1, 1)], ..Write::default() };
    assert_eq!((store.write(&told).await, store.write(&told).await), (Ok(1), Ok(2)));
    let renamed =
        sqlx::query("ALTER TABLE keys_idempotency RENAME TO elsewhere").execute(&store.0.pool).await;
    assert!(renamed.is_ok(), "{renamed:?}");
    let forgotten = store.forget(100 * 24 * 60 * 60 * 1_000_000).await;
    assert!(
        forgotten.as_ref().is_err_and(|error| error.to_string().contains("idempotency")),
        "{forgotten:?}"
    );
    assert_eq!(store.feed(0, 9).await, Ok(Feed { entries: Vec::new(), complete_after: 2 }));
}
