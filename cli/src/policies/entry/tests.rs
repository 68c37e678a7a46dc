use tidegate_ratelimit::{messages::override_of, policies::parse};

use super::*;

const FILE: &str = r#"# builtin
[[plans]]
name = "gold"
limits = [
    { name = "minute", algorithm = "token_bucket", limit = 10, period = "1m", burst = 20 },
    { name = "running", algorithm = "concurrency", limit = 3, lease = "30s" },
]

# database, version 7, etag 7, since 2025-01-01T00:00:00Z
[[policies]]
name = "calls"
namespace = "shop/eu"
match = { method = ["GET"], "x.path" = ["/v1/*", "/a b"] }
when = "cost > 1"
key_by = ["user"]
limits = [
    { name = "hour", algorithm = "fixed_window", rate = "5/hour" },
]
enforcement = "shadow"
failure_mode = "local"
on_data_loss = "accept"

# file
[[policies]]
name = "by-plan"
namespace = "shop/eu"
key_by = []
plan = { attribute = "plan", default = "gold" }
enforcement = "enforce"
failure_mode = "closed"
on_data_loss = "accept"
on_limit = { upgrade_plan = "gold" }

[assignments.organization]
acme = "gold"
"a\"b \\ c\u0007" = "gold"

# database, version 9, etag 9, since 2025-01-01T00:00:00Z
[[overrides]]
namespace = "shop/eu"
policy = "calls"
limit = "hour"
key = { user = "trial-*" }
rate = "9/hour"

# database, version 9, etag 9, since 2025-01-01T00:00:00Z
[[overrides]]
namespace = "shop/eu"
policy = "calls"
limit = "hour"
key = { user = 'a"b \ c' }
tokens = 7
period = "2h"
"#;

fn tables(file: &Table, kind: &str) -> Vec<Table> {
    let list = file[kind].as_array().unwrap().iter();
    list.map(|value| value.as_table().unwrap().clone()).collect()
}

fn entries() -> Vec<Entry> {
    let file: Table = FILE.parse().unwrap();
    let meta = |origin: Origin, version: u64| {
        let update_time = Some(Timestamp { seconds: 1_735_689_600, nanos: 5 });
        let etag = if version == 0 { String::new() } else { version.to_string() };
        Some(EntryMeta { origin: origin.into(), version, etag, update_time, ..EntryMeta::default() })
    };
    let policies = tables(&file, "policies");
    let assignment = |value: &str| Assignment {
        attribute: "organization".into(),
        value: value.into(),
        plan: "gold".into(),
        meta: None,
    };
    let of_override = |table: &Table| Entry::Override(override_of(table, meta(Origin::Database, 9)));
    let overrides = tables(&file, "overrides");
    vec![
        Entry::Plan(plan(&tables(&file, "plans")[0], meta(Origin::Builtin, 0))),
        Entry::Policy(policy(&policies[0], meta(Origin::Database, 7))),
        Entry::Policy(policy(&policies[1], meta(Origin::File, 0))),
        Entry::Assignment(assignment("acme")),
        Entry::Assignment(assignment("a\"b \\ c\u{7}")),
        of_override(&overrides[0]),
        of_override(&overrides[1]),
    ]
}

#[test]
fn entries_are_written_as_a_policy_file_that_says_the_same() {
    let text = file(&entries());
    assert_eq!(text, FILE);
    assert_eq!(parse(&text, "it", 1).err(), None);
}

#[test]
fn an_entry_is_named_and_told_in_few_words() {
    let entries = entries();
    let named: Vec<_> = entries.iter().map(|entry| entry.key().to_string()).collect();
    let expected = [
        "plan gold",
        "policy shop/eu:calls",
        "policy shop/eu:by-plan",
        "assignment organization=acme",
        "assignment organization=a\"b \\ c\u{7}",
        "override shop/eu:calls hour of user=trial-*",
        "override shop/eu:calls hour of user=a\"b \\ c",
    ];
    assert_eq!(named, expected);
    let told: Vec<_> = entries[..3].iter().map(|entry| limits(&entry.fields())).collect();
    assert_eq!(told, ["minute 10/1m, running 3 at once", "hour 5/hour", "plan by plan, else gold"]);
}
