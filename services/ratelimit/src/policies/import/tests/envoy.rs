use super::*;

fn read(text: &str) -> Vec<String> {
    policies_of(ImportSource::EnvoyRatelimit, text)
}

fn left_out(text: &str) -> Vec<String> {
    imported(ImportSource::EnvoyRatelimit, text).1
}

#[test]
fn every_kind_of_rule_has_a_policy() {
    let text = "
domain: shop
descriptors:
  - key: user
    rate_limit: { unit: hour, requests_per_unit: 10 }
    descriptors:
      - key: path
        value: /a/*/b
        share_threshold: true
        shadow_mode: true
        rate_limit: { unit: MONTH, requests_per_unit: 3 }
      - key: path
        value: /free
  - key: user
    value: mallory
    rate_limit: { unit: second, requests_per_unit: 0 }
  - key: user
    value: 42
    rate_limit: { unlimited: true }
";
    assert_eq!(
        read(text),
        [
            "shop/user; descriptor user = *; user; hour 10/1h fixed_window; enforce",
            "shop/user-42; descriptor user = 42; user; unlimited; enforce",
            "shop/user-mallory; descriptor user = mallory; user; second 0/1s fixed_window; enforce",
            "shop/user.path-a-b; descriptor user = *, path = /a/*/b shared; user, path; month 3/30d fixed_window; shadow",
            // Nothing limits it, though the key alone may.
            "shop/user.path-free; descriptor user = *, path = /free; user, path; unlimited; enforce",
        ]
    );
}

#[test]
fn rules_that_replace_name_the_policies_of_their_limits() {
    let text = "
domain: shop
descriptors:
  - key: kind
    value: read
    rate_limit: { name: reads, unit: minute, requests_per_unit: 5 }
  - key: kind
    value: list
    rate_limit: { name: reads, unit: minute, requests_per_unit: 5 }
  - key: path
    rate_limit:
      replaces: [{ name: reads }, { name: nobody }]
      unit: minute
      requests_per_unit: 9
";
    let (text, left_out) = imported(ImportSource::EnvoyRatelimit, text);
    assert_eq!(left_out, [""; 0]);
    assert!(text.contains("replaces = [\"kind-list\", \"kind-read\"]"), "{text}");
}

#[test]
fn what_they_refuse_and_what_has_no_counterpart_is_told_with_its_place() {
    let text = "domain: shop
descriptors:
  - key: a
    rate_limit: { unit: fortnight, requests_per_unit: 1 }
  - key: b
    quota_mode: true
    detailed_metric: true
    metadata: { x: 1 }
    rate_limit: { unit: day, requests_per_unit: 4000000000 }
  - key: b
    rate_limit: { unit: day, requests_per_unit: 2 }
  - value: c
  - key: d
    share_threshold: true
    colour: red
    rate_limit: { unlimited: true, unit: day }
";
    assert_eq!(
        left_out(text),
        [
            "10 descriptors[2]: is there twice, which they refuse; the first is taken",
            "12 descriptors[3]: has no key",
            "4 descriptors[0].rate_limit.unit: is no unit: \"fortnight\"; the limit is left out",
            "6 descriptors[1].quota_mode: there a request is denied once all of its quotas are used up; here each of them denies",
            "7 descriptors[1].detailed_metric: metrics have no labels made of values here",
            "8 descriptors[1].metadata: answers carry no metadata of policies here",
            "9 descriptors[1].rate_limit.requests_per_unit: is taken as 1000000000, the most that a limit has here",
            "14 descriptors[4].share_threshold: goes only with a wildcard, else they refuse it",
            "15 descriptors[4].colour: is not a known key",
            "16 descriptors[4].rate_limit.unit: they refuse a unit of what is unlimited; it is taken as unlimited",
        ]
    );
}

#[test]
fn order_of_wildcards_is_kept_or_told() {
    let rule = |value: &str| {
        format!("  - {{ key: path, value: {value:?}, rate_limit: {{ unit: day, requests_per_unit: 1 }} }}\n")
    };
    let of = |values: &[&str]| {
        let rules: String = values.iter().map(|value| rule(value)).collect();
        left_out(&format!("domain: shop\ndescriptors:\n{rules}"))
    };
    assert_eq!(of(&["/a/b", "/a/*/c", "/a/*", "/b/*", "*"]), [""; 0]);
    assert_eq!(
        of(&["/a/*", "/a/b/*"]),
        ["4 descriptors[1]: is never reached: \"/a/*\" stands before it and fits all of it"]
    );
    assert_eq!(
        of(&["/a*/c", "/a/b*"]),
        [
            "4 descriptors[1]: a value that fits \"/a/b*\" and \"/a*/c\" is counted by \"/a/b*\" here, by \"/a*/c\" there"
        ]
    );
    assert_eq!(of(&["/a*/c", "/a/b*/d"]), [""; 0], "no value fits both");
}

#[test]
fn domain_that_cannot_be_a_namespace_is_told() {
    assert_eq!(left_out("descriptors: []"), ["1 : has no domain"]);
    let told = left_out("domain: \"a b\"\ndescriptors: []");
    assert!(told.len() == 1 && told[0].starts_with("1 domain: must be 1 to 128 of"), "{told:?}");
    assert_eq!(left_out("- a"), ["1 : is no mapping"]);
}

#[test]
fn deeper_descriptors_than_ours_are_told() {
    let mut text = "domain: shop\ndescriptors:\n".to_owned();
    for depth in 0..17 {
        let indent = "  ".repeat(2 * depth + 1);
        text.push_str(&format!(
            "{indent}- key: k{depth}\n{indent}  rate_limit: {{ unit: day, requests_per_unit: 1 }}\n"
        ));
        if depth < 16 {
            text.push_str(&format!("{indent}  descriptors:\n"));
        }
    }
    let told = left_out(&text);
    assert!(told.len() == 1 && told[0].ends_with("descriptors have at most 16 entries here"), "{told:?}");
}
