//! Checks per second, CPU per check and latency, against the ceiling.

use anyhow::ensure;

use super::{
    Bench, policies,
    redis::Redis,
    results::{Results, Target},
    server::Server,
};

/// A shape of load: its name, and the arguments of `tidegate bench`.
pub(super) type Shape = (&'static str, &'static [&'static str]);

/// The shape that ratios are judged by: 4 connections × 32 calls.
pub(super) const UNARY: Shape = ("unary 4x32", &["--connections", "4", "--in-flight", "32"]);
const OTHER_UNARY: [Shape; 2] = [
    ("unary 16x16", &["--connections", "16", "--in-flight", "16"]),
    ("unary 64x1", &["--connections", "64", "--in-flight", "1"]),
];
const STEADY: Shape = ("unary 10,000/s", &["--connections", "4", "--rate", "10000"]);
/// As many streams, and batches in flight, as there are calls in [`UNARY`].
const MANY_A_CALL: [Shape; 2] = [
    (
        "stream 4x32, window 64",
        &["--mode", "stream", "--window", "64", "--connections", "4", "--in-flight", "32"],
    ),
    (
        "batch 4x32, of 64",
        &["--mode", "batch", "--batch-size", "64", "--connections", "4", "--in-flight", "32"],
    ),
];
/// One of them a connection, where client and server wait for each other.
const FEW_AT_A_TIME: [Shape; 2] = [
    (
        "stream 4x1, window 64",
        &["--mode", "stream", "--window", "64", "--connections", "4", "--in-flight", "1"],
    ),
    (
        "batch 4x1, of 64",
        &["--mode", "batch", "--batch-size", "64", "--connections", "4", "--in-flight", "1"],
    ),
];

/// Three sliding windows, admitted: counters in memory and in Redis.
pub(super) fn run(bench: &Bench, results: &mut Results) -> anyhow::Result<()> {
    let store = Redis::start()?;
    let ceiling = Server::ceiling(bench)?;
    let memory = Server::tidegate("memory", bench, &policies::three_windows(), None)?;
    let redis = Server::tidegate("redis", bench, &policies::three_windows(), Some(&store))?;
    let mut rounds_on_schedule = 0;
    for _ in 0..bench.rounds {
        let of_ceiling = results.measure(bench, UNARY, &ceiling)?;
        let of_memory = results.measure(bench, UNARY, &memory)?;
        let of_redis = results.measure(bench, UNARY, &redis)?;
        let ratio = of_memory.server_us / of_ceiling.server_us;
        results.ratio("unary, memory: server CPU / ceiling", ratio, Target::AtMost(1.25));
        for shape in MANY_A_CALL {
            let ratio =
                results.measure(bench, shape, &memory)?.checks_per_second / of_memory.checks_per_second;
            results.ratio(&format!("{}, memory: checks/s / unary", shape.0), ratio, Target::AtLeast(8.0));
        }
        let ratio = of_redis.server_us / of_ceiling.server_us;
        results.ratio("unary, Redis: server CPU / ceiling", ratio, Target::AtMost(1.6));
        if let Some(redis_us) = of_redis.redis_us {
            results.figure("unary, Redis: CPU of Redis per check", redis_us, "µs", Target::AtMost(8.0));
        }
        for server in [&ceiling, &memory] {
            results.measure(bench, STEADY, server)?;
        }
        let steady = results.measure(bench, STEADY, &redis)?;
        if steady.kept_schedule {
            rounds_on_schedule += 1;
            results.figure("10,000/s, Redis: p50", steady.p50_us, "µs", Target::AtMost(150.0));
            results.figure("10,000/s, Redis: p99", steady.p99_us, "µs", Target::AtMost(1500.0));
        }
        for shape in OTHER_UNARY {
            for server in [&ceiling, &memory, &redis] {
                results.measure(bench, shape, server)?;
            }
        }
        // With 8,192 checks in flight Redis would not answer within its deadline, and the policies would for it.
        for shape in FEW_AT_A_TIME {
            for server in [&memory, &redis] {
                results.measure(bench, shape, server)?;
            }
        }
    }
    ensure!(
        rounds_on_schedule > 0,
        "10,000/s, Redis: the generator never kept its schedule, so p50 and p99 say nothing of the server"
    );
    Ok(())
}
