mod gone;
mod special;

use std::{borrow::Cow, sync::Arc};

use self::gone::Gone;
use super::*;
use crate::{
    domain::Period,
    limiter::tests::{limiter_by, memory},
};

const POLICIES: &str = r#"
builtin = false

[namespaces.reference]
envoy_compatible = true

[[policies]]
name = "users"
namespace = "shop"
descriptor = [{ key = "user" }]
limits = [{ name = "day", limit = 3, period = "1d" }]

[[policies]]
name = "mallory"
namespace = "shop"
enforcement = "off"
descriptor = [{ key = "user", value = "mallory" }]
limits = [{ name = "day", limit = 1, period = "1d" }]

[[policies]]
name = "paths"
namespace = "shop"
descriptor = [{ key = "path", value = "/v1/*" }]
limits = [{ name = "day", limit = 5, period = "1d" }]

[[policies]]
name = "addresses"
namespace = "shop"
key_by = ["remote_address"]
limits = [{ name = "day", limit = 4, period = "1d" }]

[[policies]]
name = "trial"
namespace = "shop"
enforcement = "shadow"
descriptor = [{ key = "trial" }]
limits = [{ name = "day", limit = 1, period = "1d" }]

[[policies]]
name = "users"
namespace = "reference"
descriptor = [{ key = "user" }]
limits = [{ name = "day", limit = 3, period = "1d" }]

[[policies]]
name = "paths"
namespace = "reference"
descriptor = [{ key = "path" }]
limits = [{ name = "day", limit = 5, period = "1d" }]
"#;

fn limiters() -> [Limiter; 2] {
    [Counters::Memory(memory()), Counters::Shared { store: memory(), local: memory() }]
        .map(|counters| limiter_by(POLICIES, counters, 1))
}

/// Of each descriptor: whether it is allowed, and what is left of its first limit, if it has any.
async fn decided(
    limiter: &Limiter,
    namespace: &str,
    descriptors: &[(&str, &str, u64)],
) -> Vec<(bool, Option<u64>)> {
    let entries: Vec<_> = descriptors.iter().map(|(key, value, _)| [(*key, Cow::from(*value))]).collect();
    let descriptors: Vec<_> = descriptors
        .iter()
        .zip(&entries)
        .map(|((_, _, hits), entries)| Descriptor { entries, hits: *hits, gives_back: false, limit: None })
        .collect();
    let policies = limiter.policies();
    let verdicts = limiter.check_descriptors(&policies, namespace, &descriptors).await;
    let left = |verdict: &Verdict<'_>| verdict.limits.first().map(|limit| limit.outcome.remaining);
    verdicts.iter().map(|verdict| (verdict.allowed, left(verdict))).collect()
}

#[tokio::test]
async fn all_descriptors_are_charged_or_none() {
    for limiter in limiters() {
        let both = [("user", "ada", 2), ("path", "/v1/orders", 1)];
        assert_eq!(decided(&limiter, "shop", &both).await, [(true, Some(1)), (true, Some(4))]);
        assert_eq!(decided(&limiter, "shop", &both).await, [(false, Some(1)), (true, Some(4))]);
        assert_eq!(decided(&limiter, "shop", &both[1..]).await, [(true, Some(3))], "nothing was charged");
    }
}

#[tokio::test]
async fn compatible_namespace_charges_each_for_itself() {
    for limiter in limiters() {
        let both = [("user", "ada", 2), ("path", "/v1/orders", 1)];
        assert_eq!(decided(&limiter, "reference", &both).await, [(true, Some(1)), (true, Some(4))]);
        assert_eq!(decided(&limiter, "reference", &both).await, [(false, Some(0)), (true, Some(3))]);
        // What there was not enough of is used up, as the reference counts what it denies.
        assert_eq!(decided(&limiter, "reference", &[("user", "ada", 1)]).await, [(false, Some(0))]);
        assert_eq!(decided(&limiter, "reference", &[("user", "eve", 9)]).await, [(false, Some(0))]);
        assert_eq!(decided(&limiter, "reference", &[("user", "eve", 1)]).await, [(false, Some(0))]);
    }
}

#[tokio::test]
async fn descriptor_of_no_hits_looks_and_charges_nothing() {
    for limiter in limiters() {
        let look = [("user", "ada", 0), ("path", "/v1/orders", 1)];
        assert_eq!(decided(&limiter, "shop", &look).await, [(true, Some(3)), (true, Some(4))]);
        assert_eq!(decided(&limiter, "shop", &[("user", "ada", 3)]).await, [(true, Some(0))]);
        // Nothing is left, so the look fails, and what stands beside it is not charged.
        assert_eq!(decided(&limiter, "shop", &look).await, [(false, Some(0)), (true, Some(4))]);
        assert_eq!(decided(&limiter, "shop", &look[1..]).await, [(true, Some(3))]);
    }
}

#[tokio::test]
async fn same_subject_twice_is_charged_for_both() {
    for limiter in limiters() {
        let twice = [("user", "ada", 1), ("user", "ada", 1)];
        assert_eq!(decided(&limiter, "shop", &twice).await, [(true, Some(1)), (true, Some(1))]);
        assert_eq!(decided(&limiter, "shop", &twice).await, [(false, Some(1)), (false, Some(1))]);
        assert_eq!(decided(&limiter, "shop", &twice[1..]).await, [(true, Some(0))]);
    }
}

#[tokio::test]
async fn more_hits_than_a_limit_could_ever_admit_are_over_it() {
    for limiter in limiters() {
        let dear = [("user", "ada", 4), ("path", "/v1/orders", 1)];
        assert_eq!(decided(&limiter, "shop", &dear).await, [(false, Some(3)), (true, Some(5))]);
        assert_eq!(decided(&limiter, "shop", &[("trial", "x", 9)]).await, [(true, Some(0))], "a shadow");
        assert_eq!(decided(&limiter, "shop", &[("trial", "x", 9)]).await, [(true, Some(0))], "a shadow");
    }
}

#[tokio::test]
async fn what_no_policy_is_for_is_admitted_by_no_limit() {
    for limiter in limiters() {
        let none = [("user", "ada", 1), ("city", "Ulm", 1), ("path", "/v2", 1), ("remote_address", "::1", 1)];
        let expected = [(true, Some(2)), (true, None), (true, None), (true, Some(3))];
        assert_eq!(decided(&limiter, "shop", &none).await, expected, "attributes are matched as well");
        assert_eq!(decided(&limiter, "nowhere", &none).await, [(true, None); 4]);
    }
}

#[tokio::test]
async fn limit_of_a_request_takes_the_place_of_policies_and_keeps_what_was_counted() {
    for limiter in limiters() {
        let policies = limiter.policies();
        let entries = [("user", Cow::from("ada")), ("path", Cow::from("/v1"))];
        let ask = async |tokens: u64, hits: u64| {
            let keys = ["user", "path"];
            let limit = RequestLimit::new("shop", &keys, "hour", tokens, Period::Micros(3_600_000_000))
                .expect("valid");
            let descriptor = Descriptor { entries: &entries, hits, gives_back: false, limit: Some(&limit) };
            let verdicts = limiter.check_descriptors(&policies, "shop", &[descriptor]).await;
            let found = &verdicts[0].limits[0];
            assert_eq!(&*found.limit.full_name, "override/hour");
            (verdicts[0].allowed, found.outcome.remaining)
        };
        assert_eq!(ask(5, 3).await, (true, 2));
        assert_eq!(ask(5, 3).await, (false, 2));
        assert_eq!(ask(8, 3).await, (true, 2), "raised");
        assert_eq!(ask(4, 1).await, (false, 0), "lowered");
        assert!(!ask(0, 1).await.0, "nothing is allowed at all");
        assert!(!ask(5, 9).await.0, "more than it could ever admit");
        assert_eq!(
            decided(&limiter, "shop", &[("user", "ada", 1)]).await,
            [(true, Some(2))],
            "counted apart"
        );
    }
}

#[tokio::test]
async fn hits_are_given_back_whatever_else_is_asked() {
    for limiter in limiters() {
        let policies = limiter.policies();
        let (user, path) = ([("user", Cow::from("ada"))], [("path", Cow::from("/v1/orders"))]);
        let of = |entries, hits, gives_back| Descriptor { entries, hits, gives_back, limit: None };
        let ask = async |namespace: &str, descriptors: &[Descriptor<'_>]| {
            let verdicts = limiter.check_descriptors(&policies, namespace, descriptors).await;
            verdicts
                .iter()
                .map(|verdict| (verdict.allowed, verdict.limits[0].outcome.remaining))
                .collect::<Vec<_>>()
        };
        for namespace in ["shop", "reference"] {
            assert_eq!(ask(namespace, &[of(&user, 3, false)]).await, [(true, 0)]);
            // What is given back can be charged in the same request; the denial of another takes it back from nobody.
            assert_eq!(
                ask(namespace, &[of(&user, 2, true), of(&path, 1, false)]).await,
                [(true, 2), (true, 4)]
            );
            assert_eq!(
                ask(namespace, &[of(&path, 9, false), of(&user, 1, true)]).await,
                [(false, if namespace == "shop" { 4 } else { 0 }), (true, 3)]
            );
            assert_eq!(ask(namespace, &[of(&user, 9, true)]).await, [(true, 3)], "never more than the limit");
        }
    }
}

#[tokio::test]
async fn those_that_look_at_one_subject_look_together() {
    for limiter in limiters() {
        assert_eq!(decided(&limiter, "shop", &[("user", "ada", 2)]).await, [(true, Some(1))]);
        let looks = [("user", "ada", 0), ("user", "ada", 0), ("user", "ada", 0), ("user", "ada", 0)];
        assert_eq!(decided(&limiter, "shop", &looks).await, [(true, Some(1)); 4]);
    }
}

#[tokio::test]
async fn without_the_store_failure_modes_admit_no_more_than_it_would() {
    let text = POLICIES.replace("builtin = false", "builtin = false\n\n[defaults]\nfailure_mode = \"local\"");
    let limiter = limiter_by(&text, Counters::Shared { store: Arc::new(Gone), local: memory() }, 1);
    for _ in 0..3 {
        // Four of three, alone and as two halves; what stands beside it is not charged.
        let dear = [("user", "ada", 4), ("path", "/v1/orders", 1)];
        assert!(!decided(&limiter, "shop", &dear).await[0].0);
        let halves = [("user", "ada", 2), ("user", "ada", 2)];
        assert!(decided(&limiter, "shop", &halves).await.iter().all(|(allowed, _)| !allowed));
    }
    assert_eq!(
        decided(&limiter, "shop", &[("user", "ada", 3), ("path", "/v1/orders", 5)]).await,
        [(true, Some(0)), (true, Some(0))]
    );
    assert_eq!(
        decided(&limiter, "shop", &[("user", "ada", 1), ("path", "/v1/more", 1)]).await,
        [(false, Some(0)), (true, Some(5))]
    );
    assert_eq!(decided(&limiter, "shop", &[("path", "/v1/more", 5)]).await, [(true, Some(0))]);
}

#[tokio::test]
async fn policy_that_is_off_hides_no_other() {
    for limiter in limiters() {
        assert_eq!(decided(&limiter, "shop", &[("user", "mallory", 1)]).await, [(true, Some(2))]);
    }
}

#[tokio::test]
async fn what_can_never_pass_is_not_to_be_asked_again_at_once() {
    const DAY_US: u64 = 86_400_000_000;
    for limiter in limiters() {
        let policies = limiter.policies();
        let entries = [("user", Cow::from("ada"))];
        let dear = Descriptor { entries: &entries, hits: 4, gives_back: false, limit: None };
        let verdicts = limiter.check_descriptors(&policies, "shop", &[dear]).await;
        assert!(!verdicts[0].allowed && verdicts[0].retry_after_us >= DAY_US, "{:?}", verdicts[0]);
    }
}

#[tokio::test]
async fn lesser_of_two_limits_of_one_subject_decides() {
    for limiter in limiters() {
        let policies = limiter.policies();
        let entries = [("user", Cow::from("ada"))];
        let of = |tokens| RequestLimit::new("shop", &["user"], "day", tokens, Period::Micros(86_400_000_000));
        let (many, few) = (of(100).expect("valid"), of(5).expect("valid"));
        let ask = async |hits| {
            let by = |limit| Descriptor { entries: &entries, hits, gives_back: false, limit: Some(limit) };
            let verdicts = limiter.check_descriptors(&policies, "shop", &[by(&many), by(&few)]).await;
            verdicts.iter().all(|verdict| verdict.allowed)
        };
        assert!(ask(2).await && !ask(1).await, "four of five, and two more");
    }
}

#[tokio::test]
async fn hits_that_could_not_be_given_back_are_told() {
    let limiter = limiter_by(POLICIES, Counters::Shared { store: Arc::new(Gone), local: memory() }, 1);
    let policies = limiter.policies();
    let entries = [("user", Cow::from("ada"))];
    let of = |gives_back| Descriptor { entries: &entries, hits: 1, gives_back, limit: None };
    let verdicts = limiter.check_descriptors(&policies, "shop", &[of(true), of(false)]).await;
    assert!(verdicts[0].allowed && verdicts[0].degraded);
    // The policy is `closed`.
    assert!(!verdicts[1].allowed && verdicts[1].degraded);
}
