//! A flood of keys that nobody has: what it costs is bounded (its memory at full length only), and good keys are checked as before.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, ensure};
use serde_json::json;
use sqlx::{Connection, PgConnection};
use tidegate_proto::ratelimit::v1::Code;
use tidegate_tests::{
    api_key::nobodys,
    backend::Backend,
    dice::Dice,
    http_client::metric,
    rest::text,
    stack::{Stack, StackSettings},
    test_result::TestResult,
    times, turn,
};
use tokio::{task::JoinSet, time::Instant};

use super::{POLICIES, ample_tenant};
use crate::seconds;

/// Clients of the flood, each with a connection of its own.
const CLIENTS: u64 = 16;
/// Between two checks by the good key.
const GOOD_EVERY: Duration = Duration::from_millis(10);
/// At most so often in a second the keys service asks the database what is new, however many want to know.
const QUESTIONS_A_SECOND: f64 = 200.0;
/// What the services ask the database anyway, with room: the feed every 400 ms, reports of use, jobs.
const QUIET_QUESTIONS_A_SECOND: f64 = 40.0;

/// What became of the flood.
#[derive(Debug, Default)]
struct Flood {
    denied: AtomicU64,
    /// Not decided, since too many were being asked for.
    refused: AtomicU64,
}

/// Asks about so many values, of which none comes twice, or until a time.
async fn client(
    mut replica: Backend,
    seed: u64,
    (values, until): (u64, Instant),
    flood: Arc<Flood>,
) -> anyhow::Result<()> {
    let mut dice = Dice::new(seed);
    for _ in 0..values {
        if Instant::now() > until {
            break;
        }
        match replica.check(&nobodys(&mut dice)).await {
            Ok(answer) => {
                ensure!(answer.code() == Code::KeyNotFound, "{answer:?}");
                flood.denied.fetch_add(1, Ordering::SeqCst);
            }
            Err(status) => {
                ensure!(status.code() == tonic::Code::Unavailable, "{status:?}");
                flood.refused.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
    Ok(())
}

/// What the machinery has used so far.
struct Used {
    at: Instant,
    transactions: i64,
    /// Calls of scripts: a check that asks Redis is one, or shares one with others.
    scripts: u64,
    lookups: f64,
}

async fn used(stack: &Stack, database: &mut PgConnection) -> anyhow::Result<Used> {
    // What a connection has done is told to the statistics within a second of its next use.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    sqlx::query("SELECT pg_stat_clear_snapshot()").execute(&mut *database).await?;
    let query = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()";
    let redis = stack.redis.as_ref().context("counters live in Redis")?;
    let stats: String = redis.command(&["INFO", "commandstats"]).await?;
    let scripts = stats.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
    let scripts = scripts.and_then(|line| line.split(',').next());
    let lookups = metric(&stack.ratelimit[0].metrics().await?, "tidegate_ratelimit_key_lookups_total", "");
    Ok(Used {
        at: Instant::now(),
        transactions: sqlx::query_scalar(query).fetch_one(database).await?,
        scripts: scripts.context("Redis counts commands")?.parse()?,
        lookups,
    })
}

/// Resident memory of the replica and of the keys service, in KiB.
fn resident(stack: &Stack) -> anyhow::Result<[u64; 2]> {
    Ok([stack.ratelimit[0].process().resident_kib()?, stack.keys.process().resident_kib()?])
}

#[tokio::test(flavor = "multi_thread")]
async fn report_flood_of_invalid_keys_is_bounded_and_good_keys_are_checked() -> TestResult {
    let _turn = turn::alone().await;
    // What the replica remembers of a shorter flood is less, so that there is no more room for it before it ends. A build that is
    // not optimized does not come to the million in time.
    let (each, remembered, most) = match seconds::is_long() {
        true => (16_000, 100_000, Duration::from_secs(75)),
        false => (40, 100, Duration::from_millis(1_500)),
    };
    let settings = StackSettings {
        redis: true,
        postgres: true,
        policies: POLICIES.to_owned(),
        ratelimit: format!("[keys]\nmax_unknown = {remembered}\n[store.redis]\ndeadline = \"2s\""),
        ..StackSettings::default()
    };
    let stack = Stack::start(&settings).await?;
    let owner = ample_tenant(&stack).await?;
    let token = stack.backend().await?.token().to_owned();
    let made = owner.post("/v1/auth/api-keys", &json!({"name": "good"}), 201).await?;
    let key = text(&made, "/key_value")?;
    let replica = || Backend::new(stack.ratelimit[0].address(), &token);
    let mut database = PgConnection::connect(&stack.database_url).await?;
    let quiet = Arc::new(AtomicBool::new(false));
    let checks = tokio::spawn(replica()?.check_at_rate(key.clone(), GOOD_EVERY, Arc::clone(&quiet)));
    tokio::time::sleep(Duration::from_secs(1)).await;
    quiet.store(true, Ordering::Relaxed);
    let without = checks.await??;

    let before = used(&stack, &mut database).await?;
    let ends = Arc::new(AtomicBool::new(false));
    let checks = tokio::spawn(replica()?.check_at_rate(key, GOOD_EVERY, Arc::clone(&ends)));
    let flood = Arc::new(Flood::default());
    // A fourth at a time, to see whether memory grows from one to the next.
    let (mut memory, mut clients) = (Vec::new(), JoinSet::new());
    for part in 0..4 {
        let values = (each, Instant::now() + most);
        for number in 0..CLIENTS {
            clients.spawn(client(replica()?, part * CLIENTS + number, values, Arc::clone(&flood)));
        }
        while let Some(ended) = clients.join_next().await {
            ended??;
        }
        memory.push(resident(&stack)?);
    }
    let took = before.at.elapsed();
    ends.store(true, Ordering::Relaxed);
    let with = checks.await??;
    let after = used(&stack, &mut database).await?;

    let [denied, refused] = [&flood.denied, &flood.refused].map(|counter| counter.load(Ordering::SeqCst));
    let count = denied + refused;
    let seconds = (after.at - before.at).as_secs_f64();
    let transactions = after.transactions - before.transactions;
    let scripts = after.scripts - before.scripts;
    println!(
        "{count} keys that nobody has in {:.1} s, {:.0} a second: {denied} denied, {refused} not decided; \
         {:.0} look-ups",
        took.as_secs_f64(),
        count as f64 / took.as_secs_f64(),
        after.lookups - before.lookups
    );
    println!(
        "transactions of the database: {transactions}, {:.0} a second; calls of scripts in Redis: {scripts}",
        transactions as f64 / seconds
    );
    for (part, [replica, keys]) in memory.iter().enumerate() {
        println!("memory after {} of 4: replica {} MiB, keys {} MiB", part + 1, replica >> 10, keys >> 10);
    }
    println!(
        "a good key meanwhile   {}\n  before               {without}\n  in the flood         {with}",
        times::HEADER
    );

    assert!(denied > 4 * remembered / 2, "the flood is too small to tell anything");
    let most = seconds * (QUESTIONS_A_SECOND + QUIET_QUESTIONS_A_SECOND);
    assert!((transactions as f64) < most, "{transactions} transactions in {seconds} s");
    // A check by the good key is one call at most. Some more are made by the services themselves.
    let most = with.count() as f64 + 10.0 * seconds;
    assert!(scripts as f64 <= most, "{scripts} calls of scripts for {} checks by a good key", with.count());
    // Only the million tells: of a short flood each value could leave some kilobytes behind, and they would be lost in what memory does
    // otherwise.
    if seconds::is_long() {
        let [first, last] = [memory[0], memory[3]];
        for (what, first, last) in [("replica", first[0], last[0]), ("keys", first[1], last[1])] {
            assert!(last < first + first / 4 + 16_384, "the memory of {what} grows: {first} KiB, {last} KiB");
        }
    }
    stack.assert_no_panic().await?;
    Ok(())
}
