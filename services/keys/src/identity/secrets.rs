//! Tokens that mean nothing by themselves: 256 random bits, of which the database has the SHA-256.

use aws_lc_rs::{digest, rand};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

/// What such a token is for, as its beginning tells, so that people and scanners of secrets know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OneTime {
    /// A refresh token.
    Refresh,
    /// Of an invitation.
    Invitation,
    /// To set a password.
    PasswordReset,
}

impl OneTime {
    fn prefix(self) -> &'static str {
        match self {
            Self::Refresh => "tgr_",
            Self::Invitation => "tgi_",
            Self::PasswordReset => "tgp_",
        }
    }

    /// A new one, and what is stored of it.
    pub(super) fn draw(self) -> (String, [u8; 32]) {
        let mut bytes = [0; 32];
        rand::fill(&mut bytes).expect("the system has randomness");
        let token = format!("{}{}", self.prefix(), URL_SAFE_NO_PAD.encode(bytes));
        let hash = hash_of(&token);
        (token, hash)
    }

    /// What would be stored of `token`; none if it cannot be one of these.
    pub(super) fn hash(self, token: &str) -> Option<[u8; 32]> {
        let is_one = token.len() == self.prefix().len() + 43 && token.starts_with(self.prefix());
        is_one.then(|| hash_of(token))
    }
}

/// What is stored of a token.
#[must_use]
pub fn hash_of(token: &str) -> [u8; 32] {
    digest::digest(&digest::SHA256, token.as_bytes()).as_ref().try_into().expect("SHA-256 gives 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_differ_and_are_known_by_their_hash_and_kind() {
        let (token, hash) = OneTime::Refresh.draw();
        assert_ne!(OneTime::Refresh.draw().0, token);
        assert_eq!(OneTime::Refresh.hash(&token), Some(hash));
        assert_eq!(OneTime::Invitation.hash(&token), None);
        for wrong in ["", "tgr_", "tgr_short", &format!("{token}x"), &token[1..]] {
            assert_eq!(OneTime::Refresh.hash(wrong), None, "{wrong}");
        }
    }
}
