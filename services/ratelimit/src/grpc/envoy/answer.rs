//! Verdicts as an answer.

use tidegate_chassis::clock::{Random, uuid_v7};
use tidegate_proto::{
    Writer,
    envoy::service::ratelimit::v3::rate_limit_response::{Code, rate_limit::Unit},
};

use super::{SECOND_US, UNITS};
use crate::{
    domain::{BundleLimit, Period},
    limiter::{LimitVerdict, Verdict},
};

/// Writes the fields of a `RateLimitResponse`.
#[inline]
pub(super) fn write(verdicts: &[Verdict<'_>], random: &Random, out: &mut Writer<'_>) {
    let denied = verdicts.iter().find(|verdict| !verdict.allowed);
    out.number(1, code(denied.is_none()));
    for verdict in verdicts {
        out.message(2, |out| status(verdict, out));
    }
    if denied.is_some() {
        retry_after(verdicts, out);
    }
    out.message(6, |out| metadata(verdicts, denied, random, out));
}

#[inline]
fn code(allowed: bool) -> u64 {
    let code = if allowed { Code::Ok } else { Code::OverLimit };
    number(code)
}

/// The number of a constant; those of the protocol are small and positive.
fn number(constant: impl Into<i32>) -> u64 {
    u64::try_from(constant.into()).expect("no constant is negative")
}

/// Writes the fields of a `DescriptorStatus`.
#[inline]
fn status(verdict: &Verdict<'_>, out: &mut Writer<'_>) {
    out.number(1, code(verdict.allowed));
    let Some(found) = binding(verdict) else {
        // As the reference says that there is a rule, and that it is no limit.
        return if verdict.exempt {
            out.number(3, u32::MAX.into());
        };
    };
    let label = found.limit.envoy_label.get_or_init(|| label(found.limit));
    out.message(2, |out| out.written(label));
    let until_us = match verdict.allowed {
        true => found.outcome.reset_after_us,
        false => verdict.retry_after_us.next_multiple_of(SECOND_US),
    };
    out.number(3, found.outcome.remaining.min(u32::MAX.into()));
    out.message(4, |out| out.numbers([(1, until_us / SECOND_US), (2, until_us % SECOND_US * 1_000)]));
}

fn binding<'v, 'p>(verdict: &'v Verdict<'p>) -> Option<&'v LimitVerdict<'p>> {
    verdict.binding.map(|index| &verdict.limits[index])
}

/// The fields of a `RateLimit`.
#[cold]
fn label(limit: &BundleLimit) -> Box<[u8]> {
    let mut label = Vec::new();
    let mut out = Writer::new(&mut label);
    let (unit, multiplier) = units(limit.limit.period);
    out.numbers([(1, limit.limit.limit.into()), (2, number(unit))]);
    out.bytes(3, limit.full_name.as_bytes());
    if multiplier != 1 {
        out.message(4, |out| out.number(1, multiplier.into()));
    }
    label.into()
}

/// The longest unit that the period has a whole number of; none for what is not whole seconds.
pub(super) fn units(period: Period) -> (Unit, u32) {
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

/// Writes a header of the answer to the caller: when a request like this can pass.
fn retry_after(verdicts: &[Verdict<'_>], out: &mut Writer<'_>) {
    let denied = verdicts.iter().filter(|verdict| !verdict.allowed);
    let wait_us = denied.map(|verdict| verdict.retry_after_us).max().unwrap_or_default();
    out.message(3, |out| {
        out.bytes(1, b"retry-after");
        out.bytes(2, wait_us.div_ceil(SECOND_US).to_string().as_bytes());
    });
}

/// Writes the fields of a `google.protobuf.Struct`: what later filters, and access logs, may want to know.
#[inline]
fn metadata(verdicts: &[Verdict<'_>], denied: Option<&Verdict<'_>>, random: &Random, out: &mut Writer<'_>) {
    let now_us = verdicts.first().map_or(0, |verdict| verdict.at_us);
    let id = uuid_v7(now_us, random).hyphenated();
    let mut text = [0; 36];
    let id = id.encode_lower(&mut text);
    let degraded = verdicts.iter().any(|verdict| verdict.degraded);
    field(out, "decision_id", |value| value.bytes(3, id.as_bytes()));
    field(out, "degraded", |value| value.present(4, degraded.into()));
    if let Some(limit) = denied.and_then(binding) {
        field(out, "denied_by", |value| value.bytes(3, limit.limit.full_name.as_bytes()));
    }
}

/// Writes a field of a `google.protobuf.Struct`; `write` writes its `google.protobuf.Value`.
#[inline]
fn field(out: &mut Writer<'_>, name: &str, write: impl FnOnce(&mut Writer<'_>)) {
    out.message(1, |out| {
        out.bytes(1, name.as_bytes());
        out.message(2, write);
    });
}
