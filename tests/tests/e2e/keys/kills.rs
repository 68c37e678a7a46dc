//! The keys service is killed at any point of what it does: what it answered is kept, and nothing is half done.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, ensure};
use http::Method;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use tidegate_tests::{
    dice::Dice,
    eventually::eventually,
    rest::{Rest, text},
    stack::{Stack, StackSettings},
    test_result::TestResult,
    turn,
};
use tokio::task::JoinSet;

use crate::seconds;

/// What clients were told.
#[derive(Debug, Default)]
struct Told {
    created: Vec<String>,
    /// The old key and the new one.
    rotated: Vec<(String, String)>,
    revoked: Vec<String>,
}

/// Makes keys, rotates some and revokes some, until told to end. Answers that are lost are not noted.
async fn work(owner: Rest, told: Arc<Mutex<Told>>, ends: Arc<AtomicBool>) -> anyhow::Result<()> {
    while !ends.load(Ordering::Relaxed) {
        let note = |note: &dyn Fn(&mut Told)| note(&mut told.lock().unwrap_or_else(PoisonError::into_inner));
        let Some(made) = done(&owner, "/v1/auth/api-keys", &json!({"name": "crash"}), 201).await? else {
            continue;
        };
        let id = text(&made, "/id")?;
        note(&|told| told.created.push(id.clone()));
        let rotated = done(&owner, &format!("/v1/auth/api-keys/{id}/rotate"), &json!({}), 200).await?;
        let Some(rotated) = rotated else { continue };
        let new = text(&rotated, "/new_key/id")?;
        note(&|told| told.rotated.push((id.clone(), new.clone())));
        if done(&owner, &format!("/v1/auth/api-keys/{new}/revoke"), &json!({}), 200).await?.is_some() {
            note(&|told| told.revoked.push(new.clone()));
        }
    }
    Ok(())
}

/// The answer; none while the service is away.
async fn done(owner: &Rest, path: &str, body: &Value, status: u16) -> anyhow::Result<Option<Value>> {
    let answer = owner.ask(Method::POST, path, body).await?;
    if answer.status.as_u16() == status {
        return Ok(Some(answer.json()));
    }
    ensure!(answer.status.is_server_error(), "{path}: {} {}", answer.status, answer.text());
    tokio::time::sleep(Duration::from_millis(5)).await;
    Ok(None)
}

/// How many keys were made.
fn made(told: &Mutex<Told>) -> usize {
    told.lock().unwrap_or_else(PoisonError::into_inner).created.len()
}

/// How many rows a query over all organizations counts.
async fn count(database: &mut PgConnection, query: &'static str) -> anyhow::Result<i64> {
    let mut all = database.begin().await?;
    sqlx::query("SELECT set_config('tidegate.tenant', '*', TRUE)").execute(&mut *all).await?;
    let count = sqlx::query_scalar(query).fetch_one(&mut *all).await.context(query)?;
    all.commit().await?;
    Ok(count)
}

/// Queries that count what must not be.
const NEVER: &[(&str, &str)] = &[
    (
        "a key without a secret",
        "SELECT count(*) FROM keys.api_keys k WHERE NOT EXISTS \
         (SELECT 1 FROM keys.key_secrets s WHERE s.api_key_id = k.id)",
    ),
    (
        "a key that was made without an event, or with two",
        "SELECT count(*) FROM keys.api_keys k WHERE k.id = k.lineage_id AND 1 <> \
         (SELECT count(*) FROM keys.outbox o WHERE o.action = 'api_key_create' AND o.resource_id = k.id::text)",
    ),
    (
        "an event of a key that is not there",
        "SELECT count(*) FROM keys.outbox o WHERE o.resource_type = 'api_key' AND NOT EXISTS \
         (SELECT 1 FROM keys.api_keys k WHERE k.id::text = o.resource_id)",
    ),
    (
        "a rotated key whose successor is not there, or of another lineage",
        "SELECT count(*) FROM keys.api_keys k WHERE k.replaced_by IS NOT NULL AND NOT EXISTS \
         (SELECT 1 FROM keys.api_keys n WHERE n.id = k.replaced_by AND n.lineage_id = k.lineage_id)",
    ),
    (
        "a successor of nobody",
        "SELECT count(*) FROM keys.api_keys k WHERE k.id <> k.lineage_id AND NOT EXISTS \
         (SELECT 1 FROM keys.api_keys o WHERE o.replaced_by = k.id)",
    ),
    (
        "a key that was rotated or revoked without an event, or with two",
        "SELECT count(*) FROM keys.api_keys k WHERE k.revoked_us IS NOT NULL AND 1 <> \
         (SELECT count(*) FROM keys.outbox o WHERE o.resource_id = k.id::text AND o.action = \
          CASE k.revoke_reason WHEN 'rotated' THEN 'api_key_rotate' ELSE 'api_key_revoke' END)",
    ),
    (
        "a generation that is not that of the last entry of the feed",
        "SELECT count(*) FROM keys.organizations o WHERE generation <> coalesce(\
         (SELECT max(generation) FROM keys.feed f WHERE f.organization_id = o.id), 0)",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn report_kills_nothing_is_half_done_and_nothing_that_was_answered_is_lost() -> TestResult {
    let _turn = turn::alone().await;
    let kills = if seconds::is_long() { 200 } else { 8 };
    let settings = StackSettings { redis: true, postgres: true, ..StackSettings::default() };
    let mut stack = Stack::start(&settings).await?;
    let (owner, _) = stack.tenant("ada@example.com", "Analytical Engines").await?;
    let (told, ends) = (Arc::new(Mutex::new(Told::default())), Arc::new(AtomicBool::new(false)));
    let mut clients = JoinSet::new();
    for _ in 0..6 {
        clients.spawn(work(owner.clone(), Arc::clone(&told), Arc::clone(&ends)));
    }
    let mut dice = Dice::new(1);
    for _ in 0..kills {
        // In the midst of work, however long the gateway takes to find the service again.
        let done = made(&told);
        eventually("work goes on after a kill", Duration::from_secs(30), async || Ok(made(&told) > done))
            .await?;
        tokio::time::sleep(dice.time(Duration::from_millis(200))).await;
        stack.keys.kill()?;
        stack.keys.restart().await?;
    }
    // Some work after the last restart as well.
    let before = told.lock().unwrap_or_else(PoisonError::into_inner).revoked.len();
    eventually("work goes on after the last kill", Duration::from_secs(20), async || {
        Ok(told.lock().unwrap_or_else(PoisonError::into_inner).revoked.len() > before)
    })
    .await?;
    ends.store(true, Ordering::Relaxed);
    while let Some(ended) = clients.join_next().await {
        ended??;
    }

    let mut database = PgConnection::connect(&stack.database_url).await?;
    for (what, query) in NEVER {
        let found = count(&mut database, query).await?;
        assert_eq!(found, 0, "{what}: {found} times");
    }
    let told = std::mem::take(&mut *told.lock().unwrap_or_else(PoisonError::into_inner));
    let Told { created, rotated, revoked } = &told;
    println!(
        "{kills} kills: {} keys made, {} rotated, {} revoked were answered, and all are kept",
        created.len(),
        rotated.len(),
        revoked.len()
    );
    let mut all = database.begin().await?;
    sqlx::query("SELECT set_config('tidegate.tenant', '*', TRUE)").execute(&mut *all).await?;
    let is = "SELECT count(*) FROM keys.api_keys WHERE id = $1::uuid AND ($2 = '' OR revoke_reason = $2)";
    let answered = created.iter().map(|id| (id, ""));
    let answered = answered.chain(rotated.iter().flat_map(|(old, new)| [(old, "rotated"), (new, "")]));
    for (id, reason) in answered.chain(revoked.iter().map(|id| (id, "revoked"))) {
        let found: i64 = sqlx::query_scalar(is).bind(id).bind(reason).fetch_one(&mut *all).await?;
        assert_eq!(found, 1, "{id} was answered, and is not there ({reason})");
    }
    Ok(())
}
