//! Policies that count others too, but do not limit a caller of one organization.

use super::*;

const POLICIES: &str = r#"
builtin = false

[[plans]]
name = "none"
unlimited = true

[[policies]]
name = "tried"
namespace = "shadow"
enforcement = "shadow"
key_by = ["ip"]
limits = [{ name = "minute", limit = 10, period = "1m" }]

[[policies]]
name = "own"
namespace = "shadow"
key_by = ["organization"]
limits = [{ name = "minute", limit = 10, period = "1m" }]

[[policies]]
name = "free"
namespace = "unlimited"
key_by = ["ip"]
plan = "none"
"#;

#[tokio::test]
async fn policy_that_denies_nobody_shuts_no_organization_out_and_is_not_charged_by_it() {
    let policies = policies::parse(POLICIES, "test", 1).expect("valid policies");
    let (api, _) = api_of(policies, &Clock::system(), Counters::Memory, None, None);
    let [(_, ours), _, (_, tenant), _] = callers();
    let of = |namespace: &str| pb::CheckRequest {
        namespace: namespace.to_owned(),
        attributes: [("ip", "10.0.0.1".to_owned()), ("organization", id(7))]
            .map(|(key, value)| pb::check_request::AttributesEntry { key: key.to_owned(), value })
            .into(),
        ..pb::CheckRequest::default()
    };
    for way in [Way::Alone, Way::InBatch, Way::InStream] {
        assert!(by_the_service(&api, &tenant, way, &of("unlimited")).await.unwrap().0);
        let (allowed, _, limits, _) = directly(&api, &tenant, way, &of("shadow")).unwrap();
        assert!(allowed);
        assert_eq!(limits.iter().map(|(name, _)| &**name).collect::<Vec<_>>(), ["own/minute"]);
    }
    let (_, _, limits, _) = directly(&api, &ours, Way::Alone, &of("shadow")).unwrap();
    assert_eq!(limits, [("own/minute".to_owned(), 6), ("tried/minute".to_owned(), 9)]);
}
