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
    let file = |tables: &Tables, step: &Step| format!("{}/{}.sql", tables.schema, step.name);
    let listed =
        ALL.iter().flat_map(|tables| tables.steps.iter().map(move |step| file(tables, step))).collect();
    assert_eq!(files("postgres"), listed);
    assert_eq!(files("sqlite"), listed);
    for tables in ALL {
        for (index, step) in tables.steps.iter().enumerate() {
            assert!(step.name.starts_with(&format!("{:04}_", index + 1)), "{}", step.name);
            assert_eq!(step.version, i64::try_from(index + 1).expect("few"));
        }
    }
}

/// Names of tables with their columns, in the order of declaration, and whether each may be absent, without the schema or the
/// prefix that stands for it.
const POSTGRES_COLUMNS: &str = "SELECT table_name || '.' || column_name || ' ' || is_nullable \
     FROM information_schema.columns WHERE table_schema = $1 AND table_name NOT LIKE '\\_%' \
     ORDER BY table_name, ordinal_position";
const SQLITE_COLUMNS: &str = "SELECT substr(m.name, length($1) + 2) || '.' || c.name || ' ' || \
     CASE WHEN c.\"notnull\" OR c.pk THEN 'NO' ELSE 'YES' END \
     FROM sqlite_master m, pragma_table_info(m.name) c \
     WHERE m.type = 'table' AND m.name LIKE $1 || '\\_%' ESCAPE '\\' ORDER BY m.name, c.cid";
/// Names of indexes that the migrations give them.
const POSTGRES_INDEXES: &str = "SELECT c.relname::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
     WHERE c.relnamespace = $1::regnamespace AND c.relname NOT LIKE '\\_%' \
     AND NOT EXISTS (SELECT 1 FROM pg_constraint o WHERE o.conindid = c.oid) ORDER BY c.relname";
const SQLITE_INDEXES: &str = "SELECT substr(name, length($1) + 2) FROM sqlite_master \
     WHERE type = 'index' AND sql IS NOT NULL AND name LIKE $1 || '\\_%' ESCAPE '\\' ORDER BY name";

#[tokio::test]
async fn both_dialects_make_the_same_tables() -> TestResult {
    let server = PostgresServer::shared().await?;
    let on_server = server.database().await?;
    let folder = tempfile::tempdir()?;
    let in_file = format!("sqlite://{}", folder.path().join("new.db").display());
    for tables in ALL {
        run(&on_server, tables).await?;
        run(&in_file, tables).await?;
        let mut postgres = PgConnectOptions::from_str(&on_server)?.connect().await?;
        let mut sqlite = sqlite_options(&in_file)?.connect().await?;
        for (of_postgres, of_sqlite) in
            [(POSTGRES_COLUMNS, SQLITE_COLUMNS), (POSTGRES_INDEXES, SQLITE_INDEXES)]
        {
            let of_postgres: Vec<String> =
                sqlx::query_scalar(of_postgres).bind(tables.schema).fetch_all(&mut postgres).await?;
            let of_sqlite: Vec<String> =
                sqlx::query_scalar(of_sqlite).bind(tables.schema).fetch_all(&mut sqlite).await?;
            assert_eq!(of_postgres, of_sqlite);
            assert!(!of_sqlite.is_empty(), "{}", tables.schema);
        }
    }
    Ok(())
}

#[tokio::test]
async fn replicas_that_start_together_migrate_once() -> TestResult {
    let server = PostgresServer::shared().await?;
    let folder = tempfile::tempdir()?;
    let file = format!("sqlite://{}", folder.path().join("new.db").display());
    for url in [server.database().await?, file] {
        let all = (0..4).flat_map(|_| ALL);
        try_join_all(all.map(|tables| run(&url, tables))).await?;
    }
    Ok(())
}

/// Tables whose rows are of organizations, and those of them that force row-level security on their owner too.
const WITH_ORGANIZATION: &str = "SELECT c.relname::text FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid \
     WHERE c.relnamespace = 'keys'::regnamespace AND c.relkind = 'r' AND a.attname = 'organization_id' \
     UNION SELECT 'organizations' ORDER BY 1";
const WITH_FORCED_SECURITY: &str = "SELECT c.relname::text FROM pg_class c \
     WHERE c.relnamespace = 'keys'::regnamespace AND c.relrowsecurity AND c.relforcerowsecurity \
     AND EXISTS (SELECT 1 FROM pg_policy p WHERE p.polrelid = c.oid) ORDER BY 1";

#[tokio::test]
async fn every_table_with_an_organization_forces_row_level_security() -> TestResult {
    let url = PostgresServer::shared().await?.database().await?;
    run(&url, &KEYS).await?;
    let mut postgres = PgConnectOptions::from_str(&url)?.connect().await?;
    let with: Vec<String> = sqlx::query_scalar(WITH_ORGANIZATION).fetch_all(&mut postgres).await?;
    let forced: Vec<String> = sqlx::query_scalar(WITH_FORCED_SECURITY).fetch_all(&mut postgres).await?;
    assert_eq!(with, forced);
    assert!(with.len() > 10, "{with:?}");
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
