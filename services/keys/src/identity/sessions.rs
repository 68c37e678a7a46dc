//! Accounts come in, stay and leave: sign-up, login, refresh, logout, passwords, invitations that are accepted.

mod administrator;
mod external;
mod invited;
mod log_in;
mod me;
mod password;
mod refresh;
mod sign_up;

use std::sync::Arc;

use serde_json::json;
use tidegate_chassis::{
    auth::{Caller, How, Role, TokenUse},
    clock::{Clock, Random, uuid_v7},
};
use uuid::Uuid;

pub use self::{invited::Proof, log_in::LogIn, me::Me, sign_up::SignUp};
use super::{Attempts, Issuers, Minter, OneTime, Passwords, Place, Tokens};
use crate::{
    domain::{
        Action, Event, FamilyId, Membership, Organization, OrganizationId, OrganizationStatus, Outcome,
        RefreshFamily, RefreshToken, ResourceType, User, UserId,
    },
    error::KeysError,
    origin::{Actor, RequestOrigin},
    store::{Change, KeysStore, StoreError, Unique, Write},
};

/// The use cases of accounts. Clones are the same.
#[derive(Clone)]
pub struct Sessions(Arc<Inner>);

struct Inner {
    store: Arc<dyn KeysStore>,
    passwords: Passwords,
    minter: Minter,
    attempts: Arc<Attempts>,
    issuers: Issuers,
    clock: Clock,
    random: Random,
}

/// An account that came in, and where.
#[derive(Clone, Debug)]
pub struct Admitted {
    /// The account.
    pub user: User,
    /// The organization that it is in now.
    pub organization: Organization,
    /// Tokens for it.
    pub tokens: Tokens,
}

/// As what an account is in: its role, and in which organization; none for an `admin`.
type Standing = (Role, Option<OrganizationId>);

impl Sessions {
    /// Everything that they take.
    #[must_use]
    pub fn new(
        store: Arc<dyn KeysStore>,
        passwords: Passwords,
        minter: Minter,
        attempts: Arc<Attempts>,
        issuers: Issuers,
        (clock, random): (Clock, Random),
    ) -> Self {
        Self(Arc::new(Inner { store, passwords, minter, attempts, issuers, clock, random }))
    }

    /// A place for the password of a login or a sign-up: taken before anything else of it is done, be it only to look for what was answered
    /// before.
    ///
    /// # Errors
    ///
    /// [`KeysError::Overloaded`] if there is none.
    pub fn place(&self) -> Result<Place<'_>, KeysError> {
        self.0.passwords.place()
    }

    /// What mints their tokens.
    #[must_use]
    pub fn minter(&self) -> &Minter {
        &self.0.minter
    }
}

impl Inner {
    fn id(&self, now_us: u64) -> Uuid {
        uuid_v7(now_us, &self.random)
    }

    /// Adds a login of `user` to `write`, and gives its tokens.
    async fn begin(&self, write: &mut Write, user: &User, standing: Standing) -> Result<Tokens, KeysError> {
        let signer = self.minter.signer().await?;
        let family = RefreshFamily {
            id: FamilyId(self.id(write.at_us)),
            user_id: user.id,
            organization_id: standing.1,
            created_us: write.at_us,
            ended: None,
            version: 0,
        };
        let (refresh, row) = self.draw_refresh(family.id, write.at_us);
        write.changes.extend([Change::RefreshFamily(family), Change::RefreshToken(row)]);
        self.minter.tokens(&signer, user, standing, refresh)
    }

    fn draw_refresh(&self, family_id: FamilyId, now_us: u64) -> (String, RefreshToken) {
        let (token, token_hash) = OneTime::Refresh.draw();
        let expires_us = now_us.saturating_add(self.minter.refresh_ttl_us());
        let row =
            RefreshToken { token_hash, family_id, issued_us: now_us, expires_us, used_us: None, version: 0 };
        (token, row)
    }

    fn event(
        &self,
        origin: &RequestOrigin,
        at_us: u64,
        actor: Actor,
        (action, outcome): (Action, Outcome),
        user: Option<&User>,
    ) -> Event {
        let resource = user.map_or_else(String::new, |user| user.id.to_string());
        let event = origin.event((self.id(at_us), at_us), actor, action, (ResourceType::User, resource));
        Event { outcome, ..event }
    }
}

/// With a word that says more.
fn with_detail(mut event: Event, name: &str, value: &str) -> Event {
    event.details.insert(name.to_owned(), json!(value));
    event
}

/// As what an account comes in: in the organization that it names, else as `admin`, else in the one that it joined first.
///
/// # Errors
///
/// Why not, in a word for events.
fn standing(
    user: &User,
    memberships: &[(Membership, Organization)],
    wanted: Option<OrganizationId>,
) -> Result<Standing, &'static str> {
    let found = match wanted {
        Some(id) => memberships.iter().find(|(membership, _)| membership.organization_id == id),
        None if user.is_admin => return Ok((Role::Admin, None)),
        None => memberships.first(),
    };
    let (membership, organization) = found.ok_or("no_member")?;
    match organization.status {
        OrganizationStatus::Active => Ok((membership.role, Some(organization.id))),
        OrganizationStatus::Suspended => Err("organization_suspended"),
    }
}

/// The account of a caller.
///
/// # Errors
///
/// [`KeysError::CredentialsInvalid`] if it is none.
pub(super) fn account(caller: &Caller) -> Result<UserId, KeysError> {
    match &caller.how {
        How::Token { token_use: TokenUse::Access, .. } => {
            caller.subject.parse().map_err(|_| KeysError::CredentialsInvalid)
        }
        How::Token { token_use: TokenUse::Service | TokenUse::Internal, .. }
        | How::Certificate
        | How::Anonymous => Err(KeysError::CredentialsInvalid),
    }
}

/// An address that was taken while it was looked for.
fn taken(error: StoreError) -> KeysError {
    match error {
        StoreError::Taken(Unique::Email) => KeysError::EmailTaken,
        error => error.into(),
    }
}

#[cfg(test)]
mod tests;
