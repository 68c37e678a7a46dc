//! Chance: which address is called, and idempotency keys.

use std::{
    cell::RefCell,
    sync::atomic::{AtomicU64, Ordering},
};

use rand::{Rng, SeedableRng, rngs::SmallRng};

thread_local! {
    static THREAD_RNG: RefCell<SmallRng> = RefCell::new(SmallRng::from_os_rng());
}

/// Uniform in `0..n`; 0 for `n = 0`.
pub(crate) fn below(n: usize) -> usize {
    if n == 0 { 0 } else { THREAD_RNG.with_borrow_mut(|rng| rng.random_range(0..n)) }
}

/// Makes idempotency keys: 96 random bits that no other client has, and a number that no other key of this one has.
#[derive(Debug)]
pub(crate) struct KeyMaker {
    seed: u128,
    made: AtomicU64,
}

impl KeyMaker {
    pub(crate) fn new() -> Self {
        let seed = SmallRng::from_os_rng().random::<u128>() >> 32;
        Self { seed, made: AtomicU64::new(0) }
    }

    pub(crate) fn next(&self) -> String {
        format!("c1-{:024x}-{:x}", self.seed, self.made.fetch_add(1, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_keys_are_the_same_and_all_are_short_enough() {
        let (one, other) = (KeyMaker::new(), KeyMaker::new());
        let keys = [one.next(), one.next(), other.next(), other.next()];
        for (index, key) in keys.iter().enumerate() {
            assert!(key.len() <= 128 && key.bytes().all(|byte| byte.is_ascii_graphic()), "{key}");
            assert!(!keys[..index].contains(key), "{keys:?}");
        }
    }

    #[test]
    fn draws_stay_in_range() {
        assert_eq!(below(0), 0);
        assert!((0..100).all(|_| below(3) < 3));
    }
}
