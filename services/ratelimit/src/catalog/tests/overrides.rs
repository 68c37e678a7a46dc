//! Overrides that come and go, in one replica and from one to another.

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*};
use smallvec::SmallVec;

use super::*;
use crate::policies::StoredEntry;

/// An override of the limit of a policy of namespace `test`, for organizations that fit a pattern.
fn overridden(policy: &str, organization: &str, tokens: u32) -> Wish {
    let fields = format!(
        "namespace = 'test'\npolicy = '{policy}'\nlimit = 'hour'\nkey = {{ organization = '{organization}' }}\ntokens = {tokens}"
    );
    Wish { path: "override".to_owned(), ..wish(key(policy, organization), &fields) }
}

fn key(policy: &str, organization: &str) -> EntryKey {
    let key = BTreeMap::from([("organization".to_owned(), organization.to_owned())]);
    EntryKey::of_override("test", policy, "hour", &key)
}

/// The limits that an organization meets, in the order of policies.
fn met(set: &PolicySet, organization: &str) -> Vec<u32> {
    let mut found = SmallVec::new();
    let namespace = set.namespace("test").expect("it has policies");
    namespace.matching(&[("organization", organization)][..], 1, &mut found).expect("known plans");
    found.iter().flat_map(|found| found.bundle.limits.iter()).map(|limit| limit.limit.limit).collect()
}

fn faults(refused: Result<Entry, ChangeError>) -> Vec<String> {
    match refused {
        Err(ChangeError::Invalid(faults) | ChangeError::InUse(faults)) => {
            faults.into_iter().map(|fault| fault.path).collect()
        }
        other => panic!("it has faults: {other:?}"),
    }
}

#[tokio::test]
async fn an_override_is_in_force_before_its_answer_and_soon_on_every_replica() {
    let server = PostgresServer::shared().await.expect("postgres");
    let (file, _folder) = sqlite();
    for url in [server.database().await.expect("a database"), file] {
        let replicas = join_all((0..2).map(|_| Replica::start(&url, ""))).await;
        let replicas: Vec<_> = replicas.into_iter().map(|replica| replica.expect("started")).collect();
        replicas[0].set(policy("p", 10)).await.expect("set");
        replicas[1].in_force("test", &["p hour 10/1h"]).await;
        let sees = async |replica: &Replica, expected: [u32; 3]| {
            let told = |replica: &Replica| {
                let set = replica.catalog.policies.load();
                ["acme", "acid", "other"].map(|organization| met(&set, organization)[0])
            };
            let waited = eventually("it is in force", PATIENCE, async || Ok(told(replica) == expected)).await;
            waited.unwrap_or_else(|error| panic!("{error}: {:?}, not {expected:?}", told(replica)));
        };
        let batch = vec![overridden("p", "ac*", 20), overridden("p", "acme", 30)];
        let made = replicas[0].catalog.change(batch, false).await.expect("made");
        assert_eq!(made[0].version, made[1].version);
        let set = replicas[0].catalog.policies.load_full();
        assert_eq!((met(&set, "acme"), met(&set, "acid")), (vec![30], vec![20]));
        sees(&replicas[1], [30, 20, 10]).await;
        replicas[1].set(gone(key("p", "acme"))).await.expect("removed");
        sees(&replicas[0], [20, 20, 10]).await;
        replicas[1].set(policy("p", 11)).await.expect("set");
        sees(&replicas[0], [20, 20, 11]).await;
        let late = Replica::start(&url, "").await.expect("started");
        sees(&late, [20, 20, 11]).await;
        let listed = late.catalog.list(Kind::Override, Some("test"), "p/", None, 9).await;
        assert_eq!(listed.iter().map(|listed| listed.key.clone()).collect::<Vec<_>>(), [key("p", "ac*")]);
        assert_eq!(late.catalog.list(Kind::Override, Some("test"), "q/", None, 9).await.len(), 0);
    }
}

#[tokio::test]
async fn every_fault_of_overrides_is_named_and_nothing_is_done() {
    let (url, _folder) = sqlite();
    let replica = Replica::start(&url, "").await.expect("started");
    replica.set(policy("p", 10)).await.expect("set");
    let unknown = Wish { path: "overrides[1]".to_owned(), ..overridden("q", "acme", 1) };
    let none = overridden("p", "acme", 0);
    let refused = replica.catalog.change(vec![none, unknown.clone()], false).await;
    assert_eq!(faults(refused.map(|mut made| made.remove(0))), ["override.tokens"]);
    let refused = replica.catalog.change(vec![overridden("p", "acme", 1), unknown], false).await;
    assert_eq!(faults(refused.map(|mut made| made.remove(0))), ["overrides[1].policy"]);
    let limit =
        "namespace = 'test'\npolicy = 'p'\nlimit = 'day'\nkey = { user = '*' }\ntokens = 1\nburst = 2";
    let of = |policy, limit, attribute: &str, pattern: &str| {
        let key = BTreeMap::from([(attribute.to_owned(), pattern.to_owned())]);
        EntryKey::of_override("test", policy, limit, &key)
    };
    let wrong = Wish { path: "override".to_owned(), ..wish(of("p", "day", "user", "*"), limit) };
    assert_eq!(faults(replica.set(wrong).await), ["override.key", "override.key.user"]);
    let burst = "namespace = 'test'\npolicy = 'p'\nlimit = 'day'\nkey = { organization = '*' }\ntokens = 1\nburst = 2";
    let wrong = Wish { path: "override".to_owned(), ..wish(of("p", "day", "organization", "*"), burst) };
    assert_eq!(faults(replica.set(wrong).await), ["override.limit"]);
    let rate = "namespace = 'test'\npolicy = 'p'\nlimit = 'hour'\nkey = { organization = '*' }\nrate = '5/min'\nburst = 2";
    let wrong = Wish { path: "override".to_owned(), ..wish(of("p", "hour", "organization", "*"), rate) };
    assert_eq!(faults(replica.set(wrong).await), ["override.burst"]);
    assert_eq!(met(&replica.catalog.policies.load(), "acme"), [10]);
    assert_eq!(replica.tells("tidegate_ratelimit_catalog_revision"), "1");
    assert_eq!(
        replica.set(gone(key("p", "acme"))).await.unwrap_err(),
        ChangeError::NotFound(key("p", "acme"))
    );
}

#[tokio::test]
async fn a_policy_stays_as_its_overrides_need_it() {
    let (url, _folder) = sqlite();
    let replica = Replica::start(&url, "").await.expect("started");
    replica.set(policy("p", 10)).await.expect("set");
    replica.set(overridden("p", "acme", 30)).await.expect("set");
    let place = key("p", "acme").to_string();
    assert_eq!(
        faults(replica.set(gone(EntryKey::policy("test", "p"))).await),
        [format!("{place}.namespace")]
    );
    let by_user = "name = 'p'\nnamespace = 'test'\nkey_by = ['user']\nlimits = [{ name = 'hour', limit = 1, period = '1h' }]";
    let refused = faults(replica.set(wish(EntryKey::policy("test", "p"), by_user)).await);
    assert_eq!(refused, [format!("{place}.key"), format!("{place}.key.organization")]);
    assert_eq!(met(&replica.catalog.policies.load(), "acme"), [30]);
    replica.set(gone(key("p", "acme"))).await.expect("removed");
    replica.set(gone(EntryKey::policy("test", "p"))).await.expect("removed");
}

#[tokio::test]
async fn an_override_of_the_file_is_read_only_and_hides_the_stored_one() {
    let (url, _folder) = sqlite();
    let policy_of_file = IN_FILE.replace("key_by = []", "key_by = ['organization']");
    let override_of_file =
        "[[overrides]]\nnamespace = 'test'\npolicy = 'fixed'\nlimit = 'hour'\nkey = ['acme']\nrate = '7/h'\n";
    let replica = Replica::start(&url, &policy_of_file).await.expect("started");
    let now = |organization| met(&replica.catalog.policies.load(), organization)[0];
    replica.set(overridden("fixed", "acme", 5)).await.expect("set");
    assert_eq!(now("acme"), 5);
    replica.file(&format!("{policy_of_file}{override_of_file}")).await.expect("valid");
    assert_eq!(now("acme"), 7);
    let of_acme = key("fixed", "acme");
    assert_eq!(
        replica.set(overridden("fixed", "acme", 6)).await.unwrap_err(),
        ChangeError::ReadOnly(of_acme.clone(), Origin::File)
    );
    replica.set(overridden("fixed", "beta", 8)).await.expect("another one");
    assert_eq!((now("acme"), now("beta")), (7, 8));
    let listed = replica.catalog.list(Kind::Override, Some("test"), "", None, 9).await;
    let shown: Vec<_> = listed.iter().map(|of| (&of.key, of.origin, of.hides_stored)).collect();
    let of_beta = key("fixed", "beta");
    assert_eq!(shown, [(&of_acme, Origin::File, true), (&of_beta, Origin::Database, false)]);
    let fields = "namespace = 'test'\npolicy = 'fixed'\nlimit = 'hour'\nkey = { organization = 'acme' }\ntokens = 7\nperiod = '1h'";
    assert_eq!(listed[0].fields, table(fields));
    replica.file(&policy_of_file).await.expect("valid");
    assert_eq!((now("acme"), now("beta")), (5, 8));
}

#[tokio::test]
async fn an_override_under_a_name_that_is_not_its_own_is_told() {
    let (url, _folder) = sqlite();
    let replica = Replica::start(&url, "").await.expect("started");
    replica.set(policy("p", 10)).await.expect("set");
    let store = config(&url).open().await.expect("opened");
    let body = r#"{"namespace":"test","policy":"p","limit":"hour","key":{"organization":"acme"},"tokens":1}"#;
    store.write(1, &[entry(Kind::Override, "test", "p/hour/{}", Some(body), 1)]).await.expect("written");
    let told = async || Ok(replica.tells("tidegate_ratelimit_catalog_valid") == "0");
    eventually("it is told", PATIENCE, told).await.expect("in time");
    assert_eq!(met(&replica.catalog.policies.load(), "acme"), [10]);
    store.write(2, &[entry(Kind::Override, "test", "p/hour/{}", None, 2)]).await.expect("written");
    let told = async || Ok(replica.tells("tidegate_ratelimit_catalog_valid") == "1");
    eventually("it is told", PATIENCE, told).await.expect("in time");
}

#[tokio::test]
async fn an_override_that_cannot_be_read_is_not_the_end_of_the_one_in_force_and_can_be_replaced() {
    let (url, _folder) = sqlite();
    let replica = Replica::start(&url, "").await.expect("started");
    replica.set(policy("p", 10)).await.expect("set");
    replica.set(overridden("p", "acme", 5)).await.expect("set");
    let store = config(&url).open().await.expect("opened");
    let later = r#"{"namespace":"test","policy":"p","limit":"hour","key":{"organization":"acme"},"tokens":6,"more":1}"#;
    let garbled = Entry {
        key: key("p", "acme"),
        id: uuid::Uuid::nil(),
        body: Some(later.to_owned()),
        version: 0,
        created_us: 1,
        changed_us: 1,
    };
    store.write(2, std::slice::from_ref(&garbled)).await.expect("written");
    let told = async || Ok(replica.tells("tidegate_ratelimit_catalog_valid") == "0");
    eventually("it is told", PATIENCE, told).await.expect("in time");
    assert_eq!(met(&replica.catalog.policies.load(), "acme"), [5]);
    replica.set(overridden("p", "acme", 7)).await.expect("replaced");
    assert_eq!(met(&replica.catalog.policies.load(), "acme"), [7]);
    store.write(4, &[garbled]).await.expect("written");
    eventually("it is told", PATIENCE, told).await.expect("in time");
    replica.set(gone(key("p", "acme"))).await.expect("removed");
    assert_eq!(met(&replica.catalog.policies.load(), "acme"), [10]);
    assert_eq!(replica.tells("tidegate_ratelimit_catalog_valid"), "1");
}

#[test]
fn a_long_key_has_a_short_name_of_its_own() {
    let long = |end: &str| key("p", &format!("{}{end}", "x".repeat(500)));
    assert!(long("a").name.len() < 600, "{} bytes", long("a").name.len());
    assert_ne!(long("a"), long("b"));
    assert_eq!(key("p", "a\"b").name, r#"p/hour/{"organization":"a\"b"}"#);
}

#[test]
fn a_long_key_in_the_order_of_the_policy_is_told_by_the_names_of_attributes() {
    let long = "x".repeat(500);
    let text = format!(
        "[[policies]]\nname = 'p'\nnamespace = 'test'\nkey_by = ['organization']\n\
         limits = [{{ name = 'hour', limit = 10, period = '1h' }}]\n\
         [[overrides]]\nnamespace = 'test'\npolicy = 'p'\nlimit = 'hour'\nkey = ['{long}']\ntokens = 7\n"
    );
    let layers = Layers::of_text(&text, "policies.toml", 1).expect("it has no fault");
    let listed = layers.get(&key("p", &long)).expect("it is in force");
    assert_eq!(listed.fields["key"]["organization"].as_str(), Some(&*long));
}

/// What is done to layers.
#[derive(Clone, Debug)]
enum Step {
    Set(usize, usize, u32),
    Remove(usize, usize),
    /// What cannot be read.
    Garble(usize, usize),
    Policy(usize, u32),
    File(Option<u32>),
}

const POLICIES: [&str; 2] = ["p", "q"];
const PATTERNS: [&str; 4] = ["acme", "ac*", "a*", "*"];

fn step() -> impl Strategy<Value = Step> {
    let (policy, pattern, tokens) = (0..POLICIES.len(), 0..PATTERNS.len(), 1_u32..50);
    prop_oneof![
        6 => (policy.clone(), pattern.clone(), tokens.clone()).prop_map(|(p, o, n)| Step::Set(p, o, n)),
        4 => (policy.clone(), pattern).prop_map(|(p, o)| Step::Remove(p, o)),
        1 => (policy.clone(), 0..PATTERNS.len()).prop_map(|(p, o)| Step::Garble(p, o)),
        1 => (policy, tokens.clone()).prop_map(|(p, n)| Step::Policy(p, n)),
        1 => proptest::option::of(tokens).prop_map(Step::File),
    ]
}

fn stored(wish: &Wish) -> Arc<StoredEntry> {
    let body = wish.fields.as_ref().map(|fields| serde_json::to_string(fields).expect("JSON"));
    let key = wish.key.clone();
    Arc::new(StoredEntry::read(Entry {
        key,
        id: uuid::Uuid::nil(),
        body,
        version: 1,
        created_us: 1,
        changed_us: 1,
    }))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// One change after the other makes what all of them make at once.
    #[test]
    fn what_changes_step_by_step_is_what_is_put_together_anew(steps in vec((step(), any::<bool>()), 1..40)) {
        let mut layers = Layers::built_in(1).with_database();
        let mut kept: BTreeMap<EntryKey, Arc<StoredEntry>> = BTreeMap::new();
        let mut file = String::new();
        let mut steps: Vec<_> = steps;
        steps.splice(0..0, [0, 1].map(|policy| (Step::Policy(policy, 9), true)));
        for (step, tries_first) in steps {
            let wish = match step {
                Step::Set(p, o, tokens) => overridden(POLICIES[p], PATTERNS[o], tokens),
                Step::Remove(p, o) => gone(key(POLICIES[p], PATTERNS[o])),
                Step::Garble(p, o) => wish(key(POLICIES[p], PATTERNS[o]), "later = true"),
                Step::Policy(p, tokens) => policy(POLICIES[p], tokens),
                Step::File(tokens) => {
                    let of_file = |tokens| format!(
                        "[[overrides]]\nnamespace = 'test'\npolicy = 'p'\nlimit = 'hour'\nkey = ['acme']\ntokens = {tokens}\n"
                    );
                    let before = std::mem::replace(&mut file, tokens.map_or_else(String::new, of_file));
                    if layers.replace_file(file.as_bytes(), "a test").is_err() {
                        file.clone_from(&before);
                    }
                    continue;
                }
            };
            let written = stored(&wish);
            // What is tried and has faults is not put in; what others wrote is, whatever it is.
            match tries_first.then(|| layers.try_with(std::slice::from_ref(&written))) {
                Some(Ok(trial)) => layers.put_tried([Arc::clone(&written)], trial),
                Some(Err(_)) => continue,
                None => layers.put([Arc::clone(&written)]),
            }
            match wish.fields {
                Some(_) => drop(kept.insert(wish.key, written)),
                None => drop(kept.remove(&wish.key)),
            }
            let mut anew = Layers::of_text("", "a test", 1).expect("valid").with_database();
            anew.put(kept.values().filter(|entry| entry.entry.key.kind == Kind::Policy).cloned());
            anew.replace_file(file.as_bytes(), "a test").expect("the policies are there");
            anew.put(kept.values().cloned());
            anew.forget_what_is_built();
            let (stepwise, anew) = (layers.build(), anew.build());
            prop_assert_eq!(stepwise.is_ok(), anew.is_ok());
            let (Ok(stepwise), Ok(anew)) = (stepwise, anew) else { continue };
            for organization in ["acme", "acid", "abba", "other"] {
                prop_assert_eq!(met(&stepwise, organization), met(&anew, organization));
            }
            prop_assert_eq!(stepwise.overrides_len(), anew.overrides_len());
        }
    }
}
