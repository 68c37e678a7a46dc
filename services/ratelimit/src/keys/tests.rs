pub(crate) mod fixture;
pub(crate) mod ledger;

use std::time::Duration;

use tidegate_proto::keys::v1::{self as pb, KeyChange};
use tokio_util::sync::DropGuard;
use uuid::Uuid;

use self::fixture::{KeysServer, eventually, id, resolved, value};
use super::*;

/// Settings that name nobody yet.
pub(crate) fn config() -> KeysConfig {
    KeysConfig {
        url: String::new(),
        deadline: Duration::from_secs(10).into(),
        max_lookups: 100,
        max_keys: 1_000,
        max_age: Duration::from_secs(600).into(),
        stale_for: Duration::from_secs(30).into(),
        max_unknown: 1_000,
        unknown_ttl: Duration::from_secs(10).into(),
        report_every: Duration::from_millis(100).into(),
        max_used: 1_000,
        tls: KeysTlsConfig::default(),
    }
}

/// Keys that are ended when the guard is dropped.
pub(crate) fn keys(config: &KeysConfig, clock: Clock) -> (Keys, DropGuard) {
    let stop = CancellationToken::new();
    let sources =
        Sources { clock, random: Random::system(), tokens: None, on_revoked: Arc::new(|_| {}), replicas: 1 };
    let keys = Keys::start(config, sources, &Metrics::new(), &stop, &TaskTracker::new());
    (keys.expect("started").expect("a URL"), stop.drop_guard())
}

/// The same, once the feed has said something.
pub(crate) async fn fed(config: &KeysConfig, clock: Clock) -> (Keys, DropGuard) {
    let (keys, guard) = keys(config, clock);
    let is_heard = async || (keys.0.heard_us.load(Ordering::Acquire) > 0).then_some(());
    eventually("the feed is heard", is_heard).await;
    (keys, guard)
}

fn is_key(found: &Found, number: u64) -> bool {
    matches!(found, Found::Key(record) if record.id == Uuid::from_u128(u128::from(number)))
}

#[tokio::test]
async fn key_is_looked_up_once_and_then_known() {
    let server = KeysServer::start().await;
    server.set(&value(1), resolved(1, 7));
    let (keys, _guard) = fed(&server.config(), Clock::system()).await;
    assert!(keys.at_once(&value(1)).is_none());
    assert!(is_key(&keys.find(&value(1)).await.unwrap(), 1));
    for _ in 0..10 {
        assert!(is_key(&keys.at_once(&value(1)).unwrap().unwrap(), 1));
    }
    assert_eq!(server.lookups(), 1);
}

#[tokio::test]
async fn value_that_cannot_be_a_key_is_nobodys_without_a_look_up() {
    let server = KeysServer::start().await;
    let (keys, _guard) = keys(&server.config(), Clock::system());
    let good = value(1);
    let last = if good.ends_with('0') { "1" } else { "0" };
    for bad in [format!("{}{last}", &good[..good.len() - 1]), "x".repeat(513)] {
        assert!(matches!(keys.at_once(&bad), Some(Ok(Found::Nobody))), "{bad}");
    }
    assert_eq!(server.lookups(), 0);
}

#[tokio::test]
async fn many_who_ask_for_one_key_are_one_look_up_and_others_are_refused_beyond_the_bound() {
    let server = KeysServer::start().await;
    server.set(&value(1), resolved(1, 7));
    let (keys, _guard) = keys(&KeysConfig { max_lookups: 1, ..server.config() }, Clock::system());
    server.state.holds.store(true, Ordering::SeqCst);
    let asking: Vec<_> = (0..20)
        .map(|_| {
            let keys = keys.clone();
            tokio::spawn(async move { keys.find(&value(1)).await })
        })
        .collect();
    eventually("the look-up is under way", async || (server.lookups() == 1).then_some(())).await;
    assert_eq!(keys.find(&value(2)).await.unwrap_err(), KeysError::Busy);
    server.state.holds.store(false, Ordering::SeqCst);
    server.state.released.notify_one();
    for asked in asking {
        assert!(is_key(&asked.await.unwrap().unwrap(), 1));
    }
    assert_eq!(server.lookups(), 1);
}

#[tokio::test]
async fn flood_of_values_that_nobody_has_leaves_place_to_ask_for_keys() {
    let server = KeysServer::start().await;
    server.set(&value(1), resolved(1, 7));
    let (keys, _guard) = fed(&KeysConfig { max_lookups: 4, ..server.config() }, Clock::system()).await;
    keys.find(&value(1)).await.unwrap();
    keys.fence(Fence { organization: Uuid::from_u128(7), generation: 2 });
    server.state.holds.store(true, Ordering::SeqCst);
    let ask = |number| {
        let keys = keys.clone();
        tokio::spawn(async move { keys.find(&value(number)).await })
    };
    let _flood = [2, 3, 4].map(ask);
    eventually("the flood is under way", async || (server.lookups() == 4).then_some(())).await;
    assert_eq!(keys.find(&value(5)).await.unwrap_err(), KeysError::Busy);
    let _known = ask(1);
    eventually("the key is asked for", async || (server.lookups() == 5).then_some(())).await;
}

#[tokio::test]
async fn report_that_is_never_taken_holds_up_no_other() {
    let server = KeysServer::start().await;
    server.set(&value(1), resolved(1, 7));
    server.take_reports(|_| tonic::Code::InvalidArgument);
    let (keys, _guard) = fed(&server.config(), Clock::system()).await;
    let Found::Key(record) = keys.find(&value(1)).await.unwrap() else { panic!("somebody's") };
    keys.used(&record, "ok", 1_795_910_400_000_000);
    let told = async || (!server.state.reports.lock().unwrap().is_empty()).then_some(());
    eventually("it was told", told).await;
    server.take_reports(|_| tonic::Code::Ok);
    keys.used(&record, "rate_limited", 1_795_910_401_000_000);
    let other = async || {
        let reports = server.state.reports.lock().unwrap();
        reports.iter().any(|report| report.entries[0].outcome == "rate_limited").then_some(())
    };
    eventually("what came later was told", other).await;
    assert_eq!(keys.0.metrics.unreported.get(), 1);
}

#[tokio::test]
async fn flood_of_values_that_nobody_has_pushes_out_no_key_and_is_bounded() {
    let server = KeysServer::start().await;
    server.set(&value(1), resolved(1, 7));
    let (keys, _guard) = fed(&server.config(), Clock::system()).await;
    keys.find(&value(1)).await.unwrap();
    for number in 0..3_000 {
        let nobodys = format!("imported-{number}");
        assert!(matches!(keys.find(&nobodys).await.unwrap(), Found::Nobody));
        assert!(matches!(keys.at_once(&nobodys), Some(Ok(Found::Nobody))), "remembered");
    }
    assert!(keys.0.unknown.len() <= 1_100, "{}", keys.0.unknown.len());
    assert!(is_key(&keys.at_once(&value(1)).unwrap().unwrap(), 1));
    assert!(keys.0.flights.lock().unwrap().is_empty());
}

#[tokio::test]
async fn fence_and_feed_make_a_key_be_asked_for_again() {
    let server = KeysServer::start().await;
    server.set(&value(1), resolved(1, 7));
    let (keys, _guard) = fed(&server.config(), Clock::system()).await;
    keys.find(&value(1)).await.unwrap();

    server.change(&value(1), |key| (key.generation, key.disabled) = (2, true));
    keys.fence(Fence { organization: Uuid::from_u128(8), generation: 9 });
    assert!(keys.at_once(&value(1)).is_some(), "it is about another organization");
    keys.fence(Fence { organization: Uuid::from_u128(7), generation: 2 });
    assert!(keys.at_once(&value(1)).is_none());
    let Found::Key(record) = keys.find(&value(1)).await.unwrap() else { panic!("somebody's") };
    assert_eq!(record.standing(0, None, None), tidegate_credentials::Standing::KeyDisabled);
    assert!(keys.at_once(&value(1)).is_some(), "it is of now");

    server.change(&value(1), |key| key.generation = 3);
    server.tell(KeyChange { organization_id: id(7), generation: 3, ..KeyChange::default() });
    eventually("the feed has told", async || keys.at_once(&value(1)).is_none().then_some(())).await;
}

#[tokio::test]
async fn answer_that_is_older_than_a_fence_is_not_believed_later() {
    let server = KeysServer::start().await;
    server.set(&value(1), resolved(1, 7));
    let (keys, _guard) = fed(&server.config(), Clock::system()).await;
    server.state.holds.store(true, Ordering::SeqCst);
    let asking = tokio::spawn({
        let keys = keys.clone();
        async move { keys.find(&value(1)).await }
    });
    eventually("the look-up is under way", async || (server.lookups() == 1).then_some(())).await;
    keys.fence(Fence { organization: Uuid::from_u128(7), generation: 2 });
    server.state.holds.store(false, Ordering::SeqCst);
    server.state.released.notify_one();
    let Found::Key(record) = asking.await.unwrap().unwrap() else { panic!("somebody's") };
    assert!(!record.is_of_now());
    assert!(keys.at_once(&value(1)).is_none());
}

#[tokio::test]
async fn value_that_is_nobodys_is_asked_for_again_when_keys_were_imported() {
    let server = KeysServer::start().await;
    let (keys, _guard) = fed(&server.config(), Clock::system()).await;
    assert!(matches!(keys.find("theirs").await.unwrap(), Found::Nobody));
    server.set("theirs", resolved(1, 7));
    server.tell(KeyChange { organization_id: id(7), imported: true, ..KeyChange::default() });
    eventually("the feed has told", async || keys.at_once("theirs").is_none().then_some(())).await;
    assert!(is_key(&keys.find("theirs").await.unwrap(), 1));
}

#[tokio::test]
async fn without_the_feed_keys_are_believed_for_a_bounded_time_whatever_the_wall_clock_does() {
    let server = KeysServer::start().await;
    server.set(&value(1), resolved(1, 7));
    let (clock, time) = Clock::manual(1_800_000_000_000_000);
    let (keys, _guard) = fed(&server.config(), clock.clone()).await;
    keys.find(&value(1)).await.unwrap();
    server.state.is_silent.store(true, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(500)).await;
    time.advance(Duration::from_secs(29));
    // Somebody sets it back by an hour.
    time.set_us(clock.now_us() - 3_600_000_000);
    assert!(keys.at_once(&value(1)).is_some());
    time.advance(Duration::from_secs(2));
    assert!(keys.at_once(&value(1)).is_none());
    keys.find(&value(1)).await.unwrap();
    assert!(keys.at_once(&value(1)).is_some(), "it was said now");
}

#[tokio::test]
async fn look_up_that_began_before_everything_was_forgotten_is_not_remembered() {
    let server = KeysServer::start().await;
    server.set(&value(1), resolved(1, 7));
    let (keys, _guard) = fed(&server.config(), Clock::system()).await;
    for number in [1, 2] {
        server.state.holds.store(true, Ordering::SeqCst);
        let before = server.lookups();
        let asking = tokio::spawn({
            let keys = keys.clone();
            async move { keys.find(&value(number)).await }
        });
        eventually("it is asked for", async || (server.lookups() > before).then_some(())).await;
        keys.0.reset();
        server.state.holds.store(false, Ordering::SeqCst);
        server.state.released.notify_one();
        asking.await.unwrap().unwrap();
        assert!(keys.at_once(&value(number)).is_none(), "{number}");
    }
}

#[tokio::test]
async fn key_that_cannot_be_read_is_not_asked_for_by_each_check() {
    let server = KeysServer::start().await;
    let mut unreadable = resolved(1, 7);
    unreadable.key.as_mut().unwrap().allowed_cidrs = vec!["everywhere".to_owned()];
    server.set(&value(1), unreadable);
    let (clock, time) = Clock::manual(1_800_000_000_000_000);
    let (keys, _guard) = fed(&server.config(), clock).await;
    for _ in 0..100 {
        assert_eq!(keys.find(&value(1)).await.unwrap_err(), KeysError::Unavailable);
    }
    assert_eq!(server.lookups(), 1);
    server.set(&value(1), resolved(1, 7));
    time.advance(Duration::from_secs(1));
    assert!(is_key(&keys.find(&value(1)).await.unwrap(), 1));
}

#[tokio::test]
async fn keys_that_take_much_memory_take_the_place_of_several() {
    let server = KeysServer::start().await;
    let mut heavy = resolved(1, 7);
    heavy.key.as_mut().unwrap().metadata = (0..40)
        .map(|number| tidegate_proto::keys::v1::api_key::MetadataEntry {
            key: format!("key-{number}"),
            value: "x".repeat(500),
        })
        .collect();
    let floors = Floors::default();
    let weight = |key| Record::read(key, &floors, 1, 0).unwrap().weight();
    assert_eq!(weight(resolved(1, 7)), 1);
    let heavy_weight = weight(heavy.clone());
    assert!((10..=12).contains(&heavy_weight), "{heavy_weight}");
    let (keys, _guard) = fed(&KeysConfig { max_keys: 1_280, ..server.config() }, Clock::system()).await;
    for number in 0..300 {
        let mut heavy = heavy.clone();
        heavy.key.as_mut().unwrap().id = id(number);
        server.set(&value(number), heavy);
        keys.find(&value(number)).await.unwrap();
    }
    let most = 1_280 / heavy_weight;
    assert!(keys.0.known.len() <= most.max(2 * 64), "{} are remembered", keys.0.known.len());
}

#[rstest::rstest]
#[case::that_is_away(tonic::Code::Unavailable)]
#[case::that_has_too_much_to_do(tonic::Code::ResourceExhausted)]
#[tokio::test]
async fn use_is_told_again_to_a_service_under_the_same_id_until_it_has_arrived(#[case] code: tonic::Code) {
    let server = KeysServer::start().await;
    server.set(&value(1), resolved(1, 7));
    server.take_reports(move |_| code);
    let (keys, _guard) = fed(&server.config(), Clock::system()).await;
    let Found::Key(record) = keys.find(&value(1)).await.unwrap() else { panic!("somebody's") };
    // 2026-11-29, and the day before.
    for at_us in [1_795_910_400_000_000, 1_795_910_401_000_000, 1_795_824_000_000_000] {
        keys.used(&record, "ok", at_us);
    }
    let told = async || (server.state.reports.lock().unwrap().len() >= 3).then_some(());
    eventually("it was told repeatedly", told).await;
    server.take_reports(|_| tonic::Code::Ok);
    keys.used(&record, "rate_limited", 1_795_910_402_000_000);
    let other = async || {
        let reports = server.state.reports.lock().unwrap();
        reports.last().filter(|last| last.entries[0].outcome == "rate_limited").map(|_| reports.clone())
    };
    let reports = eventually("what came later was told", other).await;
    let (last, before) = reports.split_last().unwrap();
    assert!(before.iter().all(|report| *report == before[0]), "{before:?}");
    assert_ne!(last.report_id, before[0].report_id);
    assert_eq!(before[0].entries.len(), 2);
    let first = before[0].entries.iter().max_by_key(|entry| entry.last_used_at_ms).unwrap();
    assert_eq!(
        (first.count, first.day.as_str(), first.last_used_at_ms),
        (2, "2026-11-29", 1_795_910_401_000)
    );
}

#[tokio::test]
async fn report_that_is_too_long_is_halved_and_nothing_of_it_is_lost() {
    let server = KeysServer::start().await;
    server.take_reports(|report| match report.entries.len() {
        0..=3 => tonic::Code::Ok,
        _ => tonic::Code::OutOfRange,
    });
    let (keys, _guard) = used_by_ten(&server).await;
    let taken = taken(&server, 10, |report| report.entries.len() <= 3).await;
    let mut ids: Vec<_> = taken.iter().map(|report| &report.report_id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), taken.len(), "each report has an id of its own");
    assert_eq!(keys.0.metrics.unreported.get(), 0);
}

#[tokio::test]
async fn entry_that_is_wrong_costs_no_other_of_its_report() {
    fn is_right(report: &pb::ReportKeyUsageRequest) -> bool {
        report.entries.iter().all(|entry| entry.api_key_id != id(4))
    }
    let server = KeysServer::start().await;
    server.take_reports(|report| match is_right(report) {
        true => tonic::Code::Ok,
        false => tonic::Code::InvalidArgument,
    });
    let (keys, _guard) = used_by_ten(&server).await;
    taken(&server, 9, is_right).await;
    let lost = async || (keys.0.metrics.unreported.get() > 0).then_some(());
    eventually("the wrong one is given up", lost).await;
    assert_eq!(keys.0.metrics.unreported.get(), 1);
}

/// Ten keys, each used once, of which one report tells.
async fn used_by_ten(server: &KeysServer) -> (Keys, DropGuard) {
    let (keys, guard) = fed(&server.config(), Clock::system()).await;
    let mut records = Vec::new();
    for number in 0..10 {
        server.set(&value(number), resolved(number, 7));
        let Found::Key(record) = keys.find(&value(number)).await.unwrap() else { panic!("somebody's") };
        records.push(record);
    }
    for record in records {
        keys.used(&record, "ok", 1_795_910_400_000_000);
    }
    let told = async || server.state.reports.lock().unwrap().first().map(|report| report.entries.len());
    assert_eq!(eventually("it was told", told).await, 10);
    (keys, guard)
}

/// The reports that were taken, once so many keys were told, each once.
async fn taken(
    server: &KeysServer,
    count: usize,
    is_taken: fn(&pb::ReportKeyUsageRequest) -> bool,
) -> Vec<pb::ReportKeyUsageRequest> {
    let taken = eventually("all is told", async || {
        let reports = server.state.reports.lock().unwrap();
        let taken: Vec<_> = reports.iter().filter(|report| is_taken(report)).cloned().collect();
        (taken.iter().map(|report| report.entries.len()).sum::<usize>() >= count).then_some(taken)
    });
    let taken = taken.await;
    let mut keys: Vec<_> = taken.iter().flat_map(|report| &report.entries).map(|e| &e.api_key_id).collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), count, "each once");
    taken
}
