//! Accounts.

use std::fmt;

use super::UserId;

/// An account.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// Its id.
    pub id: UserId,
    /// Its address; no two accounts have the same.
    pub email: Email,
    /// A PHC string of argon2id; none if the account has no password.
    pub password_hash: Option<String>,
    /// Whether it may do everything in every organization.
    pub is_admin: bool,
    /// By what an external issuer knows it.
    pub external: Option<ExternalIdentity>,
    /// When it was made.
    pub created_us: u64,
    /// When it was last changed.
    pub changed_us: u64,
    /// See [`crate::domain`].
    pub version: u64,
}

/// Without the hash of the password, by which guesses could be tried.
impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, email, password_hash, is_admin, external, created_us, changed_us, version } = self;
        f.debug_struct("User")
            .field("id", id)
            .field("email", email)
            .field("has_password", &password_hash.is_some())
            .field("is_admin", is_admin)
            .field("external", external)
            .field("created_us", created_us)
            .field("changed_us", changed_us)
            .field("version", version)
            .finish()
    }
}

/// By what an OpenID Connect issuer knows an account; no two accounts have the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalIdentity {
    /// The `iss` of its tokens.
    pub issuer: String,
    /// The `sub` of its tokens.
    pub subject: String,
}

/// An e-mail address in lower case: told apart without regard to case.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Email(String);

/// The longest address that mail takes (RFC 5321, 4.5.3.1.3, less the brackets).
const MAX_EMAIL_BYTES: usize = 254;
/// The longest part before the `@` (RFC 5321, 4.5.3.1.1).
const MAX_LOCAL_BYTES: usize = 64;

impl Email {
    /// Reads an address as people have them: `local@domain`, without quotes, comments or address literals.
    ///
    /// # Errors
    ///
    /// Says what is wrong, for people.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let wrong = "must be an e-mail address, as ada@example.com";
        if text.len() > MAX_EMAIL_BYTES {
            return Err("must be at most 254 characters");
        }
        let (local, domain) = text.rsplit_once('@').ok_or(wrong)?;
        let is_atom = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+/=?^_`{|}~-.".contains(&byte);
        let is_local = (1..=MAX_LOCAL_BYTES).contains(&local.len())
            && local.bytes().all(is_atom)
            && !local.starts_with('.')
            && !local.ends_with('.')
            && !local.contains("..");
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if is_local && domain.split('.').all(is_label) {
            return Ok(Self(text.to_ascii_lowercase()));
        }
        Err(wrong)
    }

    /// The address, in lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Personal data: logs get the beginning only.
impl fmt::Debug for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (local, domain) = self.0.rsplit_once('@').unwrap_or_default();
        write!(f, "{}***@{domain}", local.chars().take(3).collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("Ada@Example.COM", "ada@example.com")]
    #[case("a.b+c_d@x-y.example", "a.b+c_d@x-y.example")]
    #[case("operator@localhost", "operator@localhost")]
    fn addresses_are_read_in_lower_case(#[case] text: &str, #[case] read: &str) {
        assert_eq!(Email::parse(text).expect("an address").as_str(), read);
    }

    #[rstest]
    fn what_is_no_address_is_refused(
        #[values(
            "", "@", "a@", "@b", "a b@c.d", ".a@b.c", "a..b@c.d", "a@-b.c", "a@b..c", "a@b.c\n", "ä@b.c"
        )]
        text: &str,
    ) {
        assert!(Email::parse(text).is_err(), "{text:?}");
    }

    #[test]
    fn logs_get_the_beginning_only() {
        let email = Email::parse("johannes@example.com").expect("an address");
        assert_eq!(format!("{email:?}"), "joh***@example.com");
    }
}
