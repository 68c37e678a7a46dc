use std::sync::OnceLock;

use hashbrown::HashMap;
use proptest::{prelude::*, sample::select};
use rstest::rstest;
use smallvec::SmallVec;

use super::*;
use crate::domain::{
    Bundle, Enforcement, FailureMode, Namespace, OnDataLoss, Plan, Policy, PolicySet, Tariff,
};

fn exact(text: &str) -> Pattern {
    Pattern::Exact(text.into())
}

fn prefix(text: &str) -> Pattern {
    Pattern::Prefix(text.into())
}

fn policy(name: &str, conditions: Vec<Condition>, key_by: &[&str], enforcement: Enforcement) -> Policy {
    Policy {
        descriptor: None,
        name: name.into(),
        namespace: "test".into(),
        replaces: [].into(),
        conditions: conditions.into(),
        when: None,
        key_by: key_by.iter().map(|name| (*name).into()).collect(),
        enforcement,
        failure_mode: FailureMode::default(),
        on_data_loss: OnDataLoss::default(),
        tariff: Tariff::Fixed(Bundle::new("test", name, key_by, &Plan::new(name, &[], 1))),
        upgrade_plan: None,
        subject: None,
        usage_place: OnceLock::new(),
    }
}

fn on(name: &str, conditions: Vec<Condition>, key_by: &[&str]) -> Policy {
    policy(name, conditions, key_by, Enforcement::Enforce)
}

fn names_matching(namespace: &Namespace, attributes: &[(&str, &str)]) -> Vec<String> {
    let mut found = SmallVec::new();
    namespace.matching(attributes, 1, &mut found).expect("no policy here takes its plan from an attribute");
    found.iter().map(|found| found.policy.name.to_string()).collect()
}

fn candidates(policies: &[Policy], attributes: &[(&str, &str)]) -> Vec<u32> {
    let mut found = SmallVec::new();
    Index::new(policies).candidates(attributes, &mut found);
    found.to_vec()
}

#[rstest]
#[case::an_exact_value(&[exact("/a")], "/a", true)]
#[case::another_value(&[exact("/a")], "/b", false)]
#[case::a_longer_value(&[exact("/a")], "/ab", false)]
#[case::a_shorter_value(&[exact("/ab")], "/a", false)]
#[case::an_absent_value(&[Pattern::Present], "", false)]
#[case::any_value(&[Pattern::Present], "x", true)]
#[case::the_prefix_itself(&[prefix("/v1/")], "/v1/", true)]
#[case::a_value_behind_the_prefix(&[prefix("/v1/")], "/v1/users", true)]
#[case::a_value_before_the_prefix(&[prefix("/v1/")], "/v1", false)]
#[case::the_first_of_several(&[exact("/a"), exact("/b"), prefix("/c")], "/a", true)]
#[case::the_middle_of_several(&[exact("/a"), exact("/b"), prefix("/c")], "/b", true)]
#[case::the_last_of_several(&[exact("/a"), exact("/b"), prefix("/c")], "/cd", true)]
#[case::between_several(&[exact("/a"), exact("/b"), prefix("/c")], "/bb", false)]
#[case::an_exact_value_that_a_prefix_covers(&[exact("/v1/b"), prefix("/v1/")], "/v1/c", true)]
#[case::a_prefix_that_a_shorter_one_covers(&[prefix("/v1/"), prefix("/v")], "/v2", true)]
fn a_condition_holds_for(#[case] patterns: &[Pattern], #[case] value: &str, #[case] holds: bool) {
    let condition = Condition::new("path", patterns.to_vec());
    assert_eq!(condition.holds(&[("method", "GET"), ("path", value)][..]), holds);
}

#[test]
fn patterns_that_another_covers_are_left_out() {
    let patterns = vec![exact("b"), prefix("ab"), exact("abc"), prefix("a"), exact("b"), prefix("c")];
    let condition = Condition::new("path", patterns);
    assert_eq!(condition.patterns(), [prefix("a"), exact("b"), prefix("c")]);
    let condition = Condition::new("path", vec![exact("b"), Pattern::Present, prefix("c")]);
    assert_eq!(condition.patterns(), [Pattern::Present]);
}

#[test]
fn the_last_of_a_repeated_name_counts_and_an_empty_value_is_absent() {
    let attributes = [("a", "1"), ("b", "1"), ("a", "2"), ("b", "")];
    assert_eq!(attributes[..].find("a"), Some("2"));
    assert_eq!(attributes[..].find("b"), None);
    assert_eq!(attributes[..].find("c"), None);
    let policies = ["1", "2"].map(|value| on(value, vec![Condition::new("a", vec![exact(value)])], &[]));
    assert_eq!(candidates(&policies, &attributes), [1]);
    assert_eq!(candidates(&[on("b", vec![], &["b"])], &attributes), [0_u32; 0]);
}

#[test]
fn a_request_meets_only_what_shares_the_rarest_demand_with_it() {
    let shared = || Condition::new("method", vec![exact("POST")]);
    let of = |pattern| vec![shared(), Condition::new("path", vec![pattern])];
    let policies: Vec<_> = (0..1_000_u32)
        .map(|n| match n % 4 {
            0 => on(&n.to_string(), of(exact(&format!("/{n}"))), &["organization"]),
            1 => on(&n.to_string(), of(prefix(&format!("/{n}/"))), &["organization"]),
            2 => on(&n.to_string(), vec![shared()], &["organization", &format!("feature-{n}")]),
            _ => policy(&n.to_string(), vec![], &[], Enforcement::Off),
        })
        .collect();
    let meets = |name: &str, value: &str| {
        candidates(&policies, &[("method", "POST"), ("organization", "acme"), (name, value)])
    };
    assert_eq!(meets("path", "/400"), [400]);
    assert_eq!(meets("path", "/401/x"), [401]);
    assert_eq!(meets("feature-402", "on"), [402]);
    assert_eq!(meets("path", "/403"), [0_u32; 0]);
}

#[test]
fn a_repeated_name_does_not_multiply_the_work() {
    let policies: Vec<_> = (0..100_u32).map(|n| on(&n.to_string(), vec![], &["organization"])).collect();
    let found = candidates(&policies, &[("organization", "acme"); 64]);
    assert_eq!(found, (0..100).collect::<Vec<_>>());
}

prop_compose! {
    fn pattern()(text in "[ab]{1,3}", form in 0..10) -> Pattern {
        match form {
            0 => Pattern::Present,
            1..5 => Pattern::Prefix(text.into()),
            _ => Pattern::Exact(text.into()),
        }
    }
}

prop_compose! {
    fn condition()(name in select(&["x", "y", "z"]), patterns in prop::collection::vec(pattern(), 1..5))
        -> (&'static str, Vec<Pattern>)
    {
        (name, patterns)
    }
}

prop_compose! {
    fn any_policy()(
        conditions in prop::collection::vec(condition(), 0..4),
        key_by in prop::sample::subsequence(vec!["x", "y", "z", "w"], 0..3),
        off in prop::bool::weighted(0.1),
    ) -> (Vec<(&'static str, Vec<Pattern>)>, Vec<&'static str>, bool) {
        (conditions, key_by, off)
    }
}

fn attributes() -> impl Strategy<Value = Vec<(&'static str, String)>> {
    prop::collection::vec((select(&["x", "y", "z", "w"]), "[ab]{0,4}"), 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn what_the_index_finds_is_what_a_look_at_every_policy_finds(
        policies in prop::collection::vec(any_policy(), 0..12),
        attributes in attributes(),
    ) {
        let value_of = |name: &str| {
            let last = attributes.iter().rev().find(|(known, _)| *known == name);
            last.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
        };
        let matches = |(name, patterns): &(&str, Vec<Pattern>)| {
            value_of(name).is_some_and(|value| patterns.iter().any(|pattern| pattern.matches(value)))
        };
        let mut expected: Vec<_> = policies
            .iter()
            .enumerate()
            .filter(|(_, (conditions, key_by, off))| {
                !off && conditions.iter().all(matches) && key_by.iter().all(|name| value_of(name).is_some())
            })
            .map(|(position, _)| format!("{position:02}"))
            .collect();
        expected.sort();

        let built = policies.iter().enumerate().map(|(position, (conditions, key_by, off))| {
            let conditions = conditions.iter().map(|(name, patterns)| Condition::new(name, patterns.clone()));
            let enforcement = if *off { Enforcement::Off } else { Enforcement::Shadow };
            policy(&format!("{position:02}"), conditions.collect(), key_by, enforcement)
        });
        let set = PolicySet::new(built, Vec::new(), &HashMap::new());
        let attributes: Vec<_> = attributes.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let found = set.namespace("test").map_or_else(Vec::new, |all| names_matching(all, &attributes));
        prop_assert_eq!(found, expected);
    }
}
