//! Leases that are held at once, until they are released or expire.

use std::{num::NonZeroU64, ops::Range};

use smallvec::SmallVec;

use super::{Algorithm, Charged, FixedWindow, Look, SlidingLog, SlidingWindow, TokenBucket};

/// Tells a lease from all others of its limits; random, so that no two meet.
pub type LeaseId = NonZeroU64;

/// A lease to be taken of every concurrency limit of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The same in all limits of the check.
    pub id: LeaseId,
    /// How long it lasts unless it is renewed, in microseconds; a limit whose leases are shorter takes it for that long.
    pub ttl_us: u64,
}

/// At most `limit` tokens held at any moment.
///
/// State, `1 + 2 × limit` words: number of leases (16 bits), room for leases (16 bits) and tokens in them (32 bits); then
/// the leases by their expiry, the first to expire first: id; the time of expiry in Unix microseconds (upper 52 bits, which
/// last until 2112) and tokens (lower 12 bits). A lease counts until it expires. It is dropped when another is
/// taken after that, so a clock that steps back brings none back whose place was given away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Concurrency {
    /// Tokens held at once, at most [`MAX_LIMIT`](Self::MAX_LIMIT).
    pub limit: u32,
    /// How long a lease lasts at most unless it is renewed, in microseconds.
    pub lease_us: u64,
}

const COUNTS: usize = 0;
const LEASES: usize = 1;
const WORDS_EACH: usize = 2;
const TOKEN_BITS: u32 = 12;

impl Concurrency {
    /// The largest limit: each token may be a lease, which takes 16 bytes for every key.
    pub const MAX_LIMIT: u32 = 1_000;

    /// The longest lease, in microseconds: a day. A place that nobody releases is lost for as long.
    pub const MAX_LEASE_US: u64 = 86_400_000_000;

    /// Words of state.
    pub(super) fn words(&self) -> usize {
        LEASES + WORDS_EACH * self.limit as usize
    }

    /// Notes in fresh state how many leases it has room for, so that it can be found and carried over when the limit has
    /// changed.
    pub(super) fn prepare(&self, words: &mut [u64]) {
        words[COUNTS] = counts(0, self.limit as usize, 0);
    }

    /// Words of state written under whatever limit was in force then.
    pub(super) fn words_found(words: &[u64]) -> usize {
        LEASES + WORDS_EACH * room(words)
    }

    /// Takes over the leases of another limit. If there are more than there is room for, those that expire first
    /// become one that is nobody's: it counts until the last of them expires, and none of them can be renewed.
    pub(super) fn carry(&self, old: &[u64], words: &mut [u64]) {
        let leases = leases(old);
        let merged = (leases.len() / WORDS_EACH).saturating_sub(self.limit as usize);
        let kept = &leases[WORDS_EACH * merged..];
        words[LEASES..LEASES + kept.len()].copy_from_slice(kept);
        if merged > 0 {
            words[LEASES] = 0;
            words[LEASES + 1] += leases.chunks_exact(WORDS_EACH).take(merged).map(tokens_of).sum::<u64>();
        }
        words[COUNTS] = counts(kept.len() / WORDS_EACH, self.limit as usize, held(old));
    }

    pub(super) fn look(&self, words: &[u64], cost: u64, now_us: u64) -> Look {
        let live = live(words, now_us);
        let held: u64 = live.chunks_exact(WORDS_EACH).map(tokens_of).sum();
        let remaining = u64::from(self.limit).saturating_sub(held);
        Look {
            remaining,
            retry_after_us: if cost <= remaining { 0 } else { self.retry_after(live, cost, held, now_us) },
            reset_after_us: live.last().map_or(0, |last| (last >> TOKEN_BITS) - now_us),
        }
    }

    /// Takes `cost` tokens for `lease`. Answers in how many microseconds the last lease expires.
    pub(super) fn charge(&self, words: &mut [u64], cost: u64, lease: Lease, now_us: u64) -> u64 {
        let kept = live(words, now_us).len();
        let end = LEASES + leases(words).len();
        words.copy_within(end - kept..end, LEASES);
        let held: u64 = words[LEASES..LEASES + kept].chunks_exact(WORDS_EACH).map(tokens_of).sum();
        words[COUNTS] = counts(kept / WORDS_EACH, room(words), held);
        insert(words, lease.id, now_us + lease.ttl_us.min(self.lease_us), cost);
        leases(words).last().map_or(0, |last| (last >> TOKEN_BITS) - now_us)
    }

    /// Until when a lease is held, in Unix microseconds; absent if it has expired or was never taken.
    pub fn expiry(words: &[u64], id: LeaseId, now_us: u64) -> Option<u64> {
        let found = place(words, id)?;
        Some(words[found + 1] >> TOKEN_BITS).filter(|expires_us| *expires_us > now_us)
    }

    /// Lets a lease last until `ttl_us` from now. One that has expired stays so, whether or not its place was given to
    /// another: whether it was held.
    pub fn renew(words: &mut [u64], id: LeaseId, ttl_us: u64, now_us: u64) -> bool {
        let is_held = Self::expiry(words, id, now_us).is_some();
        if is_held && let Some(tokens) = take_out(words, id) {
            insert(words, id, now_us + ttl_us, tokens);
        }
        is_held
    }

    /// Gives the place of a lease back. Answers whether it was held.
    pub fn release(words: &mut [u64], id: LeaseId, now_us: u64) -> bool {
        let is_held = Self::expiry(words, id, now_us).is_some();
        take_out(words, id);
        is_held
    }

    /// Exactly: a lease is told from all others.
    pub(super) fn undo(words: &mut [u64], charged: &Charged, now_us: u64) {
        if let Some(id) = charged.lease {
            Self::release(words, id, now_us);
        }
    }

    fn retry_after(&self, live: &[u64], cost: u64, held: u64, now_us: u64) -> u64 {
        let mut left = held;
        for lease in live.chunks_exact(WORDS_EACH) {
            left -= tokens_of(lease);
            if left + cost <= u64::from(self.limit) {
                return expiry_of(lease) - now_us;
            }
        }
        self.lease_us // only for a cost above the limit, which callers refuse
    }
}

/// Where the leases lie in state that was written under limits of these algorithms, whatever their numbers were. Nothing if
/// `words` is not such state, or none of them counts leases.
pub fn lease_parts(algorithms: &[Algorithm], words: &[u64]) -> Option<SmallVec<[Range<usize>; 2]>> {
    let mut parts = SmallVec::new();
    let mut start = 0;
    for algorithm in algorithms {
        let state = words.get(start..).filter(|state| !state.is_empty())?;
        let length = match algorithm {
            Algorithm::SlidingWindow => SlidingWindow::WORDS,
            Algorithm::SlidingLog => SlidingLog::words_found(state),
            Algorithm::TokenBucket => TokenBucket::WORDS,
            Algorithm::FixedWindow => FixedWindow::WORDS,
            Algorithm::Concurrency => {
                let length = Concurrency::words_found(state);
                if count(state) > room(state) {
                    return None;
                }
                parts.push(start..start + length);
                length
            }
        };
        start += length;
    }
    (start == words.len() && !parts.is_empty()).then_some(parts)
}

/// Puts a lease behind those that expire before it or with it. There is room.
fn insert(words: &mut [u64], id: LeaseId, expires_us: u64, tokens: u64) {
    let leases = leases(words);
    let later = leases.rchunks_exact(WORDS_EACH).take_while(|lease| expiry_of(lease) > expires_us).count();
    let end = LEASES + leases.len();
    let at = end - WORDS_EACH * later;
    words.copy_within(at..end, at + WORDS_EACH);
    words[at] = id.get();
    words[at + 1] = expires_us << TOKEN_BITS | tokens;
    words[COUNTS] = counts(count(words) + 1, room(words), held(words) + tokens);
}

/// Takes a lease out, and answers its tokens if it was there.
fn take_out(words: &mut [u64], id: LeaseId) -> Option<u64> {
    let at = place(words, id)?;
    let end = LEASES + leases(words).len();
    let tokens = tokens_of(&words[at..at + WORDS_EACH]);
    words.copy_within(at + WORDS_EACH..end, at);
    words[end - WORDS_EACH..end].fill(0);
    words[COUNTS] = counts(count(words) - 1, room(words), held(words).saturating_sub(tokens));
    Some(tokens)
}

/// The first word of a lease.
fn place(words: &[u64], id: LeaseId) -> Option<usize> {
    let index = leases(words).chunks_exact(WORDS_EACH).position(|lease| lease[0] == id.get())?;
    Some(LEASES + WORDS_EACH * index)
}

fn leases(words: &[u64]) -> &[u64] {
    &words[LEASES..LEASES + WORDS_EACH * count(words)]
}

/// The leases that have not expired.
fn live(words: &[u64], now_us: u64) -> &[u64] {
    let leases = leases(words);
    let expired = leases.chunks_exact(WORDS_EACH).take_while(|lease| expiry_of(lease) <= now_us).count();
    &leases[WORDS_EACH * expired..]
}

fn counts(leases: usize, room: usize, tokens: u64) -> u64 {
    leases as u64 | (room as u64) << 16 | tokens << 32
}

fn count(words: &[u64]) -> usize {
    usize::from(low_16(words[COUNTS]))
}

fn room(words: &[u64]) -> usize {
    usize::from(low_16(words[COUNTS] >> 16))
}

#[expect(clippy::cast_possible_truncation, reason = "the low 16 bits are what is asked for")]
fn low_16(word: u64) -> u16 {
    word as u16
}

/// Tokens of all leases, those that have expired included.
fn held(words: &[u64]) -> u64 {
    words[COUNTS] >> 32
}

fn expiry_of(lease: &[u64]) -> u64 {
    lease[1] >> TOKEN_BITS
}

fn tokens_of(lease: &[u64]) -> u64 {
    lease[1] & ((1 << TOKEN_BITS) - 1)
}

#[cfg(test)]
mod tests;
