//! Long lists, a page at a time.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use tidegate_chassis::error::Violations;

use crate::sealing::{Purpose, Sealing};

const DEFAULT_SIZE: u32 = 50;
const MAX_SIZE: u32 = 100;
const DIGEST_BYTES: usize = 32;

/// Which part of a list is asked for. A token is signed together with what it came of, so that it is good for the same tenant and
/// arguments only, and nobody makes one up.
pub(super) struct Page<'s> {
    sealing: &'s Sealing,
    list: Vec<Vec<u8>>,
    size: u32,
    after: Option<Vec<u8>>,
}

impl<'s> Page<'s> {
    /// Reads `page_size` and `page_token` of a request for the list that `list` names: its method, tenant and arguments.
    pub(super) fn read(
        sealing: &'s Sealing,
        list: &[&str],
        size: i32,
        token: &str,
        violations: &mut Violations,
    ) -> Self {
        let list: Vec<_> = list.iter().map(|part| part.as_bytes().to_vec()).collect();
        let size = match u32::try_from(size) {
            Ok(0) => DEFAULT_SIZE,
            Ok(size) => size.min(MAX_SIZE),
            Err(_) => {
                violations.add("page_size", "must not be negative");
                DEFAULT_SIZE
            }
        };
        let mut page = Self { sealing, list, size, after: None };
        if !token.is_empty() {
            page.after = page.open(token);
            if page.after.is_none() {
                violations.add("page_token", "is not one that this list gave out");
            }
        }
        page
    }

    /// How many to read: one more than fits, to see whether there is another page.
    pub(super) fn limit(&self) -> u32 {
        self.size + 1
    }

    /// What the page before ended with.
    pub(super) fn after(&self) -> Option<&[u8]> {
        self.after.as_deref()
    }

    /// Leaves what fits, and gives the token for the rest, if there is any.
    pub(super) fn cut<T>(&self, rows: &mut Vec<T>, cursor: impl Fn(&T) -> Vec<u8>) -> String {
        let size = self.size as usize;
        if rows.len() <= size {
            return String::new();
        }
        rows.truncate(size);
        rows.last().map(|last| self.token(&cursor(last))).unwrap_or_default()
    }

    fn token(&self, cursor: &[u8]) -> String {
        let digest = self.sealing.digest(Purpose::Pages, self.parts(cursor));
        URL_SAFE_NO_PAD.encode([&digest, cursor].concat())
    }

    fn open(&self, token: &str) -> Option<Vec<u8>> {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (digest, cursor) = bytes.split_first_chunk::<DIGEST_BYTES>()?;
        let parts = self.parts(cursor);
        self.sealing.is_digest(Purpose::Pages, &parts, digest).then(|| cursor.to_vec())
    }

    fn parts<'p>(&'p self, cursor: &'p [u8]) -> Vec<&'p [u8]> {
        self.list.iter().map(Vec::as_slice).chain([cursor]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<'s>(sealing: &'s Sealing, list: &[&str], size: i32, token: &str) -> Result<Page<'s>, String> {
        let mut violations = Violations::default();
        let page = Page::read(sealing, list, size, token, &mut violations);
        match violations.iter().next() {
            None => Ok(page),
            Some(violation) => Err(violation.field.clone()),
        }
    }

    fn sealing() -> Sealing {
        Sealing::new("a secret of at least thirty-two bytes", "")
    }

    #[test]
    fn sizes_have_a_default_and_a_bound_and_are_not_negative() {
        let sealing = sealing();
        let sizes =
            [0, 1, 100, 101, i32::MAX].map(|size| read(&sealing, &["a"], size, "").map(|page| page.size));
        assert_eq!(sizes, [Ok(50), Ok(1), Ok(100), Ok(100), Ok(100)]);
        assert_eq!(read(&sealing, &["a"], -1, "").err().as_deref(), Some("page_size"));
    }

    #[test]
    fn a_token_leads_on_in_the_list_that_gave_it_out_and_in_no_other() {
        let sealing = sealing();
        let page = read(&sealing, &["keys", "tenant", "x"], 2, "")
            .unwrap_or_else(|field| panic!("{field} is wrong"));
        let mut rows = vec![1_u8, 2, 3];
        let token = page.cut(&mut rows, |row| vec![*row]);
        assert_eq!(rows, [1, 2]);
        let next = read(&sealing, &["keys", "tenant", "x"], 7, &token)
            .unwrap_or_else(|field| panic!("{field} is wrong"));
        assert_eq!(next.after(), Some(&[2][..]));
        for other in [&["keys", "tenant", "y"][..], &["keys", "tenan", "tx"], &["keys", "tenant"], &["keys"]]
        {
            assert_eq!(read(&sealing, other, 7, &token).err().as_deref(), Some("page_token"), "{other:?}");
        }
        let elsewhere = Sealing::new("another secret of thirty-two bytes", "");
        assert!(read(&elsewhere, &["keys", "tenant", "x"], 7, &token).is_err());
    }

    #[test]
    fn the_last_page_has_no_token() {
        let sealing = sealing();
        let page = read(&sealing, &["a"], 2, "").unwrap_or_else(|field| panic!("{field} is wrong"));
        assert_eq!(page.cut(&mut vec![1, 2], |_| Vec::new()), "");
        assert_eq!(page.cut(&mut Vec::<u8>::new(), |_| Vec::new()), "");
    }

    #[test]
    fn no_token_that_was_made_up_is_taken() {
        let sealing = sealing();
        for token in ["0", "AAAA", "é", "++", &"A".repeat(43), &"A".repeat(64)] {
            assert_eq!(read(&sealing, &["a"], 0, token).err().as_deref(), Some("page_token"), "{token}");
        }
    }
}
