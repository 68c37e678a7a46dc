mod row_level_security;

use tidegate_tests::postgres_server::PostgresServer;
use tokio::time::timeout;

use super::*;
use crate::store::{
    KeysStore, StoreError, Write, changes,
    conformance::{config, feed_entry, keys_store_conformance, put_tenants},
    sql_store::SqlStore,
    statements,
};

/// Of a role for which row-level security holds: so every case also shows that what it asks for may be seen.
async fn database() -> String {
    let server = PostgresServer::shared().await.expect("postgres");
    server.database_of_plain_role().await.expect("a database")
}

async fn open(url: &str) -> SqlStore<Postgres> {
    SqlStore(Postgres::open(&config(url), Environment::Production).await.expect("opened"))
}

async fn opened() -> (SqlStore<Postgres>, ()) {
    (open(&database().await).await, ())
}

keys_store_conformance!(opened().await);

#[tokio::test]
async fn every_statement_fits_the_tables() {
    use sqlx::{Executor, SqlSafeStr};
    let (store, ()) = opened().await;
    let all = statements::ALL.iter().chain(changes::ALL).map(|(name, sql)| (*name, sql.postgres));
    for (name, sql) in all.chain([("NOTIFY", NOTIFY), ("IS_ABOVE_SECURITY", IS_ABOVE_SECURITY)]) {
        let prepared = store.0.pool.prepare(sql.into_sql_str()).await;
        assert!(prepared.is_ok(), "{name}: {prepared:?}");
    }
}

fn told() -> Write {
    Write { feed: vec![feed_entry(1, 1)], ..Write::default() }
}

#[tokio::test]
async fn a_write_is_told_to_who_listens() {
    let url = database().await;
    let writer = open(&url).await;
    let listener = open(&url).await;
    let told_of = tokio::spawn(async move {
        let told = timeout(Duration::from_secs(20), listener.pushed()).await;
        (told.is_ok(), listener.revision().await)
    });
    // Written again and again, since it cannot be seen from outside when the listening begins.
    while !told_of.is_finished() {
        writer.write(&told()).await.expect("written");
        sleep(Duration::from_millis(20)).await;
    }
    let (was_told, seen) = told_of.await.expect("no panic");
    assert!(was_told);
    assert!(seen.expect("asked") >= 1, "what was told of is there");
}

#[tokio::test]
async fn a_writer_that_commits_late_is_not_overtaken() {
    let (store, ()) = opened().await;
    let mut late = store.0.begin(Tenant::All, Access::Write).await.expect("begun");
    Postgres::rows(&mut late, statements::ADVANCE, Vec::new()).await.expect("advanced");
    let write = told();
    let overtaken = timeout(Duration::from_millis(300), store.write(&write)).await;
    assert!(overtaken.is_err(), "it waits for the one before it: {overtaken:?}");
    // What tells nothing does not wait.
    put_tenants(&store).await;
    assert_eq!(store.revision().await, Ok(0), "nothing is visible yet");
    Postgres::commit(late).await.expect("committed");
    assert_eq!(store.write(&write).await, Ok(2));
}

#[tokio::test]
async fn what_a_silent_writer_holds_is_taken_from_it() {
    let url = database().await;
    let store = open(&url).await;
    let mut settings = config(&url);
    settings.query_timeout = Duration::from_millis(200).into();
    let silent = Postgres::open(&settings, Environment::Production).await.expect("opened");
    let mut held = silent.begin(Tenant::All, Access::Write).await.expect("begun");
    Postgres::rows(&mut held, statements::ADVANCE, Vec::new()).await.expect("advanced");
    assert_eq!(store.write(&told()).await, Ok(1));
    assert!(Postgres::commit(held).await.is_err());
    assert_eq!(store.revision().await, Ok(1));
}

#[tokio::test]
async fn two_writes_that_wait_for_each_other_end_with_a_conflict() {
    use crate::{
        domain::Organization,
        store::{
            Change,
            conformance::{changes, organization},
        },
    };
    let (store, ()) = opened().await;
    put_tenants(&store).await;
    let row = |number, version| Change::Organization(Organization { version, ..organization(number) });
    let forwards = changes([row(1, 1), row(2, 1)]);
    let backwards = changes([row(2, 1), row(1, 1)]);
    let (one, other) = futures_util::future::join(store.write(&forwards), store.write(&backwards)).await;
    let mut results = [one, other];
    results.sort_by_key(Result::is_err);
    assert_eq!(results, [Ok(0), Err(StoreError::Conflict)]);
}

#[tokio::test]
async fn what_is_not_of_this_service_is_corrupt() {
    let url = database().await;
    let store = open(&url).await;
    put_tenants(&store).await;
    let mut raw = store.0.begin(Tenant::All, Access::Write).await.expect("begun");
    sqlx::query("UPDATE keys.organizations SET status = 'gone'").execute(&mut *raw).await.expect("written");
    sqlx::query("UPDATE keys.users SET created_us = -1").execute(&mut *raw).await.expect("written");
    Postgres::commit(raw).await.expect("committed");
    let organizations = store.organizations("", None, 9).await;
    assert!(
        matches!(&organizations, Err(StoreError::Corrupt(text)) if text.contains("gone")),
        "{organizations:?}"
    );
    let user = store.user(crate::domain::UserId(crate::store::conformance::id(1))).await;
    assert!(matches!(&user, Err(StoreError::Corrupt(text)) if text.contains("-1")), "{user:?}");
}

#[tokio::test]
async fn a_database_that_is_gone_is_told_and_used_again_when_it_is_back() {
    let mut server = PostgresServer::start().await.expect("postgres");
    let url = server.database_of_plain_role().await.expect("a database");
    let mut settings = config(&url);
    settings.connect_timeout = Duration::from_secs(1).into();
    let store = SqlStore(Postgres::open(&settings, Environment::Production).await.expect("opened"));
    store.write(&told()).await.expect("written");
    server.kill().expect("killed");
    assert!(matches!(store.ping().await, Err(StoreError::Unavailable(_))));
    assert!(matches!(store.write(&told()).await, Err(StoreError::Unavailable(_))));
    server.restart().await.expect("back");
    assert_eq!(store.revision().await, Ok(1));
}
