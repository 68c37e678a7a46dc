//! What every [`CounterStore`] must do: one case per promise of its documentation.
//!
//! Time does not pass in these cases; how each algorithm behaves as time passes is held together by
//! property tests of the domain against a naive oracle, and of the Redis script against the domain.

mod fences;
mod leases;

use std::sync::Arc;

use smallvec::{SmallVec, smallvec};

use super::{CellRefund, CellReset, CounterStore};
use crate::domain::{
    Algorithm, CellCheck, Check, Decision, Idempotency, Layout, Limit, LimitOutcome, LimitSpec, Period, Rule,
};

/// Instantiates every case for a backend; `$new_store` is an expression that makes a fresh, empty store
/// within an async context, together with whatever must live as long as it.
macro_rules! counter_store_conformance {
    ($new_store:expr) => {
        $crate::store::conformance::counter_store_conformance!(@all cases [$new_store]);
    };
    // All cases in one test, one after the other, for a backend that takes long to start: `$fixture` is started
    // once, and `$new_store` makes of it, called `$name`, a fresh, empty store.
    (in_turn $test:ident, $fixture:expr, $name:ident => $new_store:expr) => {
        $crate::store::conformance::counter_store_conformance!(@all in_turn [$test, $fixture, $name, $new_store]);
    };
    (@all $how:ident [$($new_store:tt)*]) => {
        $crate::store::conformance::counter_store_conformance!(@$how $($new_store)*;
            unknown_key_is_unused, each_algorithm_admits_its_limit_and_no_more, denial_spends_nothing_in_any_cell,
            shadow_cell_never_denies, look_charges_nothing, keys_do_not_share_counts, cost_is_charged_in_full,
            concurrent_charges_never_exceed, retry_of_an_admission_is_free, denial_is_not_remembered,
            reused_idempotency_key_is_refused, replay_after_exhaustion_is_admitted, reset_clears_one_rule_or_all, refund_gives_back_what_was_charged_and_no_more,
            lease_holds_its_place_until_it_is_released, denial_by_leases_spends_no_rate_and_by_rates_takes_no_lease,
            without_a_lease_what_counts_leases_is_only_looked_at, retry_is_answered_the_lease_that_is_still_held, renewal_needs_every_enforced_limit,
            leases_of_a_shadow_never_deny, unknown_cells_hold_no_lease, reset_ends_leases_and_refund_does_not, changed_limit_keeps_its_leases,
            changed_numbers_keep_the_count, changed_pace_keeps_what_is_missing_from_a_bucket, logs_that_trade_sizes_keep_their_own_counts, check_without_cells_is_admitted,
            check_of_very_many_cells_is_decided_as_a_whole, older_state_than_the_fence_is_stale_and_charges_nothing,
            fence_is_about_one_organization_and_never_goes_back);
    };
    (@in_turn $test:ident, $fixture:expr, $name:ident, $new_store:expr; $($case:ident),+) => {
        #[tokio::test]
        async fn $test() {
            let $name = $fixture;
            $( $crate::store::conformance::$case($new_store).await; )+
        }
    };
    (@cases $new_store:expr; $($case:ident),+) => { $(
        #[tokio::test]
        async fn $case() {
            let (store, _guard) = $new_store;
            $crate::store::conformance::$case(store).await
        }
    )+ };
}

pub(crate) use counter_store_conformance;
pub(crate) use fences::*;
pub(crate) use leases::*;

/// A rule of the algorithm with `limit` tokens per hour.
pub(crate) fn hourly(algorithm: Algorithm, limit: u64) -> Rule {
    // A fixed window of ten years: no case may meet the end of an hour by chance.
    let hours = if algorithm == Algorithm::FixedWindow { 3_650 * 24 } else { 1 };
    let period = Period::Micros(hours * 3_600_000_000);
    Limit::new(LimitSpec { name: "hour".into(), algorithm, limit, period, burst: None })
        .expect("valid limit")
        .rule
}

pub(crate) const ALGORITHMS: [Algorithm; 4] =
    [Algorithm::SlidingWindow, Algorithm::SlidingLog, Algorithm::TokenBucket, Algorithm::FixedWindow];

/// A cell whose layout lives as long as the tests do.
pub(crate) fn cell(key: &str, rules: &[Rule]) -> CellCheck<'static> {
    let layout = Box::leak(Box::new(Arc::new(Layout::new(rules))));
    CellCheck { key: key.as_bytes().into(), layout, cost: 1, enforced: true }
}

pub(crate) fn check(cells: &[CellCheck<'static>]) -> Check<'static> {
    Check {
        cells: cells.iter().cloned().collect(),
        charge: true,
        idempotency: None,
        lease: None,
        fence: None,
    }
}

fn idempotent(cells: &[CellCheck<'static>], key: &str, digest: u128) -> Check<'static> {
    let idempotency = Idempotency { key: key.as_bytes().into(), digest, ttl_us: 3_600_000_000 };
    Check { idempotency: Some(idempotency), ..check(cells) }
}

async fn decide(store: &impl CounterStore, check: &Check<'_>) -> Decision {
    store.decide(check).get().await.expect("decided")
}

fn remaining(decision: &Decision) -> SmallVec<[u64; 4]> {
    decision.outcomes.iter().map(|outcome| outcome.remaining).collect()
}

async fn left(store: &impl CounterStore, cells: &[CellCheck<'static>]) -> SmallVec<[u64; 4]> {
    remaining(&decide(store, &Check { charge: false, ..check(cells) }).await)
}

pub(crate) async fn unknown_key_is_unused(store: impl CounterStore) {
    for algorithm in ALGORITHMS {
        let cells = [cell(algorithm.as_str(), &[hourly(algorithm, 5)])];
        let decision = decide(&store, &Check { charge: false, ..check(&cells) }).await;
        assert!(decision.admitted);
        let outcome = decision.outcomes[0];
        assert_eq!(
            (outcome.remaining, outcome.retry_after_us, outcome.reset_after_us),
            (5, 0, 0),
            "{algorithm:?}"
        );
    }
}

pub(crate) async fn each_algorithm_admits_its_limit_and_no_more(store: impl CounterStore) {
    for algorithm in ALGORITHMS {
        let cells = [cell(algorithm.as_str(), &[hourly(algorithm, 3)])];
        for expected in [2, 1, 0] {
            let decision = decide(&store, &check(&cells)).await;
            assert!(decision.admitted, "{algorithm:?} {decision:?}");
            assert_eq!(remaining(&decision)[..], [expected], "{algorithm:?}");
            assert!(decision.outcomes[0].reset_after_us > 0, "{algorithm:?}");
        }
        let denied = decide(&store, &check(&cells)).await;
        assert!(!denied.admitted, "{algorithm:?}");
        assert!(denied.outcomes[0].retry_after_us > 0, "{algorithm:?}");
        assert_eq!(denied.outcomes[0].remaining, 0, "{algorithm:?}");
    }
}

pub(crate) async fn denial_spends_nothing_in_any_cell(store: impl CounterStore) {
    let wide = cell("wide", &ALGORITHMS.map(|algorithm| hourly(algorithm, 100)));
    let narrow = cell("narrow", &[hourly(Algorithm::SlidingWindow, 50), hourly(Algorithm::TokenBucket, 1)]);
    let cells = [wide, narrow];
    assert!(decide(&store, &check(&cells)).await.admitted);
    let before = left(&store, &cells).await;
    assert_eq!(before[..], [99, 99, 99, 99, 49, 0]);
    for _ in 0..3 {
        let denied = decide(&store, &check(&cells)).await;
        assert!(!denied.admitted);
        let exceeded: Vec<bool> = denied.outcomes.iter().map(LimitOutcome::exceeded).collect();
        assert_eq!(exceeded, [false, false, false, false, false, true]);
        assert_eq!(remaining(&denied), before);
    }
    assert_eq!(left(&store, &cells).await, before);
}

pub(crate) async fn shadow_cell_never_denies(store: impl CounterStore) {
    let shadow = CellCheck { enforced: false, ..cell("shadow", &[hourly(Algorithm::SlidingWindow, 1)]) };
    let cells = [cell("enforced", &[hourly(Algorithm::SlidingWindow, 3)]), shadow];
    assert_eq!(remaining(&decide(&store, &check(&cells)).await)[..], [2, 0]);
    let second = decide(&store, &check(&cells)).await;
    assert!(second.admitted);
    assert_eq!(remaining(&second)[..], [1, 0]);
    assert!(second.outcomes[1].exceeded(), "it says what it would have denied");
}

pub(crate) async fn look_charges_nothing(store: impl CounterStore) {
    let cells = [cell("look", &ALGORITHMS.map(|algorithm| hourly(algorithm, 2)))];
    for _ in 0..5 {
        assert_eq!(left(&store, &cells).await[..], [2, 2, 2, 2]);
    }
    assert_eq!(remaining(&decide(&store, &check(&cells)).await)[..], [1, 1, 1, 1]);
}

pub(crate) async fn keys_do_not_share_counts(store: impl CounterStore) {
    let rules = [hourly(Algorithm::SlidingWindow, 1)];
    for key in ["a", "b", "ab", "a:b", ""] {
        assert!(decide(&store, &check(&[cell(&format!("share{key}"), &rules)])).await.admitted, "{key:?}");
    }
}

pub(crate) async fn cost_is_charged_in_full(store: impl CounterStore) {
    for algorithm in ALGORITHMS {
        let one = cell(&format!("cost-{}", algorithm.as_str()), &[hourly(algorithm, 10)]);
        let seven = CellCheck { cost: 7, ..one.clone() };
        assert_eq!(remaining(&decide(&store, &check(std::slice::from_ref(&seven))).await)[..], [3]);
        let denied = decide(&store, &check(&[seven])).await;
        assert!(!denied.admitted, "{algorithm:?}: 3 of 7 tokens are not enough");
        assert_eq!(remaining(&denied)[..], [3], "{algorithm:?}: nothing is taken in part");
        assert!(decide(&store, &check(&[CellCheck { cost: 3, ..one }])).await.admitted, "{algorithm:?}");
    }
}

pub(crate) async fn concurrent_charges_never_exceed(store: impl CounterStore) {
    let store = Arc::new(store);
    let cells = [
        cell("race-a", &ALGORITHMS.map(|algorithm| hourly(algorithm, 100))),
        cell("race-b", &[hourly(Algorithm::SlidingLog, 25)]),
    ];
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..64 {
        let store = store.clone();
        // Half of them name the cells the other way round, as deadlocks like it.
        let mut check = check(&cells);
        if task % 2 == 0 {
            check.cells.reverse();
        }
        tasks.spawn(async move { decide(&*store, &check).await.admitted });
    }
    let admitted = tasks.join_all().await.into_iter().filter(|admitted| *admitted).count();
    assert_eq!(admitted, 25);
    let left = left(&*store, &cells).await;
    // Where a charge had to be taken back from a bucket, the moment in between may be owed still.
    assert!(left[2] == 75 || left[2] == 74, "{left:?}");
    assert_eq!([left[0], left[1], left[3], left[4]], [75, 75, 75, 0]);
}

pub(crate) async fn retry_of_an_admission_is_free(store: impl CounterStore) {
    let cells = [cell("retry", &[hourly(Algorithm::SlidingWindow, 5), hourly(Algorithm::TokenBucket, 5)])];
    let check = idempotent(&cells, "retry-key", 7);
    let first = decide(&store, &check).await;
    assert!(first.admitted && !first.replayed);
    for _ in 0..3 {
        let again = decide(&store, &check).await;
        assert!(again.admitted && again.replayed, "{again:?}");
        assert_eq!(remaining(&again)[..], [4, 4]);
    }
    let other = decide(&store, &idempotent(&cells, "other-key", 7)).await;
    assert!(other.admitted && !other.replayed);
    assert_eq!(remaining(&other)[..], [3, 3]);
}

pub(crate) async fn denial_is_not_remembered(store: impl CounterStore) {
    let cells = [cell("forgiving", &[hourly(Algorithm::SlidingWindow, 1)])];
    assert!(decide(&store, &check(&cells)).await.admitted);
    let retried = idempotent(&cells, "forgiving-key", 7);
    assert!(!decide(&store, &retried).await.admitted);
    store
        .reset(&[CellReset { key: cells[0].key.clone(), layout: Arc::clone(cells[0].layout), rule: None }])
        .get()
        .await
        .expect("reset");
    let now = decide(&store, &retried).await;
    assert!(now.admitted && !now.replayed);
    // Looking with the key is no admission to remember either.
    let looked = Check {
        charge: false,
        ..idempotent(&[cell("looked", &[hourly(Algorithm::SlidingWindow, 1)])], "look-key", 7)
    };
    assert!(!decide(&store, &looked).await.replayed);
    assert!(!decide(&store, &looked).await.replayed);
}

pub(crate) async fn reused_idempotency_key_is_refused(store: impl CounterStore) {
    let cells = [cell("reuse", &[hourly(Algorithm::SlidingWindow, 5)])];
    assert!(decide(&store, &idempotent(&cells, "reuse-key", 1)).await.admitted);
    let decision = decide(&store, &idempotent(&cells, "reuse-key", u128::MAX - 1)).await;
    assert!(decision.key_reused && !decision.admitted && !decision.replayed);
    assert_eq!(left(&store, &cells).await[..], [4]);
}

pub(crate) async fn replay_after_exhaustion_is_admitted(store: impl CounterStore) {
    let cells = [cell("last", &[hourly(Algorithm::SlidingWindow, 1)])];
    let check = idempotent(&cells, "last-key", 1);
    assert!(decide(&store, &check).await.admitted);
    let replay = decide(&store, &check).await;
    assert!(replay.admitted && replay.replayed);
    assert_eq!((replay.outcomes[0].remaining, replay.outcomes[0].retry_after_us), (0, 0));
}

pub(crate) async fn reset_clears_one_rule_or_all(store: impl CounterStore) {
    let cell = cell("reset", &ALGORITHMS.map(|algorithm| hourly(algorithm, 5)));
    let cells = [CellCheck { cost: 4, ..cell }];
    let reset = |rule| CellReset { key: cells[0].key.clone(), layout: Arc::clone(cells[0].layout), rule };
    store
        .reset(&[reset(None), reset(Some(2))])
        .get()
        .await
        .expect("a cell that does not exist is left alone");
    assert!(decide(&store, &check(&cells)).await.admitted);
    for (rule, expected) in [(1, [1, 5, 1, 1]), (2, [1, 5, 5, 1]), (0, [5, 5, 5, 1])] {
        store.reset(&[reset(Some(rule))]).get().await.expect("reset");
        assert_eq!(left(&store, &cells).await[..], expected);
    }
    store.reset(&[reset(None)]).get().await.expect("reset");
    assert_eq!(left(&store, &cells).await[..], [5, 5, 5, 5]);
    assert!(decide(&store, &check(&cells)).await.admitted);
}

pub(crate) async fn refund_gives_back_what_was_charged_and_no_more(store: impl CounterStore) {
    let rules = ALGORITHMS.map(|algorithm| hourly(algorithm, 20));
    let one = cell("refund", &rules);
    let cells = [one.clone()];
    let refund = async |tokens| {
        let refund = CellRefund { key: one.key.clone(), layout: Arc::clone(one.layout), tokens };
        store.refund(&[refund]).get().await.expect("given back");
    };
    refund(3).await;
    assert_eq!(left(&store, &cells).await[..], [20; 4], "nothing was charged");
    for (charges, given, expected) in
        [(&[4, 3][..], 1, 14), (&[], 5, 19), (&[6], 6, 19), (&[], 9, 20), (&[20], 1, 1)]
    {
        for cost in charges {
            assert!(decide(&store, &check(&[CellCheck { cost: *cost, ..one.clone() }])).await.admitted);
        }
        refund(given).await;
        let looked = decide(&store, &Check { charge: false, ..check(&cells) }).await;
        assert_eq!(remaining(&looked)[..], [expected; 4], "{charges:?} charged, {given} given back");
        if expected == 20 {
            assert!(looked.outcomes.iter().all(|outcome| outcome.reset_after_us == 0), "{looked:?}");
        }
    }
    assert!(decide(&store, &check(&cells)).await.admitted);
    assert!(!decide(&store, &check(&cells)).await.admitted);
    refund(u64::MAX).await;
    assert_eq!(left(&store, &cells).await[..], [20; 4]);
}

pub(crate) async fn changed_pace_keeps_what_is_missing_from_a_bucket(store: impl CounterStore) {
    let with = |limit, burst| {
        let spec = LimitSpec {
            name: "hour".into(),
            algorithm: Algorithm::TokenBucket,
            limit,
            period: Period::Micros(3_600_000_000),
            burst: Some(burst),
        };
        [cell("pace", &[Limit::new(spec).expect("valid limit").rule])]
    };
    for _ in 0..60 {
        assert!(decide(&store, &check(&with(100, 100))).await.admitted);
    }
    // Nothing is gained by the change, and at most a token lost to rounding.
    for (limit, burst, expected) in [(7, 100, 40), (200, 100, 40), (1, 70, 10), (100, 50, 0), (100, 100, 40)]
    {
        let left = left(&store, &with(limit, burst)).await[0];
        assert!((expected..=expected + 1).contains(&(left + 1)), "{left} of {burst} at {limit} an hour");
    }
    assert!(decide(&store, &check(&with(7, 100))).await.admitted);
    let left = left(&store, &with(100, 100)).await[0];
    assert!((38..=39).contains(&left), "{left} after a charge at another pace");
}

pub(crate) async fn changed_numbers_keep_the_count(store: impl CounterStore) {
    for algorithm in [Algorithm::SlidingWindow, Algorithm::SlidingLog, Algorithm::FixedWindow] {
        let key = format!("changed-{}", algorithm.as_str());
        let with = |limit| [cell(&key, &[hourly(algorithm, limit), hourly(Algorithm::FixedWindow, 1_000)])];
        for _ in 0..8 {
            assert!(decide(&store, &check(&with(10))).await.admitted);
        }
        assert_eq!(left(&store, &with(20)).await[..], [12, 992], "{algorithm:?} raised");
        assert_eq!(left(&store, &with(5)).await[..], [0, 992], "{algorithm:?} lowered");
        assert!(!decide(&store, &check(&with(5))).await.admitted, "{algorithm:?}");
        let raised = decide(&store, &check(&with(9))).await;
        assert!(raised.admitted, "{algorithm:?}");
        assert_eq!(remaining(&raised)[..], [0, 991], "{algorithm:?}");
    }
}

pub(crate) async fn logs_that_trade_sizes_keep_their_own_counts(store: impl CounterStore) {
    let with = |first, second| {
        [cell("trade", &[hourly(Algorithm::SlidingLog, first), hourly(Algorithm::SlidingLog, second)])]
    };
    for _ in 0..8 {
        assert!(decide(&store, &check(&with(10, 30))).await.admitted);
    }
    assert_eq!(left(&store, &with(30, 10)).await[..], [22, 2]);
    assert!(decide(&store, &check(&with(30, 10))).await.admitted);
    assert_eq!(left(&store, &with(10, 30)).await[..], [1, 21]);
}

pub(crate) async fn check_without_cells_is_admitted(store: impl CounterStore) {
    let decision = decide(
        &store,
        &Check { cells: smallvec![], charge: true, idempotency: None, lease: None, fence: None },
    )
    .await;
    assert!(decision.admitted && decision.outcomes.is_empty());
}

/// More cells and rules than a byte counts, or Lua spreads at once.
pub(crate) async fn check_of_very_many_cells_is_decided_as_a_whole(store: impl CounterStore) {
    let rules = ALGORITHMS.map(|algorithm| hourly(algorithm, 9));
    let few = [hourly(Algorithm::SlidingWindow, 3)];
    let mut cells: Vec<_> = (0..700).map(|n| cell(&format!("{{many}}{n}"), &rules)).collect();
    cells.push(cell("{many}few", &few));
    let check = check(&cells);
    for used in 1..=3 {
        let decision = decide(&store, &check).await;
        assert!(decision.admitted);
        let expected = [[9 - used; 4]; 700].concat().into_iter().chain([3 - used]);
        assert!(remaining(&decision).into_iter().eq(expected), "{used}: {:?}", remaining(&decision));
    }
    for _ in 0..2 {
        let denied = decide(&store, &check).await;
        assert!(!denied.admitted);
        let exceeded: Vec<_> = denied.outcomes.iter().map(LimitOutcome::exceeded).collect();
        assert!(exceeded.iter().rev().copied().eq([true].into_iter().chain([false; 2_800])));
        assert_eq!(remaining(&denied)[..4], [6; 4], "a denial spends nothing");
    }
}
