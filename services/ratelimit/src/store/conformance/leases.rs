//! The cases of leases.

use super::*;
use crate::{
    domain::{HeldLease, Lease, LeaseId},
    store::CellLease,
};

const TTL_US: u64 = 1_800_000_000;

fn id(number: u64) -> LeaseId {
    LeaseId::new(number << 32 | 0x00ff_00ff).expect("not 0")
}

/// The check, which is to take a lease.
fn leased(check: Check<'static>, number: u64) -> Check<'static> {
    Check { lease: Some(Lease { id: id(number), ttl_us: TTL_US }), ..check }
}

fn lease_of(cell: &CellCheck<'_>, number: u64) -> CellLease {
    CellLease {
        key: cell.key.clone(),
        algorithms: cell.layout.rules().iter().map(Rule::algorithm).collect(),
        enforced: cell.enforced,
        id: id(number),
    }
}

async fn take(store: &impl CounterStore, cells: &[CellCheck<'static>], number: u64) -> Decision {
    decide(store, &leased(check(cells), number)).await
}

async fn renew(store: &impl CounterStore, cells: &[CellCheck<'static>], number: u64) -> bool {
    let cells: Vec<_> = cells.iter().map(|cell| lease_of(cell, number)).collect();
    store.renew(&cells, TTL_US).get().await.expect("told")
}

async fn release(store: &impl CounterStore, cells: &[CellCheck<'static>], number: u64) -> bool {
    let cells: Vec<_> = cells.iter().map(|cell| lease_of(cell, number)).collect();
    store.release(&cells).get().await.expect("told")
}

pub(crate) async fn lease_holds_its_place_until_it_is_released(store: impl CounterStore) {
    let cells = [cell("places", &[hourly(Algorithm::SlidingLog, 9), hourly(Algorithm::Concurrency, 2)])];
    for (number, left) in [(1, [8, 1]), (2, [7, 0])] {
        let taken = take(&store, &cells, number).await;
        assert!(taken.admitted, "{taken:?}");
        assert_eq!(taken.lease, Some(HeldLease { id: id(number), expires_after_us: TTL_US }));
        assert_eq!(remaining(&taken)[..], left);
        assert_eq!(taken.outcomes[1].reset_after_us, TTL_US);
    }
    let denied = take(&store, &cells, 3).await;
    assert!(!denied.admitted && denied.lease.is_none());
    assert!((1..=TTL_US).contains(&denied.outcomes[1].retry_after_us), "{denied:?}");
    assert!(release(&store, &cells, 1).await);
    assert!(!release(&store, &cells, 1).await, "a place is given back once");
    assert!(!release(&store, &cells, 3).await, "what was not taken is not held");
    assert_eq!(left(&store, &cells).await[..], [7, 1]);
    assert!(take(&store, &cells, 4).await.admitted);
    assert!(!take(&store, &cells, 5).await.admitted);
    for number in [4, 2] {
        assert!(release(&store, &cells, number).await);
    }
    let looked = decide(&store, &Check { charge: false, ..check(&cells) }).await;
    assert_eq!((remaining(&looked)[..].to_vec(), looked.outcomes[1].reset_after_us), (vec![6, 2], 0));
}

pub(crate) async fn denial_by_leases_spends_no_rate_and_by_rates_takes_no_lease(store: impl CounterStore) {
    let full = cell("one place", &[hourly(Algorithm::Concurrency, 1)]);
    let wide = cell("wide", &[hourly(Algorithm::SlidingWindow, 3), hourly(Algorithm::Concurrency, 3)]);
    assert!(take(&store, &[wide.clone(), full.clone()], 1).await.admitted);
    assert!(!take(&store, &[wide.clone(), full.clone()], 2).await.admitted);
    assert_eq!(left(&store, &[wide.clone(), full.clone()]).await[..], [2, 2, 0]);
    let two = CellCheck { cost: 2, ..wide.clone() };
    assert!(take(&store, std::slice::from_ref(&two), 3).await.admitted);
    assert!(release(&store, std::slice::from_ref(&two), 3).await);
    let denied = take(&store, std::slice::from_ref(&wide), 4).await;
    assert!(!denied.admitted, "the rate is spent");
    assert_eq!(remaining(&denied)[..], [0, 2], "all tokens of a lease came back");
}

pub(crate) async fn without_a_lease_what_counts_leases_is_only_looked_at(store: impl CounterStore) {
    let cells = [cell("looked at", &[hourly(Algorithm::FixedWindow, 9), hourly(Algorithm::Concurrency, 1)])];
    for expected in [[8, 1], [7, 1]] {
        let decision = decide(&store, &check(&cells)).await;
        assert!(decision.admitted && decision.lease.is_none());
        assert_eq!(remaining(&decision)[..], expected);
    }
    assert!(take(&store, &cells, 1).await.admitted);
    assert!(!decide(&store, &check(&cells)).await.admitted, "what is full denies also those");
}

pub(crate) async fn retry_is_answered_the_lease_that_is_still_held(store: impl CounterStore) {
    let shadow =
        CellCheck { enforced: false, ..cell("retried shadow", &[hourly(Algorithm::Concurrency, 1)]) };
    let cells = [cell("retried", &[hourly(Algorithm::Concurrency, 2)]), shadow];
    let first = decide(&store, &leased(idempotent(&cells, "retried-key", 1), 1)).await;
    assert!(first.admitted && !first.replayed);
    let retry = decide(&store, &leased(idempotent(&cells, "retried-key", 1), 2)).await;
    assert!(retry.admitted && retry.replayed, "{retry:?}");
    assert_eq!(retry.lease.map(|held| held.id), Some(id(1)), "not another one");
    assert_eq!(remaining(&retry)[..], [1, 0]);
    assert_eq!(decide(&store, &idempotent(&cells, "retried-key", 1)).await.lease, None, "none is asked for");
    let reused = decide(&store, &leased(idempotent(&cells, "retried-key", 9), 3)).await;
    assert!(reused.key_reused && reused.lease.is_none());
    assert!(release(&store, &cells[1..], 1).await, "what only reports has no say");
    assert!(decide(&store, &leased(idempotent(&cells, "retried-key", 1), 4)).await.lease.is_some());
    assert!(release(&store, &cells, 1).await);
    let late = decide(&store, &leased(idempotent(&cells, "retried-key", 1), 5)).await;
    assert!(late.admitted && late.replayed && late.lease.is_none(), "{late:?}");
    assert_eq!(remaining(&late)[..], [2, 1], "what has ended is not begun again");
}

pub(crate) async fn renewal_needs_every_enforced_limit(store: impl CounterStore) {
    let both = [
        hourly(Algorithm::Concurrency, 2),
        hourly(Algorithm::TokenBucket, 9),
        hourly(Algorithm::Concurrency, 3),
    ];
    let cells = [cell("first", &both), cell("second", &[hourly(Algorithm::Concurrency, 2)])];
    assert!(take(&store, &cells, 1).await.admitted);
    assert!(renew(&store, &cells, 1).await);
    assert!(!renew(&store, &cells, 2).await, "nobody took it");
    assert!(release(&store, &cells[1..], 1).await);
    assert!(!renew(&store, &cells, 1).await, "one cell has given its place back");
    assert!(renew(&store, &cells[..1], 1).await);
    let reset = CellReset { key: cells[0].key.clone(), layout: Arc::clone(cells[0].layout), rule: Some(2) };
    store.reset(&[reset]).get().await.expect("reset");
    assert!(!renew(&store, &cells[..1], 1).await, "one rule of the cell was cleared");
    assert_eq!(left(&store, &cells).await[..], [1, 8, 3, 2]);
}

pub(crate) async fn leases_of_a_shadow_never_deny(store: impl CounterStore) {
    let shadow = CellCheck { enforced: false, ..cell("shadow leases", &[hourly(Algorithm::Concurrency, 1)]) };
    let cells = [cell("beside", &[hourly(Algorithm::Concurrency, 3)]), shadow];
    assert!(take(&store, &cells, 1).await.admitted);
    let second = take(&store, &cells, 2).await;
    assert!(second.admitted && second.lease.is_some() && second.outcomes[1].exceeded());
    assert!(renew(&store, &cells, 2).await, "it holds a place where it counts");
    assert!(renew(&store, &cells[1..], 2).await, "and where it does not, nobody minds");
    assert!(release(&store, &cells, 1).await);
    assert_eq!(left(&store, &cells).await[..], [2, 1]);
}

pub(crate) async fn unknown_cells_hold_no_lease(store: impl CounterStore) {
    let real = cell("real", &[hourly(Algorithm::SlidingWindow, 5), hourly(Algorithm::Concurrency, 5)]);
    assert!(take(&store, std::slice::from_ref(&real), 1).await.admitted);
    let other_rules = cell("real", &[hourly(Algorithm::SlidingLog, 5), hourly(Algorithm::Concurrency, 5)]);
    let fewer_rules = cell("real", &[hourly(Algorithm::Concurrency, 5)]);
    let absent = cell("absent", &[hourly(Algorithm::Concurrency, 5)]);
    for cell in [other_rules, fewer_rules, absent] {
        assert!(!renew(&store, std::slice::from_ref(&cell), 1).await, "{cell:?}");
        assert!(!release(&store, std::slice::from_ref(&cell), 1).await, "{cell:?}");
    }
    assert!(renew(&store, &[real], 1).await, "and do no harm");
}

pub(crate) async fn reset_ends_leases_and_refund_does_not(store: impl CounterStore) {
    let one = cell("cleared", &[hourly(Algorithm::Concurrency, 2), hourly(Algorithm::SlidingLog, 9)]);
    let cells = [one.clone()];
    assert!(take(&store, &cells, 1).await.admitted);
    let refund = CellRefund { key: one.key.clone(), layout: Arc::clone(one.layout), tokens: 5 };
    store.refund(&[refund]).get().await.expect("given back");
    assert_eq!(left(&store, &cells).await[..], [1, 9]);
    let reset = |rule| CellReset { key: one.key.clone(), layout: Arc::clone(one.layout), rule };
    store.reset(&[reset(Some(1))]).get().await.expect("reset");
    assert!(renew(&store, &cells, 1).await, "another rule was cleared");
    for rule in [Some(0), None] {
        store.reset(&[reset(rule)]).get().await.expect("reset");
        assert!(!renew(&store, &cells, 1).await);
        assert!(!release(&store, &cells, 1).await);
        assert_eq!(left(&store, &cells).await[..], [2, 9]);
        assert!(take(&store, &cells, 1).await.admitted);
    }
}

pub(crate) async fn changed_limit_keeps_its_leases(store: impl CounterStore) {
    let with = |limit| {
        [cell("resized", &[hourly(Algorithm::FixedWindow, 99), hourly(Algorithm::Concurrency, limit)])]
    };
    for number in 1..=4 {
        assert!(take(&store, &with(4), number).await.admitted);
    }
    assert_eq!(left(&store, &with(6)).await[..], [95, 2], "raised");
    assert!(take(&store, &with(6), 5).await.admitted);
    for number in 1..=5 {
        assert!(renew(&store, &with(6), number).await);
    }
    let lowered = take(&store, &with(2), 6).await;
    assert!(!lowered.admitted, "five are held of two");
    assert_eq!(remaining(&lowered)[..], [94, 0]);
    assert!(renew(&store, &with(2), 5).await, "the last to expire keeps its place");
    assert!(release(&store, &with(2), 5).await);
    assert_eq!(left(&store, &with(2)).await[..], [94, 0], "four are held of two");
}
