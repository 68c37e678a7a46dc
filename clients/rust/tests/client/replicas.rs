//! Several replicas, one of which goes.

use std::time::Duration;

use tidegate_client::{Client, Retries};
use tidegate_tests::{redis_server::RedisServer, test_result::TestResult};
use tokio::task::JoinSet;

use crate::fixture::{check, patient, service, service_on, used};

const CALLERS: usize = 8;
const CHECKS: usize = 150;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checks_are_spread_and_survive_the_death_of_a_replica() -> TestResult {
    let (mut first, second) = (service().await?, service().await?);
    let client = patient(first.address()).endpoint(format!("http://{}", second.address())).build().await?;
    for _ in 0..100 {
        assert!(!client.check(check("many", "acme")).await?.degraded);
    }
    let counts = [used(&first, "many", "acme").await?, used(&second, "many", "acme").await?];
    assert!(counts.iter().sum::<u64>() == 100 && counts.iter().all(|count| *count > 15), "{counts:?}");

    first.kill()?;
    // The news travels through this machine.
    tokio::time::sleep(Duration::from_millis(50)).await;
    for number in 0..100 {
        assert!(!client.check(check("many", "acme")).await?.degraded, "check {number} after the death");
    }
    assert_eq!(used(&second, "many", "acme").await?, counts[1] + 100);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_calls_under_way_are_lost_with_a_replica_that_is_killed() -> TestResult {
    let (mut first, second) = (service().await?, service().await?);
    let client = patient(first.address()).endpoint(format!("http://{}", second.address())).build().await?;
    let callers = callers(&client);
    tokio::time::sleep(Duration::from_millis(100)).await;
    first.kill()?;
    let degraded = degraded(callers).await?;
    assert!(degraded <= CALLERS, "{degraded} checks had no answer");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_keys_of_the_client_a_killed_replica_loses_no_check_and_none_is_charged_twice() -> TestResult {
    let redis = RedisServer::start().await?;
    let (mut first, second) = (service_on(&redis).await?, service_on(&redis).await?);
    let client = patient(first.address())
        .endpoint(format!("http://{}", second.address()))
        .retries(Retries::Idempotent)
        .build()
        .await?;
    let callers = callers(&client);
    tokio::time::sleep(Duration::from_millis(100)).await;
    first.kill()?;
    assert_eq!(degraded(callers).await?, 0, "the other replica answers");
    assert_eq!(used(&second, "many", "acme").await?, (CALLERS * CHECKS) as u64);
    Ok(())
}

/// Each counts how many of its checks had no answer of the service.
fn callers(client: &Client) -> JoinSet<anyhow::Result<usize>> {
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let client = client.clone();
        callers.spawn(async move {
            let mut degraded = 0;
            for _ in 0..CHECKS {
                degraded += usize::from(client.check(check("many", "acme")).await?.degraded);
            }
            Ok(degraded)
        });
    }
    callers
}

async fn degraded(mut callers: JoinSet<anyhow::Result<usize>>) -> anyhow::Result<usize> {
    let mut degraded = 0;
    while let Some(caller) = callers.join_next().await {
        degraded += caller??;
    }
    Ok(degraded)
}
