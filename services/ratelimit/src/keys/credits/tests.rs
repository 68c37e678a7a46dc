use tidegate_chassis::clock::Clock;
use tokio_util::sync::DropGuard;

use super::*;
use crate::keys::{
    Found,
    tests::{
        fixture::{KeysServer, id, resolved, value},
        keys,
    },
};

const START_US: u64 = 1_800_000_000_000_000;

/// A keys service with a key whose account has so much.
async fn server(balance: u64) -> KeysServer {
    let server = KeysServer::start().await;
    let mut key = resolved(1, 7);
    key.key.as_mut().unwrap().has_credits = true;
    server.set(&value(1), key);
    server.state.ledger.accounts().balances.insert(id(1), balance);
    server
}

async fn replica(server: &KeysServer, clock: Clock) -> (Keys, Arc<Record>, DropGuard) {
    let (keys, guard) = keys(&server.config(), clock);
    let Found::Key(record) = keys.find(&value(1)).await.unwrap() else { panic!("somebody's") };
    (keys, record, guard)
}

/// Whether it was paid.
async fn spend(keys: &Keys, record: &Record, cost: u64) -> bool {
    match keys.pay(record, cost).await.unwrap() {
        Payment::Paid(mut paid) => {
            paid.spend();
            true
        }
        Payment::Empty { .. } => false,
        Payment::Free => panic!("there is an account"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn never_more_is_admitted_than_granted_by_two_replicas_of_which_one_dies() {
    let server = server(1_000).await;
    let (first, record, _guard) = replica(&server, Clock::system()).await;
    let (second, other, guard) = replica(&server, Clock::system()).await;
    let tasks = |keys: &Keys, record: &Arc<Record>| {
        let tasks = (0..20).map(|_| {
            let (keys, record) = (keys.clone(), Arc::clone(record));
            tokio::spawn(async move {
                let mut spent = 0;
                for _ in 0..20 {
                    spent += u64::from(spend(&keys, &record, 1).await);
                }
                spent
            })
        });
        tasks.collect::<Vec<_>>()
    };
    let mut spent = 0;
    for task in tasks(&first, &record).into_iter().chain(tasks(&second, &other)) {
        spent += task.await.unwrap();
    }
    assert_eq!(spent, 800, "there was enough for all");
    let lost = second.0.credits.account(Uuid::from_u128(1), Uuid::from_u128(7)).state().held;
    drop((second, other, guard));
    while spend(&first, &record, 1).await {
        spent += 1;
    }
    assert_eq!(spent + lost, 1_000);
    assert!(lost <= 10, "{lost} of 1000 lay on the replica that died");
    assert_eq!(server.state.ledger.accounts().reservations.values().sum::<u64>(), 1_000);
}

#[tokio::test]
async fn what_is_not_spent_is_given_back() {
    let server = server(3).await;
    let (keys, record, _guard) = replica(&server, Clock::system()).await;
    for _ in 0..5 {
        let Payment::Paid(paid) = keys.pay(&record, 3).await.unwrap() else { panic!("there is enough") };
        assert_eq!(paid.remaining(), 3);
    }
    assert!(spend(&keys, &record, 3).await);
    assert!(!spend(&keys, &record, 1).await);
}

#[tokio::test]
async fn empty_account_is_remembered_for_a_second_and_its_refill_is_seen() {
    let server = server(0).await;
    let (clock, time) = Clock::manual(START_US);
    server.state.ledger.accounts().next_refill_at_ms = START_US / 1_000 + 500;
    let (keys, record, _guard) = replica(&server, clock).await;
    for _ in 0..10 {
        let Payment::Empty { retry_after_us, remaining } = keys.pay(&record, 1).await.unwrap() else {
            panic!("there is nothing")
        };
        assert_eq!((retry_after_us, remaining), (500_000, 0));
        assert!(matches!(keys.pay_at_once(&record, 1), Some(Payment::Empty { .. })));
    }
    assert_eq!(server.state.ledger.accounts().asked.len(), 1);
    server.state.ledger.accounts().next_refill_at_ms = 0;
    time.set_us(START_US + 500_000);
    assert!(keys.pay_at_once(&record, 1).is_none(), "the refill is due");
    assert!(!spend(&keys, &record, 1).await, "and did not come");
    let never = keys.pay(&record, 1).await.unwrap();
    assert!(matches!(never, Payment::Empty { retry_after_us: 0, .. }));
    server.state.ledger.accounts().balances.insert(id(1), 5);
    assert!(!spend(&keys, &record, 1).await, "it is remembered");
    time.set_us(START_US + 1_500_000);
    assert!(spend(&keys, &record, 1).await);
}

#[tokio::test]
async fn reservation_whose_answer_was_lost_is_asked_for_by_the_same_id_and_admits_nobody_until_then() {
    let server = server(10).await;
    let (keys, record, _guard) = replica(&server, Clock::system()).await;
    server.state.ledger.accounts().loses = 2;
    for _ in 0..2 {
        assert_eq!(keys.pay(&record, 4).await.unwrap_err(), KeysError::Unavailable);
    }
    assert!(spend(&keys, &record, 4).await);
    let accounts = server.state.ledger.accounts();
    assert_eq!(accounts.asked.len(), 3);
    assert!(accounts.asked.iter().all(|id| *id == accounts.asked[0]));
    assert_eq!(accounts.balances[&id(1)], 6);
}

#[test]
fn blocks_grow_with_use_and_take_a_small_share_of_what_is_left() {
    let account = Credits::new(100, 1).account(Uuid::from_u128(1), Uuid::from_u128(7));
    let mut now_us = START_US;
    let mut next = |balance: u64, lasted_us: u64| {
        now_us += lasted_us;
        let mut state = account.state();
        (state.balance, state.pending) = (balance, None);
        drop(state);
        let amount = account.next_reservation(1, now_us, Uuid::nil).1;
        account.state().reserved_us = now_us;
        amount
    };
    assert_eq!(next(0, 0), 1, "nothing is known of the balance");
    let amounts: Vec<_> = (0..12).map(|_| next(1_000_000, 1_000)).collect();
    assert_eq!(amounts, [2, 4, 8, 16, 32, 64, 128, 256, 512, 1_000, 1_000, 1_000]);
    assert_eq!(next(5_000, 1_000), 50);
    assert_eq!(next(50, 1_000), 1);
    assert_eq!(next(1_000_000, 20_000_000), 500);
}
