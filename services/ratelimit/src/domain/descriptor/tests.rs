use std::sync::Arc;

use super::*;
use crate::domain::{Bundle, Enforcement, FailureMode, Plan, Tariff};

fn policy(levels: &[(&str, &str)]) -> Policy {
    let pattern = |value: &str| match value.strip_suffix('*') {
        Some("") => Pattern::Present,
        Some(prefix) => Pattern::Prefix(prefix.into()),
        None => Pattern::Exact(value.into()),
    };
    let levels = levels.iter().map(|(key, value)| Level { key: (*key).into(), value: pattern(value) });
    Policy {
        name: Arc::from("policy"),
        namespace: Arc::from("shop"),
        descriptor: Some(levels.collect()),
        conditions: [].into(),
        when: None,
        key_by: [].into(),
        enforcement: Enforcement::Enforce,
        failure_mode: FailureMode::Closed,
        tariff: Tariff::Fixed(Bundle::new("shop", "policy", &[] as &[&str], &Plan::new("none", &[], 1))),
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
