//! Limits as they are written, in plans and in policies.

use super::{
    names::read_name,
    period, rate,
    reader::{Faults, Fields},
};
use crate::domain::{Algorithm, Limit, LimitSpec, MAX_TOKENS, Period};

const MAX_LIMITS: usize = 16;

const ALGORITHMS: [(&str, Algorithm); 5] = [
    ("sliding_window", Algorithm::SlidingWindow),
    ("sliding_log", Algorithm::SlidingLog),
    ("token_bucket", Algorithm::TokenBucket),
    ("fixed_window", Algorithm::FixedWindow),
    ("concurrency", Algorithm::Concurrency),
];

/// Reads the list `limits` of a plan or a policy, if it has one. `may_deny_all` says whether a limit may be 0.
pub(super) fn read_limits(
    fields: &mut Fields,
    may_deny_all: bool,
    faults: &mut Faults,
) -> Option<Vec<Limit>> {
    let path = fields.path_of("limits");
    let tables = fields.tables("limits", faults)?;
    match tables.len() {
        0 => faults.add(path, "is empty; write unlimited = true if nothing is to be limited"),
        1..=MAX_LIMITS => {}
        many => faults.add(path, format!("at most {MAX_LIMITS} limits, are {many}")),
    }
    let mut names = Vec::new();
    let limits = tables.into_iter().filter_map(|fields| read_limit(fields, &mut names, may_deny_all, faults));
    Some(limits.collect())
}

fn read_limit(
    mut fields: Fields,
    names: &mut Vec<String>,
    may_deny_all: bool,
    faults: &mut Faults,
) -> Option<Limit> {
    let name = read_name(&mut fields, faults);
    if let Some(name) = &name {
        if names.contains(name) {
            faults.add(fields.path_of("name"), format!("there is already a limit {name:?} here"));
        }
        names.push(name.clone());
    }
    let algorithm = if fields.has("algorithm") {
        fields.word("algorithm", &ALGORITHMS, faults)
    } else {
        fields.value("algorithm");
        Some(Algorithm::default())
    };
    let mut denies_all = may_deny_all && fields.is_zero("limit");
    // What there is in the place of a period: the other word is an unknown key, and there is no rate.
    let word = if algorithm == Some(Algorithm::Concurrency) { "lease" } else { "period" };
    let rate = if word == "period" { read_rate(&mut fields, "limit", faults) } else { None };
    let (limit, period, is_rate) = match rate {
        Some(rate) => {
            denies_all = may_deny_all && rate.is_some_and(|(limit, _)| limit == 0);
            let limit = rate.map(|(limit, _)| if denies_all { 1 } else { limit });
            (limit, rate.map(|(_, period)| period), true)
        }
        None => {
            fields.need("limit", faults);
            let limit = match denies_all {
                true => fields.value("limit").and(Some(1)),
                false => read_tokens(&mut fields, "limit", faults),
            };
            fields.need(word, faults);
            (limit, read_period(&mut fields, word, faults), false)
        }
    };
    let burst = read_tokens(&mut fields, "burst", faults);
    if let Some(algorithm) = algorithm {
        // Placeholders for what is missing or unreadable, so that the rest is checked all the same.
        let period_or_any = period.unwrap_or(Period::Micros(60_000_000));
        let spec = LimitSpec {
            name: name.clone().unwrap_or_default(),
            algorithm,
            limit: limit.unwrap_or(1),
            period: period_or_any,
            burst,
        };
        let built = Limit::new(spec).map_err(|errors| {
            for error in errors {
                let is_of_rate = is_rate && ["limit", "period"].contains(&error.field);
                faults.add(fields.path_of(if is_of_rate { "rate" } else { error.field }), error.description);
            }
        });
        fields.finish(faults);
        let built = built.ok().map(|limit| if denies_all { limit.of_nothing() } else { limit });
        name.and(limit).and(period).and(built)
    } else {
        fields.finish(faults);
        None
    }
}

/// Reads `rate`, which stands in place of tokens and a period. Nothing if it is absent; within, nothing if it is, which is noted,
/// faulty.
pub(super) fn read_rate(
    fields: &mut Fields,
    tokens: &'static str,
    faults: &mut Faults,
) -> Option<Option<(u64, Period)>> {
    if !fields.has("rate") {
        fields.value("rate");
        return None;
    }
    for other in [tokens, "period"] {
        if fields.value(other).is_some() {
            faults.add(fields.path_of(other), "does not go with rate, which says both");
        }
    }
    let text = fields.text("rate", faults);
    let noted = |description| faults.add(fields.path_of("rate"), description);
    Some(text.and_then(|text| rate::parse(&text).map_err(noted).ok()))
}

/// Reads a period, if it is there.
pub(super) fn read_period(fields: &mut Fields, key: &'static str, faults: &mut Faults) -> Option<Period> {
    let text = fields.text(key, faults)?;
    period::parse(&text).map_err(|description| faults.add(fields.path_of(key), description)).ok()
}

/// Reads a number of tokens, if it is there.
pub(super) fn read_tokens(fields: &mut Fields, key: &'static str, faults: &mut Faults) -> Option<u64> {
    let tokens = fields.integer(key, faults)?;
    if tokens < 1 {
        // Zero would be found by `Limit` as well, but a negative number cannot be handed to it.
        faults.add(fields.path_of(key), format!("must be 1 to {MAX_TOKENS} tokens, is {tokens}"));
    }
    u64::try_from(tokens).ok().filter(|tokens| *tokens > 0)
}
