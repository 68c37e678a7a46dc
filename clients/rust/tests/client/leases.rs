//! Places that are held.

use std::time::Duration;

use tidegate_client::{Client, Code, Reason};
use tidegate_tests::{eventually::eventually, test_result::TestResult};

use crate::fixture::{AMPLE, check, patient, service};

async fn is_free(client: &Client) -> anyhow::Result<bool> {
    Ok(client.peek(check("jobs", "acme")).await?.allowed)
}

#[tokio::test]
async fn a_lease_is_held_until_it_is_released() -> TestResult {
    let service = service().await?;
    let client = patient(service.address()).build().await?;
    let first = client.acquire_lease(check("jobs", "acme"), None).await?;
    let mut lease = first.lease.expect("it was admitted");
    let second = client.acquire_lease(check("jobs", "acme"), None).await?;
    assert_eq!((second.code, second.lease.is_none()), (Code::ConcurrencyExceeded, true));
    let before = lease.expires_at();
    lease.renew(Some(Duration::from_secs(59))).await?;
    assert_ne!(lease.expires_at(), before);
    assert!(lease.release().await?);
    assert!(is_free(&client).await?);
    Ok(())
}

#[tokio::test]
async fn a_lease_that_is_dropped_is_released_and_one_that_is_kept_is_not() -> TestResult {
    let service = service().await?;
    let client = patient(service.address()).build().await?;
    // A check takes one as well.
    let decision = client.check(check("jobs", "acme")).await?;
    assert!(decision.lease.is_some() && !is_free(&client).await?);
    drop(decision);
    eventually("it is released", AMPLE, async || is_free(&client).await).await?;

    let lease = client.acquire_lease(check("jobs", "acme"), None).await?.lease.expect("it was admitted");
    let id = lease.keep();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!is_free(&client).await?);
    assert!(client.release_lease(id.clone()).await?);
    assert!(!client.release_lease(id).await?, "it had ended before");
    Ok(())
}

#[tokio::test]
async fn a_lease_that_has_ended_is_not_renewed() -> TestResult {
    let service = service().await?;
    let client = patient(service.address()).build().await?;
    let ttl = Some(Duration::from_millis(50));
    let mut lease = client.acquire_lease(check("jobs", "acme"), ttl).await?.lease.expect("it was admitted");
    tokio::time::sleep(Duration::from_millis(200)).await;
    let error = lease.renew(None).await.expect_err("it has expired");
    assert_eq!(error.reason(), Some(&Reason::LeaseNotFound));
    let error = client.acquire_lease(check("few", "acme"), None).await.expect_err("nothing to hold");
    assert_eq!(error.reason(), Some(&Reason::LimitNotFound));
    Ok(())
}
