//! Leases as Redis holds them.

use super::*;
use crate::{
    domain::{Lease, LeaseId, Rule},
    store::CellLease,
};

const ID: u64 = 0x0807_0605_0403_0201;

fn leased(cells: &[CellCheck<'static>], ttl_us: u64) -> Check<'static> {
    Check { lease: Some(Lease { id: LeaseId::new(ID).expect("not 0"), ttl_us }), ..check(cells) }
}

fn lease_of(cell: &CellCheck<'_>) -> [CellLease; 1] {
    [CellLease {
        key: cell.key.clone(),
        algorithms: cell.layout.rules().iter().map(Rule::algorithm).collect(),
        enforced: true,
        id: LeaseId::new(ID).expect("not 0"),
    }]
}

#[tokio::test]
async fn the_stored_form_of_a_lease_is_a_contract() {
    let (store, server) = started().await;
    let cells = [cell("form", &[hourly(Algorithm::Concurrency, 5)])];
    let cells = [CellCheck { cost: 3, ..cells[0].clone() }];
    let idempotency = Idempotency { key: b"record".as_slice().into(), digest: 1, ttl_us: 5_000_000 };
    let check = Check { idempotency: Some(idempotency), ..leased(&cells, 60_000_000) };
    assert!(store.decide(&check).get().await.expect("decided").admitted);
    let value: Vec<u8> = server.command(&["GET", "form"]).await.expect("a value");
    let expiry = &value[..7];
    let expected =
        [&[][..], expiry, &[0, 1, 0, 0, 0, 3, 0, 0, 0], &[1, 2, 3, 4, 5, 6, 7, 8], expiry, &[3, 0]];
    assert_eq!(value, expected.concat(), "latest expiry, leases, tokens; id, expiry, tokens");
    let time: Vec<u64> = server.command(&["TIME"]).await.expect("a time");
    let now_us = time[0] * 1_000_000 + time[1];
    let expires_us = u64::from_le_bytes(value[..8].try_into().expect("eight bytes"));
    assert!((now_us + 30_000_000..=now_us + 60_000_000).contains(&expires_us), "{expires_us} at {now_us}");
    let record: Vec<u8> = server.command(&["GET", "record"]).await.expect("a value");
    assert_eq!(record, [&1_u128.to_le_bytes()[..], &ID.to_le_bytes()[..]].concat(), "digest, id");
}

#[tokio::test]
async fn a_key_lives_as_long_as_its_leases() {
    let (store, server) = started().await;
    let one = cell("lives", &[hourly(Algorithm::Concurrency, 5)]);
    assert!(
        store.decide(&leased(std::slice::from_ref(&one), 2_000_000)).get().await.expect("decided").admitted
    );
    let ttl: i64 = server.command(&["PTTL", "lives"]).await.expect("ttl");
    assert!((1..=2_003).contains(&ttl), "{ttl}");
    assert!(store.renew(&lease_of(&one), 600_000_000).get().await.expect("told"));
    let ttl: i64 = server.command(&["PTTL", "lives"]).await.expect("ttl");
    assert!((590_000..=600_003).contains(&ttl), "{ttl}");
    assert!(store.renew(&lease_of(&one), 1_000).get().await.expect("told"));
    let is_over = async || !store.release(&lease_of(&one)).get().await.expect("told");
    // It has expired by Redis's own clock, or does in a moment.
    tokio::time::sleep(Duration::from_millis(2)).await;
    assert!(is_over().await, "a lease that has expired is not released");
}

#[tokio::test]
async fn a_lease_of_what_is_no_cell_is_not_held() {
    let (store, server) = started().await;
    server.command::<u64>(&["LPUSH", "a list", "x"]).await.expect("pushed");
    server.command::<String>(&["SET", "a text", &"long enough to be a header".repeat(9)]).await.expect("set");
    for key in ["a list", "a text", "nothing"] {
        let one = cell(key, &[hourly(Algorithm::Concurrency, 5)]);
        assert!(!store.renew(&lease_of(&one), 1_000).get().await.expect("told"), "{key}");
        assert!(!store.release(&lease_of(&one)).get().await.expect("told"), "{key}");
    }
    let text: String = server.command(&["GET", "a text"]).await.expect("still there");
    assert_eq!(text.len(), 26 * 9);
}
