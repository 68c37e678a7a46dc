mod derivations;
mod faults;
mod overrides;
mod reference;

use rstest::rstest;
use smallvec::SmallVec;

use super::*;
use crate::domain::{Bundle, Match, Tariff, UnknownPlan};

/// One policy in namespace `test`, whose further lines are `lines`.
fn one(lines: &str) -> String {
    format!("[[policies]]\nname = \"one\"\nnamespace = \"test\"\n{lines}\n")
}

const LIMITS: &str = "limits = [{ name = \"minute\", limit = 10, period = \"1m\" }]";

fn read(text: &str) -> PolicySet {
    parse(text, "policies.toml", 1).unwrap_or_else(|errors| panic!("{errors}"))
}

fn matches<'p>(
    set: &'p PolicySet,
    attributes: &[(&str, &str)],
    cost: u64,
) -> Result<Vec<Match<'p>>, UnknownPlan> {
    let mut found = SmallVec::new();
    set.namespace("test").expect("it has policies").matching(attributes, cost, &mut found)?;
    Ok(found.into_vec())
}

/// The limits a request meets, as `plan/limit tokens`.
fn limits_met(set: &PolicySet, attributes: &[(&str, &str)]) -> Vec<String> {
    let matches = matches(set, attributes, 1).expect("known plans");
    let limits = matches.iter().flat_map(|found| found.bundle.limits.iter());
    limits.map(|limit| format!("{} {}", limit.full_name, limit.limit.limit)).collect()
}

fn summary(text: &str) -> Vec<String> {
    let rows = read(&format!("builtin = false\n{text}")).summary();
    let shown = rows.iter().map(|row| {
        let PolicySummary { name, match_, key_by, limits, enforcement, failure_mode, .. } = row;
        format!("{name}; {match_}; {key_by}; {limits}; {enforcement}; {failure_mode}")
    });
    shown.collect()
}

#[rstest]
#[case::limits_of_its_own(
    "key_by = ['organization']\nlimits = [
        { name = 'second', limit = 3, period = '1s' },
        { name = 'burst', algorithm = 'token_bucket', limit = 5, period = '1s', burst = 20 },
        { name = 'month', algorithm = 'fixed_window', limit = 100_000, period = '1mo' },
    ]",
    "one; -; organization; second 3/1s, burst 5/1s token_bucket burst 20, month 100000/1mo fixed_window; enforce; closed"
)]
#[case::a_plan(
    "key_by = []\nplan = 'free'",
    "one; -; -; plan free: minute 10/1m, hour 100/1h, day 1000/1d; enforce; closed"
)]
#[case::the_plan_of_the_caller(
    "key_by = ['organization']\nplan = { attribute = 'plan', default = 'startup' }",
    "one; -; organization; plan by plan, else startup: minute 30/1m, hour 500/1h, day 5000/1d; enforce; closed"
)]
#[case::nothing("unlimited = true", "one; -; -; unlimited; enforce; closed")]
#[case::conditions(
    "key_by = ['ip', 'user']\nmatch = { path = ['/v2/*', '/v1/a'], method = 'POST', host = '*' }
     when = 'cost > 100'\nenforcement = 'shadow'\nfailure_mode = 'local'\nunlimited = true",
    "one; host = *, method = POST, path = /v1/a | /v2/*, when cost > 100; ip, user; unlimited; shadow; local"
)]
fn a_policy_may_have(#[case] lines: &str, #[case] shown: &str) {
    assert_eq!(summary(&one(lines)), [shown]);
}

#[test]
fn defaults_are_for_policies_that_do_not_say_otherwise() {
    let defaults = "[defaults]\nenforcement = 'off'\nfailure_mode = 'open'\n";
    let plain = one("unlimited = true");
    let other =
        one("unlimited = true\nenforcement = 'enforce'\nfailure_mode = 'local'").replace("one", "two");
    assert_eq!(
        summary(&[defaults, &plain, &other].concat()),
        ["one; -; -; unlimited; off; open", "two; -; -; unlimited; enforce; local"]
    );
}

#[rstest]
#[case::both_hold("/v1/export", 1, true)]
#[case::the_expression_does_not("/v1/things", 1, false)]
#[case::the_expression_does_for_the_cost("/v1/things", 11, true)]
#[case::the_condition_does_not("/v2/export", 11, false)]
fn an_expression_holds_beside_the_conditions(#[case] path: &str, #[case] cost: u64, #[case] applies: bool) {
    let when = "when = 'cost > 10 || attributes.path.endsWith(\"/export\")'";
    let set =
        read(&one(&format!("key_by = ['organization']\nmatch = {{ path = '/v1/*' }}\n{when}\n{LIMITS}")));
    let attributes = [("organization", "acme"), ("path", path)];
    assert_eq!(matches(&set, &attributes, cost).expect("no plan is asked for").len(), usize::from(applies));
}

#[test]
fn an_expression_over_an_absent_attribute_leaves_the_other_policies_alone() {
    let asking = one(&format!("key_by = []\nwhen = 'attributes.region != \"eu\"'\n{LIMITS}"));
    let set = read(&[asking.replace("one", "asking"), one(&format!("key_by = []\n{LIMITS}"))].concat());
    assert_eq!(limits_met(&set, &[]), ["one/minute 10"]);
    assert_eq!(limits_met(&set, &[("region", "us")]), ["asking/minute 10", "one/minute 10"]);
}

#[test]
fn the_built_in_policies_apply_without_a_file() {
    let set = builtin(1);
    let plans: Vec<_> = set.plans().iter().map(|plan| &*plan.name).collect();
    assert_eq!(plans, ["free", "startup", "business", "enterprise"]);
    let policies: Vec<_> = set.summary().into_iter().map(|row| (row.namespace, row.name)).collect();
    let identity = ["exchange-address", "leak-address", "login-account", "login-address", "signup-address"];
    let expected = [("default", "organization"), ("gateway", "anonymous")];
    let expected = expected.into_iter().chain(identity.map(|name| ("identity", name)));
    let expected: Vec<_> = expected.collect();
    let policies: Vec<_> = policies.iter().map(|(namespace, name)| (&**namespace, &**name)).collect();
    assert_eq!(policies, expected);
    assert_eq!(read("").summary(), set.summary());
}

#[test]
fn a_file_replaces_what_is_built_in_by_name() {
    let plan = "[[plans]]\nname = 'free'\nlimits = [{ name = 'minute', limit = 7, period = '1m' }]\n";
    let policy = "[[policies]]\nname = 'anonymous'\nnamespace = 'gateway'\nkey_by = ['ip']\nplan = 'free'\n";
    let set = read(&[plan, policy].concat());
    let others = set.summary().into_iter().filter(|row| row.namespace != "identity");
    let limits: Vec<_> = others.map(|row| row.limits).collect();
    assert_eq!(limits, ["plan by plan, else free: minute 7/1m", "plan free: minute 7/1m"]);
    assert!(read("builtin = false").is_empty());
}

#[test]
fn the_plan_is_what_the_attribute_says_else_what_is_assigned_else_the_default() {
    let policy = "key_by = ['user', 'organization']\nplan = { attribute = 'plan', default = 'free' }";
    let assigned = "[assignments.organization]\nacme = 'business'\n[assignments.user]\nann = 'startup'\n";
    let set = read(&[&one(policy), assigned].concat());
    let plan = |user: &str, organization: &str, plan: &str| {
        let attributes = [("user", user), ("organization", organization), ("plan", plan)];
        matches(&set, &attributes, 1).map(|found| found[0].bundle.plan.to_string())
    };
    assert_eq!(plan("bob", "initech", "enterprise").as_deref(), Ok("enterprise"));
    assert_eq!(plan("bob", "acme", "enterprise").as_deref(), Ok("enterprise"));
    assert_eq!(plan("bob", "acme", "").as_deref(), Ok("business"));
    assert_eq!(
        plan("ann", "acme", "").as_deref(),
        Ok("startup"),
        "the first attribute of the key is asked first"
    );
    assert_eq!(plan("bob", "initech", "").as_deref(), Ok("free"));
    let unknown = UnknownPlan { attribute: "plan".to_owned(), value: "gold".to_owned() };
    assert_eq!(plan("ann", "acme", "gold"), Err(unknown));
}

fn bundle(text: &str) -> PolicySet {
    read(&["builtin = false\n", text].concat())
}

fn key_of(set: &PolicySet) -> Vec<u8> {
    let namespace = set.namespaces().next().expect("one policy").1;
    match &namespace.policies()[0].tariff {
        Tariff::Fixed(Bundle { key_suffix, .. }) => key_suffix.to_vec(),
        Tariff::ByPlan(choice) => choice.bundles[choice.default].key_suffix.to_vec(),
    }
}

#[rstest]
#[case::the_tokens_of_a_limit("limit = 10", "limit = 11", true)]
#[case::a_condition("key_by", "match = { path = '/a' }\nkey_by", true)]
#[case::an_expression("key_by", "when = 'cost > 1'\nkey_by", true)]
#[case::the_failure_mode("key_by", "failure_mode = 'open'\nkey_by", true)]
#[case::the_name_of_the_policy("'one'", "'two'", false)]
#[case::the_namespace("'test'", "'other'", false)]
#[case::the_key("['organization']", "['user']", false)]
#[case::the_name_of_a_limit("'minute'", "'per-minute'", false)]
#[case::a_period("'1m'", "'2m'", false)]
#[case::an_algorithm("period", "algorithm = 'fixed_window', period", false)]
#[case::another_limit(
    "period = '1m' }",
    "period = '1m' }, { name = 'day', limit = 1, period = '1d' }",
    false
)]
fn counts_outlive_a_change_of(#[case] what: &str, #[case] with: &str, #[case] kept: bool) {
    let text = one(&format!("key_by = ['organization']\n{LIMITS}")).replace('"', "'");
    let before = bundle(&text);
    let after = bundle(&text.replacen(what, with, 1));
    assert_ne!(before.fingerprint(), after.fingerprint(), "the change was made");
    assert_eq!(key_of(&before) == key_of(&after), kept);
}

#[test]
fn counts_outlive_a_move_to_another_plan_with_the_same_windows() {
    let of = |plan: &str| key_of(&bundle(&one(&format!("key_by = ['organization']\nplan = '{plan}'"))));
    assert_eq!(of("free"), of("enterprise"));
}

#[test]
fn equal_texts_have_equal_fingerprints() {
    let text = one("unlimited = true");
    assert_eq!(read(&text).fingerprint(), read(&text).fingerprint());
    assert_ne!(read(&text).fingerprint(), read(&[&text, "# more"].concat()).fingerprint());
}

#[test]
fn plan_may_be_assigned_by_a_level_of_a_descriptor() {
    let text = "[[policies]]\nname = 'users'\nnamespace = 'edge'\ndescriptor = [{ key = 'user' }]\n\
                plan = { attribute = 'plan', default = 'free' }\n[assignments.user]\nann = 'business'\n";
    parse(text, "policies.toml", 1).expect("the assignment is looked at");
}
