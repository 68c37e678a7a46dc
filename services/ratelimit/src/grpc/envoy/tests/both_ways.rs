//! What is answered from bytes to bytes is what the generated service answers.

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt;
use prometheus_client::metrics::counter::Counter;
use proptest::{collection::vec, option, prelude::*};
use prost::Message;
use tidegate_chassis::{
    clock::{Clock, Random},
    direct::{DirectMethods, Unanswered},
};
use tonic_types::StatusExt;

use super::*;
use crate::{
    grpc::tests::{api_by, api_telling},
    limiter::{Told, Upgrade, Upgrades},
    policies,
    store::MemoryStore,
};

const POLICIES: &str = r#"
builtin = false

[namespaces.reference]
envoy_compatible = true

[namespaces.first]
first_descriptor_only = true

[[plans]]
name = "small"
limits = [{ name = "minute", limit = 2, period = "1m" }]

[[plans]]
name = "large"
limits = [{ name = "minute", limit = 4, period = "1m" }]

[[policies]]
name = "users"
namespace = "NAMESPACE"
descriptor = [{ key = "user" }]
limits = [
    { name = "minute", limit = 3, period = "1m" },
    { name = "hour", algorithm = "fixed_window", limit = 20, period = "1h" },
]

[[policies]]
name = "eve"
namespace = "NAMESPACE"
descriptor = [{ key = "user", value = "eve" }]
replaces = ["paths"]
limits = [{ name = "minute", algorithm = "token_bucket", limit = 60, burst = 5, period = "1m" }]

[[policies]]
name = "banned"
namespace = "NAMESPACE"
descriptor = [{ key = "user", value = "mallory" }]
limits = [{ name = "day", limit = 0, period = "1d" }]

[[policies]]
name = "free"
namespace = "NAMESPACE"
descriptor = [{ key = "user", value = "root" }]
unlimited = true

[[policies]]
name = "paths"
namespace = "NAMESPACE"
descriptor = [{ key = "path", value = "/a*/b", shared = true }]
limits = [{ name = "minute", algorithm = "sliding_log", limit = 6, period = "1m" }]

[[policies]]
name = "pairs"
namespace = "NAMESPACE"
enforcement = "shadow"
descriptor = [{ key = "user" }, { key = "path" }]
limits = [{ name = "month", algorithm = "fixed_window", limit = 2, period = "1mo" }]

[[policies]]
name = "addresses"
namespace = "NAMESPACE"
key_by = ["ip"]
limits = [{ name = "minute", limit = 4, period = "1m" }]

[[policies]]
name = "paying"
namespace = "NAMESPACE"
descriptor = [{ key = "user" }, { key = "plan" }]
plan = { attribute = "plan", default = "small" }
on_limit = { upgrade_plan = "large" }

[[policies]]
name = "trial"
namespace = "NAMESPACE"
enforcement = "shadow"
descriptor = [{ key = "user" }, { key = "plan" }]
limits = [{ name = "minute", limit = 1, period = "1m" }]
"#;

const NAMESPACES: [&str; 4] = ["plain", "reference", "first", "nowhere"];

fn policies() -> PolicySet {
    let header = POLICIES.split("[[policies]]").next().expect("it has a beginning");
    let rest = &POLICIES[header.len()..];
    let of_each = NAMESPACES[..3].iter().map(|namespace| rest.replace("NAMESPACE", namespace));
    let text = [header.to_owned()].into_iter().chain(of_each).collect::<String>();
    policies::parse(&text, "test", 1).unwrap_or_else(|errors| panic!("{errors}"))
}

fn entries() -> impl Strategy<Value = Vec<(&'static str, &'static str)>> {
    let user =
        prop::sample::select(vec!["ada", "eve", "mallory", "root", ""]).prop_map(|user| ("user", user));
    let path = prop::sample::select(vec!["/a/b", "/ab/b", "/a/c", "/x"]).prop_map(|path| ("path", path));
    let ip = prop::sample::select(vec!["::1", "::2"]).prop_map(|ip| ("ip", ip));
    let any = prop_oneof![4 => user.clone(), 3 => path, 1 => ip, 1 => Just(("", "no key"))];
    let plan = prop::sample::select(vec!["small", "large", "none"]).prop_map(|plan| ("plan", plan));
    prop_oneof![3 => vec(any, 0..3), 1 => (user, plan).prop_map(|(user, plan)| vec![user, plan])]
}

prop_compose! {
    fn any_descriptor()(
        entries in entries(),
        hits in option::of(prop_oneof![0_u64..8, any::<u64>()]),
        limit in option::weighted(0.1, (0_u32..5, 1_i32..9)),
        is_negative_hits in prop::bool::weighted(0.1),
    ) -> RateLimitDescriptor {
        let limit = limit.map(|(requests_per_unit, unit)| RateLimitOverride { requests_per_unit, unit });
        RateLimitDescriptor { limit, is_negative_hits, ..descriptor(&entries, hits) }
    }
}

prop_compose! {
    fn any_request()(
        domain in prop::sample::select(NAMESPACES.to_vec()),
        descriptors in vec(any_descriptor(), 0..4),
        hits_addend in 0_u32..4,
    ) -> RateLimitRequest {
        RateLimitRequest { domain: domain.to_owned(), descriptors, hits_addend }
    }
}

type Answer = Result<Vec<u8>, (tonic::Code, String, Vec<String>)>;

fn told(status: &Status) -> (tonic::Code, String, Vec<String>) {
    let details = status.get_error_details();
    let violations = details.bad_request().map_or(&[][..], |bad| &bad.field_violations);
    let fields = violations.iter().map(|violation| violation.field.clone()).collect();
    (status.code(), status.message().to_owned(), fields)
}

/// Where denials are left, and what was left there of each subject first.
fn upgrades() -> (Upgrades, impl FnMut() -> Vec<(String, Upgrade)>) {
    let (queue, mut left) = tokio::sync::mpsc::channel(1_000);
    let told = Told::new(Duration::from_secs(30 * 86_400), &Random::seeded(1));
    let upgrades = Upgrades::new(queue, Arc::new(told), [Counter::default(), Counter::default()]);
    let mut firsts: Vec<(String, Upgrade)> = Vec::new();
    let so_far = move || {
        while let Ok(next) = left.try_recv() {
            let subject = format!("{}/{} {:?}", next.namespace, next.policy, next.key);
            if firsts.iter().all(|(known, _)| *known != subject) {
                firsts.push((subject, next));
            }
        }
        firsts.clone()
    };
    (upgrades, so_far)
}

fn directly(api: &RateLimitApi, request: &RateLimitRequest) -> Answer {
    let (method, _) = api
        .find("/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit")
        .expect("counters are in memory");
    let mut answer = Vec::new();
    let answered = RateLimitApi::answer(&api.turn(&backend()), method, &request.encode_to_vec(), &mut answer);
    answered.map(|()| answer).map_err(|unanswered| match unanswered {
        Unanswered::Failed(status) => told(&status),
        Unanswered::Waits => panic!("descriptors wait for nothing"),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn answers_from_bytes_to_bytes_are_those_of_the_generated_service(
        requests in vec((any_request(), 0_u64..20), 1..20),
    ) {
        let (clock, hand) = Clock::manual(1_763_000_000_000_000);
        let (upgrades_of_direct, mut left_by_direct) = upgrades();
        let (direct, _) = api_telling(policies(), &clock, Counters::Memory, Some(upgrades_of_direct));
        // Answered as if the store were behind a network.
        let shared = |store: Arc<MemoryStore>| Counters::Shared { store: Arc::clone(&store) as _, local: store };
        let (upgrades_of_generated, mut left_by_generated) = upgrades();
        let (generated, _) = api_telling(policies(), &clock, shared, Some(upgrades_of_generated));
        let generated = EnvoyApi(generated);
        let (beside, _) = api_by(policies(), &clock, Counters::Memory);
        for (request, seconds) in requests {
            let expected = ask(&generated, &request).now_or_never().expect("memory answers at once");
            let expected = expected.map(|answer| answer.encode_to_vec()).map_err(|status| told(&status));
            let answered = directly(&direct, &request);
            prop_assert_eq!(&answered, &expected, "{:?}", request);
            prop_assert_eq!(left_by_direct(), left_by_generated(), "{:?}", request);
            // One descriptor is decided in a short way, two are not; what no policy is for changes nothing.
            if let (Ok(answer), [only]) = (&answered, &request.descriptors[..]) {
                let alone = RateLimitResponse::decode(&answer[..]).expect("an answer");
                let both = vec![only.clone(), descriptor(&[("nobody", "asks")], Some(1))];
                let asked = RateLimitRequest { descriptors: both, ..request.clone() };
                let answer = directly(&beside, &asked).expect("decided as well");
                let both = RateLimitResponse::decode(&answer[..]).expect("an answer");
                prop_assert_eq!(&alone.statuses[0], &both.statuses[0], "{:?}", request);
                prop_assert_eq!(alone.overall_code, both.overall_code);
            } else if let Ok(answer) = directly(&beside, &request) {
                prop_assert!(!answer.is_empty());
            }
            hand.advance(Duration::from_secs(seconds));
        }
    }
}
