use std::fs;

use rstest::rstest;

use super::{LIMITS, one};
use crate::policies::{PolicyError, load, log_faults, parse};

fn faults(text: &str) -> Vec<String> {
    let errors = parse(text, "policies.toml", 1).expect_err("refused");
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn every_fault_of_a_file_is_listed_with_its_place() {
    let text = r#"
        builtin = "no"
        surprise = 1

        [defaults]
        enforcement = "sometimes"

        [[plans]]
        name = "Gold"
        limits = [
            { name = "minute", limit = 0, period = "1m" },
            { name = "minute", limit = 10, period = "1 m", burst = 3 },
            { limit = "ten", algorithm = "leaky_bucket" },
        ]

        [[plans]]
        name = "silver"

        [[plans]]
        name = "silver"
        unlimited = true

        [[policies]]
        name = "calls"
        namespace = "a b"
        match = { path = [], method = ["*T", 5], "bad name" = "x", host = "" }
        when = 'attributes.path > 3 && hour == 7'
        key_by = ["organization", "organization"]
        plan = { attribute = "plan", default = "platinum" }

        [[policies]]
        namespace = "test"
        key_by = "organization"
        plan = "bronze"
        limits = []

        [assignments.user]
        ann = "platinum"
    "#;
    assert_eq!(
        faults(text),
        [
            "builtin: must be true or false, is a string",
            "defaults.enforcement: must be one of enforce, shadow, off, is \"sometimes\"",
            "plans[0].name: must be 1 to 64 of a-z 0-9 . _ -, is \"Gold\"",
            "plans[0].limits[0].limit: must be 1 to 1000000000 tokens, is 0",
            "plans[0].limits[1].name: there is already a limit \"minute\" here",
            "plans[0].limits[1].period: must be whole numbers with units (ms, s, m, h, d, w or 1mo), as \"1m\" or \
             \"1h30m\", is \"1 m\"",
            "plans[0].limits[1].burst: only a token_bucket has a burst",
            "plans[0].limits[2].name: is missing",
            "plans[0].limits[2].algorithm: must be one of sliding_window, sliding_log, token_bucket, fixed_window, \
             concurrency, is \"leaky_bucket\"",
            "plans[0].limits[2].limit: must be an integer, is a string",
            "plans[0].limits[2].period: is missing",
            "plans[1]: needs either limits or unlimited = true",
            "policies[0].namespace: must be 1 to 128 of A-Z a-z 0-9 . _ / -, is \"a b\"",
            "policies[0].match.\"bad name\": names of attributes are 1 to 64 of A-Z a-z 0-9 . _ -, is \"bad name\"",
            "policies[0].match.host: must not be empty: an attribute with an empty value counts as absent",
            "policies[0].match.method[0]: a * can only be the last character, is \"*T\"",
            "policies[0].match.method[1]: must be a string, is an integer",
            "policies[0].match.path: is empty and would never match",
            "policies[0].when: > cannot be applied to a string and an int",
            "policies[0].when: there is no variable \"hour\"; there are attributes and cost",
            "policies[0].key_by[1]: \"organization\" is already part of the key",
            "policies[1].name: is missing",
            "policies[1].key_by: must be a list, is a string",
            "policies[1]: needs exactly one of plan, limits and unlimited = true",
            "policies[1].limits: is empty; write unlimited = true if nothing is to be limited",
            "surprise: is not a known key; known here: builtin, defaults, plans, policies, assignments, namespaces, overrides",
            "plans[2].name: there is already a plan \"silver\"",
            "policies[0].plan.default: there is no plan \"platinum\"; plans are Gold, business, enterprise, free, \
             silver, startup",
            "policies[1].plan: there is no plan \"bronze\"; plans are Gold, business, enterprise, free, silver, startup",
            "assignments.user.ann: there is no plan \"platinum\"; plans are Gold, business, enterprise, free, \
             silver, startup",
        ]
    );
}

#[rstest]
#[case::an_expression_that_is_none(
    "when = 'cost >'",
    "policies[0].when: is not a CEL expression: line 1, column 7: mismatched input '<EOF>'"
)]
#[case::an_expression_that_is_no_bool("when = 'cost + 1'", "policies[0].when: must be a bool, is an int")]
#[case::an_expression_that_is_no_string("when = true", "policies[0].when: must be a string, is a boolean")]
#[case::a_value_too_long(
    &format!("match = {{ path = '{}' }}", "x".repeat(513)),
    "policies[0].match.path: must be at most 512 bytes, is 513"
)]
#[case::a_condition_that_is_none("match = 'POST'", "policies[0].match: must be a table, is a string")]
#[case::too_many_values(
    &format!("match = {{ path = [{}] }}", "'a', ".repeat(1_001)),
    "policies[0].match.path: at most 1000 values, are 1001"
)]
#[case::too_many_conditions(
    &format!("match = {{ {} }}", (0..65).map(|n| format!("a{n} = '*'")).collect::<Vec<_>>().join(", ")),
    "policies[0].match: at most 64 conditions, are 65"
)]
#[case::an_unknown_mode(
    "failure_mode = 'ajar'",
    "policies[0].failure_mode: must be one of closed, open, local, is \"ajar\""
)]
fn is_refused_in_a_policy(#[case] line: &str, #[case] fault: &str) {
    assert_eq!(faults(&one(&format!("key_by = []\n{line}\n{LIMITS}"))), [fault]);
}

#[rstest]
#[case::nothing("[]", &["policies[0].descriptor: must be 1 to 16 entries, are 0"])]
#[case::no_key("[{ value = 'a' }]", &["policies[0].descriptor[0].key: is missing"])]
#[case::one_value_that_is_shared(
    "[{ key = 'path', value = 'a', shared = true }]",
    &["policies[0].descriptor[0].shared: is for what many values fit, and there is one here"]
)]
#[case::taking_the_place_of_nobody(
    "[{ key = 'path' }]\nreplaces = ['one', 'two']",
    &[
        "policies[0].replaces[0]: there is no other policy \"one\" with a descriptor in its namespace",
        "policies[0].replaces[1]: there is no other policy \"two\" with a descriptor in its namespace",
    ]
)]
#[case::a_misspelt_key(
    "[{ key = 'path', valeu = 'a' }]",
    &["policies[0].descriptor[0].valeu: is not a known key; known here: key, value, shared"]
)]
#[case::beside_a_match(
    "[{ key = 'path' }]\nmatch = { path = '*' }\nkey_by = []",
    &[
        "policies[0].match: does not go with descriptor, which says both what it is for and its key",
        "policies[0].key_by: does not go with descriptor, which says both what it is for and its key",
    ]
)]
fn is_refused_as_a_descriptor(#[case] descriptor: &str, #[case] expected: &[&str]) {
    assert_eq!(faults(&one(&format!("descriptor = {descriptor}\n{LIMITS}"))), expected);
}

#[test]
fn only_policies_with_a_descriptor_deny_all_or_take_the_place_of_others() {
    let nothing = "limits = [{ name = 'minute', limit = 0, period = '1m' }]";
    assert_eq!(
        faults(&one(&format!("key_by = []\nreplaces = []\n{nothing}"))),
        [
            "policies[0].replaces: goes only with descriptor",
            "policies[0].limits[0].limit: must be 1 to 1000000000 tokens, is 0"
        ]
    );
    for nothing in [nothing, "limits = [{ name = 'minute', rate = '0/min' }]"] {
        let set =
            parse(&one(&format!("descriptor = [{{ key = 'path' }}]\n{nothing}")), "test", 1).expect("valid");
        let policy = set.namespace("test").and_then(|of| of.policy("one")).expect("declared");
        assert_eq!(policy.tariff.bundles()[0].min_capacity, 0, "{nothing}");
    }
}

#[test]
fn policies_may_not_take_the_place_of_each_other_in_a_circle() {
    let policy = |name: &str, replaces: &str| {
        format!(
            "[[policies]]\nname = '{name}'\nnamespace = 'test'\ndescriptor = [{{ key = '{name}' }}]\n\
             replaces = [{replaces}]\n{LIMITS}\n"
        )
    };
    let of = |policies: [(&str, &str); 4]| policies.map(|(name, replaces)| policy(name, replaces)).concat();
    assert_eq!(
        faults(&of([("a", "'c', 'b'"), ("b", "'d'"), ("c", ""), ("d", "'a', 'c'")])),
        [
            "policies[0].replaces[1]: \"b\" takes the place of \"a\" in turn, so neither would apply",
            "policies[1].replaces[0]: \"d\" takes the place of \"b\" in turn, so neither would apply",
            "policies[3].replaces[0]: \"a\" takes the place of \"d\" in turn, so neither would apply",
        ]
    );
    parse(&of([("a", "'c', 'b'"), ("b", "'d'"), ("c", "'d'"), ("d", "")]), "test", 1).expect("no circle");
}

#[test]
fn leases_that_nobody_could_release_are_refused() {
    let limits = "limits = [{ name = 'l', algorithm = 'concurrency', limit = 1, lease = '1m' }]";
    assert_eq!(
        faults(&one(&format!("descriptor = [{{ key = 'path' }}]\n{limits}"))),
        ["policies[0].limits: who asks by a descriptor cannot release a lease; limit rates here"]
    );
}

#[test]
fn namespace_without_policies_is_a_misspelt_one() {
    let text =
        format!("{}\n[namespaces.edgy]\nenvoy_compatible = true", one(&format!("key_by = []\n{LIMITS}")));
    assert_eq!(faults(&text), ["namespaces.edgy: no policy is declared in namespace \"edgy\""]);
}

#[rstest]
#[case::too_many(
    &format!("[{}]", (0..17).map(|n| format!("{{ name = 'l{n}', limit = 1, period = '1m' }}, ")).collect::<String>()),
    "policies[0].limits: at most 16 limits, are 17"
)]
#[case::a_log_too_long(
    "[{ name = 'l', algorithm = 'sliding_log', limit = 1_001, period = '1m' }]",
    "policies[0].limits[0].limit: a sliding_log keeps every admission and holds at most 1000 tokens; use sliding_window"
)]
#[case::a_month_that_slides(
    "[{ name = 'l', limit = 1, period = '1mo' }]",
    "policies[0].limits[0].period: a calendar month needs the algorithm fixed_window"
)]
#[case::a_period_too_short(
    "[{ name = 'l', limit = 1, period = '0s' }]",
    "policies[0].limits[0].period: must be 1ms to 3650d"
)]
#[case::a_negative_limit(
    "[{ name = 'l', limit = -1, period = '1m' }]",
    "policies[0].limits[0].limit: must be 1 to 1000000000 tokens, is -1"
)]
#[case::a_limit_too_large(
    "[{ name = 'l', limit = 1_000_000_001, period = '1m' }]",
    "policies[0].limits[0].limit: must be 1 to 1000000000 tokens, is 1000000001"
)]
#[case::too_many_leases(
    "[{ name = 'l', algorithm = 'concurrency', limit = 1_001, lease = '1m' }]",
    "policies[0].limits[0].limit: a concurrency limit keeps every lease and holds at most 1000 tokens"
)]
#[case::a_lease_too_long(
    "[{ name = 'l', algorithm = 'concurrency', limit = 1, lease = '25h' }]",
    "policies[0].limits[0].lease: must be 1ms to 1d; a lease is renewed to last longer"
)]
#[case::a_lease_of_a_week(
    "[{ name = 'l', algorithm = 'concurrency', limit = 1, lease = '1w' }]",
    "policies[0].limits[0].lease: must be 1ms to 1d; a lease is renewed to last longer"
)]
#[case::a_period_of_leases(
    "[{ name = 'l', algorithm = 'concurrency', limit = 1, lease = '1m', period = '1m' }]",
    "policies[0].limits[0].period: is not a known key; known here: name, algorithm, limit, lease, burst"
)]
#[case::a_lease_of_a_rate(
    "[{ name = 'l', limit = 1, period = '1m', lease = '1m' }]",
    "policies[0].limits[0].lease: is not a known key; known here: name, algorithm, rate, limit, period, burst"
)]
#[case::no_lease(
    "[{ name = 'l', algorithm = 'concurrency', limit = 1 }]",
    "policies[0].limits[0].lease: is missing"
)]
#[case::a_fraction(
    "[{ name = 'l', limit = 1.5, period = '1m' }]",
    "policies[0].limits[0].limit: must be an integer, is a float"
)]
fn is_refused_in_limits(#[case] limits: &str, #[case] fault: &str) {
    assert_eq!(faults(&one(&format!("key_by = []\nlimits = {limits}"))), [fault]);
}

#[rstest]
#[case::no_toml("a = 1\nb = = 2", "line 2, column 5: ")]
#[case::a_repeated_key("a = 1\na = 2", "line 2, column 1: duplicate key")]
#[case::a_bomb_of_lists(&format!("a = {}", "[".repeat(100_000)), "line 1, column 85: cannot recurse further; max recursion depth met")]
#[case::a_bomb_of_tables(&format!("a = {}", "{a=".repeat(100_000)), "line 1, column 245: cannot recurse further; max recursion depth met")]
#[case::an_assignment_that_no_policy_looks_at(
    "[assignments.organisation]\nacme = 'free'",
    "assignments.organisation: no policy that takes its plan from an attribute has \"organisation\" in key_by"
)]
#[case::a_repeated_policy(
    "[[policies]]\nname = 'a'\nnamespace = 'n'\nunlimited = true\n[[policies]]\nname = 'a'\nnamespace = 'n'\nunlimited = true",
    "policies[1].name: there is already a policy \"a\" in namespace \"n\""
)]
#[case::a_policy_without_a_key(
    "[[policies]]\nname = 'a'\nnamespace = 'n'\nplan = 'free'",
    "policies[0].key_by: is missing; write key_by = [] to count the whole namespace together"
)]
fn is_refused_as_a_file(#[case] text: &str, #[case] fault: &str) {
    let faults = faults(text);
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].starts_with(fault), "{faults:?}");
}

#[test]
fn too_many_pairs_of_plans_and_policies_are_refused() {
    let plans: String = (0..1_000).map(|n| format!("[[plans]]\nname = 'p{n}'\nunlimited = true\n")).collect();
    let policies: String = (0..1_000)
        .map(|n| {
            format!(
                "[[policies]]\nname = 'p{n}'\nnamespace = 'n'\nkey_by = []\n\
                 plan = {{ attribute = 'plan', default = 'free' }}\n"
            )
        })
        .collect();
    assert_eq!(
        faults(&["builtin = false\n", &plans, &policies].concat()),
        [
            "policies: at most 1000000 pairs of a plan and a policy that takes its plan from an attribute, are 1000 × 1004"
        ]
    );
}

#[test]
fn a_file_that_cannot_be_read_is_one_fault() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("policies.toml");
    let error = load(&path, 1).expect_err("absent").to_string();
    let expected = format!("{}: cannot be read: No such file or directory (os error 2)", path.display());
    assert_eq!(error, expected);
    fs::write(&path, b"# caf\xc3\xa9\n# caf\xe9\n").expect("the folder can be written");
    let error = load(&path, 1).expect_err("Latin-1").to_string();
    assert_eq!(error, format!("{}: line 2, column 6: is not UTF-8", path.display()));
}

#[test]
fn faults_are_shown_one_per_line_with_the_file() {
    let errors = parse("a = 1\nb = 2", "policies.toml", 1).expect_err("refused").to_string();
    let known = "is not a known key; known here: builtin, defaults, plans, policies, assignments, namespaces, overrides";
    assert_eq!(errors, format!("policies.toml: a: {known}\npolicies.toml: b: {known}"));
}

#[rstest]
#[case::of_its_own_limits(
    LIMITS,
    "{ upgrade_plan = 'startup' }",
    ".upgrade_plan: is only for a policy that takes its plan from an attribute"
)]
#[case::of_one_plan(
    "plan = 'free'",
    "{ upgrade_plan = 'startup' }",
    ".upgrade_plan: is only for a policy that takes its plan from an attribute"
)]
#[case::to_no_plan(
    "plan = { attribute = 'plan', default = 'free' }",
    "{ upgrade_plan = 'gold' }",
    ".upgrade_plan: there is no plan \"gold\"; plans are business, enterprise, free, startup"
)]
#[case::to_nothing("plan = { attribute = 'plan', default = 'free' }", "{ }", ".upgrade_plan: is missing")]
#[case::otherwise(
    "plan = { attribute = 'plan', default = 'free' }",
    "{ upgrade_plan = 'startup', mail = 'ann' }",
    ".mail: is not a known key; known here: upgrade_plan"
)]
fn an_action_is_refused(#[case] limits: &str, #[case] action: &str, #[case] fault: &str) {
    let text = one(&format!("key_by = ['user']\n{limits}\non_limit = {action}"));
    assert_eq!(faults(&text), [format!("policies[0].on_limit{fault}")]);
}

#[rstest]
#[case::of_its_own("", "on_data_loss = 'strict'\nfailure_mode = 'open'")]
#[case::with_a_share("", "on_data_loss = 'strict'\nfailure_mode = 'local'")]
#[case::by_default("[defaults]\non_data_loss = 'strict'\n", "failure_mode = 'local'")]
#[case::in_shadow("[defaults]\nfailure_mode = 'local'\n", "on_data_loss = 'strict'\nenforcement = 'shadow'")]
fn policy_that_is_strict_about_losses_admits_nothing_without_its_store(
    #[case] defaults: &str,
    #[case] fields: &str,
) {
    let text = one(&format!("{fields}\nkey_by = []\n{LIMITS}"));
    let faults = faults(&format!("{defaults}{text}"));
    assert!(
        matches!(&faults[..], [fault] if fault.starts_with("policies[0].on_data_loss: strict needs failure_mode closed:")),
        "{faults:?}"
    );
}

#[test]
fn a_log_is_not_filled_by_one_file() {
    let fault = |number: usize| PolicyError {
        path: format!("overrides[{number}]"),
        description: "is odd".to_owned(),
    };
    for (count, logged) in [(3, 3), (100, 100), (100_000, 100)] {
        let faults: Vec<_> = (0..count).map(fault).collect();
        let seen = std::cell::Cell::new(0);
        log_faults(&faults, |_| seen.set(seen.get() + 1));
        assert_eq!(seen.get(), logged);
    }
}
