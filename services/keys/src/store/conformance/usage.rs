//! How uses are counted.

use futures_util::future::{join, join_all};

use super::*;
use crate::store::{Usage, UsageEntry};

pub(crate) fn used(key: u32, organization: u32, day: &str, outcome: &str, count: u64) -> UsageEntry {
    UsageEntry {
        key: KeyId(id(key)),
        organization: OrganizationId(id(organization)),
        usage: Usage { day: day.to_owned(), outcome: outcome.to_owned(), count },
        last_used_us: AT_US,
    }
}

async fn put_keys(store: &dyn KeysStore) {
    put_tenants(store).await;
    let rows = [(1, 1), (2, 2), (3, 1)].map(|(key, organization)| Change::ApiKey(api_key(key, organization)));
    put(store, rows).await;
}

async fn of(store: &dyn KeysStore, key: u32, organization: u32) -> Vec<(String, String, u64)> {
    let (one, key) = (OrganizationId(id(organization)), KeyId(id(key)));
    let usage = store.usage(one, key, "2026-01-01", "2026-01-31").await.expect("asked");
    usage.into_iter().map(|usage| (usage.day, usage.outcome, usage.count)).collect()
}

fn counted(day: &str, outcome: &str, count: u64) -> (String, String, u64) {
    (day.to_owned(), outcome.to_owned(), count)
}

pub(crate) async fn uses_add_up(store: &dyn KeysStore) {
    put_keys(store).await;
    let first = [
        used(1, 1, "2026-01-02", "allowed", 5),
        used(1, 1, "2026-01-01", "rate_limited", 1),
        used(1, 1, "2026-01-02", "allowed", 2),
        used(2, 2, "2026-01-02", "allowed", 1_000_000_000_000),
    ];
    assert_eq!(store.add_usage(id(1), AT_US, &first).await, Ok(true));
    let second = [used(1, 1, "2026-01-02", "a \"quoted\" é", 1), used(1, 1, "2026-01-02", "allowed", 3)];
    assert_eq!(store.add_usage(id(2), AT_US, &second).await, Ok(true));
    let expected = [
        counted("2026-01-01", "rate_limited", 1),
        counted("2026-01-02", "a \"quoted\" é", 1),
        counted("2026-01-02", "allowed", 10),
    ];
    assert_eq!(of(store, 1, 1).await, expected);
    assert_eq!(of(store, 2, 2).await, [counted("2026-01-02", "allowed", 1_000_000_000_000)]);
    let of_days = store.usage(OrganizationId(id(1)), KeyId(id(1)), "2026-01-02", "2026-01-02").await;
    assert_eq!(of_days.expect("asked").len(), 2, "both days are in it");
    let none = store.usage(OrganizationId(id(1)), KeyId(id(1)), "2026-01-03", "2026-01-31").await;
    assert_eq!(none, Ok(Vec::new()));
}

pub(crate) async fn a_report_is_counted_once(store: &dyn KeysStore) {
    put_keys(store).await;
    let report = [used(1, 1, "2026-01-01", "allowed", 7)];
    let counts = join_all((0..4).map(|_| store.add_usage(id(1), AT_US, &report))).await;
    assert_eq!(counts.iter().filter(|counted| **counted == Ok(true)).count(), 1, "{counts:?}");
    assert_eq!(counts.iter().filter(|counted| **counted == Ok(false)).count(), 3, "{counts:?}");
    assert_eq!(store.add_usage(id(1), AT_US, &[]).await, Ok(false));
    assert_eq!(of(store, 1, 1).await, [counted("2026-01-01", "allowed", 7)]);
    assert_eq!(store.add_usage(id(2), AT_US, &[]).await, Ok(true));
}

pub(crate) async fn uses_of_keys_that_are_not_there_are_left_out(store: &dyn KeysStore) {
    put_keys(store).await;
    let report = [
        used(9, 1, "2026-01-01", "allowed", 1),
        used(2, 1, "2026-01-01", "allowed", 1),
        used(1, 9, "2026-01-01", "allowed", 1),
        used(1, 1, "2026-01-01", "allowed", 1),
    ];
    assert_eq!(store.add_usage(id(1), AT_US, &report).await, Ok(true));
    assert_eq!(of(store, 1, 1).await, [counted("2026-01-01", "allowed", 1)]);
    for (key, organization) in [(9, 1), (2, 1), (1, 9), (2, 2)] {
        assert_eq!(of(store, key, organization).await, []);
    }
    let of_two = found(store.api_key(OrganizationId(id(2)), KeyId(id(2))).await).expect("there");
    assert_eq!(of_two.last_used_us, None);
}

pub(crate) async fn the_last_use_only_grows_and_is_no_change(store: &dyn KeysStore) {
    put_keys(store).await;
    let (one, key) = (OrganizationId(id(1)), KeyId(id(1)));
    let used_at = |us: &[u64]| -> Vec<_> {
        let entry =
            |us: &u64| UsageEntry { last_used_us: AT_US + us, ..used(1, 1, "2026-01-01", "allowed", 1) };
        us.iter().map(entry).collect()
    };
    for (number, (us, last)) in (1..).zip([(&[5, 9, 7][..], 9), (&[8], 9), (&[10], 10)]) {
        assert_eq!(store.add_usage(id(number), AT_US, &used_at(us)).await, Ok(true));
        let stored = found(store.api_key(one, key).await).expect("there");
        assert_eq!((stored.last_used_us, stored.version), (Some(AT_US + last), 1));
        assert_eq!(stored.changed_us, AT_US);
    }
    // Who read the key before writes it, and leaves its last use as it is.
    put(store, [Change::ApiKey(ApiKey { version: 1, last_used_us: Some(1), ..api_key(1, 1) })]).await;
    let stored = found(store.api_key(one, key).await).expect("there");
    assert_eq!((stored.last_used_us, stored.version), (Some(AT_US + 10), 2));
}

pub(crate) async fn reports_at_the_same_time_are_all_counted(store: &dyn KeysStore) {
    put_keys(store).await;
    let forwards = [used(1, 1, "2026-01-01", "allowed", 1), used(3, 1, "2026-01-01", "allowed", 1)];
    let mut backwards = forwards.clone();
    backwards.reverse();
    let reports = (0..20).map(|number| {
        let entries = if number % 2 == 0 { &forwards } else { &backwards };
        store.add_usage(id(100 + number), AT_US, entries)
    });
    // Meanwhile the keys are written, in either order.
    let keys = async {
        for version in 1..=5 {
            let mut rows = [1, 3].map(|number| Change::ApiKey(ApiKey { version, ..api_key(number, 1) }));
            if version % 2 == 0 {
                rows.reverse();
            }
            while let Err(error) = store.write(&changes(rows.clone())).await {
                assert_eq!(error, StoreError::Conflict);
            }
        }
    };
    let (reports, ()) = join(join_all(reports), keys).await;
    let lost = reports.iter().filter(|report| **report != Ok(true)).count() as u64;
    for key in [1, 3] {
        assert_eq!(of(store, key, 1).await, [counted("2026-01-01", "allowed", 20 - lost)], "{reports:?}");
    }
    assert!(lost < 20, "{reports:?}");
}

pub(crate) async fn many_uses_are_one_report(store: &dyn KeysStore) {
    put_keys(store).await;
    let entries: Vec<_> =
        (0..5_000).map(|n| used(1, 1, &format!("2026-01-{:02}", n % 31 + 1), "allowed", 1)).collect();
    assert_eq!(store.add_usage(id(1), AT_US, &entries).await, Ok(true));
    let usage = of(store, 1, 1).await;
    assert_eq!(usage.len(), 31);
    assert_eq!(usage.iter().map(|(_, _, count)| count).sum::<u64>(), 5_000);
}

pub(crate) async fn days_are_kept_for_more_than_a_year(store: &dyn KeysStore) {
    put_keys(store).await;
    // 2026-02-10, and 400 days before it.
    let now_us = 1_770_681_600_000_000;
    let report = ["2025-01-05", "2025-01-06", "2026-01-01"].map(|day| used(1, 1, day, "allowed", 1)).to_vec();
    // More than go at once.
    let many = (0..4_500).map(|n| used(2, 2, "2025-01-05", &format!("outcome-{n}"), 1));
    let report: Vec<_> = report.into_iter().chain(many).collect();
    assert_eq!(store.add_usage(id(1), now_us, &report).await, Ok(true));
    store.forget(now_us).await.expect("forgotten");
    let all = async |organization, key| {
        let usage =
            store.usage(OrganizationId(id(organization)), KeyId(id(key)), "2000-01-01", "2100-01-01").await;
        usage.expect("asked").into_iter().map(|usage| usage.day).collect::<Vec<_>>()
    };
    assert_eq!(all(1, 1).await, ["2025-01-06", "2026-01-01"]);
    assert_eq!(all(2, 2).await, Vec::<String>::new());
}
