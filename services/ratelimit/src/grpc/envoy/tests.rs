mod both_ways;

use tidegate_proto::envoy::{
    extensions::common::ratelimit::v3::{
        RateLimitDescriptor,
        rate_limit_descriptor::{Entry, RateLimitOverride},
    },
    service::ratelimit::v3::rate_limit_response::{Code, DescriptorStatus},
};
use tonic_types::StatusExt;

use super::{answer::units, question::MAX_DESCRIPTORS, *};
use crate::{
    grpc::tests::{api, asked, backend, canonical},
    limiter::Counters,
};

async fn ask(envoy: &EnvoyApi, request: &RateLimitRequest) -> Result<RateLimitResponse, Status> {
    let answer = envoy.should_rate_limit(asked(Encoded::from(request))).await?;
    Ok(canonical(answer.get_ref()))
}

fn descriptor(entries: &[(&str, &str)], hits: Option<u64>) -> RateLimitDescriptor {
    let entry = |(key, value): &(&str, &str)| Entry { key: (*key).to_owned(), value: (*value).to_owned() };
    RateLimitDescriptor {
        entries: entries.iter().map(entry).collect(),
        hits_addend: hits,
        ..RateLimitDescriptor::default()
    }
}

fn request(descriptors: Vec<RateLimitDescriptor>) -> RateLimitRequest {
    RateLimitRequest { domain: "default".to_owned(), descriptors, hits_addend: 0 }
}

#[test]
fn periods_have_the_longest_unit_that_fits() {
    for (seconds, expected) in [
        (1, (Unit::Second, 1)),
        (90, (Unit::Second, 90)),
        (60, (Unit::Minute, 1)),
        (5 * 60, (Unit::Minute, 5)),
        (3_600, (Unit::Hour, 1)),
        (86_400, (Unit::Day, 1)),
        (3 * 86_400, (Unit::Day, 3)),
        (14 * 86_400, (Unit::Week, 2)),
        (365 * 86_400, (Unit::Year, 1)),
    ] {
        assert_eq!(units(Period::Micros(seconds * SECOND_US)), expected, "{seconds} s");
    }
    assert_eq!(units(Period::Micros(1_500_000)), (Unit::Unknown, 1));
    assert_eq!(units(Period::Month), (Unit::Month, 1));
    assert_eq!(units(Period::Week), (Unit::Week, 1));
}

#[tokio::test]
async fn statuses_come_in_order_with_what_binds() {
    let (api, _) = api(Counters::Memory);
    let envoy = EnvoyApi(api);
    let organization = [("organization", "acme")];
    let request = RateLimitRequest {
        hits_addend: 4,
        ..request(vec![
            descriptor(&organization, None),
            descriptor(&[("city", "Ulm")], None),
            descriptor(&organization, Some(2)),
        ])
    };
    let answer = ask(&envoy, &request).await.expect("decided");
    assert_eq!((answer.overall_code(), answer.response_headers_to_add.len()), (Code::Ok, 0));
    let left: Vec<_> = answer.statuses.iter().map(|status| status.limit_remaining).collect();
    // Of the plan FREE: 10 a minute, of which both descriptors of the organization take.
    assert_eq!(left, [4, 0, 4]);
    assert!(answer.statuses[1].current_limit.is_none() && answer.statuses[1].duration_until_reset.is_none());
    let limit = answer.statuses[0].current_limit.clone().expect("a limit");
    assert_eq!(
        (limit.name.as_str(), limit.requests_per_unit, limit.unit()),
        ("free/minute", 10, Unit::Minute)
    );
    assert_eq!(limit.unit_multiplier, None);

    let answer = ask(&envoy, &request).await.expect("decided");
    assert_eq!(answer.overall_code(), Code::OverLimit);
    let codes: Vec<_> = answer.statuses.iter().map(DescriptorStatus::code).collect();
    assert_eq!(codes, [Code::OverLimit, Code::Ok, Code::OverLimit]);
    let wait = answer.statuses[0].duration_until_reset.expect("a duration");
    assert!(wait.nanos == 0 && (60..=62).contains(&wait.seconds), "{wait:?}");
    let header = &answer.response_headers_to_add[0];
    assert_eq!((header.key.as_str(), header.value.as_str()), ("retry-after", &*wait.seconds.to_string()));
    let metadata = answer.dynamic_metadata.expect("metadata").fields;
    assert_eq!(
        metadata["denied_by"].kind,
        Some(prost_types::value::Kind::StringValue("free/minute".to_owned()))
    );
}

#[tokio::test]
async fn every_wrong_field_is_named_and_nothing_charged() {
    let (api, metrics) = api(Counters::Memory);
    let envoy = EnvoyApi(api);
    let wrong = RateLimitRequest {
        domain: String::new(),
        descriptors: vec![
            descriptor(&[("organization", "acme")], None),
            descriptor(&[], None),
            descriptor(&[("", "x"), ("path", "")], Some(u64::MAX)),
            RateLimitDescriptor {
                limit: Some(RateLimitOverride { requests_per_unit: 1, unit: 9 }),
                is_negative_hits: true,
                ..descriptor(&[("path", "x")], None)
            },
        ],
        hits_addend: 0,
    };
    for (request, fields) in [
        (
            wrong,
            &[
                "domain",
                "descriptors[1].entries",
                "descriptors[2].entries[0].key",
                "descriptors[3].limit.unit",
            ][..],
        ),
        (request(Vec::new()), &["descriptors"]),
        (request(vec![descriptor(&[("path", "x")], None); MAX_DESCRIPTORS + 1]), &["descriptors"]),
    ] {
        let status = ask(&envoy, &request).await.expect_err("refused");
        let details = status.get_error_details();
        let violations = &details.bad_request().expect("fields").field_violations;
        let named: Vec<_> = violations.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!((status.code(), &named[..]), (tonic::Code::InvalidArgument, fields));
    }
    assert!(metrics.encode().contains("rate_limit_requests_total{status=\"allowed\"} 0\n"));
}

#[tokio::test]
async fn nothing_that_a_caller_chooses_makes_a_request_invalid() {
    let (api, _) = api(Counters::Memory);
    let envoy = EnvoyApi(api);
    let decide = async |entries: &[(&str, &str)], hits| {
        let request =
            request(vec![descriptor(entries, hits), descriptor(&[("organization", "beside")], None)]);
        let answer = ask(&envoy, &request).await.expect("decided");
        (answer.overall_code(), answer.statuses[0].code(), answer.statuses[1].limit_remaining)
    };
    let (long, other) = ("x".repeat(10_000), format!("{}y", "x".repeat(9_999)));
    assert_eq!(decide(&[("organization", &long)], Some(10)).await, (Code::Ok, Code::Ok, 9));
    assert_eq!(
        decide(&[("organization", &other)], Some(10)).await,
        (Code::Ok, Code::Ok, 8),
        "another subject"
    );
    assert_eq!(
        decide(&[("organization", &long)], None).await,
        (Code::OverLimit, Code::OverLimit, 8),
        "the same"
    );
    assert_eq!(decide(&[("organization", "")], None).await, (Code::Ok, Code::Ok, 7), "as if it were absent");
    let free = [("organization", "acme"), ("plan", "no such plan")];
    assert_eq!(decide(&free, None).await, (Code::OverLimit, Code::OverLimit, 7));
    assert_eq!(
        decide(&[("organization", "acme")], Some(u64::MAX)).await,
        (Code::OverLimit, Code::OverLimit, 7)
    );
}

#[tokio::test]
async fn keys_of_a_request_are_no_label_of_a_metric() {
    let (api, metrics) = api(Counters::Memory);
    let limit = RateLimitOverride { requests_per_unit: 9, unit: 2 };
    let request =
        request(vec![RateLimitDescriptor { limit: Some(limit), ..descriptor(&[("strange", "x")], None) }]);
    let answer = ask(&EnvoyApi(api), &request).await.expect("decided");
    assert_eq!(answer.statuses[0].limit_remaining, 8);
    assert!(!metrics.encode().contains("strange"), "{}", metrics.encode());
}
