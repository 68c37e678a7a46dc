//! Secrets that lie in the database lie there sealed: AES-256-GCM under keys that are derived (HKDF-SHA256, RFC 5869) from a
//! secret of the settings.

use std::fmt;

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    hkdf::{self, HKDF_SHA256, Salt},
    hmac,
};
use zeroize::Zeroizing;

/// Seals under one secret, and opens what was sealed under it or the one before. Cheap enough to clone.
#[derive(Clone)]
pub struct Sealing {
    current: Zeroizing<Vec<u8>>,
    previous: Option<Zeroizing<Vec<u8>>>,
}

/// What a derived key is for; what is sealed for one purpose cannot be opened for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Private halves of keys that sign tokens.
    SigningKeys,
    /// Answers to requests with an idempotency key.
    Answers,
    /// Digests of requests with an idempotency key.
    Requests,
    /// Signatures of page tokens.
    Pages,
}

impl Purpose {
    fn label(self) -> &'static [u8] {
        match self {
            Self::SigningKeys => b"tidegate keys 1 signing keys",
            Self::Answers => b"tidegate keys 1 answers",
            Self::Requests => b"tidegate keys 1 requests",
            Self::Pages => b"tidegate keys 1 pages",
        }
    }
}

/// It was not sealed under these secrets, for this purpose and in this place, or was tampered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what is sealed cannot be opened")]
pub struct NotOpened;

impl Sealing {
    /// Seals under `secret`; `previous` was the secret before, empty for none.
    #[must_use]
    pub fn new(secret: &str, previous: &str) -> Self {
        let bytes = |text: &str| Zeroizing::new(text.as_bytes().to_vec());
        Self { current: bytes(secret), previous: (!previous.is_empty()).then(|| bytes(previous)) }
    }

    /// Seals `plain`; `place` must be said again to open it, so that what is sealed cannot be moved elsewhere.
    #[must_use]
    pub fn seal(&self, purpose: Purpose, place: &[u8], plain: &[u8]) -> Vec<u8> {
        let mut sealed = plain.to_vec();
        let nonce = aead_key(&self.current, purpose)
            .seal_in_place_append_tag(Aad::from(place), &mut sealed)
            .expect("a message is shorter than 64 GiB");
        sealed.extend_from_slice(nonce.as_ref());
        sealed
    }

    /// Opens what [`Sealing::seal`] gave.
    ///
    /// # Errors
    ///
    /// [`NotOpened`].
    pub fn open(
        &self,
        purpose: Purpose,
        place: &[u8],
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, NotOpened> {
        let (body, nonce) = sealed.split_last_chunk::<NONCE_LEN>().ok_or(NotOpened)?;
        let secrets = std::iter::once(&self.current).chain(&self.previous);
        let open = |secret: &Zeroizing<Vec<u8>>| {
            let mut plain = Zeroizing::new(body.to_vec());
            let nonce = Nonce::assume_unique_for_key(*nonce);
            let key = aead_key(secret, purpose);
            let length = key.open_in_place(nonce, Aad::from(place), &mut plain).ok()?.len();
            plain.truncate(length);
            Some(plain)
        };
        secrets.into_iter().find_map(open).ok_or(NotOpened)
    }

    /// A digest (HMAC-SHA256) that nobody without the secret can try guesses against.
    #[must_use]
    pub fn digest<'a>(&self, purpose: Purpose, parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
        digest(&self.current, purpose, parts)
    }

    /// The same under the secret before, if there is one.
    #[must_use]
    pub fn digest_before<'a>(
        &self,
        purpose: Purpose,
        parts: impl IntoIterator<Item = &'a [u8]>,
    ) -> Option<[u8; 32]> {
        self.previous.as_ref().map(|secret| digest(secret, purpose, parts))
    }

    /// Whether a digest is of these parts, under the secret or the one before.
    #[must_use]
    pub fn is_digest(&self, purpose: Purpose, parts: &[&[u8]], wanted: &[u8; 32]) -> bool {
        let secrets = std::iter::once(&self.current).chain(&self.previous);
        secrets.into_iter().any(|secret| digest(secret, purpose, parts.iter().copied()) == *wanted)
    }
}

impl fmt::Debug for Sealing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealing").finish_non_exhaustive()
    }
}

fn digest<'a>(secret: &[u8], purpose: Purpose, parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
    let key = hmac::Key::new(hmac::HMAC_SHA256, derived(secret, purpose).as_slice());
    let mut context = hmac::Context::with_key(&key);
    for part in parts {
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part);
    }
    context.sign().as_ref().try_into().expect("HMAC-SHA256 gives 32 bytes")
}

fn aead_key(secret: &[u8], purpose: Purpose) -> RandomizedNonceKey {
    RandomizedNonceKey::new(&AES_256_GCM, derived(secret, purpose).as_slice()).expect("a key of 32 bytes")
}

fn derived(secret: &[u8], purpose: Purpose) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    let info = [purpose.label()];
    let prk = Salt::new(HKDF_SHA256, &[]).extract(secret);
    let okm = prk.expand(&info, KeyLength).expect("32 bytes are fewer than HKDF gives");
    okm.fill(key.as_mut_slice()).expect("the length that was asked for");
    key
}

struct KeyLength;

impl hkdf::KeyType for KeyLength {
    fn len(&self) -> usize {
        32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "a secret of the settings, long enough";

    #[test]
    fn what_is_sealed_is_opened_in_its_place_only() {
        let sealing = Sealing::new(SECRET, "");
        let sealed = sealing.seal(Purpose::Answers, b"here", b"value");
        assert!(!sealed.windows(5).any(|window| window == b"value"));
        let open = |purpose, place: &[u8], sealed: &[u8]| {
            sealing.open(purpose, place, sealed).map(|plain| plain.to_vec())
        };
        assert_eq!(open(Purpose::Answers, b"here", &sealed), Ok(b"value".to_vec()));
        assert_eq!(open(Purpose::Answers, b"there", &sealed), Err(NotOpened));
        assert_eq!(open(Purpose::SigningKeys, b"here", &sealed), Err(NotOpened));
        for byte in 0..sealed.len() {
            let mut tampered = sealed.clone();
            tampered[byte] ^= 1;
            assert_eq!(open(Purpose::Answers, b"here", &tampered), Err(NotOpened), "byte {byte}");
        }
        assert_eq!(open(Purpose::Answers, b"here", b"short"), Err(NotOpened));
        assert_ne!(sealed, sealing.seal(Purpose::Answers, b"here", b"value"), "the nonce is new each time");
    }

    #[test]
    fn a_secret_that_is_replaced_still_opens_what_it_sealed() {
        let old = Sealing::new(SECRET, "");
        let new = Sealing::new("another secret of the settings, also long", SECRET);
        let sealed = old.seal(Purpose::SigningKeys, b"kid", b"private");
        assert_eq!(*new.open(Purpose::SigningKeys, b"kid", &sealed).expect("opened"), b"private");
        assert!(
            old.open(Purpose::SigningKeys, b"kid", &new.seal(Purpose::SigningKeys, b"kid", b"x")).is_err()
        );
        let digest = old.digest(Purpose::Requests, [&b"a"[..]]);
        assert!(new.is_digest(Purpose::Requests, &[b"a"], &digest));
        assert!(!new.is_digest(Purpose::Requests, &[b"b"], &digest));
    }

    #[test]
    fn digests_tell_where_parts_end() {
        let sealing = Sealing::new(SECRET, "");
        let digest = |parts: &[&[u8]]| sealing.digest(Purpose::Requests, parts.iter().copied());
        assert_ne!(digest(&[b"ab", b"c"]), digest(&[b"a", b"bc"]));
        assert_eq!(digest(&[b"ab", b"c"]), digest(&[b"ab", b"c"]));
    }
}
