use tempfile::TempDir;

use super::*;
use crate::store::catalog::conformance::{catalog_store_conformance, config};

async fn opened() -> (SqliteCatalog, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite://{}", folder.path().join("catalog.db").display());
    (SqliteCatalog::open(&config(&url)).await.expect("opened"), folder)
}

catalog_store_conformance!(opened().await);

#[tokio::test]
async fn every_statement_fits_the_tables() {
    let (store, _folder) = opened().await;
    for statement in [REVISION, ENTRIES, CHANGES, HISTORY, ADVANCE, PUT, REMOVE, NOTE] {
        use sqlx::{Executor, SqlSafeStr};
        let prepared = store.pool.prepare(statement.into_sql_str()).await;
        assert!(prepared.is_ok(), "{statement}: {prepared:?}");
    }
}

#[tokio::test]
async fn memory_is_one_database_for_as_long_as_it_is_open() {
    let store = SqliteCatalog::open(&config("sqlite::memory:")).await.expect("opened");
    crate::store::catalog::conformance::of_writers_at_one_revision_one_wins(&store).await;
}

#[tokio::test]
async fn what_was_written_is_there_after_a_restart() {
    let (store, folder) = opened().await;
    crate::store::catalog::conformance::what_is_written_is_read_back(&store).await;
    drop(store);
    let url = format!("sqlite://{}", folder.path().join("catalog.db").display());
    let store = SqliteCatalog::open(&config(&url)).await.expect("opened again");
    assert_eq!(store.load().await.expect("loaded").entries.len(), 2);
}
