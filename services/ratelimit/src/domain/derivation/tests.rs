use rstest::rstest;

use super::*;

fn derive(derivations: &[Derivation], given: &[(&str, &str)], name: &str) -> Option<String> {
    Derived::new(given, derivations).find(name).map(str::to_owned)
}

fn derivation(attribute: &str, source: Source) -> Derivation {
    Derivation { attribute: attribute.into(), source }
}

fn address() -> Derivation {
    let trusted = ["10.0.0.0/8", "2001:db8:ffff::/48"].map(|range| range.parse().unwrap());
    derivation(
        "client_ip",
        Source::Address(ClientAddress {
            peer: "peer".into(),
            forwarded_for: Some("x-forwarded-for".into()),
            trusted: trusted.into(),
            ipv4_prefix: 32,
            ipv6_prefix: 64,
        }),
    )
}

#[rstest]
#[case::no_proxy("192.0.2.9", "", "192.0.2.9")]
#[case::untrusted_peer_names_nobody("192.0.2.9", "198.51.100.1", "192.0.2.9")]
#[case::trusted_peer_names_the_caller("10.0.0.1", "198.51.100.1", "198.51.100.1")]
#[case::what_the_caller_wrote_is_passed_over("10.0.0.1", "1.1.1.1, 198.51.100.1, 10.0.0.2", "198.51.100.1")]
#[case::only_proxies("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3")]
#[case::nonsense_stops_the_walk("10.0.0.1", "198.51.100.1, unknown, 10.0.0.2", "10.0.0.2")]
#[case::ports("10.0.0.1:80", "198.51.100.1:4711", "198.51.100.1")]
#[case::ipv6_is_a_subscriber("10.0.0.1", "[2001:db8:1:2:3:4:5:6]:99", "2001:db8:1:2::/64")]
#[case::mapped("::ffff:10.0.0.1", "::ffff:198.51.100.7", "198.51.100.7")]
#[case::trusted_ipv6("2001:db8:ffff::1", "198.51.100.1", "198.51.100.1")]
#[case::no_address_is_counted_as_it_is("unix:/run/app.sock", "198.51.100.1", "unix:/run/app.sock")]
fn the_caller_is_the_first_who_is_no_trusted_proxy(
    #[case] peer: &str,
    #[case] forwarded_for: &str,
    #[case] expected: &str,
) {
    let given = [("peer", peer), ("x-forwarded-for", forwarded_for)];
    assert_eq!(derive(&[address()], &given, "client_ip").as_deref(), Some(expected));
}

#[test]
fn what_a_caller_gives_under_the_name_of_a_derived_attribute_does_not_count() {
    let given = [("client_ip", "6.6.6.6"), ("peer", "192.0.2.9")];
    assert_eq!(derive(&[address()], &given, "client_ip").as_deref(), Some("192.0.2.9"));
    assert_eq!(derive(&[address()], &given[..1], "client_ip"), None);
    let derivations = [address()];
    let derived = Derived::new(&given[..1], &derivations);
    let last =
        (0..derived.len()).rev().map(|index| derived.get(index)).find(|(name, _)| *name == "client_ip");
    assert_eq!(last, Some(("client_ip", "")), "who walks the entries sees that it is absent");
}

#[rstest]
#[case::own_method("GET", "/v1/users/42", "GET /v1/users/{id}")]
#[case::other_method("DELETE", "/v1/users/42", "/v1/users/{id}")]
#[case::static_before_parameter("GET", "/v1/users/me", "GET /v1/users/me")]
#[case::head_is_answered_by_get("HEAD", "/v1/users/42", "GET /v1/users/{id}")]
#[case::written_otherwise("GET", "//v1/%75sers/./me/", "GET /v1/users/me")]
#[case::climbs("GET", "/files/../v1/users/me", "GET /v1/users/me")]
#[case::hides_a_slash("GET", "/files%2f..%2fv1/users/me", "other")]
#[case::query_is_no_part("GET", "/v1/users/42?page=2#top", "GET /v1/users/{id}")]
#[case::rest_of_a_path("GET", "/files/a/b/c", "/files/{*path}")]
#[case::unknown_path("GET", "/v1/nowhere", "other")]
#[case::a_method_with_templates_of_its_own_has_those_without_too("GET", "/files/x", "/files/{*path}")]
#[case::no_method("", "/v1/users/42", "/v1/users/{id}")]
fn a_request_is_counted_by_its_template(#[case] method: &str, #[case] path: &str, #[case] expected: &str) {
    let templates =
        ["GET /v1/users/{id}", "GET /v1/users/me", "/v1/users/{id}", "/files/{*path}"].map(str::to_owned);
    let routes = Routes::new("path", "method", &templates).unwrap();
    let derivations = [derivation("endpoint", Source::Route(routes))];
    let given = [("method", method), ("path", path)];
    assert_eq!(derive(&derivations, &given, "endpoint").as_deref(), Some(expected));
    assert_eq!(derive(&derivations, &given[..1], "endpoint"), None, "without a path there is no endpoint");
}

#[test]
fn every_faulty_template_is_named() {
    let templates = ["v1/users", "get /x", "/a/{id}", "/a/{name}", "/b/{", " /c"].map(str::to_owned);
    let errors = Routes::new("path", "method", &templates).unwrap_err();
    assert_eq!(errors.iter().map(|error| error.index).collect::<Vec<_>>(), [0, 1, 3, 4, 5]);
}

#[test]
fn the_first_attribute_that_is_there_counts_under_its_own_name() {
    let key = derivation("key_hash", Source::HashOf("api_key".into()));
    let caller = derivation("caller", Source::FirstOf(["key_hash".into(), "client_ip".into()].into()));
    let derivations = [address(), key, caller];
    let with_key = derive(&derivations, &[("peer", "192.0.2.9"), ("api_key", "secret")], "caller").unwrap();
    // `printf secret | sha256sum`
    assert_eq!(with_key, "key_hash=2bb80d537b1da3e38bd30361aa855686");
    let without = derive(&derivations, &[("peer", "192.0.2.9"), ("api_key", "")], "caller").unwrap();
    assert_eq!(without, "client_ip=192.0.2.9");
    assert_eq!(derive(&derivations, &[], "caller"), None);
}
