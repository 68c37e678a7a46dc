//! The script on a real Redis and the domain in memory decide the same, call by call, as time passes.
//!
//! The time is injected: of the script only the line that asks Redis for it is replaced, and expiry is
//! put off, since it would pass in real time. When a key expires has a test of its own.

use std::collections::HashMap;

use proptest::prelude::*;
use redis::aio::MultiplexedConnection;
use smallvec::SmallVec;

mod fences;
mod refund;
mod undo;

use super::super::{
    encode::{ANSWERS_START, Encoder, decided_at, decode, kind},
    script::{DECIDE, LEASE},
};
use super::*;
use crate::{
    domain::{
        Cells, Concurrency, Layout, Lease, LeaseId, Limit, LimitSpec, Period, Replay, Rule, decide,
        lease_parts,
    },
    store::{CellLease, MemoryStore, MemoryStoreConfig},
};
use tidegate_chassis::clock::{Clock, ManualClock};

const START_US: u64 = 1_800_000_000_000_000;

/// Longer than any simulated time.
const RECORD_TTL_US: u64 = 50 * 365 * 86_400_000_000;

/// A rule, and the same with other numbers, as after a change of its limit.
fn rule() -> impl Strategy<Value = [Rule; 2]> {
    let algorithms = ALGORITHMS.into_iter().chain([Algorithm::Concurrency, Algorithm::Concurrency]);
    let algorithm = prop::sample::select(algorithms.collect::<Vec<_>>());
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
                Period::Week | Period::Month if algorithm == Algorithm::Concurrency => Period::Micros(70_000),
                Period::Month if algorithm != Algorithm::FixedWindow => Period::Week,
                period => period,
            };
            // Logs and leases in memory are merged when their limit is lowered, in Redis there is room for all of them.
            let merges = matches!(algorithm, Algorithm::SlidingLog | Algorithm::Concurrency);
            let second = if merges { first } else { second };
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
    /// How long it lasts.
    lease_us: Option<u64>,
}

/// A lease that is renewed or released: of which cell, and which of those given so far.
#[derive(Clone, Debug)]
struct Change {
    cell: usize,
    lease: prop::sample::Index,
    enforced: bool,
    /// 0 to release it.
    ttl_us: u64,
}

fn change() -> impl Strategy<Value = Change> {
    let ttl_us = prop_oneof![1 => Just(0), 2 => 1_u64..200_000];
    (0_usize..3, any::<prop::sample::Index>(), any::<bool>(), ttl_us)
        .prop_map(|(cell, lease, enforced, ttl_us)| Change { cell, lease, enforced, ttl_us })
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
        prop::option::weighted(0.85, prop_oneof![1_u64..200_000, Just(86_400_000_000)]),
    )
        .prop_map(|(first, second, cost, charge, changed, enforced, idempotency, lease_us)| Step {
            first,
            second: second.filter(|second| *second != first),
            cost,
            charge,
            changed,
            enforced,
            idempotency,
            lease_us,
        })
}

/// Per call: how far the clock moves (in parts of a period, and back), its checks, and what becomes of leases after it.
fn calls() -> impl Strategy<Value = Vec<(i64, Vec<Step>, Vec<Change>)>> {
    let moves = prop_oneof![3 => Just(0_i64), 4 => 0_i64..60, 2 => 200_i64..4_000, 1 => -80_i64..0];
    let changes = prop::collection::vec(change(), 0..4);
    prop::collection::vec((moves, prop::collection::vec(step(), 1..5), changes), 1..40)
}

/// What the domain decides, by a store that only remembers.
#[derive(Default)]
struct Domain {
    cells: HashMap<Vec<u8>, Vec<u64>>,
    /// Digest, until when it is remembered, and the lease that was taken.
    records: HashMap<Vec<u8>, (u128, u64, Option<LeaseId>)>,
}

impl Domain {
    fn decide(&mut self, check: &Check<'_>, now_us: u64) -> Decision {
        let record =
            check.idempotency.as_ref().and_then(|idempotency| self.records.get(&idempotency.key[..]));
        let replay = match (record, &check.idempotency) {
            (Some((digest, until_us, lease)), Some(idempotency)) if *until_us > now_us => {
                if *digest != idempotency.digest {
                    return Decision::of_reused_key();
                }
                Some(Replay { lease: *lease })
            }
            _ => None,
        };
        let decision = decide(check, &mut CellsOf { check, cells: &mut self.cells }, now_us, replay);
        if let (Some(idempotency), true) =
            (&check.idempotency, check.charge && decision.admitted && replay.is_none())
        {
            let until_us = now_us + idempotency.ttl_us;
            self.records.insert(
                idempotency.key.to_vec(),
                (idempotency.digest, until_us, check.lease.map(|lease| lease.id)),
            );
        }
        decision
    }

    /// Renews or, for no time at all, releases a lease.
    fn change(&mut self, lease: &CellLease, ttl_us: u64, now_us: u64) -> bool {
        let Some(words) = self.cells.get_mut(&lease.key[..]) else { return false };
        let Some(parts) = lease_parts(&lease.algorithms, words) else { return false };
        let is_held = |part: &std::ops::Range<usize>| {
            Concurrency::expiry(&words[part.clone()], lease.id, now_us).is_some()
        };
        if ttl_us > 0 && lease.enforced && !parts.iter().all(is_held) {
            return false;
        }
        let mut is_changed = false;
        for part in parts {
            let state = &mut words[part];
            is_changed |= match ttl_us {
                0 => Concurrency::release(state, lease.id, now_us),
                _ => Concurrency::renew(state, lease.id, ttl_us, now_us),
            };
        }
        is_changed
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
    scripts: Scripts,
    domain: Domain,
    /// As the domain decides if time does not go back, which it does not in one shard.
    memory: (MemoryStore, Domain),
    clock: ManualClock,
    latest_us: u64,
}

/// Digests of the scripts.
#[derive(Clone)]
struct Scripts {
    decide: String,
    lease: String,
}

impl Both {
    fn new(redis: MultiplexedConnection, scripts: Scripts) -> Self {
        let config = MemoryStoreConfig { max_bytes: 64 << 20 };
        let (time, clock) = Clock::manual(START_US);
        let memory = MemoryStore::new(&config, time, &Random::seeded(1), &Metrics::new());
        let memory = (memory, Domain::default());
        Self { redis, scripts, domain: Domain::default(), memory, clock, latest_us: 0 }
    }

    async fn decide(&mut self, now_us: u64, checks: &[Check<'_>]) -> Vec<(Decision, Decision)> {
        let mut encoder = Encoder::default();
        for check in checks {
            encoder.push(check, false);
        }
        let mut command = encoder.command(&self.scripts.decide, |_| true);
        command.arg(now_us / 1_000_000).arg(now_us % 1_000_000);
        let answer: Vec<u8> = command.query_async(&mut self.redis).await.expect("the script runs");
        assert_eq!(decided_at(&answer), now_us);
        let mut start = ANSWERS_START;
        self.latest_us = self.latest_us.max(now_us);
        let mut both = Vec::new();
        for (index, check) in checks.iter().enumerate() {
            let end = start + encoder.answer_len(index);
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

    async fn change(&mut self, now_us: u64, lease: &CellLease, ttl_us: u64) -> [(bool, bool); 2] {
        let kinds: Vec<u8> = lease.algorithms.iter().copied().map(kind).collect();
        let mut command = redis::cmd("EVALSHA");
        command.arg(&self.scripts.lease).arg(1).arg(&lease.key[..]).arg(kinds);
        command.arg(&lease.id.get().to_le_bytes()).arg(u8::from(lease.enforced)).arg(ttl_us);
        command.arg(now_us / 1_000_000).arg(now_us % 1_000_000);
        let by_redis: u8 = command.query_async(&mut self.redis).await.expect("the script runs");
        let by_domain = self.domain.change(lease, ttl_us, now_us);
        let (memory, domain) = &mut self.memory;
        self.clock.set_us(self.latest_us);
        let cells = std::slice::from_ref(lease);
        let in_memory = match ttl_us {
            0 => memory.release(cells).get().await,
            _ => memory.renew(cells, ttl_us).get().await,
        };
        let expected = domain.change(lease, ttl_us, self.latest_us) || ttl_us > 0 && !lease.enforced;
        [(by_redis == 1, by_domain), (in_memory.expect("memory answers"), expected)]
    }
}

fn build<'l>(case: u64, layouts: &'l [[Arc<Layout>; 2]], step: &Step, id: LeaseId) -> Check<'l> {
    let lease = step.lease_us.map(|ttl_us| Lease { id, ttl_us });
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
    Check { cells, charge: step.charge, idempotency, lease, fence: None }
}

fn lease_with_injected_time() -> String {
    let script = LEASE.replacen("redis.call('TIME')", "{ ARGV[5], ARGV[6] }", 1);
    assert!(!script.contains("'TIME'"), "the script reads its time otherwise");
    script
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

/// A Redis, and who asks it.
async fn started() -> (RedisServer, MultiplexedConnection) {
    let server = RedisServer::start().await.expect("redis-server");
    let client = redis::Client::open(server.url()).expect("url");
    // Patient, since the machine that runs the tests may be busy.
    let config = redis::AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(10)));
    let redis = client.get_multiplexed_async_connection_with_config(&config).await.expect("connected");
    (server, redis)
}

/// Loads a script, and answers its digest.
async fn load(redis: &mut MultiplexedConnection, script: String) -> String {
    redis::cmd("SCRIPT").arg("LOAD").arg(script).query_async(redis).await.expect("loaded")
}

/// Bytes that may be found in the midst of others, as random ones may.
fn lease_id(number: u64) -> LeaseId {
    LeaseId::new((number << 56) | (0x0101_0101_0101 * (number % 3)) | number).expect("not 0")
}

#[test]
fn script_and_domain_decide_the_same() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    let (server, mut redis) = runtime.block_on(started());
    let scripts = Scripts {
        decide: runtime.block_on(load(&mut redis, with_injected_time())),
        lease: runtime.block_on(load(&mut redis, lease_with_injected_time())),
    };
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
        let mut both = Both::new(redis.clone(), scripts.clone());
        let mut given = 0_u64;
        let mut now_us = START_US;
        for (moved, steps, changes) in &calls {
            now_us = now_us.saturating_add_signed(moved * 997);
            let checks: Vec<_> = steps
                .iter()
                .map(|step| {
                    given += 1;
                    build(case.get(), &layouts, step, lease_id(given))
                })
                .collect();
            for (by_store, by_domain) in runtime.block_on(both.decide(now_us, &checks)) {
                prop_assert_eq!(by_store, by_domain);
            }
            for Change { cell, lease, enforced, ttl_us } in changes {
                let lease = CellLease {
                    key: format!("{}/{cell}", case.get()).as_bytes().into(),
                    algorithms: layouts[*cell][0].rules().iter().map(Rule::algorithm).collect(),
                    enforced: *enforced,
                    id: lease_id(1 + lease.index(usize::try_from(given).expect("few")) as u64),
                };
                for (by_store, by_domain) in runtime.block_on(both.change(now_us, &lease, *ttl_us)) {
                    prop_assert_eq!(by_store, by_domain);
                }
            }
        }
        Ok(())
    });
    drop(server);
    if let Err(error) = outcome {
        panic!("{error}");
    }
}
