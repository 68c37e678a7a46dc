//! What a check needs to know of a key.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use ipnet::IpNet;
use tidegate_credentials::{Environment, ScopeExpression, Standing, Use, standing};
use tidegate_proto::{
    Writer,
    keys::v1::{ApiKey, KeyEnvironment, KeyStatus, Organization, OrganizationStatus, ResolvedKey},
    ratelimit::v1::{KeyIdentity, key_identity::MetadataEntry},
};
use uuid::Uuid;

use super::floors::{Floor, Floors};
use crate::{
    domain::{Algorithm, Fence, LimitSpec, MAX_TOKENS, Period},
    limiter::{API_KEY, ByKey, KeyLimit, ORGANIZATION},
};

/// What a check needs to know of a key and its organization, made ready once.
#[derive(Debug)]
pub(crate) struct Record {
    /// The key.
    pub(crate) id: Uuid,
    /// Its organization.
    pub(crate) organization: Uuid,
    /// What it has in common with those that it was rotated from and to: its limits and credits.
    pub(crate) lineage: Uuid,
    /// What its credits are counted by, if it has an account of them.
    pub(crate) credits: Option<Uuid>,
    /// As answers tell it: a field of `CheckResponse`, with its number.
    pub(crate) identity: Box<[u8]>,
    /// What the key says of a check, whatever its caller says.
    attributes: [(&'static str, Box<str>); 4],
    /// Those of the key, then the quota.
    limits: Box<[KeyLimit]>,
    own_limits: usize,
    is_suspended: bool,
    is_disabled: bool,
    revoked_us: Option<u64>,
    expires_us: Option<u64>,
    allowed_cidrs: Box<[IpNet]>,
    scopes: Box<[String]>,
    generation: u64,
    floor: Arc<Floor>,
    /// When the keys service said so, by the steady clock.
    pub(super) resolved_us: u64,
    /// When the counter store was last asked whether it is so still, by the steady clock.
    compared_us: AtomicU64,
}

/// So many bytes count as one key of the cache; a key that takes more counts for several.
const UNIT: usize = 2_048;

/// What a limit of a key takes, about.
const LIMIT_BYTES: usize = 1_024;

/// Names of the attributes that a key gives to a check.
const ATTRIBUTES: [&str; 4] = [ORGANIZATION, "plan", API_KEY, "environment"];

/// Number of the identity in `CheckResponse`.
const IDENTITY: u8 = 10;

impl Record {
    /// Reads what the keys service said at `now_us`, by the steady clock. `replicas` is how many replicas share a limit when each has to count by itself.
    ///
    /// # Errors
    ///
    /// What cannot be read: then the key cannot be judged.
    pub(super) fn read(
        resolved: ResolvedKey,
        floors: &Floors,
        replicas: u32,
        now_us: u64,
    ) -> Result<Self, String> {
        let ResolvedKey { key, disabled, organization, generation } = resolved;
        let key = key.ok_or("a key that is not told")?;
        let of = organization.ok_or("a key without an organization")?;
        let id = |text: &str| Uuid::try_parse(text).map_err(|_| format!("{text:?} is no id"));
        let (id, lineage, organization) = (id(&key.id)?, id(&key.lineage_id)?, id(&of.id)?);
        let environment = match key.environment() {
            KeyEnvironment::Test => Environment::Test,
            KeyEnvironment::Live | KeyEnvironment::Unspecified => Environment::Live,
        };
        let networks = key.allowed_cidrs.iter().map(|cidr| cidr.parse());
        let allowed_cidrs = networks
            .collect::<Result<_, _>>()
            .map_err(|error| format!("a network cannot be read: {error}"))?;
        let values = [of.id.as_str(), &of.plan, &key.lineage_id, environment.as_str()];
        let mut place = 0;
        let attributes = ATTRIBUTES.map(|name| {
            place += 1;
            (name, Box::from(values[place - 1]))
        });
        // What the keys service has decided is decided, however late it is by the clock here; that clock says when what was still
        // ahead has come.
        let status = key.status();
        let from = |decided, at_ms: u64| match status == decided {
            true => Some(0),
            false => (at_ms > 0).then(|| at_ms.saturating_mul(1_000)),
        };
        Ok(Self {
            id,
            organization,
            lineage,
            credits: key.has_credits.then_some(lineage),
            identity: identity(&key, &of, environment),
            attributes,
            limits: limits(&key, &of, replicas)?,
            own_limits: key.limits.len(),
            is_suspended: of.status() == OrganizationStatus::Suspended,
            is_disabled: disabled || status == KeyStatus::Disabled,
            revoked_us: from(KeyStatus::Revoked, key.revoked_at_ms),
            expires_us: from(KeyStatus::Expired, key.expires_at_ms),
            allowed_cidrs,
            scopes: key.scopes.into(),
            generation,
            floor: floors.of(organization, now_us),
            resolved_us: now_us,
            compared_us: AtomicU64::new(now_us),
        })
    }

    /// Whether nothing is known to have changed since.
    #[inline]
    pub(crate) fn is_of_now(&self) -> bool {
        self.floor.admits(self.generation)
    }

    /// Whether it is this check's turn to ask the counter store whether it is so still: once each `every_us`.
    pub(super) fn is_to_be_compared(&self, now_us: u64, every_us: u64) -> bool {
        let compared_us = self.compared_us.load(Ordering::Relaxed);
        now_us.saturating_sub(compared_us) >= every_us
            && self
                .compared_us
                .compare_exchange(compared_us, now_us, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// What it takes of the room of a cache.
    pub(super) fn weight(&self) -> usize {
        let values = self.attributes.iter().map(|(_, value)| value.len()).sum::<usize>();
        let scopes = self.scopes.iter().map(|scope| size_of::<String>() + scope.len()).sum::<usize>();
        let bytes = size_of::<Self>()
            + self.identity.len()
            + values
            + scopes
            + size_of_val(&*self.allowed_cidrs)
            + self.limits.len() * LIMIT_BYTES;
        bytes.div_ceil(UNIT)
    }

    /// What the key is good for.
    pub(crate) fn standing(
        &self,
        now_us: u64,
        client_ip: Option<IpAddr>,
        required_scopes: Option<&ScopeExpression<'_>>,
    ) -> Standing {
        let record = tidegate_credentials::Record {
            organization_suspended: self.is_suspended,
            revoked_us: self.revoked_us,
            disabled: self.is_disabled,
            expires_us: self.expires_us,
            allowed_cidrs: &self.allowed_cidrs,
            scopes: &self.scopes,
        };
        standing(&record, &Use { now_us, client_ip, required_scopes })
    }

    /// What it adds to a check.
    pub(crate) fn terms(&self) -> ByKey<'_> {
        ByKey { limits: &self.limits, fence: self.fence() }
    }

    /// The limits of the key alone, without the quota of its organization.
    pub(crate) fn own_limits(&self) -> &[KeyLimit] {
        &self.limits[..self.own_limits]
    }

    /// The state of the organization that it is of.
    pub(crate) fn fence(&self) -> Fence {
        Fence { organization: self.organization, generation: self.generation }
    }

    /// The attributes of a check by this key: those of its caller, but for those that the key gives.
    pub(crate) fn attributes<'a>(
        &'a self,
        told: &[(&'a str, &'a str)],
    ) -> smallvec::SmallVec<[(&'a str, &'a str); 12]> {
        let told = told.iter().filter(|(name, _)| !ATTRIBUTES.contains(name)).copied();
        told.chain(self.attributes.iter().map(|(name, value)| (*name, &**value))).collect()
    }
}

/// The limits of the key, each counted for itself so that one can be added without another being forgotten, and the quota.
fn limits(key: &ApiKey, of: &Organization, replicas: u32) -> Result<Box<[KeyLimit]>, String> {
    let own = key.limits.iter().map(|limit| {
        let period = Period::Micros(limit.period_s.saturating_mul(1_000_000));
        let spec = LimitSpec {
            name: limit.name.clone(),
            algorithm: Algorithm::SlidingWindow,
            limit: limit.limit,
            period,
            burst: None,
        };
        KeyLimit::new("key", (API_KEY, &key.lineage_id), spec, replicas)
            .map_err(|faults| format!("a limit of the key cannot be used: {faults:?}"))
    });
    own.chain(quota(of, replicas).transpose()).collect()
}

/// The monthly quota of an organization, if it has one.
///
/// # Errors
///
/// What is wrong with it.
pub(super) fn quota(of: &Organization, replicas: u32) -> Result<Option<KeyLimit>, String> {
    if of.monthly_quota == 0 {
        return Ok(None);
    }
    let spec = LimitSpec {
        name: "quota".to_owned(),
        algorithm: Algorithm::FixedWindow,
        // More than can be counted is no reason to refuse the key.
        limit: of.monthly_quota.min(MAX_TOKENS),
        period: Period::Month,
        burst: None,
    };
    let quota = KeyLimit::new("organization", (ORGANIZATION, &of.id), spec, replicas);
    quota.map(Some).map_err(|faults| format!("the quota cannot be used: {faults:?}"))
}

fn identity(key: &ApiKey, of: &Organization, environment: Environment) -> Box<[u8]> {
    let metadata =
        key.metadata.iter().map(|entry| MetadataEntry { key: entry.key.clone(), value: entry.value.clone() });
    let identity = KeyIdentity {
        id: key.id.clone(),
        lineage_id: key.lineage_id.clone(),
        name: key.name.clone(),
        environment: environment.as_str().to_owned(),
        scopes: key.scopes.clone(),
        expires_at_ms: key.expires_at_ms,
        metadata: metadata.collect(),
        organization_id: of.id.clone(),
        organization_name: of.name.clone(),
        plan: of.plan.clone(),
    };
    let mut bytes = Vec::new();
    Writer::new(&mut bytes).generated(IDENTITY, &identity);
    bytes.into()
}

#[cfg(test)]
mod tests;
