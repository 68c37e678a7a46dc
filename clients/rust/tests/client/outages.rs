//! A service that is gone, stands still, or comes back.

use std::{num::NonZeroU32, time::Duration};

use tidegate_client::{Client, Code, FailureMode, LocalLimit};
use tidegate_tests::{eventually::eventually, test_result::TestResult};
use tokio::time::Instant;

use crate::fixture::{AMPLE, check, patient, service};

const NOBODY: &str = "http://127.0.0.1:1";
const DEADLINE: Duration = Duration::from_millis(100);
/// For a busy machine with two cores to notice that a time is over.
const SLACK: Duration = Duration::from_millis(400);

#[tokio::test]
async fn each_failure_mode_answers_and_says_degraded() -> TestResult {
    let local = LocalLimit::new(NonZeroU32::new(2).expect("not 0"), Duration::from_secs(60));
    let modes = [
        (FailureMode::Closed, [Code::Unavailable; 3]),
        (FailureMode::Open, [Code::Ok; 3]),
        (FailureMode::Local(local), [Code::Ok, Code::Ok, Code::RateLimited]),
    ];
    for (mode, expected) in modes {
        let client = Client::builder(NOBODY).failure_mode(mode).build().await?;
        for code in expected {
            let decision = client.check(check("many", "acme")).await?;
            assert_eq!((decision.code, decision.allowed, decision.degraded), (code, code == Code::Ok, true));
        }
        let keyed = client.check(check("many", "acme").api_key("tk_live_x")).await?;
        assert_eq!(keyed.code, Code::Unavailable, "nobody knows whose key it is");
        let batch = client.check_batch([check("many", "acme"), check("many", "acme")]).await?;
        assert!(batch.iter().flatten().all(|decision| decision.degraded) && batch.len() == 2);
        let error = client.peek(check("many", "acme")).await.expect_err("a look has no failure mode");
        assert!(error.is_outage());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_check_takes_longer_than_its_deadline_while_the_service_stands_still() -> TestResult {
    let service = service().await?;
    let client = Client::builder(format!("http://{}", service.address()))
        .deadline(DEADLINE)
        .failure_mode(FailureMode::Open)
        .build()
        .await?;
    assert!(!client.check(check("many", "acme").deadline(AMPLE)).await?.degraded);
    service.process().signal("STOP")?;
    let (started, mut longest) = (Instant::now(), Duration::ZERO);
    for _ in 0..100 {
        let asked = Instant::now();
        assert!(client.check(check("many", "acme")).await?.degraded);
        longest = longest.max(asked.elapsed());
    }
    let whole = started.elapsed();
    service.process().signal("CONT")?;
    assert!(longest <= DEADLINE + SLACK, "{longest:?}");
    // Five wait for an answer, and then one a second; the others cost nothing.
    assert!(whole < 12 * DEADLINE + SLACK, "{whole:?}");
    let back = async || Ok(!client.check(check("many", "acme").deadline(AMPLE)).await?.degraded);
    eventually("it is asked again", AMPLE, back).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checks_that_come_together_keep_their_deadline_too() -> TestResult {
    // Accepts connections, as its backlog does, and never answers.
    let deaf = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", deaf.local_addr()?);
    let client = Client::builder(url).deadline(DEADLINE).build().await?;
    let checks = (0..200).map(|_| {
        let client = client.clone();
        async move {
            let asked = Instant::now();
            let decision = client.check(check("many", "acme")).await;
            (decision.is_ok_and(|decision| decision.degraded), asked.elapsed())
        }
    });
    let answers = futures_util::future::join_all(checks).await;
    assert!(answers.iter().all(|(is_degraded, _)| *is_degraded));
    let longest = answers.iter().map(|(_, took)| *took).max().expect("there are some");
    assert!(longest <= DEADLINE + SLACK, "{longest:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_comes_back_is_found() -> TestResult {
    let mut service = service().await?;
    let client = patient(service.address()).build().await?;
    assert!(!client.check(check("many", "acme")).await?.degraded);
    service.kill()?;
    for _ in 0..10 {
        assert!(client.check(check("many", "acme")).await?.degraded);
    }
    service.restart().await?;
    let back = async || Ok(!client.check(check("many", "acme")).await?.degraded);
    eventually("it is asked again", AMPLE, back).await?;
    Ok(())
}
