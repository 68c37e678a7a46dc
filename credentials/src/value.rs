//! The value of a key: `<prefix>_<env>_<32 base62><6 base62 CRC32>`.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::{
    Environment,
    base62::{CHECKSUM_DIGITS, checksum, push_random},
};

/// The prefix of keys, unless the settings have another.
pub const DEFAULT_PREFIX: &str = "tk";
/// The longest value that is looked at; a longer one is nobody's.
pub const MAX_VALUE_BYTES: usize = 512;
/// By this, tools that search code and logs for secrets find keys with [`DEFAULT_PREFIX`]. Whether what they found has a good checksum tells a key
/// from what only looks like one.
pub const SCANNER_REGEX: &str = r"\btk_(?:live|test)_[0-9A-Za-z]{38}\b";

/// The longest prefix.
const MAX_PREFIX_BYTES: usize = 16;
/// Random digits of a value: 190 bits.
const RANDOM_DIGITS: usize = 32;
/// Digits after the environment.
const DIGITS: usize = RANDOM_DIGITS + CHECKSUM_DIGITS;
/// Digits after the environment that people see.
const SHOWN_DIGITS: usize = 6;

/// SHA-256 of the value of a key: what services know it by among themselves.
pub type KeyHash = [u8; 32];

/// As [`SCANNER_REGEX`], for keys with this prefix.
#[must_use]
pub fn scanner_regex(prefix: &Prefix) -> String {
    format!(r"\b{}_(?:live|test)_[0-9A-Za-z]{{{DIGITS}}}\b", prefix.as_str())
}

/// What a value can be, as far as can be told by looking at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyShape {
    /// It has the form of our keys, and its checksum is good: it is a key, or somebody took pains.
    Ours,
    /// It has the form of our keys, and its checksum is not good: it is nobody's, without asking anybody.
    BadChecksum,
    /// It has another form: a key of another system may have been imported.
    Foreign,
    /// It is empty or longer than [`MAX_VALUE_BYTES`]: it is nobody's.
    Impossible,
}

/// Looks at a value; it takes less time than its hash. Keys with whichever prefix are ours, since the prefix in the settings may have been another.
#[must_use]
pub fn key_shape(value: &str) -> KeyShape {
    if value.is_empty() || value.len() > MAX_VALUE_BYTES {
        return KeyShape::Impossible;
    }
    let parts = value.split_once('_').and_then(|(prefix, rest)| Some((prefix, rest.split_once('_')?)));
    let Some((prefix, (environment, digits))) = parts else { return KeyShape::Foreign };
    let is_ours = is_prefix(prefix)
        && Environment::from_word(environment).is_some()
        && digits.len() == DIGITS
        && digits.bytes().all(|digit| digit.is_ascii_alphanumeric());
    if !is_ours {
        return KeyShape::Foreign;
    }
    let (signed, sum) = value.as_bytes().split_at(value.len() - CHECKSUM_DIGITS);
    if checksum(signed) == sum { KeyShape::Ours } else { KeyShape::BadChecksum }
}

/// SHA-256 of a value, as it came: one block for a value of ours, measured as 0.3 us beside other work.
#[must_use]
pub fn key_hash(value: &str) -> KeyHash {
    Sha256::digest(value.as_bytes()).into()
}

/// What the values of keys begin with: 1 to 16 of `[a-z0-9]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix(String);

/// Not a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 16 of a-z and 0-9")]
pub struct PrefixError;

impl Prefix {
    /// Takes a prefix.
    ///
    /// # Errors
    ///
    /// It has other characters, or too many or few.
    pub fn parse(text: &str) -> Result<Self, PrefixError> {
        if is_prefix(text) { Ok(Self(text.to_owned())) } else { Err(PrefixError) }
    }

    /// The prefix.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_prefix(text: &str) -> bool {
    (1..=MAX_PREFIX_BYTES).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

/// The value of a new key. It is shown to its owner once, and kept nowhere; `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyValue(String);

impl KeyValue {
    /// Makes one. `fill` gives bytes that nobody can guess.
    pub fn generate(prefix: &Prefix, environment: Environment, fill: impl FnMut(&mut [u8])) -> Self {
        let Prefix(prefix) = prefix;
        let mut value = String::with_capacity(prefix.len() + environment.as_str().len() + 2 + DIGITS);
        value.push_str(prefix);
        value.push('_');
        value.push_str(environment.as_str());
        value.push('_');
        push_random(&mut value, RANDOM_DIGITS, fill);
        let sum = checksum(value.as_bytes());
        value.extend(sum.map(char::from));
        Self(value)
    }

    /// The value itself: for its owner, once.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Its beginning, for people: prefix, environment and six digits, which leave 154 bits that nobody knows.
    #[must_use]
    pub fn key_prefix(&self) -> &str {
        &self.0[..self.0.len() - DIGITS + SHOWN_DIGITS]
    }

    /// SHA-256 of it.
    #[must_use]
    pub fn hash(&self) -> KeyHash {
        key_hash(&self.0)
    }
}

impl fmt::Debug for KeyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyValue({}…)", self.key_prefix())
    }
}

#[cfg(test)]
mod tests;
