use super::*;
use crate::policies;

/// A policy that sets every field but those that exclude each other.
const FIELDS: &str = r#"
    name = "one"
    namespace = "test"
    match = { method = ["POST"], path = ["/v1/*", "/v2/a"] }
    when = "cost > 1"
    key_by = ["organization", "path"]
    enforcement = "shadow"
    failure_mode = "open"
    on_data_loss = "accept"
    limits = [
        { name = "a", algorithm = "token_bucket", limit = 5, period = "1s", burst = 7 },
        { name = "b", algorithm = "sliding_log", limit = 6, period = "1h30m" },
        { name = "c", algorithm = "fixed_window", limit = 7, period = "1mo" },
        { name = "d", algorithm = "sliding_window", limit = 1_000_000_000, period = "1d" },
        { name = "e", algorithm = "sliding_window", rate = "60/min" },
        { name = "f", algorithm = "concurrency", limit = 3, lease = "30s" },
    ]
"#;

fn table(text: &str) -> Table {
    text.parse().expect("TOML")
}

#[test]
fn a_policy_is_the_same_after_a_round_trip() {
    let others = [
        "name = 'n'\nnamespace = 'x'\nkey_by = ['ip']\nplan = 'free'\nenforcement = 'off'\nfailure_mode = 'local'\non_data_loss = 'accept'",
        "name = 'n'\nnamespace = 'x'\nkey_by = []\nplan = { attribute = 'plan', default = 'free' }\non_limit = { upgrade_plan = 'business' }\nenforcement = 'enforce'\nfailure_mode = 'closed'\non_data_loss = 'accept'",
        "name = 'n'\nnamespace = 'x'\ndescriptor = [{ key = 'a' }, { key = 'b', value = 'c*', shared = true }]\nunlimited = true\nenforcement = 'enforce'\nfailure_mode = 'closed'\non_data_loss = 'strict'",
    ];
    for text in others.into_iter().chain([FIELDS]) {
        let fields = table(text);
        let message = policy(&fields, None);
        assert_eq!(of_policy(message), fields, "{text}");
        let file = Table::from_iter([("policies".to_owned(), Value::Array(vec![fields.into()]))]);
        policies::parse(&file.to_string(), "a test", 1).expect("what is tried is valid");
    }
}

#[test]
fn a_plan_is_the_same_after_a_round_trip() {
    for text in [
        "name = 'p'\nunlimited = true",
        "name = 'p'\nlimits = [{ name = 'a', algorithm = 'sliding_window', limit = 1, period = '1m' }]",
    ] {
        let fields = table(text);
        assert_eq!(of_plan(plan(&fields, None)), fields, "{text}");
    }
}

#[test]
fn an_override_is_the_same_after_a_round_trip() {
    for text in [
        "namespace = 'x'\npolicy = 'p'\nlimit = 'free/minute'\nkey = { user = 'ann', path = '/v1/*' }\ntokens = 5\nperiod = '1h'\nburst = 9",
        "namespace = 'x'\npolicy = 'p'\nlimit = 'minute'\nkey = {}\nrate = '60/min'",
    ] {
        let fields = table(text);
        assert_eq!(of_override(override_of(&fields, None)), fields, "{text}");
    }
    assert_eq!(of_override(pb::Override::default()), table("key = {}\ntokens = 0"));
}

#[test]
fn what_is_not_said_is_the_default() {
    let policy = policy(&table("name = 'n'\nlimits = [{ name = 'a', limit = 1, period = '1m' }]"), None);
    assert_eq!(policy.enforcement(), pb::Enforcement::Enforce);
    assert_eq!(policy.failure_mode(), pb::FailureMode::Closed);
    assert_eq!(policy.on_data_loss(), pb::OnDataLoss::Accept);
    assert_eq!(policy.limits[0].algorithm(), pb::Algorithm::SlidingWindow);
    let fields = of_policy(pb::Policy { name: "n".to_owned(), ..pb::Policy::default() });
    assert_eq!(fields, table("name = 'n'\nnamespace = ''\nkey_by = []"));
}

#[test]
fn what_no_file_could_say_is_left_to_be_refused() {
    let both = pb::Policy {
        plan: "a".to_owned(),
        plan_of: Some(pb::PlanOf::default()),
        enforcement: 99,
        limits: vec![pb::LimitSpec { limit: u64::MAX, ..pb::LimitSpec::default() }],
        ..pb::Policy::default()
    };
    let fields = of_policy(both);
    assert!(fields.contains_key("plan_of"));
    assert_eq!(fields["enforcement"].as_str(), Some("99"));
    assert_eq!(fields["limits"][0]["limit"].as_integer(), Some(i64::MAX));
}

#[test]
fn an_etag_stands_for_a_version() {
    assert_eq!(version_of(""), None);
    assert_eq!(version_of(&etag(0xfeed)), Some(0xfeed));
    assert_eq!(version_of("not one of ours"), Some(0), "a version that no entry has");
    let time = timestamp(1_700_000_000_123_456);
    assert_eq!((time.seconds, time.nanos), (1_700_000_000, 123_456_000));
}
