use rstest::rstest;

use super::*;

/// The fields that are wrong.
fn wrong<T>(read: impl FnOnce(&mut Violations) -> T) -> Vec<String> {
    let mut violations = Violations::default();
    read(&mut violations);
    violations.iter().map(|violation| violation.field.clone()).collect()
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[rstest]
#[case("")]
#[case(" ")]
#[case(&"a".repeat(129))]
#[case("a\nb")]
#[case("a\0")]
fn what_is_no_name_is_refused(#[case] text: &str) {
    assert_eq!(wrong(|violations| name("name", text, violations)), ["name"]);
}

#[rstest]
#[case("Production API Key")]
#[case(&"ü".repeat(128))]
fn a_name_is_as_people_write_it(#[case] text: &str) {
    assert_eq!(wrong(|violations| name("name", text, violations)), [""; 0]);
}

#[test]
fn scopes_are_sorted_and_each_is_there_once() {
    let mut violations = Violations::default();
    let read = scopes("scopes", &texts(&["b:*", "a", "b:*"]), &mut violations);
    assert_eq!((read, violations.is_empty()), (texts(&["a", "b:*"]), true));
}

#[test]
fn every_scope_that_is_wrong_is_named() {
    let found = wrong(|violations| scopes("scopes", &texts(&["A", "a", "and", ""]), violations));
    assert_eq!(found, ["scopes[0]", "scopes[2]", "scopes[3]"]);
    assert_eq!(wrong(|violations| scopes("scopes", &vec!["a".to_owned(); 65], violations)), ["scopes"]);
}

#[test]
fn networks_are_read_without_what_lies_within_them() {
    let mut violations = Violations::default();
    let given = texts(&["203.0.113.77/24", "2001:db8::1", "203.0.113.0/24"]);
    let read = cidrs("cidrs", &given, &mut violations);
    let read: Vec<_> = read.iter().map(ToString::to_string).collect();
    assert_eq!((read, violations.is_empty()), (texts(&["203.0.113.0/24", "2001:db8::1/128"]), true));
}

#[test]
fn every_network_that_is_wrong_is_named() {
    let given = texts(&["203.0.113.0/33", "10.0.0.0/8", "example.com"]);
    assert_eq!(wrong(|violations| cidrs("cidrs", &given, violations)), ["cidrs[0]", "cidrs[2]"]);
}

#[rstest]
#[case::a_space("a b", "v", &["metadata"])]
#[case::no_name("", "v", &["metadata"])]
#[case::a_long_value("a", &"v".repeat(513), &["metadata[a]"])]
#[case::what_a_database_cannot_keep("a", "v\0", &["metadata[a]"])]
#[case::a_sentence("team.name", "The team, of all people\n", &[])]
fn metadata_has_short_names_and_values(#[case] name: &str, #[case] value: &str, #[case] fields: &[&str]) {
    let entries = [(name, value)];
    assert_eq!(wrong(|violations| metadata("metadata", entries.into_iter(), violations)), fields);
}

#[test]
fn a_name_of_metadata_is_there_once() {
    let entries = [("a", "1"), ("b", "2"), ("a", "3")];
    assert_eq!(wrong(|violations| metadata("m", entries.into_iter(), violations)), ["m[a]"]);
}

#[test]
fn everything_that_is_wrong_with_limits_is_named() {
    let limit = |name: &str, limit, period_s| pb::KeyLimit { name: name.to_owned(), limit, period_s };
    let given = [limit("a", 1, 1), limit("a", 0, 31_622_401), limit("A", 1_000_000_001, 0)];
    let found = wrong(|violations| limits("limits", &given, violations));
    let expected = [
        "limits[1].name",
        "limits[1].limit",
        "limits[1].period_s",
        "limits[2].name",
        "limits[2].limit",
        "limits[2].period_s",
    ];
    assert_eq!(found, expected);
}

#[rstest]
#[case::nothing_said(None, Expiry::Default)]
#[case::never(Some(0), Expiry::Never)]
#[case::some_time(Some(1_000), Expiry::At(1_000_000))]
fn an_expiry_is_a_time_never_or_not_said(#[case] at_ms: Option<u64>, #[case] expected: Expiry) {
    let mut violations = Violations::default();
    assert_eq!(expiry("expires_at_ms", at_ms, Expiry::Default, &mut violations), expected);
    assert!(violations.is_empty());
}

#[test]
fn a_time_that_has_no_usual_form_is_refused() {
    let found = wrong(|violations| expiry("at", Some(u64::MAX), Expiry::Default, violations));
    assert_eq!(found, ["at"]);
}
