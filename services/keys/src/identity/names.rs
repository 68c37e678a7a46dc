//! What requests name: organizations, accounts, addresses, texts. All that is wrong is collected.

use std::str::FromStr;

use tidegate_chassis::{auth::Caller, error::Violations};

use crate::{
    domain::{Email, OrganizationId},
    error::KeysError,
};

const MAX_NAME_CHARS: usize = 128;

/// The organization that a caller means: that of its token if it names none.
///
/// # Errors
///
/// [`KeysError::OrganizationNotFound`] for one that it may not touch; [`KeysError::Invalid`].
pub(super) fn organization(caller: &Caller, text: &str) -> Result<OrganizationId, KeysError> {
    let own = caller.organization.map(OrganizationId);
    let named = match (text, own) {
        ("", Some(own)) => own,
        ("", None) => return Err(KeysError::field("organization_id", "must be set: the caller has none")),
        (text, _) => text.parse().map_err(|_| KeysError::field("organization_id", "must be a UUID"))?,
    };
    if caller.may_touch(named.0) { Ok(named) } else { Err(KeysError::OrganizationNotFound) }
}

/// An id.
pub(super) fn id<T: FromStr>(field: &str, text: &str) -> Result<T, KeysError> {
    text.parse().map_err(|_| KeysError::field(field, "must be a UUID"))
}

/// An e-mail address; none if it is none.
pub(super) fn email(text: &str, violations: &mut Violations) -> Option<Email> {
    Email::parse(text).map_err(|wrong| violations.add("email", wrong)).ok()
}

/// A name for people: 1 to 128 characters, without those that control.
pub(super) fn name(field: &str, text: &str, violations: &mut Violations) {
    if !(1..=MAX_NAME_CHARS).contains(&text.chars().count()) || text.trim().is_empty() {
        violations.add(field, format!("must be 1 to {MAX_NAME_CHARS} characters"));
    } else if text.chars().any(char::is_control) {
        violations.add(field, "must not hold control characters");
    }
}

/// Nothing, if nothing was wrong.
pub(super) fn all_good(violations: Violations) -> Result<(), KeysError> {
    if violations.is_empty() { Ok(()) } else { Err(KeysError::Invalid(violations)) }
}
