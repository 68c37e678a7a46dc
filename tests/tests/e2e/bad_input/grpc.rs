//! Well-formed gRPC with wrong content.

use tidegate_proto::ratelimit::v1::{
    CheckBatchRequest, CheckError, CheckRequest, CheckStreamRequest, GetUsageRequest, PeekRequest,
    ResetRequest, check_batch_result::Outcome as BatchOutcome, check_request::AttributesEntry,
    check_stream_response::Outcome, peek_request, reset_request,
};
use tidegate_tests::{rpc, test_result::TestResult, turn};
use tonic::{Code, Status};

use super::{VICTIM, ratelimit, unharmed};

struct Case {
    what: &'static str,
    check: CheckRequest,
    code: Code,
    reason: &'static str,
    fields: Vec<&'static str>,
}

fn refused(what: &'static str, check: CheckRequest, fields: &[&'static str]) -> Case {
    Case { what, check, code: Code::InvalidArgument, reason: "INVALID_REQUEST", fields: fields.to_vec() }
}

fn victim() -> CheckRequest {
    rpc::organization(VICTIM)
}

fn with_attribute(key: &str, value: &str) -> CheckRequest {
    let mut check = victim();
    check.attributes.push(AttributesEntry { key: key.into(), value: value.into() });
    check
}

fn many_attributes(count: usize) -> CheckRequest {
    let mut check = victim();
    check.attributes.extend((1..count).map(|i| AttributesEntry { key: format!("a{i}"), value: "x".into() }));
    check
}

fn cost(cost: u64) -> CheckRequest {
    CheckRequest { cost: Some(cost), ..victim() }
}

fn key(key: &str) -> CheckRequest {
    CheckRequest { idempotency_key: key.into(), ..victim() }
}

fn namespace(name: &str) -> CheckRequest {
    CheckRequest { namespace: name.into(), ..victim() }
}

fn cases() -> Vec<Case> {
    let several = CheckRequest { cost: Some(0), namespace: "a b".into(), ..key("\n") };
    let mut cases = vec![
        refused("cost 0", cost(0), &["cost"]),
        refused("cost -1, as it stands on the wire", cost(u64::MAX), &["cost"]),
        refused("cost of 2^63", cost(1 << 63), &["cost"]),
        refused("cost one above the most", cost(1_000_000_001), &["cost"]),
        refused("namespace with a blank", namespace("a b"), &["namespace"]),
        refused("namespace of 129 bytes", namespace(&"n".repeat(129)), &["namespace"]),
        refused("namespace with a NUL", namespace("a\0"), &["namespace"]),
        refused("namespace outside of ASCII", namespace("naïve"), &["namespace"]),
        refused("attribute without a name", with_attribute("", "x"), &["attributes[]"]),
        refused("attribute name with a blank", with_attribute("a b", "x"), &["attributes[a b]"]),
        refused("65 attributes", many_attributes(65), &["attributes"]),
        refused("10,000 attributes", many_attributes(10_000), &["attributes"]),
        refused("idempotency key of 129 bytes", key(&"k".repeat(129)), &["idempotency_key"]),
        refused("idempotency key with a line end", key("a\nb"), &["idempotency_key"]),
        refused("idempotency key outside of ASCII", key("clé"), &["idempotency_key"]),
        refused("three fields at once", several, &["namespace", "cost", "idempotency_key"]),
    ];
    let one = |what, check, code, reason, field| Case { what, check, code, reason, fields: vec![field] };
    cases.push(one("cost above capacity", cost(11), Code::InvalidArgument, "COST_ABOVE_CAPACITY", "cost"));
    for name in ["platinum", &*"p".repeat(900_000)] {
        let plan = with_attribute("plan", name);
        cases.push(one("unknown plan", plan, Code::InvalidArgument, "UNKNOWN_PLAN", "attributes[plan]"));
    }
    let nowhere = namespace("nowhere");
    cases.push(one("unknown namespace", nowhere, Code::NotFound, "NAMESPACE_NOT_FOUND", "namespace"));
    cases
}

fn assert_refused(case: &Case, by: &str, status: &Status, prefix: &str) {
    let seen = rpc::explain(status).unwrap_or_else(|error| panic!("{by}, {}: {error:#}", case.what));
    let what = format!("{by}, {}: {seen:?} {}", case.what, status.message());
    assert_eq!((seen.code, seen.reason.as_str()), (case.code, case.reason), "{what}");
    assert_eq!(seen.domain, "tidegate.dev", "{what}");
    let mut expected: Vec<_> = case.fields.iter().map(|field| format!("{prefix}{field}")).collect();
    let mut fields = seen.fields.clone();
    expected.sort();
    fields.sort();
    assert_eq!(fields, expected, "{what}");
    assert!(!status.message().is_empty() && status.message().len() < 2_000, "{what}");
}

/// The error of one check among several says the same as a status would.
fn assert_explained(case: &Case, by: &str, error: &CheckError) {
    let what = format!("{by}, {}: {error:?}", case.what);
    assert_eq!((error.status_code, error.reason.as_str()), (i32::from(case.code), case.reason), "{what}");
    let mut fields: Vec<_> = error.violations.iter().map(|violation| violation.field.as_str()).collect();
    let mut expected = case.fields.clone();
    fields.sort_unstable();
    expected.sort_unstable();
    assert_eq!(fields, expected, "{what}");
    assert!(!error.message.is_empty(), "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_peek_batch_and_stream_name_the_wrong_fields() -> TestResult {
    let _turn = turn::shared().await;
    let service = ratelimit().await?;
    let mut client = rpc::client(service.address())?;
    for case in cases() {
        let status = client.check(case.check.clone()).await.expect_err(case.what);
        assert_refused(&case, "Check", &status, "");
        if !case.fields.contains(&"idempotency_key") {
            let status = client.peek(rpc::peek(&case.check)).await.expect_err(case.what);
            assert_refused(&case, "Peek", &status, "");
        }
        let stream = tokio_stream::iter([CheckStreamRequest { id: 7, check: Some(case.check.clone()) }]);
        let mut answers = client.check_stream(stream).await?.into_inner();
        let answer = answers.message().await?.expect("an answer for each check");
        let Some(Outcome::Error(error)) = answer.outcome else {
            panic!("CheckStream, {}: {answer:?}", case.what)
        };
        assert_eq!(answer.id, 7, "CheckStream, {}", case.what);
        assert_explained(&case, "CheckStream", &error);
        if case.reason == "INVALID_REQUEST" {
            // Beside a good check that must not be charged.
            let batch = CheckBatchRequest { checks: vec![victim(), case.check.clone()] };
            let status = client.check_batch(batch).await.expect_err(case.what);
            assert_refused(&case, "CheckBatch", &status, "checks[1].");
        } else {
            let good = CheckRequest { dry_run: true, ..victim() };
            let batch = CheckBatchRequest { checks: vec![case.check.clone(), good] };
            let results = client.check_batch(batch).await?.into_inner().results;
            let outcomes: Vec<_> = results.into_iter().map(|result| result.outcome).collect();
            let [Some(BatchOutcome::Error(error)), Some(BatchOutcome::Result(decided))] = &outcomes[..]
            else {
                panic!("CheckBatch, {}: {outcomes:?}", case.what)
            };
            assert_explained(&case, "CheckBatch", error);
            assert!(decided.allowed, "CheckBatch, beside {}: {decided:?}", case.what);
        }
    }
    unharmed(&service).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_of_a_wrong_size_and_missing_messages_are_refused() -> TestResult {
    let _turn = turn::shared().await;
    let service = ratelimit().await?;
    let mut client = rpc::client(service.address())?;
    for count in [0, 1_001] {
        let batch = CheckBatchRequest { checks: vec![victim(); count] };
        let status = client.check_batch(batch).await.expect_err("a batch of a wrong size");
        assert_eq!(rpc::explain(&status)?.fields, ["checks"]);
    }
    let good = CheckStreamRequest { id: 2, check: Some(CheckRequest { dry_run: true, ..victim() }) };
    let stream = tokio_stream::iter([CheckStreamRequest { id: 1, check: None }, good]);
    let mut answers = client.check_stream(stream).await?.into_inner();
    let first = answers.message().await?.expect("an answer");
    let Some(Outcome::Error(error)) = first.outcome else { panic!("no check at all: {first:?}") };
    assert_eq!(error.violations.first().map(|v| v.field.as_str()), Some("check"));
    let second = answers.message().await?.expect("the stream goes on after a wrong check");
    assert!(matches!(second.outcome, Some(Outcome::Result(_))), "{second:?}");
    unharmed(&service).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn looking_and_resetting_refuse_what_they_do_not_know() -> TestResult {
    let _turn = turn::shared().await;
    let service = ratelimit().await?;
    let mut client = rpc::client(service.address())?;
    let victim = || vec![reset_request::AttributesEntry { key: "organization".into(), value: VICTIM.into() }];
    let reset =
        ResetRequest { attributes: victim(), limit: "free/fortnight".into(), ..ResetRequest::default() };
    let status = client.reset(reset).await.expect_err("an unknown limit");
    let seen = rpc::explain(&status)?;
    assert_eq!((seen.code, seen.reason.as_str()), (Code::NotFound, "LIMIT_NOT_FOUND"));
    assert_eq!(seen.fields, ["limit"]);

    let elsewhere = ResetRequest { namespace: "a b".into(), attributes: victim(), ..ResetRequest::default() };
    let status = client.reset(elsewhere).await.expect_err("a wrong namespace");
    assert_eq!(rpc::explain(&status)?.fields, ["namespace"]);

    let usage = GetUsageRequest { namespace: "nowhere".into(), ..GetUsageRequest::default() };
    let status = client.get_usage(usage).await.expect_err("an unknown namespace");
    assert_eq!(rpc::explain(&status)?.reason, "NAMESPACE_NOT_FOUND");

    let long = peek_request::AttributesEntry { key: "k".repeat(65), value: String::new() };
    let peek = PeekRequest { attributes: vec![long], cost: Some(0), ..PeekRequest::default() };
    let status = client.peek(peek).await.expect_err("a name of 65 bytes");
    assert_eq!(rpc::explain(&status)?.fields.len(), 2);
    unharmed(&service).await?;
    Ok(())
}
