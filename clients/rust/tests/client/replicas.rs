//! Several replicas, one of which goes.

use std::time::Duration;

use tidegate_tests::test_result::TestResult;
use tokio::task::JoinSet;

use crate::fixture::{check, patient, service, used};

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
    const CALLERS: usize = 8;
    let (mut first, second) = (service().await?, service().await?);
    let client = patient(first.address()).endpoint(format!("http://{}", second.address())).build().await?;
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let client = client.clone();
        callers.spawn(async move {
            let mut degraded = 0;
            for _ in 0..150 {
                degraded += usize::from(client.check(check("many", "acme")).await?.degraded);
            }
            anyhow::Ok(degraded)
        });
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    first.kill()?;
    let mut degraded = 0;
    while let Some(caller) = callers.join_next().await {
        degraded += caller??;
    }
    assert!(degraded <= CALLERS, "{degraded} checks had no answer");
    Ok(())
}
