//! Credits through crashes: whatever is killed whenever, never more is admitted than was granted.

mod ledger;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, ensure};
use http::{Method, StatusCode};
use serde_json::json;
use tidegate_proto::ratelimit::v1::{CheckRequest, Code};
use tidegate_tests::{
    backend::Backend,
    dice::Dice,
    eventually::eventually,
    rest::{Rest, text},
    stack::{Stack, StackSettings},
    test_result::TestResult,
    turn,
};
use tokio::{task::JoinSet, time::Instant};

use self::ledger::Ledger;
use super::{POLICIES, ample_tenant};
use crate::seconds;

/// What a refill sets the account to, at least.
const REFILL: u64 = 300;
/// What the account begins with.
const FIRST_GRANT: u64 = 100;
const CLIENTS: usize = 8;

/// What the clients saw.
#[derive(Debug, Default)]
struct Seen {
    admitted: AtomicU64,
    denied: AtomicU64,
    /// Whether they were paid for is not known.
    unanswered: AtomicU64,
    ends: AtomicBool,
}

impl Seen {
    fn count(of: &AtomicU64) -> u64 {
        of.load(Ordering::SeqCst)
    }
}

/// Checks one after the other, each once or, with an idempotency key, up to four times over one replica after the
/// other.
async fn client(
    mut replicas: Vec<Backend>,
    key: String,
    number: usize,
    seen: Arc<Seen>,
) -> anyhow::Result<()> {
    let is_repeating = number % 2 == 1;
    for check in 0.. {
        if seen.ends.load(Ordering::Relaxed) {
            break;
        }
        let idempotency_key = if is_repeating { format!("{number}-{check}") } else { String::new() };
        let asked = CheckRequest { api_key: key.clone(), idempotency_key, ..CheckRequest::default() };
        let mut outcome = &seen.unanswered;
        for attempt in 0..if is_repeating { 4 } else { 1 } {
            let at = (number / 2 + attempt) % replicas.len();
            match replicas[at].ask(asked.clone()).await {
                Ok(answer) if answer.allowed => outcome = &seen.admitted,
                Ok(answer) if !answer.degraded => {
                    ensure!(answer.code() == Code::QuotaExceeded, "{answer:?}");
                    outcome = &seen.denied;
                }
                Ok(_) | Err(_) => {
                    tokio::time::sleep(Duration::from_millis(3)).await;
                    continue;
                }
            }
            break;
        }
        outcome.fetch_add(1, Ordering::SeqCst);
        if std::ptr::eq(outcome, &seen.denied) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    Ok(())
}

/// Grants again and again until it is to end, each grant until it is answered, and says how much that was. Mostly it waits
/// for a while, or until the account is empty.
async fn grant(owner: Rest, path: String, seen: Arc<Seen>, ends: Arc<AtomicBool>) -> anyhow::Result<u64> {
    let (mut dice, mut granted) = (Dice::new(2), 0);
    for number in 0.. {
        let (denied, until) = (Seen::count(&seen.denied), Instant::now() + Duration::from_millis(600));
        let waits = || number % 3 != 0 && Instant::now() < until && Seen::count(&seen.denied) == denied;
        while waits() && !ends.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if ends.load(Ordering::Relaxed) {
            break;
        }
        let amount = 20 + dice.throw() % 200;
        let header = [("idempotency-key", format!("grant-{number}"))];
        let header = header.each_ref().map(|(name, value)| (*name, value.as_str()));
        loop {
            let answer = owner.ask_with(Method::POST, &path, &header, &json!({"amount": amount})).await?;
            if answer.status == StatusCode::OK {
                break;
            }
            // One whose answer was lost may be under way still.
            let is_passing = answer.status.is_server_error() || answer.status == StatusCode::CONFLICT;
            ensure!(is_passing, "{} {}", answer.status, answer.text());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        granted += amount;
    }
    Ok(granted)
}

/// Which of the processes are killed together.
const STRIKES: [&[usize]; 6] = [&[KEYS], &[FIRST], &[SECOND], &[REDIS], &[KEYS, FIRST], &[SECOND, REDIS]];
const REDIS: usize = 0;
const KEYS: usize = 1;
const FIRST: usize = 2;
const SECOND: usize = 3;

async fn strike(stack: &mut Stack, victims: &[usize], away: Duration) -> anyhow::Result<()> {
    let redis = stack.redis.as_mut().context("counters live in Redis")?;
    for victim in victims {
        match *victim {
            REDIS => redis.kill()?,
            KEYS => stack.keys.kill()?,
            replica => stack.ratelimit[replica - FIRST].kill()?,
        }
    }
    tokio::time::sleep(away).await;
    for victim in victims {
        match *victim {
            REDIS => redis.restart().await?,
            KEYS => stack.keys.restart().await?,
            replica => stack.ratelimit[replica - FIRST].restart().await?,
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn report_credits_through_kills_never_more_is_admitted_than_was_granted() -> TestResult {
    let _turn = turn::alone().await;
    let strikes = if seconds::is_long() { 60 } else { STRIKES.len() };
    let settings = StackSettings {
        redis: true,
        postgres: true,
        replicas: 2,
        policies: POLICIES.to_owned(),
        ..StackSettings::default()
    };
    let mut stack = Stack::start(&settings).await?;
    let owner = ample_tenant(&stack).await?;
    let token = stack.backend().await?.token().to_owned();
    let made = owner.post("/v1/auth/api-keys", &json!({"name": "metered"}), 201).await?;
    let (key, path) =
        (text(&made, "/key_value")?, format!("/v1/auth/api-keys/{}/credits", text(&made, "/id")?));
    let first = json!({"amount": FIRST_GRANT, "refill_amount": REFILL, "refill_every_days": 1});
    owner.post(&path, &first, 200).await?;
    let mut ledger = Ledger::open(&stack.database_url).await?;

    let seen = Arc::new(Seen::default());
    let backends = |stack: &Stack| -> anyhow::Result<Vec<_>> {
        stack.ratelimit.iter().map(|replica| Backend::new(replica.address(), &token)).collect()
    };
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        clients.spawn(client(backends(&stack)?, key.clone(), number, Arc::clone(&seen)));
    }
    let ends = Arc::new(AtomicBool::new(false));
    let granting = tokio::spawn(grant(owner.clone(), path, Arc::clone(&seen), Arc::clone(&ends)));
    let (mut dice, mut refills) = (Dice::new(3), 0);
    for number in 0..strikes {
        tokio::time::sleep(dice.time(Duration::from_millis(500))).await;
        if number % 3 == 1 {
            ledger.make_refill_due().await?;
            refills += 1;
        }
        strike(&mut stack, STRIKES[number % STRIKES.len()], dice.time(Duration::from_millis(150))).await?;
    }
    ends.store(true, Ordering::Relaxed);
    let granted = FIRST_GRANT + granting.await??;

    // Until nothing is left anywhere.
    let mut idle = backends(&stack)?;
    eventually("both replicas have handed out all they have", Duration::from_secs(20), async || {
        let mut empty = 0;
        for replica in &mut idle {
            // What is admitted here counts as well.
            let answer = replica.check(&key).await?;
            match answer.allowed {
                true => _ = seen.admitted.fetch_add(1, Ordering::SeqCst),
                false => empty += usize::from(answer.code() == Code::QuotaExceeded),
            }
        }
        Ok(empty == 2)
    })
    .await?;
    seen.ends.store(true, Ordering::Relaxed);
    while let Some(ended) = clients.join_next().await {
        ended??;
    }

    let [admitted, denied, unanswered] = [&seen.admitted, &seen.denied, &seen.unanswered].map(Seen::count);
    let told = ledger.sums().await?;
    let available = told.granted + told.refilled;
    println!(
        "{strikes} times killed: {granted} credits granted, {} refilled; {admitted} checks admitted, \
         {denied} denied, {unanswered} not answered; {} credits lost ({:.1} %)",
        told.refilled,
        available - admitted.min(available),
        100.0 * (available - admitted.min(available)) as f64 / available as f64
    );
    assert_eq!(told.granted, granted, "a grant that was asked for until it was answered is made once");
    assert!(
        told.refills <= refills && told.refilled <= refills * REFILL,
        "more is refilled than is due: {told:?}"
    );
    assert_eq!(told.reserved + told.balance, available, "the ledger adds up to the balance: {told:?}");
    assert!(admitted <= told.reserved, "{admitted} are admitted, and {} were taken off", told.reserved);
    assert!(admitted <= available, "{admitted} are admitted of {available}");
    assert!(denied > 0, "the account was never empty");
    assert!(admitted > available / 2, "most is lost: {admitted} of {available}");
    stack.assert_no_panic().await?;
    Ok(())
}
