//! What every catalogue has to do. Both backends run every case.

use futures_util::future::join_all;
use uuid::Uuid;

use super::{CatalogError, CatalogStore, DatabaseConfig, Entry, EntryKey, Kind};

/// Settings for the database at `url`, patient, since the machine that runs the tests may be busy.
pub(crate) fn config(url: &str) -> DatabaseConfig {
    use std::time::Duration;
    DatabaseConfig {
        url: tidegate_chassis::config::Secret::new(url),
        migrate: true,
        max_connections: 4,
        connect_timeout: Duration::from_secs(20).into(),
        query_timeout: Duration::from_secs(20).into(),
        poll_every: Duration::from_millis(100).into(),
    }
}

/// Declares a test for each case, on a new store that `$store` gives with what keeps it alive.
macro_rules! catalog_store_conformance {
    ($store:expr) => {
        $crate::store::catalog::conformance::catalog_store_conformance!(
            $store,
            a_new_store_is_empty,
            what_is_written_is_read_back,
            a_write_replaces_and_removes_as_a_whole,
            of_writers_at_one_revision_one_wins,
            changes_are_told_in_their_order,
            history_is_kept_through_removal_and_return,
            names_are_told_apart_byte_by_byte,
            a_thousand_entries_are_one_write,
        );
    };
    ($store:expr, $($case:ident),+ $(,)?) => {
        $(
            #[tokio::test]
            async fn $case() {
                let (store, _alive) = $store;
                $crate::store::catalog::conformance::$case(&store).await;
            }
        )+
    };
}
pub(crate) use catalog_store_conformance;

fn key(kind: Kind, scope: &str, name: &str) -> EntryKey {
    EntryKey { kind, scope: scope.to_owned(), name: name.to_owned() }
}

/// A version of an entry, made at `at_us`.
pub(crate) fn entry(kind: Kind, scope: &str, name: &str, body: Option<&str>, at_us: u64) -> Entry {
    let of_name = name.bytes().fold(1_u128, |sum, byte| sum * 257 + u128::from(byte));
    let id = Uuid::from_u128(u128::from(at_us) << 64 | of_name & u128::from(u64::MAX));
    let body = body.map(str::to_owned);
    Entry { key: key(kind, scope, name), id, body, version: 0, created_us: 7, changed_us: at_us }
}

fn as_of(version: u64, entry: &Entry) -> Entry {
    Entry { version, ..entry.clone() }
}

async fn sorted(store: &dyn CatalogStore) -> (u64, Vec<Entry>) {
    let mut snapshot = store.load().await.expect("loaded");
    snapshot.entries.sort_by(|a, b| a.key.cmp(&b.key));
    (snapshot.revision, snapshot.entries)
}

pub(crate) async fn a_new_store_is_empty(store: &dyn CatalogStore) {
    assert_eq!(sorted(store).await, (0, Vec::new()));
    assert_eq!(store.revision().await, Ok(0));
    assert_eq!(store.changes(0, 10).await, Ok(Vec::new()));
}

pub(crate) async fn what_is_written_is_read_back(store: &dyn CatalogStore) {
    let body = r#"{"name":"one","quoted":"\" \\ ' é 漢 \u0000","limits":[{"limit":1000000000}]}"#;
    let one = entry(Kind::Policy, "a/b", "one", Some(body), u64::from(u32::MAX));
    let two = entry(Kind::Plan, "", "two", Some("{}"), u64::from(u32::MAX));
    assert_eq!(store.write(0, &[one.clone(), two.clone()]).await, Ok(1));
    assert_eq!(sorted(store).await, (1, vec![as_of(1, &one), as_of(1, &two)]));
    assert_eq!(store.history(&one.key, 2, 10).await, Ok(vec![as_of(1, &one)]));
}

pub(crate) async fn a_write_replaces_and_removes_as_a_whole(store: &dyn CatalogStore) {
    let plan = |name: &str, body, at_us| entry(Kind::Plan, "", name, body, at_us);
    let all = [plan("a", Some("{}"), 1), plan("b", Some("{}"), 2), plan("c", Some("{}"), 3)];
    store.write(0, &all).await.expect("written");
    let (changed, gone) = (plan("a", Some(r#"{"x":1}"#), 4), plan("b", None, 4));
    assert_eq!(store.write(1, &[changed.clone(), gone]).await, Ok(2));
    let (revision, entries) = sorted(store).await;
    assert_eq!(revision, 2);
    assert_eq!(entries[0], as_of(2, &changed));
    let names: Vec<_> = entries.iter().map(|entry| &*entry.key.name).collect();
    assert_eq!(names, ["a", "c"]);
}

pub(crate) async fn of_writers_at_one_revision_one_wins(store: &dyn CatalogStore) {
    let entries: Vec<_> = (0..8).map(|n| [entry(Kind::Plan, "", &format!("p{n}"), Some("{}"), n)]).collect();
    let written = join_all(entries.iter().map(|entry| store.write(0, entry))).await;
    assert_eq!(written.iter().filter(|result| **result == Ok(1)).count(), 1, "{written:?}");
    assert_eq!(
        written.iter().filter(|result| **result == Err(CatalogError::Moved)).count(),
        7,
        "{written:?}"
    );
    let (revision, entries) = sorted(store).await;
    assert_eq!((revision, entries.len()), (1, 1), "those that lost wrote nothing");
    assert_eq!(store.changes(0, 9).await.expect("read").len(), 1);
}

pub(crate) async fn changes_are_told_in_their_order(store: &dyn CatalogStore) {
    let assign = |value: &str, body, at| entry(Kind::Assignment, "organization", value, body, at);
    let first = [assign("b", Some("{}"), 1), assign("a", Some("{}"), 1)];
    let second = [assign("b", None, 2)];
    let third = [assign("b", Some(r#"{"again":true}"#), 3)];
    for (revision, entries) in [&first[..], &second, &third].into_iter().enumerate() {
        store.write(revision as u64, entries).await.expect("written");
    }
    let told = store.changes(0, 3).await.expect("read");
    let expected = [as_of(1, &first[0]), as_of(1, &first[1]), as_of(2, &second[0]), as_of(3, &third[0])];
    assert_eq!(told, expected);
    assert_eq!(store.changes(1, 2).await.expect("read"), expected[2..3]);
    assert_eq!(store.changes(3, 3).await.expect("read"), []);
}

pub(crate) async fn history_is_kept_through_removal_and_return(store: &dyn CatalogStore) {
    let bodies = [Some(r#"{"v":1}"#), Some(r#"{"v":2}"#), None, Some(r#"{"v":4}"#)];
    let mut versions = Vec::new();
    for (revision, body) in bodies.into_iter().enumerate() {
        let version = entry(Kind::Policy, "n", "p", body, revision as u64);
        let other = entry(Kind::Policy, "n", "other", Some("{}"), 1_000 + revision as u64);
        store.write(revision as u64, &[version.clone(), other]).await.expect("written");
        versions.insert(0, as_of(revision as u64 + 1, &version));
    }
    let key = key(Kind::Policy, "n", "p");
    // All of a write have one time: the latest of them.
    let told = |mut entries: Vec<Entry>| {
        entries.iter_mut().for_each(|entry| entry.changed_us -= 1_000);
        entries
    };
    assert_eq!(told(store.history(&key, u64::MAX, 10).await.expect("read")), versions);
    assert_eq!(told(store.history(&key, 4, 2).await.expect("read")), versions[1..3]);
    assert_eq!(store.history(&key, 1, 2).await.expect("read"), []);
}

pub(crate) async fn names_are_told_apart_byte_by_byte(store: &dyn CatalogStore) {
    let names = ["A", "a", "a ", "ä", "a\u{308}", "é%_", ""];
    let entries = names.map(|name| entry(Kind::Assignment, "ip", name, Some("{}"), name.len() as u64));
    store.write(0, &entries).await.expect("written");
    let (_, stored) = sorted(store).await;
    let mut expected: Vec<_> = names.to_vec();
    expected.sort_unstable();
    assert_eq!(stored.iter().map(|entry| &*entry.key.name).collect::<Vec<_>>(), expected);
    for name in names {
        let history = store.history(&key(Kind::Assignment, "ip", name), 9, 9).await.expect("read");
        assert_eq!(history.len(), 1, "{name:?}");
    }
}

pub(crate) async fn a_thousand_entries_are_one_write(store: &dyn CatalogStore) {
    let entries: Vec<_> =
        (0..1_000).map(|n| entry(Kind::Override, "n", &format!("{n}"), Some("{}"), n)).collect();
    assert_eq!(store.write(0, &entries).await, Ok(1));
    assert_eq!(store.load().await.expect("loaded").entries.len(), 1_000);
    let told = store.changes(0, 1).await.expect("read");
    let names: Vec<_> = told.iter().map(|entry| entry.key.name.clone()).collect();
    assert_eq!(names, (0..1_000).map(|n| n.to_string()).collect::<Vec<_>>());
}
