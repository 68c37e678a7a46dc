//! What rows mean. Each function reads some cells after those that were read before, so that joined tables follow each other.

use super::{FeedEntry, IdempotencyRecord, StoreError, Usage, cells::Cells};
use crate::domain::{
    ApiKey, CreditAccount, Event, ExternalIdentity, FamilyId, Invitation, InvitationId, KeyId, LedgerEntry,
    LineageId, Membership, Organization, OrganizationId, PasswordReset, RefreshFamily, RefreshToken,
    ServiceToken, ServiceTokenId, SigningKey, User, UserId,
};

/// The columns of a table, in the order in which the function of that name reads them.
macro_rules! columns {
    (organization) => {
        "o.id, o.name, o.plan, o.status, o.monthly_quota, o.generation, o.created_us, o.changed_us, o.version"
    };
    (user) => {
        "u.id, u.email, u.password_hash, u.is_admin, u.external_issuer, u.external_subject, u.created_us, u.changed_us, u.version"
    };
    (membership) => {
        "m.organization_id, m.user_id, m.role, m.joined_us, m.version"
    };
    (invitation) => {
        "i.id, i.organization_id, i.email, i.role, i.token_hash, i.created_us, i.expires_us, i.ended_us, i.version"
    };
    (family) => {
        "f.id, f.user_id, f.organization_id, f.created_us, f.ended_us, f.end_reason, f.version"
    };
    (api_key) => {
        "k.id, k.organization_id, k.lineage_id, k.name, k.key_prefix, k.environment, k.scopes, k.allowed_cidrs, k.metadata, \
         k.limits, k.created_us, k.created_by, k.expires_us, k.disabled_us, k.revoked_us, k.revoke_reason, k.replaced_by, \
         k.has_credits, k.last_used_us, k.expiry_announced_us, k.changed_us, k.version"
    };
    (ledger_entry) => {
        "l.id, l.lineage_id, l.organization_id, l.kind, l.amount, l.balance_after, l.at_us"
    };
    (service_token) => {
        "t.id, t.name, t.organization_id, t.created_us, t.created_by, t.expires_us, t.revoked_us, t.version"
    };
    (feed_entry) => {
        "e.revision, e.organization_id, e.generation, e.api_key_id, e.new_hashes, e.imported, e.revoked_service_token_id"
    };
}
pub(super) use columns;

/// A number of a type that is smaller than a column.
fn small<T: TryFrom<u64>>(number: u64) -> Result<T, StoreError> {
    T::try_from(number).map_err(|_| StoreError::Corrupt(format!("number {number}")))
}

/// One number.
pub(super) fn number(cells: &mut Cells<'_>) -> Result<u64, StoreError> {
    cells.number()
}

/// One hash.
pub(super) fn hash(cells: &mut Cells<'_>) -> Result<[u8; 32], StoreError> {
    cells.hash()
}

pub(super) fn organization(cells: &mut Cells<'_>) -> Result<Organization, StoreError> {
    Ok(Organization {
        id: OrganizationId(cells.id()?),
        name: cells.text()?,
        plan: cells.text()?,
        status: cells.word()?,
        monthly_quota: cells.number()?,
        generation: cells.number()?,
        created_us: cells.number()?,
        changed_us: cells.number()?,
        version: cells.number()?,
    })
}

pub(super) fn user(cells: &mut Cells<'_>) -> Result<User, StoreError> {
    Ok(User {
        id: UserId(cells.id()?),
        email: cells.email()?,
        password_hash: cells.maybe_text()?,
        is_admin: cells.flag()?,
        external: match (cells.maybe_text()?, cells.maybe_text()?) {
            (Some(issuer), Some(subject)) => Some(ExternalIdentity { issuer, subject }),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => return Err(half("an external identity")),
        },
        created_us: cells.number()?,
        changed_us: cells.number()?,
        version: cells.number()?,
    })
}

fn half(what: &str) -> StoreError {
    StoreError::Corrupt(format!("half of {what}"))
}

pub(super) fn membership(cells: &mut Cells<'_>) -> Result<Membership, StoreError> {
    Ok(Membership {
        organization_id: OrganizationId(cells.id()?),
        user_id: UserId(cells.id()?),
        role: cells.word()?,
        joined_us: cells.number()?,
        version: cells.number()?,
    })
}

pub(super) fn invitation(cells: &mut Cells<'_>) -> Result<Invitation, StoreError> {
    Ok(Invitation {
        id: InvitationId(cells.id()?),
        organization_id: OrganizationId(cells.id()?),
        email: cells.email()?,
        role: cells.word()?,
        token_hash: cells.hash()?,
        created_us: cells.number()?,
        expires_us: cells.number()?,
        ended_us: cells.maybe_number()?,
        version: cells.number()?,
    })
}

pub(super) fn password_reset(cells: &mut Cells<'_>) -> Result<PasswordReset, StoreError> {
    Ok(PasswordReset {
        token_hash: cells.hash()?,
        user_id: UserId(cells.id()?),
        created_us: cells.number()?,
        expires_us: cells.number()?,
        used_us: cells.maybe_number()?,
        version: cells.number()?,
    })
}

pub(super) fn family(cells: &mut Cells<'_>) -> Result<RefreshFamily, StoreError> {
    Ok(RefreshFamily {
        id: FamilyId(cells.id()?),
        user_id: UserId(cells.id()?),
        organization_id: cells.maybe_id()?.map(OrganizationId),
        created_us: cells.number()?,
        ended: match (cells.maybe_number()?, cells.maybe_word()?) {
            (Some(at_us), Some(reason)) => Some((at_us, reason)),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => return Err(half("an end")),
        },
        version: cells.number()?,
    })
}

pub(super) fn refresh_token(cells: &mut Cells<'_>) -> Result<RefreshToken, StoreError> {
    Ok(RefreshToken {
        token_hash: cells.hash()?,
        family_id: FamilyId(cells.id()?),
        issued_us: cells.number()?,
        expires_us: cells.number()?,
        used_us: cells.maybe_number()?,
        version: cells.number()?,
    })
}

pub(super) fn api_key(cells: &mut Cells<'_>) -> Result<ApiKey, StoreError> {
    Ok(ApiKey {
        id: KeyId(cells.id()?),
        organization_id: OrganizationId(cells.id()?),
        lineage_id: LineageId(cells.id()?),
        name: cells.text()?,
        key_prefix: cells.text()?,
        environment: cells.word()?,
        scopes: cells.json()?,
        allowed_cidrs: {
            let networks: Vec<String> = cells.json()?;
            let network =
                |text: &String| text.parse().map_err(|_| StoreError::Corrupt(format!("network {text:?}")));
            networks.iter().map(network).collect::<Result<_, _>>()?
        },
        metadata: cells.json()?,
        limits: cells.json()?,
        created_us: cells.number()?,
        created_by: cells.maybe_id()?.map(UserId),
        expires_us: cells.maybe_number()?,
        disabled_us: cells.maybe_number()?,
        revoked: match (cells.maybe_number()?, cells.maybe_word()?) {
            (Some(at_us), Some(reason)) => Some((at_us, reason)),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => return Err(half("a revocation")),
        },
        replaced_by: cells.maybe_id()?.map(KeyId),
        has_credits: cells.flag()?,
        last_used_us: cells.maybe_number()?,
        expiry_announced_us: cells.maybe_number()?,
        changed_us: cells.number()?,
        version: cells.number()?,
    })
}

pub(super) fn usage(cells: &mut Cells<'_>) -> Result<Usage, StoreError> {
    Ok(Usage { day: cells.text()?, outcome: cells.text()?, count: cells.number()? })
}

pub(super) fn credits(cells: &mut Cells<'_>) -> Result<CreditAccount, StoreError> {
    Ok(CreditAccount {
        lineage_id: LineageId(cells.id()?),
        organization_id: OrganizationId(cells.id()?),
        balance: cells.number()?,
        refill_amount: cells.number()?,
        refill_every_days: small(cells.number()?)?,
        next_refill_us: cells.maybe_number()?,
        version: cells.number()?,
    })
}

pub(super) fn ledger_entry(cells: &mut Cells<'_>) -> Result<LedgerEntry, StoreError> {
    Ok(LedgerEntry {
        id: cells.id()?,
        lineage_id: LineageId(cells.id()?),
        organization_id: OrganizationId(cells.id()?),
        kind: cells.word()?,
        amount: cells.number()?,
        balance_after: cells.number()?,
        at_us: cells.number()?,
    })
}

pub(super) fn service_token(cells: &mut Cells<'_>) -> Result<ServiceToken, StoreError> {
    Ok(ServiceToken {
        id: ServiceTokenId(cells.id()?),
        name: cells.text()?,
        organization_id: cells.maybe_id()?.map(OrganizationId),
        created_us: cells.number()?,
        created_by: cells.maybe_id()?.map(UserId),
        expires_us: cells.number()?,
        revoked_us: cells.maybe_number()?,
        version: cells.number()?,
    })
}

pub(super) fn signing_key(cells: &mut Cells<'_>) -> Result<SigningKey, StoreError> {
    Ok(SigningKey {
        kid: cells.text()?,
        public_key: cells.hash()?,
        sealed_private_key: cells.bytes()?,
        created_us: cells.number()?,
        retired_us: cells.maybe_number()?,
        version: cells.number()?,
    })
}

pub(super) fn idempotency(cells: &mut Cells<'_>) -> Result<IdempotencyRecord, StoreError> {
    Ok(IdempotencyRecord {
        caller: cells.text()?,
        key: cells.text()?,
        request: cells.hash()?,
        sealed_answer: cells.bytes()?,
        expires_us: cells.number()?,
    })
}

pub(super) fn feed_entry(cells: &mut Cells<'_>) -> Result<(u64, FeedEntry), StoreError> {
    let revision = cells.number()?;
    let entry = FeedEntry {
        organization: cells.maybe_id()?.map(OrganizationId),
        generation: cells.number()?,
        key: cells.maybe_id()?.map(KeyId),
        new_hashes: {
            let bytes = cells.bytes()?;
            let (hashes, rest) = bytes.as_chunks();
            if !rest.is_empty() {
                return Err(half("a hash"));
            }
            hashes.to_vec()
        },
        imported: cells.flag()?,
        revoked_service_token: cells.maybe_id()?.map(ServiceTokenId),
    };
    Ok((revision, entry))
}

pub(super) fn event(cells: &mut Cells<'_>) -> Result<Event, StoreError> {
    Ok(Event {
        id: cells.id()?,
        organization_id: cells.maybe_id()?.map(OrganizationId),
        action: cells.word()?,
        outcome: cells.word()?,
        actor: cells.text()?,
        actor_type: cells.word()?,
        resource_type: cells.word()?,
        resource_id: cells.text()?,
        ip_address: cells.maybe_text()?,
        user_agent: cells.maybe_text()?,
        request_id: cells.maybe_text()?,
        details: cells.json()?,
        at_us: cells.number()?,
    })
}
