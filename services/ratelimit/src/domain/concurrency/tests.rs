//! Leases against a naive oracle that keeps a list of them.

use proptest::prelude::*;

use super::*;
use crate::domain::{Layout, Rule};

const START_US: u64 = 1_800_000_000_000_000;
const LEASE_US: u64 = 30_000;

fn rule(limit: u32) -> Concurrency {
    Concurrency { limit, lease_us: LEASE_US }
}

fn unused(rule: Concurrency) -> Vec<u64> {
    let mut words = vec![0; rule.words()];
    rule.prepare(&mut words);
    words
}

fn id(number: usize) -> LeaseId {
    LeaseId::new(number as u64 + 1).expect("from 1")
}

/// Which lease, its tokens, and when it expires. What was given away is out of the list for ever.
#[derive(Default)]
struct Oracle(Vec<(LeaseId, u64, u64)>);

impl Oracle {
    fn held(&self, now_us: u64) -> u64 {
        self.0.iter().filter(|(_, _, expires_us)| *expires_us > now_us).map(|(_, tokens, _)| tokens).sum()
    }

    fn take(&mut self, id: LeaseId, tokens: u64, ttl_us: u64, now_us: u64) {
        self.0.retain(|(_, _, expires_us)| *expires_us > now_us);
        self.0.push((id, tokens, now_us + ttl_us.min(LEASE_US)));
    }

    fn renew(&mut self, id: LeaseId, ttl_us: u64, now_us: u64) -> bool {
        let found = self.0.iter_mut().find(|(other, _, expires_us)| *other == id && *expires_us > now_us);
        found.map(|(_, _, expires_us)| *expires_us = now_us + ttl_us).is_some()
    }

    fn release(&mut self, id: LeaseId, now_us: u64) -> bool {
        let held = self.0.iter().any(|(other, _, expires_us)| *other == id && *expires_us > now_us);
        self.0.retain(|(other, _, _)| *other != id);
        held
    }
}

#[derive(Clone, Debug)]
enum Act {
    Take { tokens: u64, ttl_us: u64 },
    Renew { lease: prop::sample::Index, ttl_us: u64 },
    Release { lease: prop::sample::Index },
}

/// How far the clock moves, also back, and what is done then.
fn acts() -> impl Strategy<Value = Vec<(i64, Act)>> {
    let moves = prop_oneof![3 => Just(0_i64), 6 => 0_i64..9_000, 1 => -9_000_i64..0, 1 => 20_000_i64..70_000];
    let any_lease = any::<prop::sample::Index>;
    let act = prop_oneof![
        5 => (1_u64..6, prop_oneof![1_u64..LEASE_US, Just(u64::MAX)]).prop_map(|(tokens, ttl_us)| Act::Take { tokens, ttl_us }),
        2 => (any_lease(), 1_u64..LEASE_US).prop_map(|(lease, ttl_us)| Act::Renew { lease, ttl_us }),
        2 => any_lease().prop_map(|lease| Act::Release { lease }),
    ];
    prop::collection::vec((moves, act), 1..150)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn leases_equal_the_naive_oracle(limit in 1_u32..20, acts in acts()) {
        let rule = rule(limit);
        let (mut words, mut oracle) = (unused(rule), Oracle::default());
        let (mut now_us, mut given) = (START_US, 0);
        for (moved, act) in acts {
            now_us = now_us.saturating_add_signed(moved);
            match act {
                Act::Take { tokens, ttl_us } => {
                    let tokens = tokens.min(limit.into());
                    let look = rule.look(&words, tokens, now_us);
                    let remaining = u64::from(limit).checked_sub(oracle.held(now_us)).expect("never more than the limit");
                    prop_assert_eq!(look.remaining, remaining);
                    prop_assert_eq!(look.retry_after_us == 0, tokens <= remaining);
                    given += 1;
                    if look.retry_after_us == 0 {
                        let reset_after_us = rule.charge(&mut words, tokens, Lease { id: id(given), ttl_us }, now_us);
                        oracle.take(id(given), tokens, ttl_us, now_us);
                        prop_assert_eq!(rule.look(&words, 1, now_us).reset_after_us, reset_after_us);
                    } else {
                        let fits_at = |at_us| rule.look(&words, tokens, at_us).retry_after_us == 0;
                        prop_assert!(fits_at(now_us + look.retry_after_us));
                        prop_assert!(!fits_at(now_us + look.retry_after_us - 1));
                    }
                }
                Act::Renew { lease, ttl_us } => {
                    let id = id(lease.index(given + 1));
                    prop_assert_eq!(Concurrency::renew(&mut words, id, ttl_us, now_us), oracle.renew(id, ttl_us, now_us));
                }
                Act::Release { lease } => {
                    let id = id(lease.index(given + 1));
                    prop_assert_eq!(Concurrency::release(&mut words, id, now_us), oracle.release(id, now_us));
                    prop_assert!(!Concurrency::release(&mut words, id, now_us), "once");
                }
            }
            let look = rule.look(&words, 1, now_us);
            prop_assert_eq!(look.remaining, u64::from(limit) - oracle.held(now_us));
            prop_assert_eq!(look.reset_after_us == 0, oracle.held(now_us) == 0);
            prop_assert_eq!(rule.look(&words, 1, now_us + look.reset_after_us).remaining, u64::from(limit));
        }
    }

    #[test]
    fn leases_carried_to_another_limit_count_no_token_less(before in 1_u32..20, after in 1_u32..20, acts in acts()) {
        let (old, new) = (rule(before), rule(after));
        let (from, to) = (Layout::new([Rule::Concurrency(old)]), Layout::new([Rule::Concurrency(new)]));
        let (mut words, mut now_us, mut given) = (unused(old), START_US, Vec::new());
        for (index, (moved, act)) in acts.into_iter().enumerate() {
            now_us = now_us.saturating_add_signed(moved);
            let Act::Take { tokens, ttl_us } = act else { continue };
            if old.look(&words, tokens, now_us).retry_after_us == 0 && tokens <= before.into() {
                old.charge(&mut words, tokens, Lease { id: id(index), ttl_us }, now_us);
                given.push(id(index));
            }
        }
        let mut carried = vec![0; to.words()];
        prop_assert_eq!(before == after, from.fits(&carried) || to.fits(&words));
        to.carry(&words, &mut carried);
        prop_assert!(to.fits(&carried));
        for later_us in (0..LEASE_US).step_by(1_000) {
            let held = |rule: Concurrency, words: &[u64]| u64::from(rule.limit) - rule.look(words, 1, now_us + later_us).remaining;
            prop_assert!(held(new, &carried) >= held(old, &words).min(after.into()));
        }
        let is_held = |words: &[u64], id: &LeaseId| Concurrency::expiry(words, *id, now_us).is_some();
        let was_held = given.iter().filter(|id| is_held(&words, id)).count();
        let still_held = given.iter().filter(|id| is_held(&carried, id)).count();
        let room = after as usize;
        prop_assert!(still_held == was_held || still_held == room - 1 && was_held >= room);
    }

    #[test]
    fn any_words_are_leases_or_nothing(words in prop::collection::vec(prop_oneof![0_u64..9, any::<u64>(), (0_u64..5, 0_u64..5).prop_map(|(count, room)| count | room << 16)], 0..30)) {
        let mut words = words;
        for algorithms in [&[Algorithm::Concurrency][..], &[Algorithm::FixedWindow, Algorithm::SlidingLog, Algorithm::Concurrency]] {
            for part in lease_parts(algorithms, &words).into_iter().flatten() {
                Concurrency::renew(&mut words[part.clone()], id(1), 1_000, START_US);
                Concurrency::release(&mut words[part], id(2), START_US);
            }
        }
    }
}

#[test]
fn a_lease_whose_place_was_given_away_does_not_come_back_with_the_clock() {
    let rule = rule(1);
    let mut words = unused(rule);
    rule.charge(&mut words, 1, Lease { id: id(1), ttl_us: 1_000 }, START_US);
    rule.charge(&mut words, 1, Lease { id: id(2), ttl_us: 1_000 }, START_US + 1_000);
    assert!(!Concurrency::renew(&mut words, id(1), 1_000, START_US), "the clock stepped back");
    assert!(Concurrency::renew(&mut words, id(2), 1_000, START_US));
    assert_eq!(rule.look(&words, 1, START_US).remaining, 0);
}
