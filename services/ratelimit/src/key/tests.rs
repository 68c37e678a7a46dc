use proptest::prelude::*;

use super::*;
use crate::{
    domain::{PolicySet, Tariff},
    policies,
};

/// Policies by no, one and two attributes, and two that differ in their names only.
const POLICIES: &str = r#"
    [[policies]]
    name = "all"
    namespace = "shop"
    key_by = []
    limits = [{ name = "minute", limit = 5, period = "1m" }]

    [[policies]]
    name = "each"
    namespace = "shop"
    key_by = ["user"]
    limits = [{ name = "minute", limit = 5, period = "1m" }]

    [[policies]]
    name = "pairs"
    namespace = "shop"
    key_by = ["user", "path"]
    limits = [{ name = "minute", limit = 5, period = "1m" }]

    [[policies]]
    name = "twins"
    namespace = "shop"
    key_by = ["user", "path"]
    limits = [{ name = "minute", limit = 5, period = "1m" }]
"#;

fn policies() -> PolicySet {
    policies::parse(POLICIES, "the test's policies", 1).expect("they are valid")
}

fn matches(set: &PolicySet) -> Vec<Match<'_>> {
    let policies = set.namespace("shop").expect("it is declared").policies();
    let of = policies.iter().map(|policy| match &policy.tariff {
        Tariff::Fixed(bundle) => Match { policy, bundle },
        other @ Tariff::ByPlan(_) => panic!("{other:?}"),
    });
    of.collect()
}

/// What is stored must be found again by every replica of every version: docs/reference/redis.md.
#[test]
fn stored_keys_are_what_the_reference_says() {
    let set = policies();
    let attributes = [("user", "zoë:1"), ("path", "/v1")];
    let text = |found: &Match<'_>| {
        let key = KeyForm::Stored.cell(found, &attributes[..]);
        let identity = std::str::from_utf8(&found.bundle.key_suffix).unwrap().to_owned();
        let identity = identity[identity.len() - 16..].to_owned();
        String::from_utf8(key.to_vec()).unwrap().replace(&identity, "<identity>")
    };
    let keys: Vec<_> = matches(&set).iter().map(text).collect();
    assert_eq!(
        keys,
        [
            "tg2:{45}:4:shop:4:shop3:all<identity>",
            "tg2:{161}:6:zoë:1:4:shop4:each<identity>",
            "tg2:{161}:6:zoë:1:4:shop5:pairs<identity>:3:/v1",
            "tg2:{161}:6:zoë:1:4:shop5:twins<identity>:3:/v1",
        ]
    );
    let record = |found| record_key(found, &attributes[..], "shop", "a1");
    let [all, each, pairs, _] = &matches(&set)[..] else { panic!("four policies") };
    assert_eq!(record(all).as_slice(), b"tg2:{45}:4:shopi:4:shop:2:a1");
    assert_eq!(record(each).as_slice(), "tg2:{161}:6:zoë:1i:4:shop:2:a1".as_bytes());
    assert_eq!(record(pairs).as_slice(), "tg2:{161}:6:zoë:1i:4:shop:2:a1:3:/v1".as_bytes());
}

#[test]
fn identity_of_what_is_counted_stays() {
    let set = policies();
    let suffixes: Vec<_> = matches(&set)
        .iter()
        .map(|found| String::from_utf8_lossy(&found.bundle.key_suffix).into_owned())
        .collect();
    // A change of these forgets every counter in every Redis.
    assert_eq!(
        suffixes,
        [
            ":4:shop3:alldaea0dfbddeb9417",
            ":4:shop4:each0a1640fab414bb24",
            ":4:shop5:pairs35d327a1d90c2edc",
            ":4:shop5:twins35d327a1d90c2edc",
        ]
    );
}

proptest! {
    #[test]
    fn subjects_that_differ_have_keys_that_differ_in_both_forms(
        one in ("[ab:{}0-9]{0,4}", "[ab:{}0-9]{0,4}"),
        other in ("[ab:{}0-9]{0,4}", "[ab:{}0-9]{0,4}"),
        policies_of in (0_usize..4, 0_usize..4),
    ) {
        let set = policies();
        let matches = matches(&set);
        let (one_of, other_of) = (&matches[policies_of.0], &matches[policies_of.1]);
        let one = [("user", format!("u{}", one.0)), ("path", format!("p{}", one.1))];
        let other = [("user", format!("u{}", other.0)), ("path", format!("p{}", other.1))];
        let values = |found: &Match<'_>, of: &[(&str, String)]| {
            found.policy.key_by.iter().map(|name| of.find(name).unwrap().to_owned()).collect::<Vec<_>>()
        };
        let same = policies_of.0 == policies_of.1 && values(one_of, &one) == values(other_of, &other);
        for form in [KeyForm::Stored, KeyForm::Internal] {
            let keys = (form.cell(one_of, &one[..]), form.cell(other_of, &other[..]));
            prop_assert_eq!(keys.0 == keys.1, same, "{:?}", form);
        }
    }
}

/// Callers choose values: however long they are, keys stay short, and two subjects do not meet.
#[test]
fn a_long_value_is_stored_as_its_beginning_and_a_digest() {
    let set = policies();
    let found = &matches(&set)[1];
    let key = |user: &str| KeyForm::Stored.cell(found, &[("user", user), ("path", "/v1")][..]).to_vec();
    let (long, other) = ("é".repeat(50_000), format!("{}a", "é".repeat(50_000)));
    assert!(key(&long).len() < 400, "{}", key(&long).len());
    assert_ne!(key(&long), key(&other));
    assert_ne!(
        KeyForm::Internal.cell(found, &[("user", &*long), ("path", "")][..]),
        KeyForm::Internal.cell(found, &[("user", &*other), ("path", "")][..])
    );
    let most = "x".repeat(MAX_VALUE_BYTES);
    assert!(String::from_utf8(key(&most)).unwrap().contains(&most), "so long it is stored as it is");
    // What is stored must be found again by every version.
    let stored = String::from_utf8(key(&"x".repeat(MAX_VALUE_BYTES + 1))).unwrap();
    let digest = stored.split('#').nth(1).and_then(|rest| rest.get(..32));
    assert_eq!(digest, Some("ef19a499e590140f4c52e262264c6d5a"));
}
