//! The script on a real Redis and the domain in memory decide the same, call by call, as time passes.
//!
//! The time is injected: of the script only the line that asks Redis for it is replaced, and expiry is
//! put off, since it would pass in real time. When a key expires has a test of its own.

use std::collections::HashMap;

use proptest::prelude::*;
use redis::aio::MultiplexedConnection;
use smallvec::SmallVec;

mod refund;
mod undo;

use super::super::{
    encode::{ANSWERS_START, Encoder, answer_len, decided_at, decode},
    script::DECIDE,
};
use super::*;
use crate::{
    domain::{Cells, Layout, Limit, LimitSpec, Period, Rule, decide},
    store::{MemoryStore, MemoryStoreConfig},
};
use tidegate_chassis::clock::Clock;

const START_US: u64 = 1_800_000_000_000_000;

/// Longer than any simulated time.
const RECORD_TTL_US: u64 = 50 * 365 * 86_400_000_000;

/// A rule, and the same with other numbers, as after a change of its limit.
fn rule() -> impl Strategy<Value = [Rule; 2]> {
    let algorithm = prop::sample::select(ALGORITHMS.to_vec());
    let period = prop_oneof![
        4 => (1_000_u64..200_000).prop_map(Period::Micros),
        2 => prop::sample::select(vec![1_000_000, 60_000_000, 3_600_000_000, 86_400_000_000]).prop_map(Period::Micros),
        1 => Just(Period::Week),
        1 => Just(Period::Month),
    ];
    let limit = || prop_oneof![8 => 1_u64..40, 1 => 900_u64..1_000];
    let burst = || prop::option::of(1_u64..60);
    (algorithm, period, (limit(), burst()), (limit(), burst())).prop_map(
        |(algorithm, period, first, second)| {
            let period = match period {
                Period::Month if algorithm != Algorithm::FixedWindow => Period::Week,
                period => period,
            };
            // A log in memory merges entries when its limit is lowered, one in Redis has room for all of them.
            let second = if algorithm == Algorithm::SlidingLog { first } else { second };
            [first, second].map(|(limit, burst)| {
                let burst = burst.filter(|_| algorithm == Algorithm::TokenBucket);
                Limit::new(LimitSpec { name: "limit".into(), algorithm, limit, period, burst })
                    .expect("valid")
                    .rule
            })
        },
    )
}

/// One check of a call, by number: which cells, its cost, what else.
#[derive(Clone, Debug)]
struct Step {
    first: usize,
    second: Option<usize>,
    cost: u64,
    charge: bool,
    /// Which numbers are in force.
    changed: bool,
    enforced: [bool; 2],
    idempotency: Option<(u8, u128)>,
}

fn step() -> impl Strategy<Value = Step> {
    (
        0_usize..3,
        prop::option::of(0_usize..3),
        prop_oneof![4 => Just(1_u64), 2 => 1_u64..8],
        prop::bool::weighted(0.85),
        prop::bool::weighted(0.2),
        [prop::bool::weighted(0.8), prop::bool::weighted(0.8)],
        prop::option::weighted(0.2, (0_u8..3, 0_u128..2)),
    )
        .prop_map(|(first, second, cost, charge, changed, enforced, idempotency)| Step {
            first,
            second: second.filter(|second| *second != first),
            cost,
            charge,
            changed,
            enforced,
            idempotency,
        })
}

/// Per call: how far the clock moves (in parts of a period, and back), and its checks.
fn calls() -> impl Strategy<Value = Vec<(i64, Vec<Step>)>> {
    let moves = prop_oneof![3 => Just(0_i64), 4 => 0_i64..60, 2 => 200_i64..4_000, 1 => -80_i64..0];
    prop::collection::vec((moves, prop::collection::vec(step(), 1..5)), 1..40)
}

/// What the domain decides, by a store that only remembers.
#[derive(Default)]
struct Domain {
    cells: HashMap<Vec<u8>, Vec<u64>>,
    /// Digest, and until when it is remembered.
    records: HashMap<Vec<u8>, (u128, u64)>,
}

impl Domain {
    fn decide(&mut self, check: &Check<'_>, now_us: u64) -> Decision {
        let record =
            check.idempotency.as_ref().and_then(|idempotency| self.records.get(&idempotency.key[..]));
        let replayed = match (record, &check.idempotency) {
            (Some((digest, until_us)), Some(idempotency)) if *until_us > now_us => {
                if *digest != idempotency.digest {
                    let outcomes = SmallVec::new();
                    return Decision { admitted: false, replayed: false, key_reused: true, outcomes };
                }
                true
            }
            _ => false,
        };
        let decision = decide(check, &mut CellsOf { check, cells: &mut self.cells }, now_us, replayed);
        if let (Some(idempotency), true) =
            (&check.idempotency, check.charge && decision.admitted && !replayed)
        {
            let until_us = now_us + idempotency.ttl_us;
            self.records.insert(idempotency.key.to_vec(), (idempotency.digest, until_us));
        }
        decision
    }
}

/// The cells of one check.
struct CellsOf<'d, 'p> {
    check: &'d Check<'p>,
    cells: &'d mut HashMap<Vec<u8>, Vec<u64>>,
}

impl Cells for CellsOf<'_, '_> {
    fn peek(&mut self, cell: usize) -> &[u64] {
        self.update(cell)
    }

    fn update(&mut self, cell: usize) -> &mut [u64] {
        let cell = &self.check.cells[cell];
        self.cells.entry(cell.key.to_vec()).or_insert_with(|| {
            let mut words = vec![0; cell.layout.words()];
            cell.layout.prepare(&mut words);
            words
        })
    }

    /// A cell that is as good as new decides as a new one.
    fn keep_until(&mut self, _: usize, _: u64) {}
}

struct Both {
    redis: MultiplexedConnection,
    script: String,
    domain: Domain,
    /// As the domain decides if time does not go back, which it does not in one shard.
    memory: (MemoryStore, Domain),
    latest_us: u64,
}

impl Both {
    fn new(redis: MultiplexedConnection, script: String) -> Self {
        let config = MemoryStoreConfig { max_bytes: 64 << 20 };
        let memory =
            MemoryStore::new(&config, Clock::manual(START_US).0, &Random::seeded(1), &Metrics::new());
        let memory = (memory, Domain::default());
        Self { redis, script, domain: Domain::default(), memory, latest_us: 0 }
    }

    async fn decide(&mut self, now_us: u64, checks: &[Check<'_>]) -> Vec<(Decision, Decision)> {
        let mut encoder = Encoder::default();
        for check in checks {
            encoder.push(check).expect("few cells");
        }
        let mut command = encoder.command(&self.script, |_| true);
        command.arg(now_us / 1_000_000).arg(now_us % 1_000_000);
        let answer: Vec<u8> = command.query_async(&mut self.redis).await.expect("the script runs");
        assert_eq!(decided_at(&answer), now_us);
        let mut start = ANSWERS_START;
        self.latest_us = self.latest_us.max(now_us);
        let mut both = Vec::new();
        for (index, check) in checks.iter().enumerate() {
            let end = start + answer_len(encoder.rules(index));
            let by_redis = decode(&answer[start..end]).expect("decided");
            both.push((by_redis, self.domain.decide(check, now_us)));
            let (memory, domain) = &mut self.memory;
            let in_memory = memory.decide_at(check, self.latest_us).expect("room");
            both.push((in_memory, domain.decide(check, self.latest_us)));
            start = end;
        }
        assert_eq!(start, answer.len());
        both
    }
}

fn build<'l>(case: u64, layouts: &'l [[Arc<Layout>; 2]], step: &Step) -> Check<'l> {
    let cells: SmallVec<[CellCheck<'l>; 2]> = [Some(step.first), step.second]
        .into_iter()
        .flatten()
        .zip(step.enforced)
        .map(|(cell, enforced)| {
            let layout = &layouts[cell][usize::from(step.changed)];
            let capacity = layout.rules().iter().map(Rule::capacity).min().expect("a rule");
            let key = format!("{case}/{cell}").as_bytes().into();
            CellCheck { key, layout, cost: step.cost.min(capacity), enforced }
        })
        .collect();
    let idempotency = step.idempotency.map(|(key, digest)| Idempotency {
        key: format!("{case}/record/{key}").as_bytes().into(),
        digest,
        ttl_us: RECORD_TTL_US,
    });
    Check { cells, charge: step.charge, idempotency }
}

fn with_injected_time() -> String {
    let script = DECIDE.replacen("redis.call('TIME')", "{ ARGV[3], ARGV[4] }", 1);
    let script = script.replacen("div(longest + 999, 1000) + 2", "3600000", 1);
    assert!(
        !script.contains("'TIME'") && script.contains("'PX', 3600000"),
        "the script reads its time otherwise"
    );
    script
}

/// A Redis that has the script, and its digest.
async fn started_with(script: String) -> (RedisServer, MultiplexedConnection, String) {
    let server = RedisServer::start().await.expect("redis-server");
    let client = redis::Client::open(server.url()).expect("url");
    let mut redis = client.get_multiplexed_async_connection().await.expect("connected");
    let sha: String =
        redis::cmd("SCRIPT").arg("LOAD").arg(script).query_async(&mut redis).await.expect("loaded");
    (server, redis, sha)
}

#[test]
fn script_and_domain_decide_the_same() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    let (server, redis, sha) = runtime.block_on(started_with(with_injected_time()));
    let case = std::cell::Cell::new(0_u64);
    let layouts = prop::collection::vec(prop::collection::vec(rule(), 1..4), 3);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let outcome = runner.run(&(layouts, calls()), |(rules, calls)| {
        case.set(case.get() + 1);
        let layouts: Vec<_> = rules
            .iter()
            .map(|rules| {
                [0, 1].map(|numbers| {
                    Arc::new(Layout::new(rules.iter().map(|rule| rule[numbers]).collect::<Vec<_>>()))
                })
            })
            .collect();
        let mut both = Both::new(redis.clone(), sha.clone());
        let mut now_us = START_US;
        for (moved, steps) in &calls {
            now_us = now_us.saturating_add_signed(moved * 997);
            let checks: Vec<_> = steps.iter().map(|step| build(case.get(), &layouts, step)).collect();
            for (by_store, by_domain) in runtime.block_on(both.decide(now_us, &checks)) {
                prop_assert_eq!(by_store, by_domain);
            }
        }
        Ok(())
    });
    drop(server);
    if let Err(error) = outcome {
        panic!("{error}");
    }
}
