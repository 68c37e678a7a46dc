use tidegate_tests::postgres_server::PostgresServer;
use tokio::time::timeout;

use super::*;
use crate::store::catalog::conformance::{catalog_store_conformance, config, entry};

async fn database() -> String {
    let server = PostgresServer::shared().await.expect("postgres");
    server.database().await.expect("a database")
}

async fn opened() -> (PostgresCatalog, ()) {
    (PostgresCatalog::open(&config(&database().await)).await.expect("opened"), ())
}

catalog_store_conformance!(opened().await);

#[tokio::test]
async fn every_statement_fits_the_tables() {
    let (store, ()) = opened().await;
    for statement in [REVISION, ENTRIES, CHANGES, HISTORY, ADVANCE, PUT, REMOVE, NOTE, NOTIFY] {
        use sqlx::{Executor, SqlSafeStr};
        let prepared = store.pool.prepare(statement.into_sql_str()).await;
        assert!(prepared.is_ok(), "{statement}: {prepared:?}");
    }
}

#[tokio::test]
async fn a_write_is_told_to_who_listens() {
    let url = database().await;
    let writer = PostgresCatalog::open(&config(&url)).await.expect("opened");
    let listener = PostgresCatalog::open(&config(&url)).await.expect("opened");
    let told = tokio::spawn(async move {
        let told = timeout(Duration::from_secs(20), listener.pushed()).await;
        (told.is_ok(), listener.revision().await)
    });
    // Written again and again, since it cannot be seen from outside when the listening begins.
    let mut revision = 0;
    while !told.is_finished() {
        let one = entry(Kind::Plan, "", "p", Some("{}"), revision);
        revision = writer.write(revision, &[one]).await.expect("written");
        sleep(Duration::from_millis(20)).await;
    }
    let (was_told, seen) = told.await.expect("no panic");
    assert!(was_told);
    assert!(seen.expect("asked") >= 1, "what was told of is there");
}

/// The trap of change feeds: a number is given out, and becomes visible after a later one.
#[tokio::test]
async fn a_writer_that_commits_late_is_not_overtaken() {
    let url = database().await;
    let store = PostgresCatalog::open(&config(&url)).await.expect("opened");
    let mut late = store.pool.begin().await.expect("begun");
    let revision: i64 =
        sqlx::query_scalar(ADVANCE).bind(0_i64).fetch_one(&mut *late).await.expect("advanced");
    assert_eq!(revision, 1);
    let one = [entry(Kind::Plan, "", "overtaking", Some("{}"), 1)];
    let overtaking = store.write(0, &one);
    let overtaken = timeout(Duration::from_millis(300), overtaking).await;
    assert!(overtaken.is_err(), "it waits for the one before it: {overtaken:?}");
    assert_eq!(store.revision().await, Ok(0), "nothing is visible yet");
    late.commit().await.expect("committed");
    assert_eq!(store.write(0, &one).await, Err(CatalogError::Moved));
    assert_eq!(store.write(1, &one).await, Ok(2));
}

#[tokio::test]
async fn a_database_that_is_gone_is_told_and_used_again_when_it_is_back() {
    let mut server = PostgresServer::start().await.expect("postgres");
    let url = server.database().await.expect("a database");
    let mut settings = config(&url);
    settings.connect_timeout = Duration::from_secs(1).into();
    let store = PostgresCatalog::open(&settings).await.expect("opened");
    store.write(0, &[entry(Kind::Plan, "", "p", Some("{}"), 1)]).await.expect("written");
    server.kill().expect("killed");
    assert!(matches!(store.revision().await, Err(CatalogError::Unavailable(_))));
    server.restart().await.expect("back");
    assert_eq!(store.revision().await, Ok(1));
}
