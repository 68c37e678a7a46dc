//! Promises about fences. A store in the memory of one process keeps none, says so, and decides as if there were none.

use uuid::Uuid;

use super::*;
use crate::domain::Fence;

fn of(organization: u128, generation: u64) -> Fence {
    Fence { organization: Uuid::from_u128(organization), generation }
}

/// Keys as they are stored: the fence of a check lies beside the first of them.
fn cells() -> [CellCheck<'static>; 1] {
    [cell("tg2:{14}:5:fence", &[hourly(Algorithm::SlidingWindow, 50)])]
}

async fn raise(store: &impl CounterStore, fence: Fence) -> bool {
    store.fence(fence).get().await.expect("raised")
}

pub(crate) async fn older_state_than_the_fence_is_stale_and_charges_nothing(store: impl CounterStore) {
    let cells = cells();
    let record = Idempotency { key: b"tg2:{14}i".as_slice().into(), digest: 1, ttl_us: 3_600_000_000 };
    let prepared = |generation| Check { fence: Some(of(1, generation)), ..check(&cells) };
    let repeated = |generation| Check { idempotency: Some(record.clone()), ..prepared(generation) };
    let alone = |generation| Check { cells: smallvec![], ..prepared(generation) };
    assert!(decide(&store, &prepared(6)).await.admitted, "nobody has raised it");
    assert!(decide(&store, &repeated(6)).await.admitted);
    let is_kept = raise(&store, of(1, 7)).await;
    for old in [prepared(6), repeated(6), alone(6)] {
        let decision = decide(&store, &old).await;
        assert_eq!((decision.stale, decision.admitted), (is_kept, !is_kept), "{old:?}");
        assert!(!is_kept || decision == Decision::of_stale());
    }
    // Where fences are kept only what came before was charged.
    assert_eq!(left(&store, &cells).await[..], [if is_kept { 48 } else { 47 }]);
    for new in [prepared(7), repeated(8), alone(7)] {
        let decision = decide(&store, &new).await;
        assert!(decision.admitted && !decision.stale, "{new:?}");
    }
    let many = [cells[0].clone(), cell("tg2:{10}:5:other", &[hourly(Algorithm::SlidingLog, 5)])];
    let spread = Check { fence: Some(of(1, 6)), ..check(&many) };
    assert_eq!(decide(&store, &spread).await.stale, is_kept);
    assert_eq!(left(&store, &many[1..]).await[..], [if is_kept { 5 } else { 4 }]);
    assert!(decide(&store, &Check { fence: Some(of(1, 7)), ..spread }).await.admitted);
}

pub(crate) async fn fence_is_about_one_organization_and_never_goes_back(store: impl CounterStore) {
    let cells = cells();
    let prepared = |fence| Check { fence: Some(fence), charge: false, ..check(&cells) };
    let is_kept = raise(&store, of(1, 7)).await;
    assert_eq!(raise(&store, of(1, 3)).await, is_kept);
    assert_eq!(decide(&store, &prepared(of(1, 6))).await.stale, is_kept);
    assert!(!decide(&store, &prepared(of(2, 0))).await.stale);
    raise(&store, of(2, 1)).await;
    assert_eq!(decide(&store, &prepared(of(2, 0))).await.stale, is_kept);
    raise(&store, of(1, Fence::MAX_GENERATION)).await;
    assert_eq!(decide(&store, &prepared(of(1, Fence::MAX_GENERATION - 1))).await.stale, is_kept);
    assert!(!decide(&store, &prepared(of(1, Fence::MAX_GENERATION))).await.stale);
}
