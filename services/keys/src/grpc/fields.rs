//! Fields of organizations and keys: read, with everything that is wrong with them.

use std::{
    collections::{BTreeMap, HashSet},
    net::IpAddr,
};

use ipnet::IpNet;
use tidegate_chassis::error::Violations;
use tidegate_credentials::{Environment, is_scope};
use tidegate_proto::keys::v1 as pb;

use crate::{
    api_keys::{Expiry, MAX_NAME_CHARS},
    domain::{KeyLimit, OrganizationStatus},
    store::KeyStatus,
};

const MAX_SCOPES: usize = 64;
const MAX_CIDRS: usize = 64;
const MAX_METADATA: usize = 16;
const MAX_METADATA_NAME_BYTES: usize = 64;
const MAX_METADATA_VALUE_BYTES: usize = 512;
const MAX_LIMITS: usize = 8;
const MAX_LIMIT_NAME_BYTES: usize = 64;
const MAX_LIMIT: u64 = 1_000_000_000;
const MAX_PERIOD_S: u64 = 31_622_400;
const MAX_PLAN_BYTES: usize = 64;
const MAX_SEARCH_CHARS: usize = 128;
/// The end of the year 9999: later times have no usual form.
const MAX_TIME_MS: u64 = 253_402_300_799_999;
/// The most tokens that a limit of the rate-limit service can hold: it could use no key of an organization with more.
const MAX_QUOTA: u64 = 1_000_000_000;

/// A name for people.
pub(super) fn name(field: &str, text: &str, violations: &mut Violations) -> String {
    if !(1..=MAX_NAME_CHARS).contains(&text.chars().count()) || text.chars().any(char::is_control) {
        violations.add(field, "must be 1 to 128 characters, and no control characters");
    } else if text.trim().is_empty() {
        violations.add(field, "must be more than spaces");
    }
    text.to_owned()
}

/// What a list is searched for.
pub(super) fn search(text: &str, violations: &mut Violations) -> String {
    if text.chars().count() > MAX_SEARCH_CHARS || text.chars().any(char::is_control) {
        violations.add("search", "must be at most 128 characters, and no control characters");
    }
    text.to_owned()
}

/// The name of a plan.
pub(super) fn plan(text: &str, violations: &mut Violations) -> String {
    if !is_name(text, MAX_PLAN_BYTES) {
        violations.add("plan", "must be 1 to 64 of a-z 0-9 . _ -");
    }
    text.to_owned()
}

/// A quota.
pub(super) fn monthly_quota(quota: u64, violations: &mut Violations) -> u64 {
    if quota > MAX_QUOTA {
        violations.add("monthly_quota", format!("must be at most {MAX_QUOTA}"));
    }
    quota
}

/// The status of an organization.
pub(super) fn organization_status(status: i32, violations: &mut Violations) -> OrganizationStatus {
    match pb::OrganizationStatus::try_from(status) {
        Ok(pb::OrganizationStatus::Active) => OrganizationStatus::Active,
        Ok(pb::OrganizationStatus::Suspended) => OrganizationStatus::Suspended,
        Ok(pb::OrganizationStatus::Unspecified) | Err(_) => {
            violations.add("status", "must be active or suspended");
            OrganizationStatus::Active
        }
    }
}

/// The status of keys that are asked for; none for all.
pub(super) fn key_status(status: i32, violations: &mut Violations) -> Option<KeyStatus> {
    match pb::KeyStatus::try_from(status) {
        Ok(pb::KeyStatus::Unspecified) => None,
        Ok(pb::KeyStatus::Active) => Some(KeyStatus::Active),
        Ok(pb::KeyStatus::Disabled) => Some(KeyStatus::Disabled),
        Ok(pb::KeyStatus::Expired) => Some(KeyStatus::Expired),
        Ok(pb::KeyStatus::Revoked) => Some(KeyStatus::Revoked),
        Err(_) => {
            violations.add("status", "must be active, disabled, expired or revoked");
            None
        }
    }
}

/// Where a key is to be used.
pub(super) fn environment(field: &str, environment: i32, violations: &mut Violations) -> Environment {
    match pb::KeyEnvironment::try_from(environment) {
        Ok(pb::KeyEnvironment::Unspecified | pb::KeyEnvironment::Live) => Environment::Live,
        Ok(pb::KeyEnvironment::Test) => Environment::Test,
        Err(_) => {
            violations.add(field, "must be live or test");
            Environment::Live
        }
    }
}

/// When a key expires: `absent` if nothing is said.
pub(super) fn expiry(field: &str, at_ms: Option<u64>, absent: Expiry, violations: &mut Violations) -> Expiry {
    match at_ms {
        None => absent,
        Some(0) => Expiry::Never,
        Some(at_ms) if at_ms > MAX_TIME_MS => {
            violations.add(field, "must be before the year 10000");
            Expiry::Never
        }
        Some(at_ms) => Expiry::At(at_ms * 1_000),
    }
}

/// Scopes, sorted and without repetition.
pub(super) fn scopes(field: &str, scopes: &[String], violations: &mut Violations) -> Vec<String> {
    if scopes.len() > MAX_SCOPES {
        violations.add(field, format!("must be at most {MAX_SCOPES}"));
        return Vec::new();
    }
    for (index, scope) in scopes.iter().enumerate() {
        if !is_scope(scope) {
            let rule = "must be 1 to 128 of a-z 0-9 . _ : * / -, and neither \"and\" nor \"or\"";
            violations.add(format!("{field}[{index}]"), rule);
        }
    }
    let mut scopes = scopes.to_vec();
    scopes.sort_unstable();
    scopes.dedup();
    scopes
}

/// Networks, or single addresses, sorted and without repetition.
pub(super) fn cidrs(field: &str, cidrs: &[String], violations: &mut Violations) -> Vec<IpNet> {
    if cidrs.len() > MAX_CIDRS {
        violations.add(field, format!("must be at most {MAX_CIDRS}"));
        return Vec::new();
    }
    let mut networks = Vec::with_capacity(cidrs.len());
    for (index, text) in cidrs.iter().enumerate() {
        let network =
            text.parse::<IpNet>().or_else(|error| text.parse::<IpAddr>().map(IpNet::from).map_err(|_| error));
        match network {
            Ok(network) => networks.push(network.trunc()),
            Err(_) => violations.add(format!("{field}[{index}]"), "must be a network, as 203.0.113.0/24"),
        }
    }
    networks.sort_unstable();
    networks.dedup();
    networks
}

/// What an owner wants to remember: names and values.
pub(super) fn metadata<'e>(
    field: &str,
    entries: impl ExactSizeIterator<Item = (&'e str, &'e str)>,
    violations: &mut Violations,
) -> BTreeMap<String, String> {
    if entries.len() > MAX_METADATA {
        violations.add(field, format!("must be at most {MAX_METADATA} entries"));
        return BTreeMap::new();
    }
    let mut read = BTreeMap::new();
    for (name, value) in entries {
        let is_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if !(1..=MAX_METADATA_NAME_BYTES).contains(&name.len()) || !name.bytes().all(is_byte) {
            violations.add(field, "names must be 1 to 64 of A-Z a-z 0-9 . _ -");
        } else if value.len() > MAX_METADATA_VALUE_BYTES || value.contains('\0') {
            violations.add(format!("{field}[{name}]"), "must be at most 512 bytes, and none of them NUL");
        } else if read.insert(name.to_owned(), value.to_owned()).is_some() {
            violations.add(format!("{field}[{name}]"), "is there already");
        }
    }
    read
}

/// Limits of a key.
pub(super) fn limits(field: &str, limits: &[pb::KeyLimit], violations: &mut Violations) -> Vec<KeyLimit> {
    if limits.len() > MAX_LIMITS {
        violations.add(field, format!("must be at most {MAX_LIMITS}"));
        return Vec::new();
    }
    let mut names = HashSet::new();
    for (index, limit) in limits.iter().enumerate() {
        let mut wrong = |part: &str, rule: &str| violations.add(format!("{field}[{index}].{part}"), rule);
        if !is_name(&limit.name, MAX_LIMIT_NAME_BYTES) {
            wrong("name", "must be 1 to 64 of a-z 0-9 . _ -");
        } else if !names.insert(&limit.name) {
            wrong("name", "is there already");
        }
        if !(1..=MAX_LIMIT).contains(&limit.limit) {
            wrong("limit", "must be 1 to 1000000000");
        }
        if !(1..=MAX_PERIOD_S).contains(&limit.period_s) {
            wrong("period_s", "must be 1 to 31622400");
        }
    }
    let read = |limit: &pb::KeyLimit| KeyLimit {
        name: limit.name.clone(),
        limit: limit.limit,
        period_s: limit.period_s,
    };
    limits.iter().map(read).collect()
}

/// The version that is meant; none for whichever.
pub(super) fn etag(etag: &str) -> Option<String> {
    (!etag.is_empty()).then(|| etag.to_owned())
}

fn is_name(text: &str, most: usize) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    (1..=most).contains(&text.len()) && text.bytes().all(fits)
}

#[cfg(test)]
mod tests;
