use std::{cmp::Reverse, collections::HashMap as Map, sync::OnceLock};

use hashbrown::HashMap;
use proptest::{prelude::*, sample::select};
use rstest::rstest;

use super::*;
use crate::domain::{
    Algorithm, Enforcement, FailureMode, Names, NamespaceSettings, OnDataLoss, PlanChoice, PolicySet, Rule,
    Tariff,
};

const MINUTE_US: u64 = 60_000_000;

fn limit(name: &str, algorithm: Algorithm, tokens: u64) -> Limit {
    let period = Period::Micros(MINUTE_US);
    Limit::new(LimitSpec { name: name.into(), algorithm, limit: tokens, period, burst: None }).expect("valid")
}

/// A policy of namespace `shop` that takes its plan from an attribute.
fn policy(key_by: &[&str], plans: &[(&str, Vec<Limit>)]) -> Policy {
    let plans: Vec<_> = plans.iter().map(|(name, limits)| Plan::new(name, limits, 2)).collect();
    let names: HashMap<Box<str>, usize> =
        plans.iter().enumerate().map(|(position, plan)| ((*plan.name).into(), position)).collect();
    Policy {
        name: "each".into(),
        namespace: "shop".into(),
        descriptor: None,
        replaces: [].into(),
        conditions: [].into(),
        when: None,
        key_by: key_by.iter().map(|name| Box::from(*name)).collect(),
        enforcement: Enforcement::default(),
        failure_mode: FailureMode::default(),
        on_data_loss: OnDataLoss::default(),
        upgrade_plan: None,
        tariff: Tariff::ByPlan(PlanChoice {
            attribute: "plan".into(),
            default: 0,
            bundles: plans.iter().map(|plan| Bundle::new("shop", "each", key_by, plan)).collect(),
            names: Arc::new(Names::from(names)),
            assignments: Arc::default(),
        }),
        subject: None,
        usage_place: OnceLock::new(),
    }
}

fn set_of(policy: Policy) -> PolicySet {
    PolicySet::new([policy], Vec::new(), &HashMap::<String, NamespaceSettings>::new())
}

/// Plans with different limits, and one without any.
fn shop() -> PolicySet {
    let window = |name, tokens| limit(name, Algorithm::SlidingWindow, tokens);
    let plans = [
        ("free", vec![window("minute", 10), window("hour", 100)]),
        ("pro", vec![window("hour", 1_000), limit("minute", Algorithm::TokenBucket, 50)]),
        ("all", Vec::new()),
    ];
    set_of(policy(&["user", "path"], &plans))
}

fn target(limit: &str, key: &[&str]) -> OverrideTarget {
    let key = key.iter().map(|text| Pattern::parse(text).expect("a pattern"));
    OverrideTarget {
        namespace: "shop".into(),
        policy: "each".into(),
        limit: limit.into(),
        key: key.collect(),
    }
}

fn to(limit: &str, key: &[&str], tokens: u64) -> OverrideChange {
    let numbers = Numbers { tokens, period: None, burst: None };
    OverrideChange::Set(Override { target: target(limit, key), numbers })
}

fn with(set: &PolicySet, changes: impl IntoIterator<Item = OverrideChange>) -> PolicySet {
    let (set, faults) = set.with_overrides(changes);
    assert_eq!(faults, []);
    set
}

fn bundle<'s>(set: &'s PolicySet, attributes: &[(&str, &str)]) -> &'s Bundle {
    let mut found = SmallVec::new();
    set.namespace("shop").expect("declared").matching(attributes, 1, &mut found).expect("known plans");
    found[0].bundle
}

/// Tokens by the name of the limit.
fn tokens(set: &PolicySet, plan: &str, user: &str, path: &str) -> Map<String, u64> {
    let bundle = bundle(set, &[("user", user), ("path", path), ("plan", plan)]);
    let limits = bundle.limits.iter();
    limits.map(|limit| (limit.limit.name.to_string(), u64::from(limit.limit.limit))).collect()
}

#[rstest]
#[case::an_exact_value_before_a_prefix(&["ab", "*"], &["a*", "/x"])]
#[case::a_longer_prefix_before_a_shorter_one(&["ab*", "*"], &["a*", "/x"])]
#[case::a_prefix_before_anything(&["a*", "*"], &["*", "/x"])]
#[case::the_second_attribute_if_the_first_is_the_same(&["ab", "/*"], &["ab", "*"])]
#[case::the_second_attribute_if_the_first_is_as_specific(&["*", "/x"], &["*", "/*"])]
fn the_more_specific_pattern_wins(#[case] winner: &[&str], #[case] other: &[&str]) {
    for both in [[winner, other], [other, winner]] {
        let tokens_of = |key: &[&str]| if key == winner { 1 } else { 2 };
        let set = with(&shop(), both.map(|key| to("minute", key, tokens_of(key))));
        assert_eq!(tokens(&set, "free", "ab", "/x")["minute"], 1, "{both:?}");
    }
}

#[test]
fn each_limit_has_its_own_winner_and_one_for_the_plan_goes_before_one_for_all() {
    let any = ["*", "*"];
    let set = with(
        &shop(),
        [
            to("hour", &any, 7),
            to("minute", &["ab", "*"], 3),
            to("pro/minute", &["ab", "*"], 4),
            to("free/hour", &["a*", "*"], 5),
        ],
    );
    let is = |plan, user, expected: [(&str, u64); 2]| {
        let expected = expected.map(|(name, tokens)| (name.to_owned(), tokens));
        assert_eq!(tokens(&set, plan, user, "/"), Map::from(expected), "{plan} {user}");
    };
    is("free", "ab", [("minute", 3), ("hour", 5)]);
    is("pro", "ab", [("minute", 4), ("hour", 7)]);
    is("free", "ax", [("minute", 10), ("hour", 5)]);
    is("pro", "zz", [("minute", 50), ("hour", 7)]);
    assert!(tokens(&set, "all", "ab", "/").is_empty(), "an override adds no limit");
}

#[test]
fn what_is_counted_stays_the_same_unless_the_period_changes() {
    let plain = shop();
    let of = |set| bundle(set, &[("user", "ab"), ("path", "/")]).key_hash;
    let lowered = with(&plain, [to("minute", &["ab", "*"], 1)]);
    assert_eq!(of(&lowered), of(&plain));
    let numbers = Numbers { tokens: 10, period: Some(Period::Micros(2 * MINUTE_US)), burst: None };
    let longer = OverrideChange::Set(Override { target: target("minute", &["ab", "*"]), numbers });
    assert_ne!(of(&with(&plain, [longer])), of(&plain));
}

#[test]
fn everything_that_follows_from_the_numbers_follows() {
    let set = with(&shop(), [to("minute", &["ab", "*"], 6), to("pro/minute", &["b", "*"], 8)]);
    let free = bundle(&set, &[("user", "ab"), ("path", "/")]);
    assert_eq!((free.min_capacity, free.min_capacity_limit), (6, 0));
    assert_eq!((&*free.plan, &*free.limits[0].full_name), ("free", "free/minute"));
    assert!(free.limits[0].label.get().is_none(), "the label tells the limit, and is written anew");
    let share = free.local_layout.as_ref().expect("two replicas have three each").rules()[0];
    assert_eq!(share.capacity(), 3);
    let pro = bundle(&set, &[("user", "b"), ("path", "/"), ("plan", "pro")]);
    let Rule::TokenBucket(bucket) = pro.limits[1].limit.rule else { panic!("{:?}", pro.limits[1]) };
    assert_eq!(bucket.burst, 8, "as much as the limit, unless it is said");
    let tiny = with(&shop(), [to("minute", &["ab", "*"], 1)]);
    assert!(bundle(&tiny, &[("user", "ab"), ("path", "/")]).local_layout.is_none());
}

#[test]
fn limits_are_put_together_once_and_kept_when_others_change() {
    let set = with(&shop(), [to("minute", &["ab", "*"], 1), to("hour", &["*", "/x"], 2)]);
    let alone = |set| std::ptr::from_ref(bundle(set, &[("user", "ab"), ("path", "/")]));
    let both = |set| std::ptr::from_ref(bundle(set, &[("user", "ab"), ("path", "/x")]));
    assert_eq!((alone(&set), both(&set)), (alone(&set), both(&set)));
    let next = with(&set, [to("minute", &["cd", "*"], 3)]);
    assert_eq!(alone(&next), alone(&set), "this one is shared");
    assert_eq!(tokens(&next, "free", "ab", "/x"), tokens(&set, "free", "ab", "/x"));
}

#[test]
fn a_policy_with_more_limits_than_a_set_of_names_holds_is_overridden_all_the_same() {
    let names: Vec<_> = (0..100).map(|number| format!("limit{number:02}")).collect();
    let limits = names.iter().map(|name| limit(name, Algorithm::SlidingWindow, 10)).collect();
    let plain = set_of(policy(&["user"], &[("wide", limits)]));
    let specific = names.iter().skip(50).step_by(2).map(|name| to(name, &["ab"], 1));
    let general = names.iter().skip(50).map(|name| to(name, &["*"], 2));
    let set = with(&plain, specific.chain(general));
    let found = tokens(&set, "wide", "ab", "");
    for (place, name) in names.iter().enumerate() {
        let expected = if place < 50 { 10 } else { 1 + place as u64 % 2 };
        assert_eq!(found[name], expected, "{name}");
    }
}

#[test]
fn every_fault_of_every_change_is_told_and_the_rest_is_done() {
    let of = |namespace: &str, policy: &str| {
        let OverrideChange::Set(mut set) = to("minute", &["a", "b"], 1) else { panic!("set") };
        set.target.namespace = namespace.into();
        set.target.policy = policy.into();
        OverrideChange::Set(set)
    };
    let burst = Numbers { tokens: 5, period: Some(Period::Month), burst: Some(0) };
    let changes = vec![
        of("nowhere", "each"),
        of("shop", "nobody"),
        to("hour", &["ab", "*"], 7),
        to("second", &["*"], 0),
        to("basic/minute", &["a", "b"], 1),
        to("free/second", &["a", "b"], 1),
        to("minute", &["a", "b"], 0),
        OverrideChange::Set(Override { target: target("free/minute", &["a", "b"]), numbers: burst }),
        OverrideChange::Remove(target("minute", &["no", "such"])),
    ];
    let (set, faults) = shop().with_overrides(changes);
    let told: Vec<_> = faults.iter().map(|fault| (fault.index, fault.to_string())).collect();
    let expected = [
        (0, "namespace: no policy is declared in namespace \"nowhere\""),
        (1, "policy: there is no policy \"nobody\" in namespace \"shop\""),
        (3, "limit: no plan of policy \"each\" has a limit \"second\"; limits are hour, minute"),
        (3, "key: must have a pattern for each of 2 attributes of the key (user, path), has 1"),
        (4, "limit: policy \"each\" has no plan \"basic\""),
        (5, "limit: plan \"free\" has no limit \"second\"; limits are hour, minute"),
        (6, "tokens: must be 1 to 1000000000 tokens, is 0"),
        (7, "period: a calendar month needs the algorithm fixed_window"),
        (7, "burst: only a token_bucket has a burst"),
    ];
    let expected: Vec<_> = expected.into_iter().map(|(index, text)| (index, text.to_owned())).collect();
    assert_eq!(told, expected);
    assert_eq!(set.overrides().map(|of| of.target.limit.to_string()).collect::<Vec<_>>(), ["hour"]);
}

#[test]
fn shapes_of_keys_are_bounded_since_each_costs_a_look_up() {
    let prefix = |length: usize| format!("{}*", "x".repeat(length));
    let many = (1..=MAX_SHAPES).map(|length| to("minute", &[&prefix(length), "*"], 1));
    let set = with(&shop(), many);
    let (_, faults) = set.with_overrides([to("minute", &["more", "*"], 1)]);
    assert_eq!((faults[0].field, faults.len()), ("key", 1));
    let freed = with(&set, [OverrideChange::Remove(target("minute", &["x*", "*"]))]);
    with(&freed, [to("minute", &["more", "*"], 1), to("minute", &["another", "*"], 1)]);
}

#[test]
fn many_overrides_are_all_found_and_all_can_be_taken_out() {
    let names: Vec<_> = (0..5_000).map(|number| format!("user{number}")).collect();
    let set = with(&shop(), names.iter().zip(1..).map(|(name, number)| to("minute", &[name, "*"], number)));
    assert_eq!(set.overrides_len(), names.len());
    for (name, number) in names.iter().zip(1..) {
        assert_eq!(tokens(&set, "free", name, "/")["minute"], number);
    }
    let none = with(&set, names.iter().map(|name| OverrideChange::Remove(target("minute", &[name, "*"]))));
    assert_eq!((none.overrides_len(), none.overrides().count()), (0, 0));
    assert_eq!(tokens(&none, "free", "user7", "/")["minute"], 10);
    assert_eq!(tokens(&set, "free", "user7", "/")["minute"], 8, "the set before is as it was");
}

const VALUES: [&str; 6] = ["x", "xy", "xyz", "xé", "é", "z"];
const PATTERNS: [&str; 9] = ["*", "x*", "xy*", "xyz*", "é*", "x", "xy", "xé", "z"];
const LIMITS: [&str; 6] = ["minute", "hour", "free/minute", "free/hour", "pro/minute", "pro/hour"];
const PLANS: [&str; 3] = ["free", "pro", "all"];

/// Goes through all overrides for each limit, and sorts those that match by what they say.
fn oracle(
    overrides: &[Override],
    plain: &Map<String, u64>,
    plan: &str,
    values: [&str; 2],
) -> Map<String, u64> {
    let specificity = |set: &&Override| {
        let of = |pattern: &Pattern| match pattern {
            Pattern::Exact(_) => (0, Reverse(0)),
            Pattern::Prefix(prefix) => (1, Reverse(prefix.len())),
            Pattern::Present => (2, Reverse(0)),
        };
        (of(&set.target.key[0]), of(&set.target.key[1]), !set.target.limit.contains('/'))
    };
    let replaced = plain.iter().map(|(name, tokens)| {
        let meant = overrides.iter().filter(|set| {
            let named = *set.target.limit == **name || *set.target.limit == format!("{plan}/{name}");
            named && set.target.key.iter().zip(values).all(|(pattern, value)| pattern.matches(value))
        });
        (name.clone(), meant.min_by_key(specificity).map_or(*tokens, |set| set.numbers.tokens))
    });
    replaced.collect()
}

prop_compose! {
    fn change()(
        limit in select(&LIMITS[..]),
        user in select(&PATTERNS[..]),
        path in select(&PATTERNS[..]),
        tokens in proptest::option::weighted(0.8, 1_u64..500),
    ) -> OverrideChange {
        match tokens {
            Some(tokens) => to(limit, &[user, path], tokens),
            None => OverrideChange::Remove(target(limit, &[user, path])),
        }
    }
}

fn agrees(set: &PolicySet, overrides: &[Override]) {
    for plan in PLANS {
        let plain = tokens(&shop(), plan, "nobody", "/");
        for (user, path) in VALUES.iter().flat_map(|user| VALUES.map(|path| (*user, path))) {
            let expected = oracle(overrides, &plain, plan, [user, path]);
            assert_eq!(tokens(set, plan, user, path), expected, "{plan} {user} {path}: {overrides:?}");
        }
    }
    let text = |of: &Override| format!("{of:?}");
    let (mut found, mut expected): (Vec<_>, Vec<_>) =
        (set.overrides().map(|of| text(&of)).collect(), overrides.iter().map(text).collect());
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn subjects_have_the_limits_that_going_through_all_overrides_finds(
        steps in proptest::collection::vec(proptest::collection::vec(change(), 1..8), 1..6),
    ) {
        let mut set = shop();
        let mut overrides: Vec<Override> = Vec::new();
        for changes in steps {
            let before = overrides.clone();
            for change in &changes {
                overrides.retain(|of| of.target != *change.target());
                if let OverrideChange::Set(of) = change {
                    overrides.push(of.clone());
                }
            }
            let next = with(&set, changes);
            agrees(&next, &overrides);
            agrees(&set, &before);
            set = next;
        }
    }
}
