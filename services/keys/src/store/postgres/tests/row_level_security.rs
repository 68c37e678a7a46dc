//! That the database itself keeps organizations apart, whatever a statement forgets.

use sqlx::{Connection, Executor};
use uuid::Uuid;

use super::*;
use crate::{
    domain::OrganizationId,
    store::{
        Change,
        conformance::{
            AT_US, api_key, changes as rows, credits, event, family, id, invitation, ledger_entry,
            membership, put, secret, service_token, usage::used,
        },
    },
};

/// Tables with organizations, and the columns that name them.
const TABLES: [(&str, &str); 12] = [
    ("organizations", "id"),
    ("memberships", "organization_id"),
    ("invitations", "organization_id"),
    ("refresh_families", "organization_id"),
    ("api_keys", "organization_id"),
    ("key_secrets", "organization_id"),
    ("credit_accounts", "organization_id"),
    ("ledger", "organization_id"),
    ("service_tokens", "organization_id"),
    ("usage", "organization_id"),
    ("feed", "organization_id"),
    ("outbox", "organization_id"),
];

fn one() -> OrganizationId {
    OrganizationId(id(1))
}

fn two() -> OrganizationId {
    OrganizationId(id(2))
}

/// A store where organizations 1 and 2 have a row in each table.
async fn filled(url: &str) -> SqlStore<Postgres> {
    use tidegate_chassis::auth::Role;
    let store = open(url).await;
    put_tenants(&store).await;
    for number in [1, 2] {
        let of_one = [
            Change::Membership(membership(number, number, Role::User)),
            Change::Invitation(invitation(number, number)),
            Change::RefreshFamily(family(number, number, Some(number))),
            Change::ApiKey(api_key(number, number)),
            Change::KeySecret(secret(number, number, number)),
            Change::Credits(credits(number, number)),
            Change::Ledger(ledger_entry(number, number, number)),
            Change::ServiceToken(service_token(number, Some(number))),
        ];
        put(&store, of_one).await;
        let told = Write {
            feed: vec![feed_entry(number, 1)],
            events: vec![event(number, Some(number))],
            ..rows([])
        };
        store.write(&told).await.expect("written");
        let uses = [used(number, number, "2026-01-01", "allowed", 1)];
        assert_eq!(store.add_usage(id(number), AT_US, &uses).await, Ok(true));
    }
    store
}

async fn count(connection: &mut PgConnection, table: &str, condition: &str) -> i64 {
    let query = format!("SELECT count(*) FROM keys.{table} WHERE {condition}");
    sqlx::query_scalar(AssertSqlSafe(query)).fetch_one(connection).await.expect("counted")
}

async fn set_tenant(connection: &mut PgConnection, tenant: &str) {
    let set = sqlx::query("SELECT set_config('tidegate.tenant', $1, TRUE)").bind(tenant);
    set.execute(connection).await.expect("set");
}

#[tokio::test]
async fn without_a_tenant_there_are_no_rows_in_any_table() {
    let url = database().await;
    let store = filled(&url).await;
    // Never set, set to nothing, and set by a transaction that is over.
    let mut connection = PgConnection::connect(&url).await.expect("connected");
    for (table, _) in TABLES {
        assert_eq!(count(&mut connection, table, "TRUE").await, 0, "{table}");
    }
    for tenant in ["", "*", &one().to_string()] {
        let mut transaction = connection.begin().await.expect("begun");
        set_tenant(&mut transaction, tenant).await;
        let expected = match tenant {
            "" => 0,
            "*" => 2,
            _ => 1,
        };
        for (table, _) in TABLES {
            assert_eq!(count(&mut transaction, table, "TRUE").await, expected, "{table} of {tenant:?}");
        }
        transaction.commit().await.expect("committed");
        for (table, _) in TABLES {
            assert_eq!(count(&mut connection, table, "TRUE").await, 0, "{table} after {tenant:?}");
        }
    }
    // Nor in what the store itself begins for nobody.
    let mut nobody = store.0.begin(Tenant::Nobody, Access::Read).await.expect("begun");
    for (table, _) in TABLES {
        assert_eq!(count(&mut nobody, table, "TRUE").await, 0, "{table}");
    }
}

#[tokio::test]
async fn of_one_tenant_nothing_of_another_is_seen_or_changed() {
    let url = database().await;
    let store = filled(&url).await;
    let mut transaction = store.0.begin(Tenant::One(one()), Access::Write).await.expect("begun");
    for (table, column) in TABLES {
        let of = |organization: OrganizationId| format!("{column} = '{organization}'");
        assert_eq!(count(&mut transaction, table, &of(one())).await, 1, "{table}");
        assert_eq!(count(&mut transaction, table, &of(two())).await, 0, "{table}");
        assert_eq!(count(&mut transaction, table, "TRUE").await, 1, "{table}");
        for statement in
            [format!("UPDATE keys.{table} SET {column} = {column}"), format!("DELETE FROM keys.{table}")]
        {
            let condition = of(two());
            let query = sqlx::query(AssertSqlSafe(format!("{statement} WHERE {condition}")));
            let changed = query.execute(&mut *transaction).await.expect("run").rows_affected();
            assert_eq!(changed, 0, "{statement}");
        }
    }
    // A statement that forgot to name the organization, run for one.
    let hashes = Postgres::rows(
        &mut transaction,
        statements::KEY_HASHES,
        vec![Value::Bytes(Some(Vec::new())), Value::Number(Some(9))],
    );
    assert_eq!(hashes.await.expect("asked").len(), 1);
}

#[tokio::test]
async fn a_row_of_one_tenant_is_not_written_as_another() {
    let url = database().await;
    let store = filled(&url).await;
    // What the table has of organization 2, once more; then what it has of 1, made one of 2.
    let columns = "SELECT string_agg(quote_ident(column_name), ', ') FROM information_schema.columns \
         WHERE table_schema = 'keys' AND table_name = $1 AND column_name <> $2";
    let superuser = url.replacen(url.split('@').next().expect("a role"), "postgres://postgres", 1);
    let mut above = PgConnection::connect(&superuser).await.expect("connected");
    let mut connection = PgConnection::connect(&url).await.expect("connected");
    for (table, column) in TABLES {
        let others: String =
            sqlx::query_scalar(columns).bind(table).bind(column).fetch_one(&mut above).await.expect("listed");
        let insert = format!(
            "INSERT INTO keys.{table} ({column}, {others}) SELECT '{}', {others} FROM keys.{table} LIMIT 1",
            two()
        );
        let update = format!("UPDATE keys.{table} SET {column} = '{}'", two());
        for statement in [insert, update] {
            let mut transaction = connection.begin().await.expect("begun");
            set_tenant(&mut transaction, &one().to_string()).await;
            let refused = transaction.execute(AssertSqlSafe(statement.clone())).await;
            let refused = refused.expect_err(&statement).to_string();
            assert!(refused.contains("row-level security"), "{statement}: {refused}");
        }
    }
    // Without a tenant there is nothing that may be written.
    let insert = "INSERT INTO keys.outbox (id, action, outcome, actor, actor_type, resource_type, resource_id, details, at_us) \
         VALUES ($1, '', '', '', '', '', '', '{}', 0)";
    let refused = sqlx::query(insert).bind(Uuid::nil()).execute(&mut connection).await;
    assert!(refused.expect_err("refused").to_string().contains("row-level security"));
    drop(store);
}

#[tokio::test]
async fn writes_say_for_whom_they_are() {
    let (store, ()) = opened().await;
    // For one, for several, and for nobody: all are let through, since each says so.
    put_tenants(&store).await;
    put(&store, [Change::ApiKey(api_key(1, 1))]).await;
    put(&store, [Change::ApiKey(api_key(2, 1)), Change::ApiKey(api_key(3, 2))]).await;
    put(&store, [Change::ServiceToken(service_token(1, None)), Change::ApiKey(api_key(4, 1))]).await;
    let events = vec![event(1, Some(2)), event(2, None)];
    let write = Write { feed: vec![feed_entry(2, 1)], events, ..rows([Change::ApiKey(api_key(5, 1))]) };
    assert_eq!(store.write(&write).await, Ok(1));
}

#[tokio::test]
async fn production_refuses_roles_for_which_security_does_not_hold() {
    let server = PostgresServer::shared().await.expect("postgres");
    let superuser = server.database().await.expect("a database");
    let plain = database().await;
    let (_, name) = plain.rsplit_once('/').expect("a name");
    let mut above = PgConnection::connect(&superuser).await.expect("connected");
    let grant = format!("ALTER ROLE {name} BYPASSRLS");
    open(&plain).await;
    above.execute(AssertSqlSafe(grant)).await.expect("granted");
    for url in [&superuser, &plain] {
        let refused = Postgres::open(&config(url), Environment::Production).await;
        let refused = refused.expect_err("refused").to_string();
        assert!(refused.contains("row-level security"), "{refused}");
        Postgres::open(&config(url), Environment::Development).await.expect("opened with a warning");
    }
}

#[tokio::test]
async fn a_role_that_owns_nothing_can_serve() {
    let url = database().await;
    filled(&url).await;
    let (_, owner) = url.rsplit_once('/').expect("a name");
    let role = format!("{owner}_serving");
    let superuser = url.replacen(url.split('@').next().expect("a role"), "postgres://postgres", 1);
    let mut above = PgConnection::connect(&superuser).await.expect("connected");
    for statement in [
        format!("CREATE ROLE {role} LOGIN"),
        format!("GRANT USAGE ON SCHEMA keys TO {role}"),
        format!("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA keys TO {role}"),
    ] {
        above.execute(AssertSqlSafe(statement)).await.expect("granted");
    }
    let mut settings = config(&url.replacen(&format!("{owner}@"), &format!("{role}@"), 1));
    settings.migrate = false;
    let store = Postgres::open(&settings, Environment::Production).await.expect("opened");
    let store = SqlStore(store);
    assert_eq!(store.write(&told()).await, Ok(3));
    assert_eq!(store.key_hashes(None, 9).await.expect("asked").len(), 2);
}
