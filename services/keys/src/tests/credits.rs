use futures_util::future::join_all;
use rstest::rstest;
use uuid::Uuid;

use super::*;
use crate::{
    credits::{Grant, MAX_BALANCE},
    domain::{LedgerKind, LineageId},
    error::KeysError,
    store::StoreError,
};

const GRANT: Grant = Grant { amount: 1_000, refill_amount: None, refill_every_days: None };

fn reservation(number: u32) -> Uuid {
    Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 | u128::from(number))
}

async fn granted(replica: &Replica, grant: Grant) -> (OrganizationId, LineageId) {
    let organization = replica.organization().await.id;
    let key = replica.key(organization).await.key;
    replica.credits.grant(&by(), organization, key.id, grant, Keep::nothing()).await.expect("granted");
    (organization, key.lineage_id)
}

#[rstest]
#[case::in_one_process(false)]
#[case::by_two_replicas(true)]
#[tokio::test]
async fn no_more_is_reserved_than_was_granted_however_many_ask(#[case] in_postgres: bool) {
    let stores = if in_postgres { postgres(2).await } else { vec![sqlite().await] };
    let mut replicas = Vec::new();
    for store in stores {
        replicas.push(Replica::new(store).await);
    }
    let (organization, lineage) = granted(&replicas[0], GRANT).await;
    // Each id is asked twice, as a replica does that lost the answer; those who lose too often come again.
    let asked = (0..60).map(|number| {
        let credits = replicas[number as usize % replicas.len()].credits.clone();
        async move {
            loop {
                match credits.reserve(organization, lineage, 37, reservation(number / 2)).await {
                    Err(KeysError::ConcurrentChanges | KeysError::Store(StoreError::Conflict)) => {}
                    other => break (number / 2, other.expect("reserved").granted),
                }
            }
        }
    });
    let mut by_id = BTreeMap::<u32, Vec<u64>>::new();
    for (id, granted) in join_all(asked).await {
        by_id.entry(id).or_default().push(granted);
    }
    // 27 * 37 + 1 = 1,000; those that found nothing left no trace, and find nothing again.
    let told: Vec<u64> = by_id.values().map(|both| *both.iter().max().expect("two")).collect();
    assert_eq!(told.iter().sum::<u64>(), 1_000, "{by_id:?}");
    assert!(by_id.values().all(|both| both[0] == both[1]), "asked again it is the same: {by_id:?}");
    let ledger = replicas[0].store.ledger(organization, lineage, None, 1_000).await.expect("asked");
    let taken = ledger.iter().filter(|entry| entry.kind == LedgerKind::Reservation);
    assert_eq!(taken.map(|entry| entry.amount).sum::<u64>(), 1_000);
}

#[tokio::test]
async fn keys_of_a_lineage_have_credits_from_the_first_grant_on() {
    let replica = Replica::new(sqlite().await).await;
    let organization = replica.organization().await.id;
    let old = replica.key(organization).await.key;
    let (by, at_once) = (by(), std::time::Duration::ZERO);
    let rotate = replica.keys.rotate(&by, organization, old.id, at_once, Keep::nothing());
    let new = rotate.await.expect("rotated").new.key;
    let none = replica.credits.get(organization, new.id).await;
    assert!(matches!(none, Err(KeysError::CreditsNotEnabled)), "{none:?}");
    let before = replica.organizations.get(organization).await.expect("there").generation;
    replica.credits.grant(&by, organization, new.id, GRANT, Keep::nothing()).await.expect("granted");
    for id in [old.id, new.id] {
        assert!(replica.keys.get(organization, id).await.expect("there").has_credits);
        assert_eq!(replica.credits.get(organization, id).await.expect("there").balance, 1_000);
    }
    let after = replica.organizations.get(organization).await.expect("there").generation;
    assert_eq!(after, before + 1, "what replicas remember is over");
    replica.credits.grant(&by, organization, old.id, GRANT, Keep::nothing()).await.expect("granted");
    assert_eq!(replica.organizations.get(organization).await.expect("there").generation, after);
    assert_eq!(replica.credits.get(organization, new.id).await.expect("there").balance, 2_000);
}

#[tokio::test]
async fn a_refill_is_done_when_it_is_due_and_stands_in_the_ledger() {
    let replica = Replica::new(sqlite().await).await;
    let grant = Grant { amount: 5, refill_amount: Some(100), refill_every_days: Some(30) };
    let (organization, lineage) = granted(&replica, grant).await;
    let first = replica.credits.reserve(organization, lineage, 10, reservation(1)).await.expect("reserved");
    assert_eq!((first.granted, first.balance), (5, 0));
    replica.hand.set_us(NOW_US + 30 * DAY_US - 1);
    let none = replica.credits.reserve(organization, lineage, 10, reservation(2)).await.expect("asked");
    assert_eq!(none.granted, 0);
    replica.hand.set_us(NOW_US + 75 * DAY_US);
    let after = replica.credits.reserve(organization, lineage, 10, reservation(3)).await.expect("reserved");
    assert_eq!((after.granted, after.balance), (10, 90));
    assert_eq!(after.next_refill_us, Some(NOW_US + 90 * DAY_US));
    let ledger = replica.store.ledger(organization, lineage, None, 10).await.expect("asked");
    let mut moved: Vec<_> = ledger.iter().map(|entry| (entry.at_us, entry.amount)).collect();
    moved.sort_unstable();
    let refilled_us = NOW_US + 75 * DAY_US;
    assert_eq!(moved, [(NOW_US, 5), (NOW_US, 5), (refilled_us, 10), (refilled_us, 100)]);
}

#[tokio::test]
async fn an_account_has_no_more_than_it_can_have() {
    let replica = Replica::new(sqlite().await).await;
    let organization = replica.organization().await.id;
    let key = replica.key(organization).await.key.id;
    let grant = Grant { amount: MAX_BALANCE, ..Grant::default() };
    replica.credits.grant(&by(), organization, key, grant, Keep::nothing()).await.expect("granted");
    let more =
        replica.credits.grant(&by(), organization, key, Grant { amount: 1, ..grant }, Keep::nothing()).await;
    assert!(matches!(more, Err(KeysError::Invalid(_))), "{more:?}");
}

#[rstest]
#[case::sqlite(false)]
#[case::postgres(true)]
#[tokio::test]
async fn a_reservation_of_another_organization_is_none(#[case] in_postgres: bool) {
    let store = if in_postgres { postgres(1).await.remove(0) } else { sqlite().await };
    let replica = Replica::new(store).await;
    let (theirs, lineage) = granted(&replica, GRANT).await;
    replica.credits.reserve(theirs, lineage, 10, reservation(1)).await.expect("reserved");
    let (own, lineage) = granted(&replica, GRANT).await;
    let refused = replica.credits.reserve(own, lineage, 10, reservation(1)).await;
    assert!(matches!(refused, Err(KeysError::ReservationNotFound)), "{refused:?}");
    let left = replica.store.credits(own, lineage).await.expect("asked").expect("there");
    assert_eq!(left.balance, 1_000, "nothing is taken");
}
