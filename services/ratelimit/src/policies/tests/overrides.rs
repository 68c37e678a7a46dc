//! Overrides and rates as they are written.

use rstest::rstest;

use super::{limits_met, one, read};
use crate::policies::{parse, spelt_out};

/// A policy by two attributes that takes its plan from a third.
const SHOP: &str = "
[[plans]]
name = 'gold'
limits = [{ name = 'minute', algorithm = 'token_bucket', rate = '50/min' }]

[[policies]]
name = 'one'
namespace = 'test'
key_by = ['user', 'path']
plan = { attribute = 'plan', default = 'free' }
";

fn with(overrides: &str) -> String {
    format!("builtin = false\n{SHOP}\n{overrides}")
}

fn faults(text: &str) -> Vec<String> {
    let errors = parse(text, "policies.toml", 1).expect_err("refused");
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn overrides_count_for_whom_they_are_written() {
    let set = read(&with(
        "
        [[overrides]]
        namespace = 'test'
        policy = 'one'
        limit = 'minute'
        key = { path = '/v1/*', user = 'ann' }
        rate = '7/min'

        [[overrides]]
        namespace = 'test'
        policy = 'one'
        limit = 'free/hour'
        key = ['*', '*']
        tokens = 70

        [[overrides]]
        namespace = 'test'
        policy = 'one'
        limit = 'gold/minute'
        key = ['bob', '*']
        tokens = 8
        period = '1m'
        burst = 9
        ",
    ));
    let met = |user, path, plan| limits_met(&set, &[("user", user), ("path", path), ("plan", plan)]);
    assert_eq!(met("ann", "/v1/a", "free"), ["free/minute 7", "free/hour 70", "free/day 1000"]);
    assert_eq!(met("ann", "/v2", "free"), ["free/minute 10", "free/hour 70", "free/day 1000"]);
    assert_eq!(met("ann", "/v1/a", "startup"), ["startup/minute 7", "startup/hour 500", "startup/day 5000"]);
    assert_eq!(met("ann", "/v1/a", "gold"), ["gold/minute 7"]);
    assert_eq!(met("bob", "/", "gold"), ["gold/minute 8"]);
    assert_eq!(set.overrides_len(), 3);
}

#[test]
fn an_override_of_a_policy_for_descriptors_names_the_values_in_their_order() {
    let set = read(
        "
        [[policies]]
        name = 'nested'
        namespace = 'test'
        descriptor = [{ key = 'path' }, { key = 'path' }]
        limits = [{ name = 'minute', rate = '5/min' }]

        [[overrides]]
        namespace = 'test'
        policy = 'nested'
        limit = 'minute'
        key = ['a', 'b*']
        tokens = 3
        ",
    );
    let met = |first, second| {
        let mut found = smallvec::SmallVec::new();
        let entries = [("path", first), ("path", second)];
        let namespace = set.namespace("test").expect("declared");
        namespace.matching_descriptor(&entries[..], 1, &mut found).expect("no plan");
        found[0].bundle.limits[0].limit.limit
    };
    assert_eq!((met("a", "bc"), met("bc", "a"), met("a", "a")), (3, 5, 5));
}

#[test]
fn every_fault_of_overrides_is_listed_with_its_place() {
    let text = with(
        "
        [[overrides]]
        namespace = 'test'
        key = { user = 'a*b', path = 3 }
        tokens = 0
        period = 'soon'
        surprise = 1

        [[overrides]]
        namespace = 'test'
        policy = 'one'
        limit = 'minute'
        key = 'ann'
        rate = '5/min'
        tokens = 5
        period = '1m'

        [[overrides]]
        namespace = 'test'
        policy = 'one'
        limit = 'minute'
        key = ['a', '']
        rate = 'often'
        burst = -1
        ",
    );
    assert_eq!(
        faults(&text),
        [
            "overrides[0].policy: is missing",
            "overrides[0].limit: is missing",
            "overrides[0].key.path: must be a string, is an integer",
            "overrides[0].key.user: a * can only be the last character, is \"a*b\"",
            "overrides[0].tokens: must be 1 to 1000000000 tokens, is 0",
            "overrides[0].period: must be whole numbers with units (ms, s, m, h, d, w or 1mo), as \"1m\" or \"1h30m\", is \
             \"soon\"",
            "overrides[0].surprise: is not a known key; known here: namespace, policy, limit, key, rate, tokens, \
             period, burst",
            "overrides[1].key: must be a table of attributes, or a list in the order of key_by, is a string",
            "overrides[1].tokens: does not go with rate, which says both",
            "overrides[1].period: does not go with rate, which says both",
            "overrides[2].key[1]: must not be empty: an attribute with an empty value counts as absent",
            "overrides[2].rate: must be tokens per unit or period, as \"60/min\" or \"100/5m\", is \"often\"",
            "overrides[2].burst: must be 1 to 1000000000 tokens, is -1",
        ]
    );
}

#[test]
fn what_overrides_say_of_policies_is_checked_for_each() {
    let one = |lines: &str| format!("[[overrides]]\nnamespace = 'test'\npolicy = 'one'\n{lines}\n");
    let overrides = [
        one("limit = 'minute'\nkey = ['ann', '*']\ntokens = 5"),
        one("limit = 'minute'\nkey = { user = 'ann', path = '*' }\ntokens = 6"),
        one("limit = 'minute'\nkey = { user = 'ann', host = '*' }\ntokens = 5"),
        one("limit = 'second'\nkey = ['ann', 'b']\ntokens = 5"),
        one("limit = 'platinum/minute'\nkey = ['ann']\ntokens = 5"),
        one("limit = 'hour'\nkey = ['ann', 'b']\nrate = '5/month'\nburst = 3"),
        one("limit = 'minute'\nkey = ['ann', 'b']\ntokens = 5").replace("'one'", "'two'"),
        one("limit = 'minute'\nkey = ['ann', 'b']\ntokens = 5").replace("'test'", "'tests'"),
    ];
    assert_eq!(
        faults(&with(&overrides.concat())),
        [
            "overrides[1]: there is already an override of this limit for this key",
            "overrides[2].key: says nothing of \"path\"; write \"*\" if any value is meant",
            "overrides[2].key.host: \"host\" is no part of the key, which is made of user, path",
            "overrides[6].policy: there is no policy \"two\" in namespace \"test\"",
            "overrides[7].namespace: no policy is declared in namespace \"tests\"",
            "overrides[3].limit: no plan of policy \"one\" has a limit \"second\"; limits are day, hour, minute",
            "overrides[4].limit: policy \"one\" has no plan \"platinum\"",
            "overrides[4].key: must have a pattern for each of 2 attributes of the key (user, path), has 1",
            "overrides[5].rate: a calendar month needs the algorithm fixed_window",
            "overrides[5].burst: only a token_bucket has a burst",
        ]
    );
}

#[test]
fn faults_of_overrides_are_told_together_with_all_others_but_those_of_faulty_policies() {
    let of = |policy: &str, lines: &str| {
        format!("[[overrides]]\nnamespace = 'test'\npolicy = '{policy}'\nlimit = 'minute'\n{lines}\n")
    };
    let policy = |name: &str, period: &str| {
        format!(
            "[[policies]]\nname = '{name}'\nnamespace = 'test'\nkey_by = ['user']\n\
             limits = [{{ name = 'minute', limit = 5, period = '{period}' }}]\n"
        )
    };
    let text = [
        policy("faulty", "soon"),
        policy("sound", "1m"),
        of("missing", "key = ['ann']\ntokens = 5"),
        of("sound", "key = ['ann', 'bob']\ntokens = 5"),
        of("sound", "key = ['ann']\ntokens = 5").replace("'minute'", "'hour'"),
        of("sound", "key = { path = '/' }\nrate = 'often'"),
        of("faulty", "key = { path = '/' }\ntokens = 5").replace("'minute'", "'hour'"),
    ];
    assert_eq!(
        faults(&with(&text.concat())),
        [
            "policies[1].limits[0].period: must be whole numbers with units (ms, s, m, h, d, w or 1mo), as \"1m\" or \
             \"1h30m\", is \"soon\"",
            "overrides[3].rate: must be tokens per unit or period, as \"60/min\" or \"100/5m\", is \"often\"",
            "overrides[0].policy: there is no policy \"missing\" in namespace \"test\"",
            "overrides[3].key: says nothing of \"user\"; write \"*\" if any value is meant",
            "overrides[3].key.path: \"path\" is no part of the key, which is made of user",
            "overrides[1].key: must have a pattern for each of 1 attributes of the key (user), has 2",
            "overrides[2].limit: no plan of policy \"sound\" has a limit \"hour\"; limits are minute",
        ]
    );
}

#[rstest]
#[case::in_place_of_both("rate = '60/min'", "one/minute 60")]
#[case::with_a_burst("algorithm = 'token_bucket', rate = '100/5m', burst = 7", "one/minute 100")]
fn a_limit_may_be_written_as_a_rate(#[case] limit: &str, #[case] met: &str) {
    let set = read(&one(&format!("key_by = []\nlimits = [{{ name = 'minute', {limit} }}]")));
    assert_eq!(limits_met(&set, &[]), [met]);
}

#[rstest]
#[case::beside_what_it_says("rate = '5/s', limit = 5", "limit: does not go with rate, which says both")]
#[case::of_nothing("rate = '0/s'", "rate: must be 1 to 1000000000 tokens, is 0")]
#[case::that_the_algorithm_cannot_count(
    "rate = '5/month'",
    "rate: a calendar month needs the algorithm fixed_window"
)]
#[case::not_a_text("rate = 5", "rate: must be a string, is an integer")]
fn a_faulty_rate_is_refused(#[case] limit: &str, #[case] fault: &str) {
    let text = one(&format!("key_by = []\nlimits = [{{ name = 'minute', {limit} }}]"));
    assert_eq!(faults(&text), [format!("policies[0].limits[0].{fault}")]);
}

#[test]
fn overrides_that_say_the_same_are_spelt_out_the_same() {
    let told = |key: &str, numbers: &str| {
        let text = format!("namespace = 'test'\npolicy = 'one'\nlimit = 'minute'\nkey = {key}\n{numbers}");
        spelt_out(text.parse().expect("TOML"))
    };
    let key = "{ user = 'ann', path = '/v1/*' }";
    let as_rate = told(key, "rate = '60/min'\nburst = 90");
    let expected = "namespace = 'test'\npolicy = 'one'\nlimit = 'minute'\nkey = { path = '/v1/*', user = 'ann' }\ntokens = 60\nperiod = '1m'\nburst = 90";
    assert_eq!(as_rate, Some(expected.parse().expect("TOML")));
    assert_eq!(told(key, "burst = 90\ntokens = 60\nperiod = '60s'"), as_rate);
    for other in ["tokens = 60\nburst = 90", "rate = '60/min'", "rate = '60/2m'\nburst = 90"] {
        assert!(told(key, other).is_some() && told(key, other) != as_rate, "{other}");
    }
    assert_ne!(told("{ user = 'ann', path = '/v1' }", "rate = '60/min'\nburst = 90"), as_rate);
    assert_eq!(told("['ann', '/v1/*']", "tokens = 60"), None, "it does not say which attributes");
    assert_eq!(told(key, "tokens = 0"), None);
}
