use std::time::Duration;

use super::*;
use crate::domain::{Algorithm, Limit, LimitSpec, Period};
use crate::store::conformance::{ALGORITHMS, cell, check, counter_store_conformance, hourly};

const NOW_US: u64 = 1_800_000_000_000_000;

fn store(max_bytes: u64) -> (MemoryStore, tidegate_chassis::clock::ManualClock) {
    let (clock, hand) = Clock::manual(NOW_US);
    (MemoryStore::new(&MemoryStoreConfig { max_bytes }, clock, &Random::seeded(1), &Metrics::default()), hand)
}

counter_store_conformance!(store(64 << 20));

impl MemoryStore {
    fn decide_now(&self, check: &Check<'_>) -> Result<Decision, StoreError> {
        self.decide_at(check, self.clock.now_us())
    }
}

fn keys(store: &MemoryStore) -> usize {
    store.shards.iter().map(|shard| shard.lock().expect("no panic").len()).sum()
}

fn bytes(store: &MemoryStore) -> usize {
    store.shards.iter().map(|shard| shard.lock().expect("no panic").bytes()).sum()
}

#[test]
fn memory_stays_within_its_bound_and_live_counters_survive_it() {
    let (store, _) = store(4 << 20);
    let first = check(&[cell("first", &[hourly(ALGORITHMS[0], 1)])]);
    assert!(store.decide_now(&first).expect("room").admitted);
    let mut refused = 0;
    for key in 0..60_000 {
        match store.decide_now(&check(&[cell(&format!("key{key}"), &[hourly(ALGORITHMS[0], 1)])])) {
            Ok(decision) => assert!(decision.admitted),
            Err(error) => {
                assert_eq!(error, StoreError::Full);
                refused += 1;
            }
        }
    }
    assert!(refused > 10_000, "{refused}");
    assert!(bytes(&store) <= 4 << 20, "{}", bytes(&store));
    assert!(!store.decide_now(&first).expect("a known key is always decided").admitted);
}

#[test]
fn idle_keys_make_room_for_new_ones() {
    let (store, hand) = store(2 << 20);
    for round in 0..20 {
        for key in 0..2_000 {
            let check = check(&[cell(&format!("{round}/{key}"), &[hourly(ALGORITHMS[0], 1)])]);
            assert!(store.decide_now(&check).expect("room").admitted);
        }
        hand.advance(Duration::from_secs(2 * 3_600));
    }
    assert!(keys(&store) < 8_000, "{} keys are held, most of them idle", keys(&store));
}

#[test]
fn memory_of_a_size_nobody_uses_any_more_is_given_back() {
    let (store, hand) = store(1 << 20);
    let fill = |rules: &[crate::domain::Rule], prefix: &str| {
        (0..20_000)
            .filter(|key| store.decide_now(&check(&[cell(&format!("{prefix}{key}"), rules)])).is_ok())
            .count()
    };
    let filled = fill(&[hourly(ALGORITHMS[0], 1)], "old");
    assert!(filled > 1_000 && filled < 20_000, "{filled}");
    hand.advance(Duration::from_secs(2 * 3_600));
    let filled = fill(&[hourly(ALGORITHMS[2], 1)], "new");
    assert!(filled > 5_000, "{filled} keys of the new size found room");
}

#[test]
fn refused_check_of_two_cells_leaves_nothing_behind() {
    let (store, _) = store(1 << 20);
    let rules = [hourly(ALGORITHMS[0], 1)];
    let mut number = 0;
    while store.decide_now(&check(&[cell(&format!("fill{number}"), &rules)])).is_ok() {
        number += 1;
    }
    for pair in 0..2_000 {
        let before = keys(&store);
        let check = check(&[cell(&format!("left{pair}"), &rules), cell(&format!("right{pair}"), &rules)]);
        let after_expected = if store.decide_now(&check).is_ok() { before + 2 } else { before };
        assert_eq!(keys(&store), after_expected);
    }
}

#[test]
fn denied_new_keys_are_not_kept() {
    let (store, _) = store(1 << 20);
    let spent = cell("spent", &[hourly(ALGORITHMS[0], 1)]);
    assert!(store.decide_now(&check(std::slice::from_ref(&spent))).expect("room").admitted);
    for key in 0..100 {
        let fresh = cell(&format!("fresh{key}"), &[hourly(ALGORITHMS[0], 1)]);
        assert!(!store.decide_now(&check(&[fresh, spent.clone()])).expect("room").admitted);
    }
    assert_eq!(keys(&store), 1);
}

fn keyed(key: &str, idempotency_key: &str) -> Check<'static> {
    let idempotency = crate::domain::Idempotency {
        key: idempotency_key.as_bytes().into(),
        digest: 7,
        ttl_us: 86_400_000_000,
    };
    Check { idempotency: Some(idempotency), ..check(&[cell(key, &[hourly(ALGORITHMS[0], 1)])]) }
}

#[test]
fn full_store_still_denies_a_known_key_that_brings_a_new_idempotency_key() {
    let (store, _) = store(1 << 20);
    let known = |store: &MemoryStore, name: &str| store.decide_now(&keyed("known", name)).expect("decided");
    assert!(known(&store, "first").admitted);
    let mut key = 0;
    while store.decide_now(&check(&[cell(&format!("key{key}"), &[hourly(ALGORITHMS[0], 1)])])).is_ok()
        || key < 60_000
    {
        key += 1;
    }
    for attempt in 0..1_000 {
        assert!(!known(&store, &format!("attempt{attempt}")).admitted);
    }
    assert!(known(&store, "first").replayed, "what was remembered stays");
}

#[test]
fn idempotency_keys_take_a_part_of_the_bound_and_leave_the_rest_to_counters() {
    let (store, _) = store(4 << 20);
    let mut forgotten = 0;
    for n in 0..100_000 {
        let check = Check { ..keyed("one", &format!("idempotency{n}")) };
        let check = Check {
            cells: [cell("many", &[hourly(Algorithm::FixedWindow, 1_000_000)])].into_iter().collect(),
            ..check
        };
        assert!(store.decide_now(&check).expect("room for the counter").admitted);
        forgotten += usize::from(n > 0 && bytes(&store) > (4 << 20) / 3);
    }
    assert_eq!(forgotten, 0, "records took {} bytes", bytes(&store));
    assert!(keys(&store) > 10_000, "{} are remembered", keys(&store));
    for n in 0..5_000 {
        let check = check(&[cell(&format!("subject{n}"), &[hourly(ALGORITHMS[0], 1)])]);
        assert!(store.decide_now(&check).expect("room beside the records").admitted);
    }
}

#[test]
fn small_store_has_room_for_large_values_too() {
    let (store, _) = store(8 << 20);
    let rules = [hourly(Algorithm::SlidingLog, 1_000), hourly(Algorithm::SlidingLog, 999)];
    let admitted = (0..200).filter(|n| {
        store.decide_now(&check(&[cell(&format!("log{n}"), &rules)])).is_ok_and(|decision| decision.admitted)
    });
    assert!(admitted.count() > 100);
}

/// `key` at 2 tokens a second by a log.
fn two_a_second(key: &str) -> Check<'static> {
    let spec = LimitSpec {
        name: "second".into(),
        algorithm: Algorithm::SlidingLog,
        limit: 2,
        period: Period::Micros(1_000_000),
        burst: None,
    };
    check(&[cell(key, &[Limit::new(spec).expect("valid").rule])])
}

/// Has every shard look at all of its slots, and more.
fn sweep_all(store: &MemoryStore, now_us: u64) {
    for n in 0..20_000 {
        store.decide_at(&two_a_second(&format!("other{n}")), now_us).expect("room");
    }
}

#[test]
fn counter_charged_late_in_time_order_outlives_its_last_token() {
    // Up to a second, two workers read the clock and take the lock in the other order; more, the clock is set back.
    for back_us in [1, 500_000, 900_000, 1_000_001, 2_000_000] {
        let (store, hand) = store(64 << 20);
        assert!(store.decide_at(&two_a_second("late"), NOW_US).expect("room").admitted);
        hand.set_us(NOW_US - back_us);
        assert!(store.decide_at(&two_a_second("late"), NOW_US - back_us).expect("room").admitted);
        let nearly_over = NOW_US + 999_999;
        sweep_all(&store, nearly_over);
        let third = store.decide_at(&two_a_second("late"), nearly_over).expect("known");
        assert!(!third.admitted, "a third token within a second, {back_us} µs back");
    }
}

#[test]
fn check_that_is_decided_after_a_sweep_is_not_before_it() {
    // Taken up 5 ms before the sweep, or kept waiting for longer than a clock may be behind.
    for late_us in [5_000, 1_200_000] {
        for beside in [None, Some("beside")] {
            let (store, hand) = store(64 << 20);
            let take = |now_us| {
                let mut check = two_a_second("swept");
                check.cells.extend(beside.map(|key| two_a_second(key).cells[0].clone()));
                store.decide_at(&check, now_us).expect("room").admitted
            };
            assert!(take(NOW_US) && take(NOW_US));
            let over = NOW_US + 1_000_000;
            sweep_all(&store, over);
            hand.set_us(over);
            assert!(take(over - late_us) && take(over - late_us), "they count from now on, not from before");
            assert!(!take(over + 1_000_000 - 1), "{late_us} µs late, {beside:?} beside");
            assert!(take(over + 1_000_000));
        }
    }
}

#[test]
fn shards_of_one_check_agree_on_the_latest_time() {
    let (store, hand) = store(64 << 20);
    let shard_of = |key: &str| store.place(key.as_bytes()).shard;
    let other =
        (0..).map(|n| format!("other{n}")).find(|key| shard_of(key) != shard_of("one")).expect("128 shards");
    store.decide_at(&two_a_second("one"), NOW_US + 900_000).expect("room");
    store.decide_at(&two_a_second(&other), NOW_US + 1_200_000).expect("room");
    hand.set_us(NOW_US);
    let both = check(&[two_a_second("one").cells[0].clone(), two_a_second(&other).cells[0].clone()]);
    store.decide_at(&both, NOW_US).expect("room");
    for key in ["one", &other] {
        let latest_us = store.shard(store.place(key.as_bytes())).latest_us();
        assert_eq!(latest_us, NOW_US + 1_200_000, "{key}");
    }
}

#[test]
fn one_cell_is_decided_as_one_of_many() {
    let (one, hand) = store(64 << 20);
    let (many, _) = store(64 << 20);
    let limits = ALGORITHMS.map(|algorithm| hourly(algorithm, 9));
    let random = Random::seeded(3);
    for _ in 0..3_000 {
        let key = format!("key{}", random.below(20));
        let cell = CellCheck { cost: 1 + random.below(4), ..cell(&key, &limits) };
        let check = Check { charge: random.below(4) > 0, ..check(&[cell]) };
        let step = [Duration::from_millis(random.below(3)), Duration::from_secs(random.below(600))];
        hand.advance(step[usize::from(random.below(2) > 0)]);
        let now_us = one.clock.now_us() - random.below(5_000);
        assert_eq!(one.decide_at(&check, now_us), many.decide_many(&check, now_us), "{check:?}");
    }
    assert_eq!(keys(&one), keys(&many));
}
