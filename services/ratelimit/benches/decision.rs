//! What one decision costs, without the network: three sliding windows of one subject, in memory.
//!
//! `cargo bench -p tidegate-ratelimit --bench decision`

use std::{hint::black_box, sync::Arc};

use arc_swap::ArcSwap;
use criterion::{Criterion, criterion_group, criterion_main};
use futures_util::FutureExt;
use tidegate_chassis::{
    clock::{Clock, Random},
    metrics::Metrics,
};
use tidegate_ratelimit::{
    limiter::{Limiter, LimiterSettings, Question},
    policies,
    store::{MemoryStore, MemoryStoreConfig},
};

/// Limits that no run reaches: an admission is measured, not a denial.
const POLICIES: &str = r#"
[[policies]]
name = "measured"
namespace = "measured"
key_by = ["organization"]
limits = [
    { name = "minute", limit = 1_000_000_000, period = "1m" },
    { name = "hour", limit = 1_000_000_000, period = "1h" },
    { name = "day", limit = 1_000_000_000, period = "1d" },
]
"#;

fn limiter() -> Limiter {
    let store = || {
        let config = MemoryStoreConfig { max_bytes: 1 << 30 };
        Arc::new(MemoryStore::new(&config, Clock::system(), &Random::system(), &Metrics::new()))
    };
    let policies = policies::parse(POLICIES, "the benchmark", 1).expect("valid policies");
    let policies = Arc::new(ArcSwap::from_pointee(policies));
    let settings = LimiterSettings { enabled: true, idempotency_ttl_us: 1_000_000 };
    Limiter::new(policies, store(), None, settings)
}

fn decisions(criterion: &mut Criterion) {
    let limiter = limiter();
    let policies = limiter.policies();
    let plan = || ("plan", "enterprise".to_owned());
    let subjects: Vec<_> = (0..1_000).map(|n| [("organization", format!("org-{n}")), plan()]).collect();
    let mut turn = 0;
    let mut decide = |dry_run| {
        turn = (turn + 1) % subjects.len();
        let question = Question {
            namespace: "measured",
            attributes: &subjects[turn][..],
            cost: 1,
            dry_run,
            idempotency_key: "",
        };
        let verdict = limiter.check(&policies, question).now_or_never().expect("memory answers at once");
        let verdict = verdict.expect("decided");
        assert!(verdict.allowed, "an admission is measured");
        black_box(verdict);
    };
    criterion.bench_function("match, decide and charge, 3 windows, 1,000 keys", |bencher| {
        bencher.iter(|| decide(false));
    });
    criterion
        .bench_function("match and look, 3 windows, 1,000 keys", |bencher| bencher.iter(|| decide(true)));
}

criterion_group!(benches, decisions);
criterion_main!(benches);
