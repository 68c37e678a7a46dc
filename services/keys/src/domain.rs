//! What the keys service is about, as values: no network, no database, no clock.
//!
//! A row that can be changed has a `version`, which the store counts: 0 is one that is not stored yet. Times are Unix
//! microseconds.

mod api_key;
mod credits;
mod event;
mod id;
mod organization;
mod session;
mod token;
mod user;

pub use self::{
    api_key::{ApiKey, Environment, KeyLimit, KeySecret, RevokeReason},
    credits::{CreditAccount, LedgerEntry, LedgerKind},
    event::{Action, ActorType, Event, Outcome, ResourceType},
    id::{FamilyId, InvitationId, KeyId, LineageId, OrganizationId, ServiceTokenId, UserId},
    organization::{Invitation, Membership, Organization, OrganizationStatus},
    session::{EndReason, PasswordReset, RefreshFamily, RefreshToken},
    token::{ServiceToken, SigningKey},
    user::{Email, ExternalIdentity, User},
};
