//! What requests name: organizations, accounts, addresses, texts. All that is wrong is collected.

use std::str::FromStr;

use tidegate_chassis::{auth::Caller, error::Violations};
use uuid::Uuid;

use crate::{
    domain::{Email, OrganizationId},
    error::KeysError,
};

const MAX_NAME_CHARS: usize = 128;

/// The organization that a caller means: its own if it names none. A wrong id is added to `violations`; what is given then is not to be
/// used.
///
/// # Errors
///
/// [`KeysError::OrganizationNotFound`] if the caller may not know of it.
pub(crate) fn organization_among(
    caller: &Caller,
    text: &str,
    violations: &mut Violations,
) -> Result<OrganizationId, KeysError> {
    let nobodys = OrganizationId(Uuid::nil());
    let named = match (text, caller.organization) {
        ("", Some(own)) => return Ok(OrganizationId(own)),
        ("", None) => {
            violations.add("organization_id", "must be given by a caller that is for all organizations");
            return Ok(nobodys);
        }
        (text, _) => text.parse(),
    };
    match named {
        Err(_) => {
            violations.add("organization_id", "must be a UUID");
            Ok(nobodys)
        }
        Ok(named) if caller.may_touch(named) => Ok(OrganizationId(named)),
        Ok(_) => Err(KeysError::OrganizationNotFound),
    }
}

/// The same, where nothing else can be wrong.
///
/// # Errors
///
/// As [`organization_among`], and [`KeysError::Invalid`].
pub(super) fn organization(caller: &Caller, text: &str) -> Result<OrganizationId, KeysError> {
    let mut violations = Violations::default();
    let named = organization_among(caller, text, &mut violations)?;
    all_good(violations)?;
    Ok(named)
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
pub(crate) fn all_good(violations: Violations) -> Result<(), KeysError> {
    if violations.is_empty() { Ok(()) } else { Err(KeysError::Invalid(violations)) }
}
