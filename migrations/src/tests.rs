use std::{collections::BTreeSet, fs, path::Path};

use futures_util::future::try_join_all;
use tidegate_tests::{postgres_server::PostgresServer, test_result::TestResult};

use super::*;

fn files(dialect: &str) -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(dialect);
    let services =
        fs::read_dir(folder).expect("the dialect has a folder").map(|entry| entry.expect("read").path());
    let named = |path: &Path| path.file_name().expect("it has a name").to_string_lossy().into_owned();
    services
        .flat_map(|service| {
            let files = fs::read_dir(&service).expect("a service has a folder");
            let service = named(&service);
            files
                .map(move |file| format!("{service}/{}", named(&file.expect("read").path())))
                .collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn both_dialects_have_the_same_files_and_all_are_run() {
    let listed = RATELIMIT.steps.iter().map(|step| format!("ratelimit/{}.sql", step.name)).collect();
    assert_eq!(files("postgres"), listed);
    assert_eq!(files("sqlite"), listed);
    for (index, step) in RATELIMIT.steps.iter().enumerate() {
        assert!(step.name.starts_with(&format!("{:04}_", index + 1)), "{}", step.name);
        assert_eq!(step.version, i64::try_from(index + 1).expect("few"));
    }
}

/// Names of tables with their columns, in the order of declaration, without the schema or the prefix that stands for it.
const POSTGRES_COLUMNS: &str = "SELECT table_name || '.' || column_name FROM information_schema.columns \
     WHERE table_schema = 'ratelimit' AND table_name NOT LIKE '\\_%' ORDER BY table_name, ordinal_position";
const SQLITE_COLUMNS: &str = "SELECT substr(m.name, 11) || '.' || c.name FROM sqlite_master m, pragma_table_info(m.name) c \
     WHERE m.type = 'table' AND m.name LIKE 'ratelimit\\_%' ESCAPE '\\' ORDER BY m.name, c.cid";

#[tokio::test]
async fn both_dialects_make_the_same_tables() -> TestResult {
    let server = PostgresServer::shared().await?;
    let url = server.database().await?;
    run(&url, &RATELIMIT).await?;
    let mut postgres = PgConnectOptions::from_str(&url)?.connect().await?;
    let of_postgres: Vec<String> = sqlx::query_scalar(POSTGRES_COLUMNS).fetch_all(&mut postgres).await?;

    let folder = tempfile::tempdir()?;
    let url = format!("sqlite://{}", folder.path().join("new.db").display());
    run(&url, &RATELIMIT).await?;
    let mut sqlite = sqlite_options(&url)?.connect().await?;
    let of_sqlite: Vec<String> = sqlx::query_scalar(SQLITE_COLUMNS).fetch_all(&mut sqlite).await?;
    assert_eq!(of_postgres, of_sqlite);
    assert!(of_sqlite.contains(&"entries.kind".to_owned()), "{of_sqlite:?}");
    Ok(())
}

#[tokio::test]
async fn replicas_that_start_together_migrate_once() -> TestResult {
    let server = PostgresServer::shared().await?;
    let folder = tempfile::tempdir()?;
    let file = format!("sqlite://{}", folder.path().join("new.db").display());
    for url in [server.database().await?, file] {
        try_join_all((0..8).map(|_| run(&url, &RATELIMIT))).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_database_without_tables_is_told_apart() -> TestResult {
    let server = PostgresServer::shared().await?;
    let url = server.database().await?;
    let mut postgres = PgConnectOptions::from_str(&url)?.connect().await?;
    let error = RATELIMIT.check_postgres(&mut postgres).await.unwrap_err();
    assert!(error.to_string().contains("tidegate migrate"), "{error}");
    run(&url, &RATELIMIT).await?;
    RATELIMIT.check_postgres(&mut postgres).await?;

    let mut sqlite = sqlite_options("sqlite::memory:")?.connect().await?;
    RATELIMIT.check_sqlite(&mut sqlite).await.unwrap_err();
    RATELIMIT.run_on_sqlite(&mut sqlite).await?;
    RATELIMIT.check_sqlite(&mut sqlite).await?;
    Ok(())
}

#[test]
fn other_databases_are_refused_by_name() {
    for url in ["mysql://x", "", "postgres", "/var/lib/x.db"] {
        assert!(matches!(Dialect::of(url), Err(MigrationError::UnknownDatabase)), "{url}");
    }
}
