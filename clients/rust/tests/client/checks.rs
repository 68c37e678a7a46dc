//! Checks, batches and looks, and what is wrong with them.

use tidegate_client::{Check, Client, Code, Error, Reason};
use tidegate_tests::test_result::TestResult;

use crate::fixture::{check, patient, service, used};

#[tokio::test]
async fn an_admission_and_a_denial_tell_every_limit() -> TestResult {
    let service = service().await?;
    let client = patient(service.address()).build().await?;
    let admitted = client.check(check("few", "acme").cost(2)).await?;
    assert!(admitted.allowed && !admitted.degraded && admitted.id != 0, "{admitted:?}");
    let limit = admitted.binding_limit().expect("one limit applies");
    assert_eq!((limit.name.as_str(), limit.limit, limit.remaining), ("few/hour", 3, 1));

    let denied = client.check(check("few", "acme").cost(2)).await?;
    assert_eq!((denied.allowed, denied.code), (false, Code::RateLimited));
    assert!(denied.retry_after.as_secs() > 60 && denied.limits[0].exceeded, "{denied:?}");
    assert_eq!(used(&service, "few", "acme").await?, 2, "a denial charges nothing");
    Ok(())
}

#[tokio::test]
async fn a_look_and_a_dry_run_charge_nothing() -> TestResult {
    let service = service().await?;
    let client = patient(service.address()).build().await?;
    assert!(client.peek(check("few", "acme")).await?.allowed);
    assert!(client.check(check("few", "acme").dry_run()).await?.allowed);
    assert_eq!(used(&service, "few", "acme").await?, 0);
    let error = client.peek(check("few", "acme").api_key("tk_live_x")).await.expect_err("Peek takes no key");
    assert_eq!(error.reason(), Some(&Reason::InvalidRequest));
    Ok(())
}

#[tokio::test]
async fn checks_of_a_batch_are_answered_each_and_in_order() -> TestResult {
    let service = service().await?;
    let client = patient(service.address()).build().await?;
    let checks = [check("few", "a").cost(3), check("nowhere", "a"), check("few", "a"), check("few", "b")];
    let answers = client.check_batch(checks).await?;
    let told: Vec<_> = answers
        .iter()
        .map(|answer| answer.as_ref().map(|decision| decision.code).map_err(|error| error.reason().cloned()))
        .collect();
    let unknown = Err(Some(Reason::NamespaceNotFound));
    assert_eq!(told, [Ok(Code::Ok), unknown, Ok(Code::RateLimited), Ok(Code::Ok)]);
    assert!(client.check_batch(Vec::<Check>::new()).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn every_wrong_field_is_told_and_nothing_is_decided_in_its_place() -> TestResult {
    let service = service().await?;
    let client = patient(service.address()).build().await?;
    let wrong = Check::new().namespace("no spaces").attribute("", "x").cost(0);
    let error = client.check(wrong).await.expect_err("three fields are wrong");
    let refusal = error.refusal().expect("the service said so");
    let fields: Vec<_> = refusal.violations.iter().map(|violation| violation.field.as_str()).collect();
    assert_eq!((&refusal.reason, fields.len()), (&Reason::InvalidRequest, 3), "{fields:?}");
    assert!(!error.is_outage());
    let error = client.check(check("few", "acme").cost(4)).await.expect_err("never admitted");
    assert_eq!(error.reason(), Some(&Reason::CostAboveCapacity));
    Ok(())
}

#[tokio::test]
async fn a_repetition_with_the_callers_key_is_not_charged() -> TestResult {
    let service = service().await?;
    let client = patient(service.address()).build().await?;
    for replayed in [false, true] {
        let decision = client.check(check("few", "acme").idempotency_key("order 7")).await?;
        assert_eq!((decision.allowed, decision.replayed), (true, replayed));
    }
    assert_eq!(used(&service, "few", "acme").await?, 1);
    Ok(())
}

#[tokio::test]
async fn a_key_is_verified_only_where_the_keys_service_is_known() -> TestResult {
    let client = Client::builder("http://127.0.0.1:1").build().await?;
    let error = client.verify_key(Check::new().api_key("tk_live_x")).await.expect_err("not told where");
    assert_eq!(error, Error::NotConfigured("keys"));
    Ok(())
}
