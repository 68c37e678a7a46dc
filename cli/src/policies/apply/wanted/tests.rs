use tidegate_proto::ratelimit::v1::{EntryMeta, Policy};

use super::*;

const FILE: &str = r#"
[defaults]
failure_mode = "local"

[[policies]]
name = "wide"
namespace = "edge"
descriptor = [{ key = "path" }]
replaces = ["narrow"]
limits = [{ name = "minute", limit = 5, period = "1m" }]

[[policies]]
name = "narrow"
namespace = "edge"
descriptor = [{ key = "path", value = "/a" }]
limits = [{ name = "minute", limit = 5, period = "1m" }]
failure_mode = "closed"

[[policies]]
name = "calls"
namespace = "shop"
key_by = ["user"]
plan = { attribute = "plan", default = "gold" }

[[plans]]
name = "gold"
limits = [{ name = "minute", rate = "60/min" }]

[assignments.user]
ann = "gold"

[[overrides]]
namespace = "shop"
policy = "calls"
limit = "gold/minute"
key = ["ann"]
rate = "90/min"
"#;

fn read(text: &str) -> (Wanted, Vec<Fault>) {
    Wanted::read(text, "it").unwrap()
}

fn paths(faults: &[Fault]) -> Vec<&str> {
    faults.iter().map(|fault| &*fault.path).collect()
}

#[test]
fn what_is_needed_comes_first_each_with_its_place_and_the_defaults_of_the_file() {
    let (wanted, faults) = read(FILE);
    assert_eq!((paths(&faults).len(), wanted.check(&[])), (0, Vec::new()));
    let entries = wanted.entries(&[]);
    let placed: Vec<_> =
        entries.iter().map(|placed| format!("{} {}", placed.path, placed.entry.key())).collect();
    let expected = [
        "plans[0] plan gold",
        "policies[1] policy edge:narrow",
        "policies[2] policy shop:calls",
        "policies[0] policy edge:wide",
        "assignments.user.ann assignment user=ann",
        "overrides[0] override shop:calls gold/minute of user=ann",
    ];
    assert_eq!(placed, expected);
    let modes: Vec<_> = entries[1..4]
        .iter()
        .map(|placed| placed.entry.fields()["failure_mode"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(modes, ["closed", "local", "local"]);
}

#[test]
fn every_fault_is_named_where_it_stands() {
    let (wanted, mut faults) = read(
        r#"
        builtin = false
        [namespaces.shop]
        envoy_compatible = true
        [defaults]
        failure_mode = "ajar"
        [[plans]]
        name = "Gold"
        [[policies]]
        name = "calls"
        namespace = "shop"
        key_bye = ["user"]
        key_by = "user"
        limits = [{ name = "minute", limit = 0, period = "1y" }]
        [[policies]]
        name = "more"
        namespace = "shop"
        key_by = []
        plan = "lead"
        [[overrides]]
        namespace = "default"
        policy = "organization"
        key = { organization = "acme" }
        colour = "red"
        [[overrides]]
        namespace = "nowhere"
        policy = "calls"
        limit = "minute"
        key = ["acme"]
        tokens = 5
        [assignments]
        user = "gold"
        [assignments.team]
        red = 7
        blue = "tin"
        "#,
    );
    faults.extend(wanted.check(&[]));
    let paths = paths(&faults);
    for path in [
        "namespaces",
        "overrides[0].limit",
        "overrides[0].tokens",
        "overrides[0].colour",
        "overrides[1].namespace",
        "builtin",
        "assignments.user",
        "assignments.team.red",
        "assignments.team.blue",
        "defaults.failure_mode",
        "plans[0]",
        "plans[0].name",
        "policies[0].key_bye",
        "policies[0].key_by",
        "policies[0].limits[0].limit",
        "policies[0].limits[0].period",
        "policies[1].plan",
    ] {
        assert!(paths.contains(&path), "{path} is not among {paths:?}");
    }
    assert!(Wanted::read("plans = [", "it").is_err());
}

#[test]
fn a_file_is_checked_with_what_is_in_force() {
    let meta = |origin: Origin| Some(EntryMeta { origin: origin.into(), ..EntryMeta::default() });
    let table: Table = FILE.parse().unwrap();
    let entry = |at: usize| {
        let table = table["policies"][at].as_table().unwrap();
        Entry::Policy(messages::policy(table, meta(Origin::Database)))
    };
    let plan = Entry::Plan(messages::plan(table["plans"][0].as_table().unwrap(), meta(Origin::File)));
    let (needy, _) = read(
        "[[policies]]\nname = \"calls\"\nnamespace = \"shop\"\nkey_by = [\"user\"]\nplan = \"gold\"\n[assignments.team]\nred = \"gold\"",
    );
    assert_eq!(paths(&needy.check(&[])), ["policies[0].plan", "assignments.team.red"]);
    assert_eq!(needy.check(&[plan]), []);
    // `wide` takes the place of `narrow`, which has no descriptor any more.
    let (breaking, _) =
        read("[[policies]]\nname = \"narrow\"\nnamespace = \"edge\"\nkey_by = []\nunlimited = true");
    let broken = breaking.check(&[entry(0), entry(1)]);
    assert_eq!(paths(&broken), ["policy edge:wide.replaces[0]"]);
    let built_in = Policy { meta: meta(Origin::Builtin), ..Policy::default() };
    assert_eq!(needy.check(&[Entry::Policy(built_in)]).len(), 2, "the built-in ones are there anyway");
}

/// Two limits of a policy, and who is in the database.
fn stored(limits: &str, overrides: &[(&str, &str)]) -> Vec<Entry> {
    let meta = || Some(EntryMeta { origin: Origin::Database.into(), ..EntryMeta::default() });
    let calls: Table = format!("name = 'calls'\nnamespace = 'shop'\nkey_by = ['user']\nlimits = [{limits}]")
        .parse()
        .unwrap();
    let overrides = overrides.iter().map(|(user, limit)| {
        let text = format!(
            "namespace = 'shop'\npolicy = 'calls'\nlimit = '{limit}'\nkey = {{ user = '{user}' }}\ntokens = 5000"
        );
        Entry::Override(messages::override_of(&text.parse().unwrap(), meta()))
    });
    [Entry::Policy(messages::policy(&calls, meta()))].into_iter().chain(overrides).collect()
}

const MINUTE: &str = "{ name = 'minute', limit = 5, period = '1m' }";

#[test]
fn overrides_that_are_in_force_have_to_fit_what_would_be() {
    let both = format!("{MINUTE}, {{ name = 'hour', limit = 50, period = '1h' }}");
    let in_force = stored(&both, &[("ann", "minute"), ("bob", "hour")]);
    let with = |limits: &str| {
        let file = format!(
            "[[policies]]\nname = 'calls'\nnamespace = 'shop'\nkey_by = ['user']\nlimits = [{limits}]\n"
        );
        read(&file).0
    };
    assert_eq!(with(&both).check(&in_force), []);
    let faults = with(MINUTE).check(&in_force);
    assert_eq!(paths(&faults), ["override shop:calls hour of user=bob.limit"], "{faults:?}");
    // A log has at most a thousand tokens, of whomever.
    let faults = with("{ name = 'minute', algorithm = 'sliding_log', limit = 5, period = '1m' }, { name = 'hour', limit = 5, period = '1h' }")
        .check(&in_force);
    assert_eq!(paths(&faults), ["override shop:calls minute of user=ann.tokens"], "{faults:?}");
}

#[test]
fn overrides_of_the_file_take_the_place_of_those_in_force_however_they_name_their_key() {
    let in_force = stored(MINUTE, &[("ann", "minute"), ("bob", "minute")]);
    for key in ["['ann']", "{ user = 'ann' }"] {
        let (wanted, faults) = read(&format!(
            "[[overrides]]\nnamespace = 'shop'\npolicy = 'calls'\nlimit = 'minute'\nkey = {key}\nrate = '9/min'"
        ));
        assert_eq!((faults, wanted.check(&in_force)), (Vec::new(), Vec::new()));
        let entries = wanted.entries(&in_force);
        assert_eq!(entries[0].entry.key(), in_force[1].key(), "{key}");
        assert_eq!(wanted.overridden_namespaces().unwrap(), BTreeSet::from(["shop"]));
    }
    let twice =
        "[[overrides]]\nnamespace = 'shop'\npolicy = 'calls'\nlimit = 'minute'\nkey = ['ann']\ntokens = 1\n";
    let (twice, _) = read(&twice.repeat(2));
    assert_eq!(paths(&twice.check(&in_force)), ["overrides[1]"]);
}

#[test]
fn a_key_that_has_a_name_twice_is_not_one_of_the_api() {
    let (wanted, _) = read(
        r#"
        [[policies]]
        name = "nested"
        namespace = "edge"
        descriptor = [{ key = "path" }, { key = "path" }]
        limits = [{ name = "minute", rate = "5/min" }]
        [[overrides]]
        namespace = "edge"
        policy = "nested"
        limit = "minute"
        key = ["a", "b*"]
        tokens = 3
        "#,
    );
    let faults = wanted.check(&[]);
    assert_eq!(paths(&faults), ["overrides[0].key"]);
    assert!(faults[0].description.contains("\"path\" more than once"), "{}", faults[0].description);
}

#[test]
fn overrides_in_force_are_asked_for_where_the_file_may_touch_them() {
    let namespaces = |text: &str| {
        let (wanted, _) = read(text);
        wanted.overridden_namespaces().map(|names| names.into_iter().map(str::to_owned).collect::<Vec<_>>())
    };
    assert_eq!(namespaces("[assignments.user]\nann = 'free'"), None);
    assert_eq!(
        namespaces("[[policies]]\nnamespace = 'shop'\n[[overrides]]\nnamespace = 'edge'").unwrap(),
        ["edge", "shop"]
    );
    assert_eq!(namespaces(FILE).unwrap(), Vec::<String>::new(), "a plan may be of any policy");
}
