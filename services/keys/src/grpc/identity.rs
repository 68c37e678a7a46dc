//! Accounts, members and tokens as messages.

use tidegate_chassis::auth::Role;
use tidegate_proto::keys::v1 as pb;

use crate::{
    domain::{Invitation, Membership, Organization, ServiceToken, SigningKey, User},
    identity::Tokens,
};

pub(super) fn user(user: &User) -> pb::User {
    pb::User {
        id: user.id.to_string(),
        email: user.email.as_str().to_owned(),
        created_at_ms: user.created_us / 1_000,
    }
}

pub(super) fn tokens(tokens: &Tokens) -> pb::Tokens {
    pb::Tokens {
        access_token: tokens.access.clone(),
        refresh_token: tokens.refresh.clone(),
        expires_in_s: tokens.access_s,
        refresh_expires_in_s: tokens.refresh_s,
    }
}

pub(super) fn role(role: Role) -> pb::Role {
    match role {
        Role::Admin => pb::Role::Admin,
        Role::TenantAdmin => pb::Role::TenantAdmin,
        Role::User => pb::Role::User,
        Role::Service => pb::Role::Service,
    }
}

pub(super) fn membership((membership, organization): &(Membership, Organization)) -> pb::Membership {
    pb::Membership {
        organization_id: organization.id.to_string(),
        organization_name: organization.name.clone(),
        role: role(membership.role).into(),
    }
}

pub(super) fn member((membership, user): &(Membership, User)) -> pb::Member {
    pb::Member {
        user_id: user.id.to_string(),
        email: user.email.as_str().to_owned(),
        role: role(membership.role).into(),
        joined_at_ms: membership.joined_us / 1_000,
    }
}

pub(super) fn invitation(invitation: &Invitation) -> pb::Invitation {
    pb::Invitation {
        id: invitation.id.to_string(),
        email: invitation.email.as_str().to_owned(),
        role: role(invitation.role).into(),
        created_at_ms: invitation.created_us / 1_000,
        expires_at_ms: invitation.expires_us / 1_000,
    }
}

pub(super) fn service_token(token: &ServiceToken) -> pb::ServiceToken {
    pb::ServiceToken {
        id: token.id.to_string(),
        name: token.name.clone(),
        organization_id: token.organization_id.map_or_else(String::new, |id| id.to_string()),
        created_at_ms: token.created_us / 1_000,
        expires_at_ms: token.expires_us / 1_000,
        revoked_at_ms: token.revoked_us.map_or(0, |at_us| at_us / 1_000),
    }
}

pub(super) fn signing_key(key: &SigningKey) -> pb::SigningKey {
    pb::SigningKey {
        kid: key.kid.clone(),
        algorithm: "EdDSA".to_owned(),
        public_key: key.public_key.to_vec().into(),
        created_at_ms: key.created_us / 1_000,
        retired_at_ms: key.retired_us.map_or(0, |at_us| at_us / 1_000),
    }
}
