//! Answers that are lost: no check is charged twice.

use tidegate_client::{Client, Retries};
use tidegate_tests::test_result::TestResult;
use tokio::task::JoinSet;

use crate::{
    fixture::{check, patient, port, service, used},
    lossy::Lossy,
};

const CALLERS: usize = 8;
const CHECKS: u64 = 400;
const ONE_IN: u64 = 9;

/// How many checks were admitted by the service itself.
async fn run(client: &Client, organization: &'static str) -> anyhow::Result<u64> {
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let client = client.clone();
        callers.spawn(async move {
            let mut admitted = 0;
            for _ in 0..CHECKS / CALLERS as u64 {
                let decision = client.check(check("many", organization)).await?;
                admitted += u64::from(decision.allowed && !decision.degraded);
            }
            anyhow::Ok(admitted)
        });
    }
    let mut admitted = 0;
    while let Some(caller) = callers.join_next().await {
        admitted += caller??;
    }
    Ok(admitted)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_keys_of_the_client_every_check_is_answered_and_charged_once() -> TestResult {
    let service = service().await?;
    let network = Lossy::before(port(&service), ONE_IN).await?;
    let client = patient(&network.address).retries(Retries::Idempotent).build().await?;
    let admitted = run(&client, "acme").await?;
    assert!(network.lost() > 10, "{} answers were lost", network.lost());
    let charged = used(&service, "many", "acme").await?;
    assert!(charged <= CHECKS, "{charged} charged");
    // A check whose answer was lost four times in a row is charged and not answered.
    assert!(admitted <= charged && admitted >= CHECKS * 95 / 100, "{admitted} answered, {charged} charged");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_keys_a_lost_answer_is_not_asked_for_again() -> TestResult {
    let service = service().await?;
    let network = Lossy::before(port(&service), ONE_IN).await?;
    let client = patient(&network.address).build().await?;
    let admitted = run(&client, "acme").await?;
    assert!(network.lost() > 10, "{} answers were lost", network.lost());
    let charged = used(&service, "many", "acme").await?;
    assert!(charged <= CHECKS, "{charged} charged");
    assert!(admitted < charged, "{admitted} answered, {charged} charged");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_charged_once_as_well() -> TestResult {
    let service = service().await?;
    let network = Lossy::before(port(&service), 2).await?;
    let client = patient(&network.address).retries(Retries::Idempotent).build().await?;
    let mut replayed = 0;
    for _ in 0..20 {
        for decision in client.check_batch((0..10).map(|_| check("many", "acme"))).await? {
            let decision = decision?;
            assert!(decision.allowed && !decision.degraded, "{decision:?}");
            replayed += u64::from(decision.replayed);
        }
    }
    assert!(replayed > 0, "the second answer tells that the first was lost");
    assert_eq!(used(&service, "many", "acme").await?, 200);
    Ok(())
}
