//! The decision itself allocates nothing once a key is known.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tidegate_chassis::{
    clock::{Clock, Random},
    metrics::Metrics,
};
use tidegate_ratelimit::{
    limiter::{Counters, Limiter, LimiterSettings, Question},
    policies,
    store::{MemoryStore, MemoryStoreConfig},
};

#[test]
fn deciding_a_known_key_allocates_nothing() {
    let store = || {
        let config = MemoryStoreConfig { max_bytes: 16 << 20 };
        Arc::new(MemoryStore::new(&config, Clock::system(), &Random::system(), &Metrics::new()))
    };
    let settings = LimiterSettings { enabled: true, idempotency_ttl_us: 1_000_000 };
    let policies = Arc::new(ArcSwap::from_pointee(policies::builtin(1)));
    let limiter = Limiter::new(policies, Counters::Memory(store()), Clock::system(), settings);
    let policies = limiter.policies();
    let attributes = [("organization", "acme"), ("plan", "free")];
    let decide = || {
        let question = Question {
            namespace: "default",
            attributes: &attributes[..],
            cost: 1,
            dry_run: false,
            idempotency_key: "",
        };
        let verdict = limiter.at_once().expect("memory answers at once").check(&policies, &question);
        verdict.expect("decided").allowed
    };
    assert!(decide());
    let mut admitted = 0;
    let info = allocation_counter::measure(|| admitted = (0..100).filter(|_| decide()).count());
    assert_eq!(admitted, 9, "admissions and denials were both measured");
    assert_eq!(info.count_total, 0, "{info:?}");
}
