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
    let entries = wanted.entries();
    let placed: Vec<_> =
        entries.iter().map(|placed| format!("{} {}", placed.path, placed.entry.key())).collect();
    let expected = [
        "plans[0] plan gold",
        "policies[1] policy edge:narrow",
        "policies[2] policy shop:calls",
        "policies[0] policy edge:wide",
        "assignments.user.ann assignment user=ann",
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
        overrides = []
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
        "overrides",
        "namespaces",
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
