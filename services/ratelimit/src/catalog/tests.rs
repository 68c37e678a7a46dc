use std::{fs, time::Instant};

use futures_util::future::join_all;
use tempfile::TempDir;
use tidegate_tests::{eventually::eventually, postgres_server::PostgresServer};

use super::*;
use crate::{
    policies::{self, Origin},
    store::catalog::{
        DatabaseConfig,
        conformance::{config, entry},
    },
};

/// Far more than the second that is promised, for a machine that has other things to do. How long it takes is printed.
const PATIENCE: Duration = Duration::from_secs(20);

/// A replica, with its policy file.
struct Replica {
    catalog: Catalog,
    metrics: Metrics,
    _folder: TempDir,
    _ends: tokio_util::sync::DropGuard,
}

impl Replica {
    async fn start(url: &str, file: &str) -> anyhow::Result<Self> {
        Self::start_with(config(url), file).await
    }

    async fn start_with(settings: DatabaseConfig, file: &str) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("policies.toml");
        fs::write(&path, file)?;
        let layers = policies::load_layers(&path, 1)?;
        let settings_of_catalog = CatalogSettings {
            poll_every: settings.poll_every.get(),
            query_timeout: settings.query_timeout.get(),
            origin: "policies.toml".to_owned(),
        };
        let (stop, metrics) = (CancellationToken::new(), Metrics::new());
        let sources = (Clock::system(), Random::system());
        let store = settings.open().await?;
        let catalog =
            Catalog::start(layers, Some(store), settings_of_catalog, sources, &metrics, stop.clone()).await?;
        Ok(Self { catalog, metrics, _folder: folder, _ends: stop.drop_guard() })
    }

    async fn set(&self, wish: Wish) -> Result<Entry, ChangeError> {
        self.catalog.change(vec![wish], false).await.map(|mut entries| entries.remove(0))
    }

    /// Limits in force of a policy, as `name tokens`.
    fn limits(&self, namespace: &str) -> Vec<String> {
        let rows = self.catalog.policies.load().summary();
        rows.into_iter()
            .filter(|row| row.namespace == namespace)
            .map(|row| format!("{} {}", row.name, row.limits))
            .collect()
    }

    async fn in_force(&self, namespace: &str, expected: &[&str]) {
        let in_force = async || Ok(self.limits(namespace) == expected);
        let waited = eventually("the change is in force", PATIENCE, in_force).await;
        waited.unwrap_or_else(|error| panic!("{error}: {:?}, not {expected:?}", self.limits(namespace)));
    }

    /// A metric without labels.
    fn tells(&self, name: &str) -> String {
        let page = self.metrics.encode();
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {page}")).to_owned()
    }

    async fn file(&self, text: &str) -> Result<Arc<PolicySet>, PolicyErrors> {
        let (catalog, bytes) = (self.catalog.clone(), text.as_bytes().to_vec());
        tokio::task::spawn_blocking(move || catalog.replace_file(bytes)).await.expect("no panic")
    }
}

fn sqlite() -> (String, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    (format!("sqlite://{}", folder.path().join("catalog.db").display()), folder)
}

fn table(text: &str) -> toml::Table {
    text.parse().expect("TOML")
}

/// A policy with one limit an hour, in namespace `test`.
fn policy(name: &str, tokens: u32) -> Wish {
    let fields = format!(
        "name = '{name}'\nnamespace = 'test'\nkey_by = ['organization']\nlimits = [{{ name = 'hour', limit = {tokens}, period = '1h' }}]"
    );
    wish(EntryKey::policy("test", name), &fields)
}

fn wish(key: EntryKey, fields: &str) -> Wish {
    Wish {
        key,
        fields: Some(table(fields)),
        expected: Expected::Any,
        version: None,
        path: "policy".to_owned(),
    }
}

fn new(wish: Wish) -> Wish {
    Wish { expected: Expected::Absent, ..wish }
}

fn plan(name: &str, tokens: u32) -> Wish {
    let fields = format!("name = '{name}'\nlimits = [{{ name = 'hour', limit = {tokens}, period = '1h' }}]");
    wish(EntryKey::plan(name), &fields)
}

fn gone(key: EntryKey) -> Wish {
    Wish { key, fields: None, expected: Expected::Present, version: None, path: String::new() }
}

const IN_FILE: &str = "[[policies]]\nname = 'fixed'\nnamespace = 'test'\nkey_by = []\nlimits = [{ name = 'hour', limit = 1, period = '1h' }]\n";

#[tokio::test]
async fn a_change_is_in_force_before_its_answer_and_soon_on_every_replica() {
    let server = PostgresServer::shared().await.expect("postgres");
    let (file, _folder) = sqlite();
    for url in [server.database().await.expect("a database"), file] {
        let replicas = join_all((0..4).map(|_| Replica::start(&url, ""))).await;
        let replicas: Vec<_> = replicas.into_iter().map(|replica| replica.expect("started")).collect();
        for tokens in 1..=5 {
            let began = Instant::now();
            replicas[0].set(policy("calls", tokens)).await.expect("changed");
            let expected = format!("calls hour {tokens}/1h");
            assert_eq!(replicas[0].limits("test"), [&*expected]);
            let expected = [&*expected];
            join_all(replicas.iter().map(|replica| replica.in_force("test", &expected))).await;
            println!("{}: on 4 replicas after {:?}", &url[..6], began.elapsed());
        }
        replicas[3].set(gone(EntryKey::policy("test", "calls"))).await.expect("removed");
        join_all(replicas.iter().map(|replica| replica.in_force("test", &[]))).await;
        assert_eq!(replicas[0].tells("tidegate_ratelimit_catalog_revision"), "6");
    }
}

#[tokio::test]
async fn of_two_writers_with_one_etag_one_wins() {
    let (url, _folder) = sqlite();
    let replicas = [Replica::start(&url, "").await.expect("a"), Replica::start(&url, "").await.expect("b")];
    let created = replicas[0].set(new(policy("p", 1))).await.expect("created");
    let update =
        |tokens| Wish { version: Some(created.version), expected: Expected::Present, ..policy("p", tokens) };
    let updated = join_all((0..6).map(|n| replicas[usize::from(n % 2 == 0)].set(update(2 + n)))).await;
    let won: Vec<_> = updated.iter().filter_map(|result| result.as_ref().ok()).collect();
    assert_eq!(won.len(), 1, "{updated:?}");
    let lost = updated.iter().filter(|result| matches!(result, Err(ChangeError::Etag(_)))).count();
    assert_eq!(lost, 5, "{updated:?}");
    let there = replicas[1].catalog.get(&created.key).await.expect("there").stored.expect("stored");
    assert_eq!(&there.entry, won[0]);
    assert_eq!(there.entry.id, created.id, "it is still the same entry");
}

#[tokio::test]
async fn writers_of_different_entries_all_succeed() {
    let (url, _folder) = sqlite();
    let replicas = [Replica::start(&url, "").await.expect("a"), Replica::start(&url, "").await.expect("b")];
    let names: Vec<_> = (0..12).map(|n| format!("p{n:02}")).collect();
    let written = names.iter().enumerate().map(|(n, name)| replicas[n % 2].set(new(policy(name, 3))));
    for result in join_all(written).await {
        result.expect("written");
    }
    let listed = replicas[0].catalog.list(Kind::Policy, Some("test"), "", None, 100).await;
    assert_eq!(listed.iter().map(|listed| listed.key.name.clone()).collect::<Vec<_>>(), names);
}

#[tokio::test]
async fn a_replica_that_starts_later_has_everything() {
    let (url, _folder) = sqlite();
    let early = Replica::start(&url, "").await.expect("started");
    early.set(plan("gold", 9)).await.expect("set");
    let policy = "name = 'p'\nnamespace = 'test'\nkey_by = ['organization']\nplan = 'gold'";
    early.set(wish(EntryKey::policy("test", "p"), policy)).await.expect("set");
    let late = Replica::start(&url, "").await.expect("started");
    assert_eq!(late.limits("test"), ["p plan gold: hour 9/1h"]);
}

#[tokio::test]
async fn a_database_that_is_away_changes_nothing_and_is_caught_up_with() {
    let mut server = PostgresServer::start().await.expect("postgres");
    let url = server.database().await.expect("a database");
    let settings = DatabaseConfig { connect_timeout: Duration::from_secs(1).into(), ..config(&url) };
    let start = || Replica::start_with(settings.clone(), "");
    let replicas = [start().await.expect("a"), start().await.expect("b")];
    replicas[0].set(policy("p", 1)).await.expect("set");
    replicas[1].in_force("test", &["p hour 1/1h"]).await;
    server.kill().expect("killed");
    let refused = replicas[0].set(policy("p", 2)).await.unwrap_err();
    assert!(matches!(refused, ChangeError::Store(CatalogError::Unavailable(_))), "{refused:?}");
    assert_eq!(replicas[0].limits("test"), ["p hour 1/1h"]);
    let listed = replicas[1].catalog.list(Kind::Policy, Some("test"), "", None, 9).await;
    assert_eq!(listed.len(), 1, "what was last known can be read");
    server.restart().await.expect("back");
    // Who tries again and again does not keep it from being asked.
    let again = async || Ok(replicas[0].set(policy("p", 3)).await.is_ok());
    eventually("the database is used again", PATIENCE, again).await.expect("in time");
    replicas[1].in_force("test", &["p hour 3/1h"]).await;
    assert!(
        replicas[1].metrics.encode().contains("tidegate_ratelimit_catalog_errors_total{operation=\"read\"}")
    );
}

#[tokio::test]
async fn what_others_need_stays_and_every_fault_is_named() {
    let (url, _folder) = sqlite();
    let replica = Replica::start(&url, "").await.expect("started");
    replica.set(plan("gold", 9)).await.expect("set");
    let by_plan = "name = 'p'\nnamespace = 'test'\nkey_by = ['organization']\nplan = { attribute = 'plan', default = 'gold' }";
    replica.set(wish(EntryKey::policy("test", "p"), by_plan)).await.expect("set");
    let assigned = wish(EntryKey::assignment("organization", "acme"), "plan = 'gold'");
    replica.set(assigned).await.expect("set");
    let ChangeError::InUse(faults) = replica.set(gone(EntryKey::plan("gold"))).await.unwrap_err() else {
        panic!("a plan in use was removed")
    };
    let paths: Vec<_> = faults.iter().map(|fault| &*fault.path).collect();
    assert_eq!(paths, ["policy test/p.plan.default", "assignment organization/acme"]);

    let faulty = "name = 'P'\nnamespace = 'test'\nkey_by = ['organization']\nlimits = [{ name = 'a', limit = 0, period = '1 y' }]\nmore = 1";
    let ChangeError::Invalid(faults) =
        replica.set(wish(EntryKey::policy("test", "P"), faulty)).await.unwrap_err()
    else {
        panic!("it has faults")
    };
    let paths: Vec<_> = faults.iter().map(|fault| &*fault.path).collect();
    assert_eq!(paths, ["policy.name", "policy.limits[0].limit", "policy.limits[0].period", "policy.more"]);
    let unknown = "name = 'q'\nnamespace = 'test'\nkey_by = []\nplan = 'lead'";
    let ChangeError::Invalid(faults) =
        replica.set(wish(EntryKey::policy("test", "q"), unknown)).await.unwrap_err()
    else {
        panic!("there is no such plan")
    };
    assert_eq!(faults[0].path, "policy.plan");
    assert_eq!(replica.limits("test").len(), 1);
}

#[tokio::test]
async fn layers_are_told_apart_and_the_file_wins() {
    let (url, _folder) = sqlite();
    let replica = Replica::start(&url, IN_FILE).await.expect("started");
    let fixed = EntryKey::policy("test", "fixed");
    assert_eq!(
        replica.set(new(policy("fixed", 5))).await.unwrap_err(),
        ChangeError::Exists(fixed.clone(), Origin::File)
    );
    assert_eq!(
        replica.set(policy("fixed", 5)).await.unwrap_err(),
        ChangeError::ReadOnly(fixed.clone(), Origin::File)
    );
    assert_eq!(
        replica.set(gone(fixed.clone())).await.unwrap_err(),
        ChangeError::ReadOnly(fixed, Origin::File)
    );
    let free = EntryKey::plan("free");
    assert_eq!(
        replica.set(gone(free.clone())).await.unwrap_err(),
        ChangeError::ReadOnly(free.clone(), Origin::BuiltIn)
    );
    assert_eq!(
        replica.set(gone(EntryKey::plan("x"))).await.unwrap_err(),
        ChangeError::NotFound(EntryKey::plan("x"))
    );
    // A stored entry covers a built-in one until it is removed.
    replica.set(new(plan("free", 7))).await.expect("created");
    assert_eq!(
        replica.set(new(plan("free", 8))).await.unwrap_err(),
        ChangeError::Exists(free.clone(), Origin::Database)
    );
    let listed = replica.catalog.get(&free).await.expect("there");
    assert_eq!((listed.origin, listed.hides_stored), (Origin::Database, false));
    replica.set(gone(free.clone())).await.expect("removed");
    assert_eq!(replica.catalog.get(&free).await.expect("there").origin, Origin::BuiltIn);
    // An entry that the file gets later hides the stored one, and is shown to.
    replica.set(policy("later", 3)).await.expect("set");
    replica.file(&format!("{IN_FILE}{}", IN_FILE.replace("fixed", "later"))).await.expect("valid");
    assert_eq!(replica.limits("test"), ["fixed hour 1/1h", "later hour 1/1h"]);
    let listed = replica.catalog.list(Kind::Policy, Some("test"), "", None, 9).await;
    let shown: Vec<_> = listed.iter().map(|l| (&*l.key.name, l.origin, l.hides_stored)).collect();
    assert_eq!(shown, [("fixed", Origin::File, false), ("later", Origin::File, true)]);
    replica.file("").await.expect("valid");
    assert_eq!(replica.limits("test"), ["later hour 3/1h"]);
}

#[tokio::test]
async fn a_file_that_would_break_what_is_stored_is_refused() {
    let (url, _folder) = sqlite();
    let gold = "[[plans]]\nname = 'gold'\nunlimited = true\n";
    let replica = Replica::start(&url, gold).await.expect("started");
    let fields = "name = 'p'\nnamespace = 'test'\nkey_by = ['organization']\nplan = 'gold'";
    replica.set(wish(EntryKey::policy("test", "p"), fields)).await.expect("set");
    let refused = replica.file("").await.unwrap_err().to_string();
    assert!(refused.starts_with("policies.toml: policy test/p.plan: there is no plan \"gold\""), "{refused}");
    assert_eq!(replica.limits("test"), ["p plan gold: unlimited"]);
    let refused = Replica::start(&url, "").await.err().expect("it does not start either").to_string();
    assert!(refused.contains("policy test/p.plan"), "{refused}");
}

#[tokio::test]
async fn a_trial_changes_nothing_and_a_batch_is_made_as_a_whole() {
    let (url, _folder) = sqlite();
    let replica = Replica::start(&url, "").await.expect("started");
    let tried = replica.catalog.change(vec![policy("p", 1)], true).await.expect("it could be done");
    assert_eq!(tried[0].version, 0);
    let invalid = Wish { path: "two".to_owned(), ..wish(EntryKey::plan("q"), "name = 'q'") };
    let refused = replica.catalog.change(vec![policy("p", 1), invalid], false).await.unwrap_err();
    assert!(matches!(&refused, ChangeError::Invalid(faults) if faults[0].path == "two"), "{refused:?}");
    assert_eq!(replica.limits("test"), Vec::<String>::new());
    assert_eq!(replica.tells("tidegate_ratelimit_catalog_revision"), "0");
    // What one of them needs may come with it.
    let by_plan = "name = 'p'\nnamespace = 'test'\nkey_by = []\nplan = 'gold'";
    let both = vec![wish(EntryKey::policy("test", "p"), by_plan), plan("gold", 4)];
    let made = replica.catalog.change(both, false).await.expect("made");
    assert_eq!(made.iter().map(|entry| entry.version).collect::<Vec<_>>(), [1, 1]);
    assert_eq!(replica.limits("test"), ["p plan gold: hour 4/1h"]);
}

#[tokio::test]
async fn history_tells_every_version_and_a_removal() {
    let (url, _folder) = sqlite();
    let replica = Replica::start(&url, "").await.expect("started");
    let key = EntryKey::policy("test", "p");
    for tokens in [1, 2] {
        replica.set(policy("p", tokens)).await.expect("set");
    }
    replica.set(gone(key.clone())).await.expect("removed");
    let history = replica.catalog.history(key, u64::MAX, 9).await.expect("told");
    let told: Vec<_> = history.iter().map(|entry| (entry.version, entry.body.is_some())).collect();
    assert_eq!(told, [(3, false), (2, true), (1, true)]);
}

#[tokio::test]
async fn what_does_not_fit_this_replica_leaves_what_is_in_force() {
    let (url, _folder) = sqlite();
    let replica = Replica::start(&url, "").await.expect("started");
    replica.set(policy("p", 1)).await.expect("set");
    // As a later release might write it.
    let store = config(&url).open().await.expect("opened");
    let later = r#"{"name":"q","namespace":"test","key_by":[],"unlimited":true,"from_the_future":1}"#;
    store.write(1, &[entry(Kind::Policy, "test", "q", Some(later), 1)]).await.expect("written");
    let told = async || Ok(replica.tells("tidegate_ratelimit_catalog_valid") == "0");
    eventually("it is told", PATIENCE, told).await.expect("in time");
    assert_eq!(replica.limits("test"), ["p hour 1/1h"]);
    store.write(2, &[entry(Kind::Policy, "test", "q", None, 2)]).await.expect("written");
    let told = async || Ok(replica.tells("tidegate_ratelimit_catalog_valid") == "1");
    eventually("it is told", PATIENCE, told).await.expect("in time");
}

#[tokio::test]
async fn without_a_database_the_file_is_read_and_nothing_is_changed() {
    let catalog = {
        let text = format!("[defaults]\non_data_loss = 'strict'\n{IN_FILE}");
        let mut layers = Layers::of_text(&text, "a test", 1).expect("valid");
        let set = layers.build().expect("valid");
        Catalog::without_keeper(layers, set)
    };
    assert_eq!(catalog.change(vec![policy("p", 1)], true).await.unwrap_err(), ChangeError::NoDatabase);
    let key = EntryKey::policy("test", "fixed");
    assert_eq!(catalog.history(key.clone(), 9, 9).await.unwrap_err(), ChangeError::NoDatabase);
    let fixed = catalog.get(&key).await.expect("there");
    assert_eq!(fixed.origin, Origin::File);
    let shown = |field: &str| fixed.fields.get(field).and_then(toml::Value::as_str);
    assert_eq!(
        (shown("enforcement"), shown("failure_mode"), shown("on_data_loss")),
        (Some("enforce"), Some("closed"), Some("strict")),
        "with what [defaults] say"
    );
    let listed = catalog.list(Kind::Plan, None, "", None, 9).await;
    let names: Vec<_> = listed.iter().map(|listed| &*listed.key.name).collect();
    assert_eq!(names, ["business", "enterprise", "free", "startup"]);
}

mod overrides;
