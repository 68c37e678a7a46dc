//! Limits as they are written, in plans and in policies.

use super::{
    names::read_name,
    period,
    reader::{Faults, Fields},
};
use crate::domain::{Algorithm, Limit, LimitSpec, MAX_TOKENS, Period};

const MAX_LIMITS: usize = 16;

const ALGORITHMS: [(&str, Algorithm); 4] = [
    ("sliding_window", Algorithm::SlidingWindow),
    ("sliding_log", Algorithm::SlidingLog),
    ("token_bucket", Algorithm::TokenBucket),
    ("fixed_window", Algorithm::FixedWindow),
];

/// Reads the list `limits` of a plan or a policy, if it has one.
pub(super) fn read_limits(fields: &mut Fields, faults: &mut Faults) -> Option<Vec<Limit>> {
    let path = fields.path_of("limits");
    let tables = fields.tables("limits", faults)?;
    match tables.len() {
        0 => faults.add(path, "is empty; write unlimited = true if nothing is to be limited"),
        1..=MAX_LIMITS => {}
        many => faults.add(path, format!("at most {MAX_LIMITS} limits, are {many}")),
    }
    let mut names = Vec::new();
    Some(tables.into_iter().filter_map(|fields| read_limit(fields, &mut names, faults)).collect())
}

fn read_limit(mut fields: Fields, names: &mut Vec<String>, faults: &mut Faults) -> Option<Limit> {
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
    fields.need("limit", faults);
    let limit = read_tokens(&mut fields, "limit", faults);
    fields.need("period", faults);
    let period = fields.text("period", faults).and_then(|text| {
        let period = period::parse(&text);
        period.map_err(|description| faults.add(fields.path_of("period"), description)).ok()
    });
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
                faults.add(fields.path_of(error.field), error.description);
            }
        });
        fields.finish(faults);
        name.and(limit).and(period).and(built.ok())
    } else {
        fields.finish(faults);
        None
    }
}

fn read_tokens(fields: &mut Fields, key: &'static str, faults: &mut Faults) -> Option<u64> {
    let tokens = fields.integer(key, faults)?;
    if tokens < 1 {
        // Zero would be found by `Limit` as well, but a negative number cannot be handed to it.
        faults.add(fields.path_of(key), format!("must be 1 to {MAX_TOKENS} tokens, is {tokens}"));
    }
    u64::try_from(tokens).ok().filter(|tokens| *tokens > 0)
}
