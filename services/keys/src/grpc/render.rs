//! Organizations, keys and credits as messages.

use tidegate_credentials::Environment;
use tidegate_proto::keys::v1 as pb;

use crate::{
    api_keys::key_status,
    domain::{
        ApiKey, CreditAccount, KeyLimit, Organization, OrganizationStatus, RevokeReason, ServiceTokenId,
    },
    feed::Changed,
    store::{KeyStatus, Usage},
};

/// An organization.
pub(super) fn organization(organization: &Organization) -> pb::Organization {
    let status = match organization.status {
        OrganizationStatus::Active => pb::OrganizationStatus::Active,
        OrganizationStatus::Suspended => pb::OrganizationStatus::Suspended,
    };
    pb::Organization {
        id: organization.id.to_string(),
        name: organization.name.clone(),
        plan: organization.plan.clone(),
        status: status.into(),
        monthly_quota: organization.monthly_quota,
        created_at_ms: organization.created_us / 1_000,
        updated_at_ms: organization.changed_us / 1_000,
        etag: organization.version.to_string(),
    }
}

/// A key, as it is at a time.
pub(super) fn api_key(key: &ApiKey, now_us: u64) -> pb::ApiKey {
    let status = match key_status(key, now_us) {
        KeyStatus::Active => pb::KeyStatus::Active,
        KeyStatus::Disabled => pb::KeyStatus::Disabled,
        KeyStatus::Expired => pb::KeyStatus::Expired,
        KeyStatus::Revoked => pb::KeyStatus::Revoked,
    };
    let environment = match key.environment {
        Environment::Live => pb::KeyEnvironment::Live,
        Environment::Test => pb::KeyEnvironment::Test,
    };
    let (revoked_us, reason) = match key.revoked {
        None => (None, ""),
        Some((at_us, RevokeReason::Revoked)) => (Some(at_us), "revoked"),
        Some((at_us, RevokeReason::Rotated)) => (Some(at_us), "rotated"),
        Some((at_us, RevokeReason::Leaked)) => (Some(at_us), "leaked"),
    };
    let limit = |limit: &KeyLimit| pb::KeyLimit {
        name: limit.name.clone(),
        limit: limit.limit,
        period_s: limit.period_s,
    };
    let entry = |(name, value): (&String, &String)| pb::api_key::MetadataEntry {
        key: name.clone(),
        value: value.clone(),
    };
    pb::ApiKey {
        id: key.id.to_string(),
        organization_id: key.organization_id.to_string(),
        lineage_id: key.lineage_id.to_string(),
        name: key.name.clone(),
        key_prefix: key.key_prefix.clone(),
        environment: environment.into(),
        scopes: key.scopes.clone(),
        allowed_cidrs: key.allowed_cidrs.iter().map(ToString::to_string).collect(),
        metadata: key.metadata.iter().map(entry).collect(),
        limits: key.limits.iter().map(limit).collect(),
        status: status.into(),
        created_at_ms: key.created_us / 1_000,
        created_by: key.created_by.map_or_else(String::new, |user| user.to_string()),
        expires_at_ms: ms(key.expires_us),
        last_used_at_ms: ms(key.last_used_us),
        revoked_at_ms: ms(revoked_us),
        revoke_reason: reason.to_owned(),
        replaced_by: key.replaced_by.map_or_else(String::new, |id| id.to_string()),
        has_credits: key.has_credits,
        etag: key.version.to_string(),
    }
}

/// Credits.
pub(super) fn credits(account: &CreditAccount) -> pb::Credits {
    pb::Credits {
        balance: account.balance,
        refill_amount: account.refill_amount,
        refill_every_days: account.refill_every_days,
        next_refill_at_ms: ms(account.next_refill_us),
    }
}

/// How a key was used.
pub(super) fn usage(usage: Usage) -> pb::KeyUsage {
    let Usage { day, outcome, count } = usage;
    pb::KeyUsage { day, outcome, count }
}

/// That a service token was revoked before the feed was listened to.
pub(super) fn revoked_service_token(id: ServiceTokenId) -> pb::KeyChange {
    pb::KeyChange { revoked_service_token_id: id.to_string(), ..pb::KeyChange::default() }
}

/// That something is not what it was.
pub(super) fn change(changed: &Changed) -> pb::KeyChange {
    let Changed { organization, generation, key, imported, revoked_service_token } = *changed;
    pb::KeyChange {
        organization_id: organization.map_or_else(String::new, |id| id.to_string()),
        generation,
        api_key_id: key.map_or_else(String::new, |id| id.to_string()),
        imported,
        revoked_service_token_id: revoked_service_token.map_or_else(String::new, |id| id.to_string()),
    }
}

/// Milliseconds of a time; 0 for none.
fn ms(at_us: Option<u64>) -> u64 {
    at_us.map_or(0, |at_us| at_us / 1_000)
}
