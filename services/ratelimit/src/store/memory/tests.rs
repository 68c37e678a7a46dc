use super::*;
use crate::domain::Algorithm;
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
        hand.advance(std::time::Duration::from_secs(2 * 3_600));
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
    hand.advance(std::time::Duration::from_secs(2 * 3_600));
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
