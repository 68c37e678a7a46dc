//! The decision itself allocates nothing once a key is known.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tidegate_chassis::{
    clock::{Clock, Random},
    metrics::Metrics,
};
use tidegate_ratelimit::{
    domain::{Numbers, Override, OverrideChange, OverrideTarget, Pattern, PolicySet},
    limiter::{Counters, Limiter, LimiterSettings, Question},
    policies,
    store::{MemoryStore, MemoryStoreConfig},
};

/// A limiter that counts in memory by these policies.
fn limiter(policies: PolicySet) -> Limiter {
    let config = MemoryStoreConfig { max_bytes: 16 << 20 };
    let store = MemoryStore::new(&config, Clock::system(), &Random::system(), &Metrics::new());
    let settings = LimiterSettings { enabled: true, idempotency_ttl_us: 1_000_000 };
    let policies = Arc::new(ArcSwap::from_pointee(policies));
    Limiter::new(policies, Counters::Memory(Arc::new(store)), Clock::system(), Random::seeded(1), settings)
}

fn decide(limiter: &Limiter, policies: &PolicySet, attributes: &[(&str, &str)]) -> bool {
    let question = Question::new("default", attributes);
    limiter.at_once().expect("memory answers at once").check(policies, &question).expect("decided").allowed
}

#[test]
fn deciding_a_known_key_allocates_nothing() {
    let limiter = limiter(policies::builtin(1));
    let policies = limiter.policies();
    let attributes = [("organization", "acme"), ("plan", "free")];
    assert!(decide(&limiter, &policies, &attributes));
    let mut admitted = 0;
    let all = || admitted = (0..100).filter(|_| decide(&limiter, &policies, &attributes)).count();
    let info = allocation_counter::measure(all);
    assert_eq!(admitted, 9, "admissions and denials were both measured");
    assert_eq!(info.count_total, 0, "{info:?}");
}

/// A set with an override for each of so many organizations, and with some by prefix.
fn overridden(count: usize) -> PolicySet {
    let of = |key: &str, limit: &str| {
        let target = OverrideTarget {
            namespace: "default".into(),
            policy: "organization".into(),
            limit: limit.into(),
            key: [Pattern::parse(key).expect("a pattern")].into(),
        };
        OverrideChange::Set(Override { target, numbers: Numbers { tokens: 50, period: None, burst: None } })
    };
    let exact = (0..count).map(|number| of(&format!("organization-{number}"), "minute"));
    let changes = exact.chain([of("organization-7*", "hour"), of("org*", "day")]);
    let (set, faults) = policies::builtin(1).with_overrides(changes);
    assert_eq!(faults, []);
    set
}

#[test]
fn deciding_by_an_override_allocates_nothing_once_it_was_used() {
    let limiter = limiter(overridden(1_000));
    let policies = limiter.policies();
    // By one override, by a combination of three, and by none.
    for organization in ["acme", "organization-3", "organization-77"] {
        let attributes = [("organization", organization), ("plan", "startup")];
        assert!(decide(&limiter, &policies, &attributes));
        let mut admitted = 0;
        let all = || admitted = (0..100).filter(|_| decide(&limiter, &policies, &attributes)).count();
        let info = allocation_counter::measure(all);
        assert_eq!(admitted, if organization == "acme" { 29 } else { 49 });
        assert_eq!(info.count_total, 0, "{organization}: {info:?}");
    }
}

#[test]
fn a_change_of_one_override_among_many_copies_little_of_them() {
    let set = overridden(100_000);
    let target = set.overrides().next().expect("there are some").target;
    let numbers = Numbers { tokens: 3, period: None, burst: None };
    let change = OverrideChange::Set(Override { target, numbers });
    let mut changed = None;
    let info = allocation_counter::measure(|| changed = Some(set.with_overrides([change])));
    let (next, faults) = changed.expect("made");
    assert!(faults.is_empty() && next.overrides_len() == set.overrides_len());
    assert!(info.count_total < 100, "{info:?}");
    assert!(info.bytes_total < 100_000, "a shard, and the names of the shards: {info:?}");
}

#[test]
fn an_override_that_is_not_used_takes_little_memory() {
    let mut kept = None;
    let info = allocation_counter::measure(|| kept = Some(overridden(100_000)));
    assert_eq!(kept.expect("made").overrides_len(), 100_002);
    let each = info.bytes_current / 100_000;
    assert!((40..200).contains(&each), "{each} bytes an override: {info:?}");
}
