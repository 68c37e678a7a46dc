//! Envoy's protocol for global rate limits, `envoy.service.ratelimit.v3`.

use std::{borrow::Cow, hash::Hasher};

use siphasher::sip128::{Hasher128, SipHasher24};
use smallvec::SmallVec;
use tidegate_chassis::{clock::uuid_v7, error::Violations};
use tidegate_proto::envoy::{
    config::core::v3::HeaderValue,
    extensions::common::ratelimit::v3::{RateLimitDescriptor, rate_limit_descriptor::RateLimitOverride},
    service::ratelimit::v3::{
        RateLimitRequest, RateLimitResponse,
        rate_limit_response::{Code, DescriptorStatus, RateLimit, rate_limit::Unit},
        rate_limit_service_server::RateLimitService,
    },
};
use tonic::{Request, Response, Status};

use super::{RateLimitApi, error::invalid};
use crate::{
    domain::{MAX_TOKENS, Period},
    limiter::{Descriptor, LimitVerdict, RequestLimit, Verdict},
    policies::MAX_LEVELS,
};

const MAX_DESCRIPTORS: usize = 64;
const MAX_TEXT_BYTES: usize = 512;
const SECOND_US: u64 = 1_000_000;

/// The units of the protocol with their names, longest first.
const UNITS: [(Unit, &str, Period); 7] = [
    (Unit::Year, "year", Period::Micros(365 * 86_400 * SECOND_US)),
    (Unit::Month, "month", Period::Month),
    (Unit::Week, "week", Period::Week),
    (Unit::Day, "day", Period::Micros(86_400 * SECOND_US)),
    (Unit::Hour, "hour", Period::Micros(3_600 * SECOND_US)),
    (Unit::Minute, "minute", Period::Micros(60 * SECOND_US)),
    (Unit::Second, "second", Period::Micros(SECOND_US)),
];

/// The service of one worker, for Envoy.
#[derive(Clone)]
pub(crate) struct EnvoyApi(pub(crate) RateLimitApi);

#[tonic::async_trait]
impl RateLimitService for EnvoyApi {
    async fn should_rate_limit(
        &self,
        request: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        let shared = &self.0.shared;
        let request = request.get_ref();
        let entries: Vec<_> = request.descriptors.iter().map(entries).collect();
        let limits = read(request)?;
        let descriptors: Vec<_> = hits(request)
            .zip(&entries)
            .zip(&limits)
            .zip(&request.descriptors)
            .map(|(((hits, entries), limit), descriptor)| Descriptor {
                entries,
                hits,
                gives_back: descriptor.is_negative_hits,
                limit: limit.as_ref(),
            })
            .collect();
        let policies = shared.limiter.policies();
        let verdicts = shared.limiter.check_descriptors(&policies, &request.domain, &descriptors).await;
        verdicts.iter().for_each(|verdict| shared.stats.record(verdict));
        let mut answer = self.answer(&verdicts);
        // A limit of nothing was counted as one of 1.
        for (status, descriptor) in answer.statuses.iter_mut().zip(&request.descriptors) {
            if let (Some(limit), Some(RateLimitOverride { requests_per_unit: 0, .. })) =
                (&mut status.current_limit, &descriptor.limit)
            {
                limit.requests_per_unit = 0;
                status.limit_remaining = 0;
            }
        }
        Ok(Response::new(answer))
    }
}

type Entries<'r> = SmallVec<[(&'r str, Cow<'r, str>); 4]>;

fn entries(descriptor: &RateLimitDescriptor) -> Entries<'_> {
    descriptor.entries.iter().map(|entry| (&*entry.key, shortened(&entry.value))).collect()
}

/// A value as it is counted under. Values come from whom is limited, so no length of them makes a request invalid: a long one
/// is its beginning and a digest of it.
fn shortened(value: &str) -> Cow<'_, str> {
    if value.len() <= MAX_TEXT_BYTES {
        return value.into();
    }
    let mut hasher = SipHasher24::new();
    hasher.write(value.as_bytes());
    let begin = value.floor_char_boundary(MAX_TEXT_BYTES / 2);
    format!("{}#{:032x}", &value[..begin], hasher.finish128().as_u128()).into()
}

/// Hits of each descriptor.
fn hits(request: &RateLimitRequest) -> impl Iterator<Item = u64> {
    let of_request = u64::from(request.hits_addend.max(1));
    // More than the largest limit is over every limit.
    let of =
        move |descriptor: &RateLimitDescriptor| descriptor.hits_addend.unwrap_or(of_request).min(MAX_TOKENS);
    request.descriptors.iter().map(of)
}

/// The limits that descriptors bring with them, if all of the request is valid.
fn read(request: &RateLimitRequest) -> Result<Vec<Option<RequestLimit>>, Status> {
    let mut violations = Violations::default();
    if request.domain.is_empty() {
        violations.add("domain", "must be set");
    }
    let count = request.descriptors.len();
    if !(1..=MAX_DESCRIPTORS).contains(&count) {
        violations.add("descriptors", format!("must be 1 to {MAX_DESCRIPTORS}, are {count}"));
        return Err(invalid(violations));
    }
    let descriptors = request.descriptors.iter().enumerate();
    let limits = descriptors.map(|(index, descriptor)| {
        let path = format!("descriptors[{index}]");
        check_descriptor(descriptor, &path, &mut violations);
        let limit = descriptor.limit.as_ref()?;
        read_limit(&request.domain, descriptor, limit)
            .map_err(|(field, description)| violations.add(format!("{path}.limit.{field}"), description))
            .ok()
    });
    let limits = limits.collect();
    if violations.is_empty() { Ok(limits) } else { Err(invalid(violations)) }
}

fn read_limit(
    domain: &str,
    descriptor: &RateLimitDescriptor,
    limit: &RateLimitOverride,
) -> Result<RequestLimit, (&'static str, String)> {
    // The units of requests and answers are two enumerations of the same numbers.
    let unit = UNITS.iter().find(|(unit, ..)| i32::from(*unit) == limit.unit);
    let (_, name, period) = *unit.ok_or_else(|| ("unit", format!("is no unit: {}", limit.unit)))?;
    let keys: SmallVec<[&str; 4]> = descriptor.entries.iter().map(|entry| &*entry.key).collect();
    let tokens = u64::from(limit.requests_per_unit).min(MAX_TOKENS);
    RequestLimit::new(domain, &keys, name, tokens, period).map_err(|errors| {
        let descriptions: Vec<_> = errors.into_iter().map(|error| error.description).collect();
        ("requests_per_unit", descriptions.join("; "))
    })
}

/// Refuses what only a wrong configuration of Envoy sends, never what its callers choose: a request that cannot be decided is let
/// through by default.
fn check_descriptor(descriptor: &RateLimitDescriptor, path: &str, violations: &mut Violations) {
    let count = descriptor.entries.len();
    if !(1..=MAX_LEVELS).contains(&count) {
        violations.add(format!("{path}.entries"), format!("must be 1 to {MAX_LEVELS}, are {count}"));
    }
    for (index, entry) in descriptor.entries.iter().enumerate() {
        if !(1..=MAX_TEXT_BYTES).contains(&entry.key.len()) {
            let description = format!("must be 1 to {MAX_TEXT_BYTES} bytes, is {}", entry.key.len());
            violations.add(format!("{path}.entries[{index}].key"), description);
        }
    }
}

impl EnvoyApi {
    fn answer(&self, verdicts: &[Verdict<'_>]) -> RateLimitResponse {
        let denied = verdicts.iter().filter(|verdict| !verdict.allowed);
        let wait_us = denied.map(|verdict| verdict.retry_after_us).max();
        let mut response = RateLimitResponse {
            overall_code: code(wait_us.is_none()).into(),
            statuses: verdicts.iter().map(status).collect(),
            ..RateLimitResponse::default()
        };
        if let Some(wait_us) = wait_us {
            response.response_headers_to_add.push(header("retry-after", wait_us.div_ceil(SECOND_US)));
        }
        response.dynamic_metadata = Some(self.metadata(verdicts));
        response
    }

    /// What later filters, and access logs, may want to know.
    fn metadata(&self, verdicts: &[Verdict<'_>]) -> prost_types::Struct {
        use prost_types::value::Kind;
        let now_us = verdicts.first().map_or(0, |verdict| verdict.at_us);
        let id = uuid_v7(now_us, self.0.shared.renderer.random());
        let denied_by = verdicts.iter().find(|verdict| !verdict.allowed).and_then(binding);
        let degraded = verdicts.iter().any(|verdict| verdict.degraded);
        let mut fields =
            vec![("decision_id", Kind::StringValue(id.to_string())), ("degraded", Kind::BoolValue(degraded))];
        fields.extend(
            denied_by
                .map(|limit| ("denied_by", Kind::StringValue(limit.limit.full_name.as_ref().to_owned()))),
        );
        let fields =
            fields.into_iter().map(|(name, kind)| (name.to_owned(), prost_types::Value { kind: Some(kind) }));
        prost_types::Struct { fields: fields.collect() }
    }
}

fn code(allowed: bool) -> Code {
    if allowed { Code::Ok } else { Code::OverLimit }
}

fn header(name: &str, value: u64) -> HeaderValue {
    HeaderValue { key: name.to_owned(), value: value.to_string(), ..HeaderValue::default() }
}

fn binding<'v, 'p>(verdict: &'v Verdict<'p>) -> Option<&'v LimitVerdict<'p>> {
    verdict.binding.map(|index| &verdict.limits[index])
}

fn status(verdict: &Verdict<'_>) -> DescriptorStatus {
    let mut status = DescriptorStatus { code: code(verdict.allowed).into(), ..DescriptorStatus::default() };
    if let Some(found) = binding(verdict) {
        status.current_limit = Some(current_limit(found));
        status.limit_remaining = u32::try_from(found.outcome.remaining).unwrap_or(u32::MAX);
        let until_us = match verdict.allowed {
            true => found.outcome.reset_after_us,
            false => verdict.retry_after_us.next_multiple_of(SECOND_US),
        };
        status.duration_until_reset = Some(duration(until_us));
    }
    status
}

fn current_limit(found: &LimitVerdict<'_>) -> RateLimit {
    let limit = &found.limit.limit;
    let (unit, multiplier) = units(limit.period);
    RateLimit {
        name: found.limit.full_name.as_ref().to_owned(),
        requests_per_unit: limit.limit,
        unit: unit.into(),
        unit_multiplier: (multiplier != 1).then_some(multiplier),
    }
}

/// The longest unit that the period has a whole number of; none for what is not whole seconds.
fn units(period: Period) -> (Unit, u32) {
    let count = |unit: Period| match (period, unit) {
        (Period::Month, Period::Month) => Some(1),
        (Period::Month, _) | (_, Period::Month) => None,
        // Neither is a month, whose length alone depends on the time.
        _ => {
            let (period_us, unit_us) = (period.length_us(0), unit.length_us(0));
            let fits = period_us >= unit_us && period_us.is_multiple_of(unit_us);
            fits.then_some(period_us / unit_us)
        }
    };
    let fit = UNITS.iter().find_map(|(unit, _, length)| Some((*unit, u32::try_from(count(*length)?).ok()?)));
    fit.unwrap_or((Unit::Unknown, 1))
}

fn duration(us: u64) -> prost_types::Duration {
    let nanos = us % SECOND_US * 1_000;
    prost_types::Duration {
        seconds: i64::try_from(us / SECOND_US).unwrap_or(i64::MAX),
        nanos: i32::try_from(nanos).expect("less than a second"),
    }
}

#[cfg(test)]
mod tests;
