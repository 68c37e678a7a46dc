use rstest::rstest;

use super::{LIMITS, one};
use crate::policies::parse;

fn faults(namespace: &str) -> Vec<String> {
    let text = format!("[namespaces.test]\n{namespace}\n{}", one(&format!("key_by = []\n{LIMITS}")));
    match parse(&text, "policies.toml", 1) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    }
}

#[rstest]
#[case::address("derive = [{ attribute = \"ip\", address = { peer = \"peer\" } }]")]
#[case::one_trusted_address(
    "derive = [{ attribute = \"ip\", address = { peer = \"p\", forwarded_for = \"f\", trusted = [\"::1\", \"10.0.0.0/8\"] } }]"
)]
#[case::replaces_what_was_given("derive = [{ attribute = \"key\", hash_of = \"key\" }]")]
#[case::one_exemption("exempt = { path = \"/health\" }")]
fn these_are_sound(#[case] namespace: &str) {
    assert_eq!(faults(namespace), Vec::<String>::new());
}

#[test]
fn every_fault_of_a_derivation_is_listed_with_its_place() {
    let namespace = r#"
        exempt = [{ path = [] }, {}, 3]
        [[namespaces.test.derive]]
        attribute = "a b"
        first_of = []
        [[namespaces.test.derive]]
        attribute = "twice"
        hash_of = "x"
        first_of = ["later", "bad name"]
        [[namespaces.test.derive]]
        attribute = "twice"
        address = { forwarded_for = "f", ipv4_prefix = 33, ipv6_prefix = -1, surprise = 1 }
        [[namespaces.test.derive]]
        attribute = "later"
        address = { peer = "p", trusted = ["10.0.0.0/33", 5, "0.0.0.0/0", "::/0", "::ffff:10.0.0.0/104"] }
        [[namespaces.test.derive]]
        route = { path = "", templates = ["v1", "/a/{x}", "/a/{y}"] }
    "#;
    assert_eq!(
        faults(namespace),
        [
            "namespaces.test.derive[0].attribute: names of attributes are 1 to 64 of A-Z a-z 0-9 . _ -, is \"a b\"",
            "namespaces.test.derive[0].first_of: must be 1 to 8 attributes, are 0",
            "namespaces.test.derive[1]: needs exactly one of address, route, first_of, hash_of",
            "namespaces.test.derive[1].first_of[1]: names of attributes are 1 to 64 of A-Z a-z 0-9 . _ -, is \"bad name\"",
            "namespaces.test.derive[2].attribute: \"twice\" is already derived",
            "namespaces.test.derive[2].address.peer: is missing",
            "namespaces.test.derive[2].address.trusted: is missing or empty, so nothing that forwarded_for says would count",
            "namespaces.test.derive[2].address.ipv4_prefix: must be 0 to 32 bits, is 33",
            "namespaces.test.derive[2].address.ipv6_prefix: must be 0 to 128 bits, is -1",
            "namespaces.test.derive[2].address.surprise: is not a known key; known here: peer, forwarded_for, trusted, ipv4_prefix, ipv6_prefix",
            "namespaces.test.derive[3].address.trusted[0]: must be an address or a range as 10.0.0.0/8, is \"10.0.0.0/33\"",
            "namespaces.test.derive[3].address.trusted[1]: must be a string, is an integer",
            "namespaces.test.derive[3].address.trusted[2]: would believe everybody, and so whatever a caller writes",
            "namespaces.test.derive[3].address.trusted[3]: would believe everybody, and so whatever a caller writes",
            "namespaces.test.derive[3].address.trusted[4]: IPv4 addresses are written as such, is \"::ffff:10.0.0.0/104\"",
            "namespaces.test.derive[4].attribute: is missing",
            "namespaces.test.derive[4].route.path: names of attributes are 1 to 64 of A-Z a-z 0-9 . _ -, is \"\"",
            "namespaces.test.derive[4].route.templates[0]: must be a path that begins with /, or a method and a path",
            "namespaces.test.derive[4].route.templates[2]: Insertion failed due to conflict with previously registered route: /a/{x}",
            "namespaces.test.derive[1]: looks at \"later\", which is derived only later",
            "namespaces.test.exempt[0].path: is empty and would never match",
            "namespaces.test.exempt[1]: has no condition, and would exempt everything; set enforcement = \"off\" instead",
            "namespaces.test.exempt[2]: must be a table, is an integer",
        ]
    );
}
