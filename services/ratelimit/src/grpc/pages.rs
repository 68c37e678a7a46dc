//! Long lists, a page at a time.

use siphasher::sip::SipHasher24;
use tidegate_chassis::error::Violations;

use crate::store::catalog::{EntryKey, Kind};

const DEFAULT_SIZE: usize = 50;
const MAX_SIZE: usize = 100;

/// Which part of a list is asked for.
#[derive(Debug)]
pub(super) struct Page {
    /// At most so many.
    pub(super) size: usize,
    /// What the page before ended with.
    after: Option<Vec<u8>>,
    /// What the token is bound to.
    list: u64,
}

impl Page {
    /// Reads `page_size` and `page_token` of a request for the list that `list` names: a token of another list is refused.
    pub(super) fn read(list: &[&str], size: i32, token: &str, violations: &mut Violations) -> Self {
        let mut bytes = Vec::new();
        for part in list {
            bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
            bytes.extend_from_slice(part.as_bytes());
        }
        let list = SipHasher24::new().hash(&bytes);
        let size = usize::try_from(size).map_or_else(
            |_| {
                violations.add("page_size", "must not be negative");
                DEFAULT_SIZE
            },
            |size| if size == 0 { DEFAULT_SIZE } else { size.min(MAX_SIZE) },
        );
        let after = match token {
            "" => None,
            token => {
                let after = from_hex(token).filter(|bytes| bytes.starts_with(&list.to_le_bytes()));
                if after.is_none() {
                    violations.add("page_token", "is not one that this list gave out");
                }
                after.map(|bytes| bytes[size_of::<u64>()..].to_vec())
            }
        };
        Self { size, after, list }
    }

    /// The key that the page before ended with.
    pub(super) fn after_key(&self, kind: Kind) -> Option<EntryKey> {
        let (length, rest) = self.after.as_deref()?.split_first_chunk::<4>()?;
        let (scope, name) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        Some(EntryKey { kind, scope: text(scope)?, name: text(name)? })
    }

    /// The version that the page before ended with.
    pub(super) fn after_version(&self) -> Option<u64> {
        self.after.as_deref()?.try_into().ok().map(u64::from_le_bytes)
    }

    /// The token for what comes after this key.
    pub(super) fn token_after_key(&self, key: &EntryKey) -> String {
        let length = u32::try_from(key.scope.len()).expect("a scope is shorter than a message");
        self.token(&[&length.to_le_bytes(), key.scope.as_bytes(), key.name.as_bytes()].concat())
    }

    /// The token for what comes after this version.
    pub(super) fn token_after_version(&self, version: u64) -> String {
        self.token(&version.to_le_bytes())
    }

    fn token(&self, after: &[u8]) -> String {
        let bytes = self.list.to_le_bytes().into_iter().chain(after.iter().copied());
        bytes.map(|byte| format!("{byte:02x}")).collect()
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let whole = digits.len().is_multiple_of(2) && digits.iter().all(u8::is_ascii_hexdigit);
    whole.then(|| digits.chunks(2).map(byte).collect())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(list: &[&str], size: i32, token: &str) -> Result<Page, String> {
        let mut violations = Violations::default();
        let page = Page::read(list, size, token, &mut violations);
        match violations.iter().next() {
            None => Ok(page),
            Some(violation) => Err(violation.field.clone()),
        }
    }

    #[test]
    fn sizes_have_a_default_and_a_bound_and_are_not_negative() {
        let sizes = [0, 1, 100, 101, i32::MAX].map(|size| read(&["a"], size, "").map(|page| page.size));
        assert_eq!(sizes, [Ok(50), Ok(1), Ok(100), Ok(100), Ok(100)]);
        assert_eq!(read(&["a"], -1, "").unwrap_err(), "page_size");
    }

    #[test]
    fn a_token_leads_on_in_the_list_that_gave_it_out() {
        let key = EntryKey::policy("a/b", "c");
        let page = read(&["policies", "x"], 0, "").expect("valid");
        let token = page.token_after_key(&key);
        let next = read(&["policies", "x"], 7, &token).expect("valid");
        assert_eq!(next.after_key(Kind::Policy), Some(key));
        let token = page.token_after_version(9);
        assert_eq!(read(&["policies", "x"], 7, &token).expect("valid").after_version(), Some(9));
        for other in [&["policies", "y"][..], &["policiesx", ""], &["policies"]] {
            assert_eq!(read(other, 7, &token).unwrap_err(), "page_token");
        }
    }

    #[test]
    fn no_token_that_was_made_up_is_taken() {
        for token in ["0", "00", "zz", "é", "++", "0000000000000000", "-1-1-1-1-1-1-1-1"] {
            assert_eq!(read(&["a"], 0, token).unwrap_err(), "page_token", "{token}");
        }
    }
}
