//! By what keys are found: HMAC-SHA256, under a pepper, of the SHA-256 of their values. See docs/adr/0020-hash-of-a-hash.md.

use std::{collections::BTreeMap, fmt};

use aws_lc_rs::hmac;
use tidegate_chassis::config::Secret;
use tidegate_credentials::KeyHash;

/// By what a key is found in the database.
pub type StoredHash = [u8; 32];

/// The peppers that are in use: one for new keys, and others for keys that were made before.
pub struct Peppers {
    current: u16,
    keys: BTreeMap<u16, hmac::Key>,
}

impl Peppers {
    /// Takes peppers by their versions; nothing if `current` is not among them.
    #[must_use]
    pub fn new(peppers: &BTreeMap<u16, Secret>, current: u16) -> Option<Self> {
        let key = |secret: &Secret| hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
        let keys = peppers.iter().map(|(version, secret)| (*version, key(secret))).collect();
        peppers.contains_key(&current).then_some(Self { current, keys })
    }

    /// By what a new key is to be found, and under which pepper.
    #[must_use]
    pub fn store(&self, hash: &KeyHash) -> (StoredHash, u16) {
        let key = self.keys.get(&self.current).expect("`new` saw that it is there");
        (sign(key, hash), self.current)
    }

    /// All by which a key may be found; the likeliest first.
    #[must_use]
    pub fn find(&self, hash: &KeyHash) -> Vec<StoredHash> {
        let (current, others): (Vec<_>, Vec<_>) =
            self.keys.iter().partition(|(version, _)| **version == self.current);
        current.into_iter().chain(others.into_iter().rev()).map(|(_, key)| sign(key, hash)).collect()
    }
}

fn sign(key: &hmac::Key, hash: &KeyHash) -> StoredHash {
    hmac::sign(key, hash).as_ref().try_into().expect("HMAC-SHA256 gives 32 bytes")
}

impl fmt::Debug for Peppers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let versions: Vec<_> = self.keys.keys().collect();
        f.debug_struct("Peppers").field("current", &self.current).field("versions", &versions).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peppers(current: u16) -> Option<Peppers> {
        let secrets = [(1, "Jefe"), (2, "another"), (3, "a third")];
        Peppers::new(&secrets.map(|(version, secret)| (version, Secret::new(secret))).into(), current)
    }

    #[test]
    fn a_key_is_found_by_a_keyed_hash_of_its_hash() {
        // RFC 4231, test case 2, has this key; its data is not 32 bytes long, so that only the algorithm is checked by it.
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"Jefe");
        let signed = hmac::sign(&key, b"what do ya want for nothing?");
        assert_eq!(signed.as_ref()[..4], [0x5b, 0xdc, 0xc1, 0x46]);
        let hash = tidegate_credentials::key_hash("abc");
        let (stored, version) = peppers(1).expect("there").store(&hash);
        assert_eq!((stored.as_slice(), version), (hmac::sign(&key, &hash).as_ref(), 1));
    }

    #[test]
    fn keys_of_every_pepper_are_found_and_new_ones_get_the_current() {
        let hash = [7; 32];
        let stored = |current| peppers(current).expect("there").store(&hash).0;
        assert_eq!(peppers(2).expect("there").find(&hash), [stored(2), stored(3), stored(1)]);
        assert!(peppers(4).is_none());
    }

    #[test]
    fn peppers_are_not_shown() {
        assert_eq!(format!("{:?}", peppers(2)), "Some(Peppers { current: 2, versions: [1, 2, 3] })");
    }
}
