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

fn limiter() -> Limiter {
    let store = || {
        let config = MemoryStoreConfig { max_bytes: 1 << 30 };
        Arc::new(MemoryStore::new(&config, Clock::system(), &Random::system(), &Metrics::new()))
    };
    let policies = Arc::new(ArcSwap::from_pointee(policies::builtin(1)));
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
            namespace: "default",
            attributes: &subjects[turn][..],
            cost: 1,
            dry_run,
            idempotency_key: "",
        };
        let verdict = limiter.check(&policies, question).now_or_never().expect("memory answers at once");
        black_box(verdict.expect("decided"));
    };
    criterion.bench_function("match, decide and charge, 3 windows, 1,000 keys", |bencher| {
        bencher.iter(|| decide(false));
    });
    criterion
        .bench_function("match and look, 3 windows, 1,000 keys", |bencher| bencher.iter(|| decide(true)));
}

criterion_group!(benches, decisions);
criterion_main!(benches);
