//! What a key is good for, here and now.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::ScopeExpression;

/// What is known of a key that was found. Times are Unix microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Record<'r, S> {
    /// Whether its organization is suspended.
    pub organization_suspended: bool,
    /// From when on it is revoked; in the future after a rotation with a grace period.
    pub revoked_us: Option<u64>,
    /// Whether it is switched off.
    pub disabled: bool,
    /// From when on its time is over.
    pub expires_us: Option<u64>,
    /// From where it may be used; empty means from anywhere.
    pub allowed_cidrs: &'r [IpNet],
    /// What it may do, sorted by bytes.
    pub scopes: &'r [S],
}

/// How a key is used.
#[derive(Clone, Copy, Debug)]
pub struct Use<'u, 't> {
    /// When, in Unix microseconds.
    pub now_us: u64,
    /// From where, if it is known.
    pub client_ip: Option<IpAddr>,
    /// What it must be allowed to do, if anything.
    pub required_scopes: Option<&'u ScopeExpression<'t>>,
}

/// What a key is good for. Of several reasons against it the first one in this order is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Standing {
    /// It is accepted.
    Accepted,
    /// Nobody has it.
    KeyNotFound,
    /// Its organization is suspended.
    OrganizationSuspended,
    /// It is revoked.
    KeyRevoked,
    /// It is switched off.
    KeyDisabled,
    /// Its time is over.
    KeyExpired,
    /// It may not be used from there, or from where it is used is not known.
    IpForbidden,
    /// It has not the scopes.
    ScopeMissing,
}

impl Standing {
    /// Every one, in the order in which they are decided.
    pub const ALL: [Self; 8] = [
        Self::Accepted,
        Self::KeyNotFound,
        Self::OrganizationSuspended,
        Self::KeyRevoked,
        Self::KeyDisabled,
        Self::KeyExpired,
        Self::IpForbidden,
        Self::ScopeMissing,
    ];

    /// Its code.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "ok",
            Self::KeyNotFound => "key_not_found",
            Self::OrganizationSuspended => "organization_suspended",
            Self::KeyRevoked => "key_revoked",
            Self::KeyDisabled => "key_disabled",
            Self::KeyExpired => "key_expired",
            Self::IpForbidden => "ip_forbidden",
            Self::ScopeMissing => "scope_missing",
        }
    }
}

/// Decides what a key that was found is good for: never [`Standing::KeyNotFound`]. Takes no memory. An IPv4 address that is written as an IPv6
/// one (`::ffff:203.0.113.7`) is taken for what it is.
#[must_use]
pub fn standing<S: AsRef<str>>(record: &Record<'_, S>, used: &Use<'_, '_>) -> Standing {
    let is_past = |at: Option<u64>| at.is_some_and(|at| at <= used.now_us);
    let is_from_there = |client: IpAddr| {
        let client = client.to_canonical();
        record.allowed_cidrs.iter().any(|network| network.contains(&client))
    };
    if record.organization_suspended {
        Standing::OrganizationSuspended
    } else if is_past(record.revoked_us) {
        Standing::KeyRevoked
    } else if record.disabled {
        Standing::KeyDisabled
    } else if is_past(record.expires_us) {
        Standing::KeyExpired
    } else if !record.allowed_cidrs.is_empty() && !used.client_ip.is_some_and(is_from_there) {
        Standing::IpForbidden
    } else if used.required_scopes.is_some_and(|required| !required.allows(record.scopes)) {
        Standing::ScopeMissing
    } else {
        Standing::Accepted
    }
}

#[cfg(test)]
mod tests;
