//! How each row is written. A statement that touches no row is a conflict.

use uuid::Uuid;

use super::{
    Change, Guard, StoreError,
    sql::{Sql, Value, statements, values},
    words::Word,
};
use crate::domain::{
    ApiKey, CreditAccount, Invitation, KeySecret, LedgerEntry, Membership, Organization, OrganizationId,
    PasswordReset, RefreshFamily, RefreshToken, ServiceToken, SigningKey, User,
};

statements!(
    PUT_ORGANIZATION = (
        "INSERT INTO keys.organizations (id, name, plan, status, monthly_quota, generation, created_us, changed_us, version) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    );
    SET_ORGANIZATION = (
        "UPDATE keys.organizations SET name = $2, plan = $3, status = $4, monthly_quota = $5, generation = $6, \
         created_us = $7, changed_us = $8, version = $9 WHERE id = $1 AND version = $9 - 1",
    );
    PUT_USER = (
        "INSERT INTO keys.users (id, email, password_hash, is_admin, external_issuer, external_subject, created_us, changed_us, \
         version) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    );
    SET_USER = (
        "UPDATE keys.users SET email = $2, password_hash = $3, is_admin = $4, external_issuer = $5, external_subject = $6, \
         created_us = $7, changed_us = $8, version = $9 WHERE id = $1 AND version = $9 - 1",
    );
    HOLD_USER = (
        // Changes nothing, but whoever would change the row waits for the end of this transaction.
        "UPDATE keys.users SET version = version WHERE id = $1 AND version = $2",
    );
    PUT_MEMBERSHIP = (
        "INSERT INTO keys.memberships (organization_id, user_id, role, joined_us, version) VALUES ($1, $2, $3, $4, $5)",
    );
    SET_MEMBERSHIP = (
        "UPDATE keys.memberships SET role = $3, joined_us = $4, version = $5 \
         WHERE organization_id = $1 AND user_id = $2 AND version = $5 - 1",
    );
    REMOVE_MEMBERSHIP = (
        "DELETE FROM keys.memberships WHERE organization_id = $1 AND user_id = $2 AND version = $3",
    );
    PUT_INVITATION = (
        "INSERT INTO keys.invitations (id, organization_id, email, role, token_hash, created_us, expires_us, ended_us, version) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    );
    SET_INVITATION = (
        "UPDATE keys.invitations SET email = $3, role = $4, token_hash = $5, created_us = $6, expires_us = $7, ended_us = $8, \
         version = $9 WHERE id = $1 AND organization_id = $2 AND version = $9 - 1",
    );
    PUT_RESET = (
        "INSERT INTO keys.password_resets (token_hash, user_id, created_us, expires_us, used_us, version) \
         VALUES ($1, $2, $3, $4, $5, $6)",
    );
    SET_RESET = (
        "UPDATE keys.password_resets SET created_us = $3, expires_us = $4, used_us = $5, version = $6 \
         WHERE token_hash = $1 AND user_id = $2 AND version = $6 - 1",
    );
    PUT_FAMILY = (
        "INSERT INTO keys.refresh_families (id, user_id, organization_id, created_us, ended_us, end_reason, version) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    );
    SET_FAMILY = (
        "UPDATE keys.refresh_families SET created_us = $4, ended_us = $5, end_reason = $6, version = $7 \
         WHERE id = $1 AND user_id = $2 AND organization_id IS NOT DISTINCT FROM $3 AND version = $7 - 1",
    );
    END_FAMILIES = (
        "UPDATE keys.refresh_families SET ended_us = $2, end_reason = $3, version = version + 1 \
         WHERE user_id = $1 AND ended_us IS NULL",
    );
    PUT_TOKEN = (
        "INSERT INTO keys.refresh_tokens (token_hash, family_id, issued_us, expires_us, used_us, version) \
         VALUES ($1, $2, $3, $4, $5, $6)",
    );
    SET_TOKEN = (
        "UPDATE keys.refresh_tokens SET issued_us = $3, expires_us = $4, used_us = $5, version = $6 \
         WHERE token_hash = $1 AND family_id = $2 AND version = $6 - 1",
    );
    PUT_API_KEY = (
        "INSERT INTO keys.api_keys (id, organization_id, lineage_id, name, key_prefix, environment, scopes, allowed_cidrs, \
         metadata, limits, created_us, created_by, expires_us, disabled_us, revoked_us, revoke_reason, replaced_by, \
         has_credits, expiry_announced_us, changed_us, version) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, \
         $12, $13, $14, $15, $16, $17, $18, $19, $20, $21)",
    );
    SET_API_KEY = (
        "UPDATE keys.api_keys SET lineage_id = $3, name = $4, key_prefix = $5, environment = $6, scopes = $7, \
         allowed_cidrs = $8, metadata = $9, limits = $10, created_us = $11, created_by = $12, expires_us = $13, \
         disabled_us = $14, revoked_us = $15, revoke_reason = $16, replaced_by = $17, has_credits = $18, \
         expiry_announced_us = $19, changed_us = $20, version = $21 \
         WHERE id = $1 AND organization_id = $2 AND version = $21 - 1",
    );
    PUT_SECRET = (
        "INSERT INTO keys.key_secrets (hash, pepper_version, api_key_id, organization_id) VALUES ($1, $2, $3, $4)",
    );
    PUT_CREDITS = (
        "INSERT INTO keys.credit_accounts (lineage_id, organization_id, balance, refill_amount, refill_every_days, \
         next_refill_us, version) VALUES ($1, $2, $3, $4, $5, $6, $7)",
    );
    SET_CREDITS = (
        "UPDATE keys.credit_accounts SET balance = $3, refill_amount = $4, refill_every_days = $5, next_refill_us = $6, \
         version = $7 WHERE lineage_id = $1 AND organization_id = $2 AND version = $7 - 1",
    );
    PUT_LEDGER_ENTRY = (
        "INSERT INTO keys.ledger (id, lineage_id, organization_id, kind, amount, balance_after, at_us) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    );
    PUT_SERVICE_TOKEN = (
        "INSERT INTO keys.service_tokens (id, name, organization_id, created_us, created_by, expires_us, revoked_us, version) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    );
    SET_SERVICE_TOKEN = (
        "UPDATE keys.service_tokens SET name = $2, created_us = $4, created_by = $5, expires_us = $6, revoked_us = $7, \
         version = $8 WHERE id = $1 AND organization_id IS NOT DISTINCT FROM $3 AND version = $8 - 1",
    );
    PUT_SIGNING_KEY = (
        "INSERT INTO keys.signing_keys (kid, public_key, sealed_private_key, created_us, retired_us, version) \
         VALUES ($1, $2, $3, $4, $5, $6)",
    );
    SET_SIGNING_KEY = (
        "UPDATE keys.signing_keys SET public_key = $2, sealed_private_key = $3, created_us = $4, retired_us = $5, version = $6 \
         WHERE kid = $1 AND version = $6 - 1",
    );
);

/// The statement of a change with what is bound to it. The last value of a row is the version that it gets.
pub(super) fn statement(change: &Change, at_us: u64) -> Result<(Sql, Vec<Value>), StoreError> {
    Ok(match change {
        Change::Organization(row) => {
            (either(row.version, PUT_ORGANIZATION, SET_ORGANIZATION), organization(row, at_us))
        }
        Change::User(row) => (either(row.version, PUT_USER, SET_USER), user(row, at_us)),
        Change::Membership(row) => {
            (either(row.version, PUT_MEMBERSHIP, SET_MEMBERSHIP), membership(row, row.version + 1))
        }
        Change::RemoveMembership(row) => {
            (REMOVE_MEMBERSHIP, values![row.organization_id.0, row.user_id.0, row.version])
        }
        Change::Invitation(row) => (either(row.version, PUT_INVITATION, SET_INVITATION), invitation(row)),
        Change::PasswordReset(row) => (either(row.version, PUT_RESET, SET_RESET), password_reset(row)),
        Change::RefreshFamily(row) => (either(row.version, PUT_FAMILY, SET_FAMILY), family(row)),
        Change::RefreshToken(row) => (either(row.version, PUT_TOKEN, SET_TOKEN), refresh_token(row)),
        Change::ApiKey(row) => (either(row.version, PUT_API_KEY, SET_API_KEY), api_key(row, at_us)?),
        Change::KeySecret(row) => (PUT_SECRET, secret(row)),
        Change::Credits(row) => (either(row.version, PUT_CREDITS, SET_CREDITS), credits(row)),
        Change::Ledger(row) => (PUT_LEDGER_ENTRY, ledger_entry(row)),
        Change::ServiceToken(row) => {
            (either(row.version, PUT_SERVICE_TOKEN, SET_SERVICE_TOKEN), service_token(row))
        }
        Change::SigningKey(row) => (either(row.version, PUT_SIGNING_KEY, SET_SIGNING_KEY), signing_key(row)),
    })
}

/// How it is seen to, and that it stays so.
pub(super) fn guarded(guard: Guard) -> (Sql, Vec<Value>) {
    match guard {
        Guard::User(id, version) => (HOLD_USER, values![id.0, version]),
    }
}

/// Whose row it is: that of an organization, of all and none, or of a table that knows no organizations.
pub(super) fn owner(change: &Change) -> Owner {
    let maybe = |organization: Option<OrganizationId>| organization.map_or(Owner::All, Owner::One);
    match change {
        Change::Organization(row) => Owner::One(row.id),
        Change::Membership(row) | Change::RemoveMembership(row) => Owner::One(row.organization_id),
        Change::Invitation(row) => Owner::One(row.organization_id),
        Change::RefreshFamily(row) => maybe(row.organization_id),
        Change::ApiKey(row) => Owner::One(row.organization_id),
        Change::KeySecret(row) => Owner::One(row.organization_id),
        Change::Credits(row) => Owner::One(row.organization_id),
        Change::Ledger(row) => Owner::One(row.organization_id),
        Change::ServiceToken(row) => maybe(row.organization_id),
        Change::User(_) | Change::PasswordReset(_) | Change::RefreshToken(_) | Change::SigningKey(_) => {
            Owner::Nobody
        }
    }
}

/// See [`owner`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    One(OrganizationId),
    All,
    Nobody,
}

fn either(version: u64, new: Sql, present: Sql) -> Sql {
    if version == 0 { new } else { present }
}

fn organization(row: &Organization, at_us: u64) -> Vec<Value> {
    values![
        row.id.0,
        &row.name,
        &row.plan,
        row.status.word(),
        row.monthly_quota,
        row.generation,
        row.created_us,
        at_us,
        row.version + 1,
    ]
}

fn user(row: &User, at_us: u64) -> Vec<Value> {
    let external = row.external.as_ref();
    values![
        row.id.0,
        row.email.as_str(),
        &row.password_hash,
        row.is_admin,
        external.map(|external| &*external.issuer),
        external.map(|external| &*external.subject),
        row.created_us,
        at_us,
        row.version + 1,
    ]
}

fn membership(row: &Membership, version: u64) -> Vec<Value> {
    values![row.organization_id.0, row.user_id.0, row.role.word(), row.joined_us, version]
}

fn invitation(row: &Invitation) -> Vec<Value> {
    values![
        row.id.0,
        row.organization_id.0,
        row.email.as_str(),
        row.role.word(),
        &row.token_hash,
        row.created_us,
        row.expires_us,
        row.ended_us,
        row.version + 1,
    ]
}

fn password_reset(row: &PasswordReset) -> Vec<Value> {
    values![&row.token_hash, row.user_id.0, row.created_us, row.expires_us, row.used_us, row.version + 1]
}

fn family(row: &RefreshFamily) -> Vec<Value> {
    values![
        row.id.0,
        row.user_id.0,
        row.organization_id.map(|organization| organization.0),
        row.created_us,
        row.ended.map(|(at_us, _)| at_us),
        row.ended.map(|(_, reason)| reason.word()),
        row.version + 1,
    ]
}

fn refresh_token(row: &RefreshToken) -> Vec<Value> {
    values![&row.token_hash, row.family_id.0, row.issued_us, row.expires_us, row.used_us, row.version + 1]
}

fn api_key(row: &ApiKey, at_us: u64) -> Result<Vec<Value>, StoreError> {
    let networks: Vec<String> = row.allowed_cidrs.iter().map(ToString::to_string).collect();
    Ok(values![
        row.id.0,
        row.organization_id.0,
        row.lineage_id.0,
        &row.name,
        &row.key_prefix,
        row.environment.word(),
        json(&row.scopes)?,
        json(&networks)?,
        json(&row.metadata)?,
        json(&row.limits)?,
        row.created_us,
        row.created_by.map(|user| user.0),
        row.expires_us,
        row.disabled_us,
        row.revoked.map(|(at_us, _)| at_us),
        row.revoked.map(|(_, reason)| reason.word()),
        row.replaced_by.map(|key| key.0),
        row.has_credits,
        row.expiry_announced_us,
        at_us,
        row.version + 1,
    ])
}

fn secret(row: &KeySecret) -> Vec<Value> {
    values![&row.hash, row.pepper_version, row.api_key_id.0, row.organization_id.0]
}

fn credits(row: &CreditAccount) -> Vec<Value> {
    values![
        row.lineage_id.0,
        row.organization_id.0,
        row.balance,
        row.refill_amount,
        row.refill_every_days,
        row.next_refill_us,
        row.version + 1,
    ]
}

fn ledger_entry(row: &LedgerEntry) -> Vec<Value> {
    values![
        row.id,
        row.lineage_id.0,
        row.organization_id.0,
        row.kind.word(),
        row.amount,
        row.balance_after,
        row.at_us,
    ]
}

fn service_token(row: &ServiceToken) -> Vec<Value> {
    values![
        row.id.0,
        &row.name,
        row.organization_id.map(|organization| organization.0),
        row.created_us,
        row.created_by.map(|user| user.0),
        row.expires_us,
        row.revoked_us,
        row.version + 1,
    ]
}

fn signing_key(row: &SigningKey) -> Vec<Value> {
    values![
        &row.kid,
        &row.public_key,
        &row.sealed_private_key,
        row.created_us,
        row.retired_us,
        row.version + 1,
    ]
}

/// JSON of a value.
pub(super) fn json<T: serde::Serialize + ?Sized>(value: &T) -> Result<String, StoreError> {
    // None of ours fails: keys of maps are texts.
    serde_json::to_string(value).map_err(|error| StoreError::Corrupt(error.to_string()))
}

/// Ids as the statements that take a list of them have them.
pub(super) fn hexadecimal(id: Uuid) -> String {
    id.simple().to_string()
}
