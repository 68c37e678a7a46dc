use std::sync::{Arc, OnceLock};

use proptest::{collection::vec, prop_assert, prop_assert_eq, proptest};

use super::*;
use crate::domain::{Bundle, Enforcement, FailureMode, OnDataLoss, Plan, Tariff};

fn policy(levels: &[(&str, &str)]) -> Policy {
    let value_of = |value: &str| match Wildcard::new(value) {
        Some(_) if value == "*" => LevelValue::Any,
        Some(wildcard) => LevelValue::Like(wildcard),
        None => LevelValue::Exact(value.into()),
    };
    let level =
        |(key, value): &(&str, &str)| Level { key: (*key).into(), value: value_of(value), shared: false };
    let levels = levels.iter().map(level);
    Policy {
        name: Arc::from("policy"),
        namespace: Arc::from("shop"),
        descriptor: Some(levels.collect()),
        replaces: [].into(),
        conditions: [].into(),
        when: None,
        key_by: [].into(),
        enforcement: Enforcement::Enforce,
        failure_mode: FailureMode::Closed,
        on_data_loss: OnDataLoss::default(),
        tariff: Tariff::Fixed(Bundle::new("shop", "policy", &[] as &[&str], &Plan::new("none", &[], 1))),
        upgrade_plan: None,
        subject: None,
        usage_place: OnceLock::new(),
    }
}

#[test]
fn descriptor_finds_what_is_most_special_at_each_level() {
    let tree = Tree::new(&[
        policy(&[("path", "/v1")]),
        policy(&[("path", "/v1*")]),
        policy(&[("path", "/*")]),
        policy(&[("path", "*")]),
        policy(&[("path", "/v1"), ("user", "*")]),
        policy(&[("path", "*"), ("user", "ada")]),
        policy(&[("path", "/v1")]),
        policy(&[("generic_key", "a"), ("generic_key", "b")]),
    ]);
    for (entries, found) in [
        (&[("path", "/v1")][..], &[0, 6][..]),
        (&[("path", "/v1x")], &[1]),
        (&[("path", "/v2")], &[2]),
        (&[("path", "x")], &[3]),
        (&[("path", "/v1"), ("user", "eve")], &[4]),
        (&[("path", "x"), ("user", "ada")], &[5]),
        // The branch of "/*" hides that of any path.
        (&[("path", "/v2"), ("user", "ada")], &[]),
        (&[("path", "/v1"), ("user", "eve"), ("more", "x")], &[]),
        (&[("user", "eve"), ("path", "/v1")], &[]),
        (&[("generic_key", "a"), ("generic_key", "b")], &[7]),
        (&[("generic_key", "b"), ("generic_key", "a")], &[]),
        (&[("generic_key", "a")], &[]),
        (&[], &[]),
    ] {
        assert_eq!(tree.find(entries), found, "{entries:?}");
    }
}

#[test]
fn wildcard_that_says_most_is_found_among_those_that_fit() {
    let patterns =
        ["*", "/a*", "/api/*", "/api/*/action", "/api/*/a*n", "/api/v1/*", "/apx*", "*.png", "*ü*", "/a/*"];
    let policies: Vec<_> = patterns.iter().map(|pattern| policy(&[("path", *pattern)])).collect();
    let tree = Tree::new(&policies);
    for (value, expected) in [
        ("/api/7/action", "/api/*/action"),
        ("/api/7/an", "/api/*/a*n"),
        ("/api/7/other", "/api/*"),
        ("/api/v1/action", "/api/v1/*"),
        ("/api/v0", "/api/*"),
        ("/api", "/a*"),
        ("/apy", "/a*"),
        ("/apx", "/apx*"),
        ("/a/x.png", "/a/*"),
        ("/b.png", "*.png"),
        ("/bü.png", "*.png"),
        ("/büx", "*ü*"),
        ("/ü", "*ü*"),
        ("/b", "*"),
        ("", "*"),
    ] {
        let found: Vec<_> =
            tree.find(&[("path", value)][..]).iter().map(|position| patterns[*position as usize]).collect();
        assert_eq!(found, [expected], "{value}");
    }
}

/// Whether `value` looks like `pattern`, the slow way.
fn looks_like(pattern: &[u8], value: &[u8]) -> bool {
    match pattern.split_first() {
        None => value.is_empty(),
        Some((b'*', rest)) => (0..=value.len()).any(|at| looks_like(rest, &value[at..])),
        Some((byte, rest)) => value.first() == Some(byte) && looks_like(rest, &value[1..]),
    }
}

proptest! {
    #[test]
    fn wildcards_find_what_a_look_at_each_of_them_finds(
        patterns in vec("[ab]{0,3}\\*[ab*]{0,4}", 1..12),
        value in "[ab]{0,8}",
    ) {
        let mut wildcards: Vec<_> =
            patterns.iter().filter(|pattern| *pattern != "*").filter_map(|pattern| Wildcard::new(pattern)).collect();
        wildcards.sort();
        for wildcard in &wildcards {
            let expected = looks_like(wildcard.text().as_bytes(), value.as_bytes());
            prop_assert_eq!(wildcard.matches(&value), expected, "{} {}", wildcard.text(), value);
        }
        for pair in wildcards.windows(2) {
            let both = pair.iter().all(|wildcard| wildcard.matches(&value));
            prop_assert!(!pair[0].covers(&pair[1]) || !pair[1].matches(&value) || both);
            prop_assert!(!pair[0].is_apart_from(&pair[1]) || !both);
        }
        let policies: Vec<_> = wildcards.iter().map(|wildcard| policy(&[("key", wildcard.text())])).collect();
        let first = wildcards.iter().position(|wildcard| wildcard.matches(&value));
        let found = Tree::new(&policies).find(&[("key", value.as_str())][..]).first().map(|found| *found as usize);
        prop_assert_eq!(found, first);
    }
}

#[test]
fn ten_thousand_beginnings_are_not_looked_at_one_by_one() {
    let text = |number: usize| format!("/tenants/{number:05}/*");
    let policies: Vec<_> = (0..10_000).map(|number| policy(&[("path", &text(number))])).collect();
    let tree = Tree::new(&policies);
    for number in [0, 4_999, 9_999] {
        let value = format!("/tenants/{number:05}/orders");
        assert_eq!(tree.find(&[("path", value.as_str())][..]), [u32::try_from(number).unwrap()]);
    }
    assert!(tree.find(&[("path", "/tenants/10000/orders")][..]).is_empty());
}
