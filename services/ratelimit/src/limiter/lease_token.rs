//! The id of a lease as its holder has it.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use siphasher::sip::SipHasher24;
use std::hash::Hasher;

use crate::{
    domain::{Algorithm, Concurrency, LeaseId},
    store::CellLease,
};

/// What is needed to find a lease again, on any replica, whatever has become of the policies since.
///
/// Written in base64url without padding. The bytes, all numbers little-endian: version, 1; flags, 1 (1: the lease is known to one
/// replica only); id, 8; how long it lasts in microseconds, 8; then for each cell: whether it is enforced, 1; number of
/// its limits, 1; their algorithms, 1 each; length of its key, 2; the key. Last a checksum of 4 bytes, against slips
/// and not against forgery: who makes up a token can do no more than who calls Reset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseToken {
    /// Whether only the replica that gave it knows it.
    pub is_local: bool,
    /// How long it lasts at most unless it is renewed, in microseconds.
    pub ttl_us: u64,
    /// What it is taken of, at least one.
    pub cells: Vec<CellLease>,
}

const VERSION: u8 = 1;
const LOCAL: u8 = 1;
const HEAD_BYTES: usize = 18;
const CHECKSUM_BYTES: usize = 4;
const CELL_BYTES: usize = 4;

/// By their numbers.
const ALGORITHMS: [Algorithm; 5] = [
    Algorithm::SlidingWindow,
    Algorithm::SlidingLog,
    Algorithm::TokenBucket,
    Algorithm::FixedWindow,
    Algorithm::Concurrency,
];

impl LeaseToken {
    /// The most bytes, before they are written as 6,000 characters.
    pub const MAX_BYTES: usize = 4_500;

    /// Bytes of a token whose cells have so many limits and bytes of key.
    pub fn bytes_of(cells: impl Iterator<Item = (usize, usize)>) -> usize {
        HEAD_BYTES + CHECKSUM_BYTES + cells.map(|(limits, key)| CELL_BYTES + limits + key).sum::<usize>()
    }

    /// The text of it.
    pub fn write(&self) -> String {
        let mut bytes = vec![VERSION, u8::from(self.is_local) * LOCAL];
        let id = self.cells.first().map_or(0, |cell| cell.id.get());
        bytes.extend_from_slice(&id.to_le_bytes());
        bytes.extend_from_slice(&self.ttl_us.to_le_bytes());
        for cell in &self.cells {
            let limits = u8::try_from(cell.algorithms.len()).expect("a policy has at most 16 limits");
            bytes.extend_from_slice(&[u8::from(cell.enforced), limits]);
            bytes.extend(cell.algorithms.iter().map(|algorithm| number(*algorithm)));
            let length = u16::try_from(cell.key.len()).expect("a lease is refused before its key is as long");
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(&cell.key);
        }
        let checksum = checksum(&bytes);
        bytes.extend_from_slice(&checksum);
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads what [`write`](Self::write) wrote; nothing if it is anything else.
    pub fn read(text: &str) -> Option<Self> {
        if text.len() > Self::MAX_BYTES.div_ceil(3) * 4 {
            return None;
        }
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
        let (content, sum) = bytes.split_last_chunk::<CHECKSUM_BYTES>()?;
        if *sum != checksum(content) {
            return None;
        }
        let mut rest = Rest(content);
        let [version, flags] = rest.take()?;
        let id = LeaseId::new(u64::from_le_bytes(rest.take()?))?;
        let ttl_us = u64::from_le_bytes(rest.take()?);
        if version != VERSION || flags & !LOCAL != 0 || !(1..=Concurrency::MAX_LEASE_US).contains(&ttl_us) {
            return None;
        }
        let mut cells = Vec::new();
        while !rest.0.is_empty() {
            let [enforced, limits] = rest.take()?;
            let numbers = rest.slice(limits.into())?;
            let algorithms = numbers.iter().map(|number| ALGORITHMS.get(usize::from(*number)).copied());
            let length = u16::from_le_bytes(rest.take()?);
            cells.push(CellLease {
                enforced: [false, true].get(usize::from(enforced)).copied()?,
                algorithms: algorithms.collect::<Option<_>>()?,
                key: rest.slice(length.into())?.into(),
                id,
            });
        }
        let counts_leases = |cell: &CellLease| cell.algorithms.contains(&Algorithm::Concurrency);
        let is_sound = !cells.is_empty() && cells.iter().all(counts_leases);
        is_sound.then_some(Self { is_local: flags & LOCAL != 0, ttl_us, cells })
    }
}

fn number(algorithm: Algorithm) -> u8 {
    match algorithm {
        Algorithm::SlidingWindow => 0,
        Algorithm::SlidingLog => 1,
        Algorithm::TokenBucket => 2,
        Algorithm::FixedWindow => 3,
        Algorithm::Concurrency => 4,
    }
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hasher = SipHasher24::new();
    hasher.write(bytes);
    let [a, b, c, d, ..] = hasher.finish().to_le_bytes();
    [a, b, c, d]
}

/// What has not been read yet.
struct Rest<'b>(&'b [u8]);

impl<'b> Rest<'b> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*first)
    }

    fn slice(&mut self, length: usize) -> Option<&'b [u8]> {
        let (first, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token() -> impl Strategy<Value = LeaseToken> {
        let algorithms = prop::collection::vec(prop::sample::select(ALGORITHMS.to_vec()), 0..4);
        let cell = (algorithms, prop::collection::vec(any::<u8>(), 0..200), any::<bool>());
        (any::<bool>(), 1..=Concurrency::MAX_LEASE_US, prop::collection::vec(cell, 1..4), 1_u64..).prop_map(
            |(is_local, ttl_us, cells, id)| LeaseToken {
                is_local,
                ttl_us,
                cells: cells
                    .into_iter()
                    .map(|(mut algorithms, key, enforced)| {
                        algorithms.push(Algorithm::Concurrency);
                        let id = LeaseId::new(id).expect("from 1");
                        CellLease { key: key.into(), algorithms: algorithms.into(), enforced, id }
                    })
                    .collect(),
            },
        )
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_again(token in token()) {
            let text = token.write();
            let cells = token.cells.iter().map(|cell| (cell.algorithms.len(), cell.key.len()));
            prop_assert_eq!(LeaseToken::bytes_of(cells).div_ceil(3) * 4, text.len().div_ceil(4) * 4);
            prop_assert_eq!(LeaseToken::read(&text), Some(token));
        }

        #[test]
        fn a_text_with_a_slip_is_refused(token in token(), place in any::<prop::sample::Index>(), other in "[A-Za-z0-9_-]") {
            let text = token.write();
            let place = place.index(text.len());
            let slip = format!("{}{other}{}", &text[..place], &text[place + 1..]);
            prop_assert_eq!(LeaseToken::read(&slip).is_some(), slip == text);
            prop_assert_eq!(LeaseToken::read(&text[..place]), None);
        }

        #[test]
        fn any_text_is_refused(text in ".{0,300}") {
            prop_assert_eq!(LeaseToken::read(&text), None);
        }

        #[test]
        fn bytes_with_a_right_checksum_are_read_or_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..80), version in any::<bool>()) {
            if let (Some(first), true) = (bytes.first_mut(), version) {
                *first = VERSION;
            }
            let sum = checksum(&bytes);
            bytes.extend_from_slice(&sum);
            let text = BASE64_URL_SAFE_NO_PAD.encode(bytes);
            // Two texts never mean the same.
            if let Some(token) = LeaseToken::read(&text) {
                prop_assert_eq!(token.write(), text);
            }
        }
    }

    #[test]
    fn the_form_of_a_token_is_a_contract() {
        let id = LeaseId::new(0x0807_0605_0403_0201).expect("not 0");
        let algorithms = [Algorithm::SlidingWindow, Algorithm::Concurrency].as_slice().into();
        let cell = CellLease { key: b"tg2:{7}:4:acme".as_slice().into(), algorithms, enforced: true, id };
        let token = LeaseToken { is_local: false, ttl_us: 30_000_000, cells: vec![cell] };
        assert_eq!(token.write(), "AQABAgMEBQYHCIDDyQEAAAAAAQIABA4AdGcyOns3fTo0OmFjbWWQ-mMF");
    }
}
