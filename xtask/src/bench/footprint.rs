//! Memory per key: of the process, and of Redis.

use std::time::Duration;

use anyhow::{Context, bail, ensure};

use super::{
    Bench, policies,
    redis::Redis,
    results::{Results, Target},
    server::Server,
};

/// An algorithm, the limit a day that its keys have, and the most bytes one of them may take in the process and
/// in Redis.
struct Kind {
    algorithm: &'static str,
    tokens: &'static str,
    in_process: Target,
    in_redis: Target,
}

/// Limits of the plan `enterprise`. A token bucket of so many tokens would be full again, and forgotten, before the
/// last key is there, so it has fewer; a log holds every admission, here 10 of them.
const KINDS: [Kind; 4] = [
    Kind {
        algorithm: "token_bucket",
        tokens: "500",
        in_process: Target::AtMost(100.0),
        in_redis: Target::None,
    },
    Kind {
        algorithm: "sliding_window",
        tokens: "100000",
        in_process: Target::AtMost(300.0),
        in_redis: Target::AtMost(600.0),
    },
    Kind { algorithm: "fixed_window", tokens: "100000", in_process: Target::None, in_redis: Target::None },
    Kind { algorithm: "sliding_log", tokens: "10", in_process: Target::None, in_redis: Target::None },
];
/// Keys that warm up connections and pools, which are not a matter of keys.
const WARM_KEYS: u32 = 1_000;
/// Keys of which the memory is asked in Redis, one after the other.
const REDIS_KEYS: u32 = 10_000;
/// Runs that may fail to reach the last key, as on a machine that is busy.
const TRIES: usize = 3;
/// Keys, and bytes of them all.
const USAGE: &str = "local keys = redis.call('KEYS', '*'); local bytes = 0; \
                     for _, key in ipairs(keys) do bytes = bytes + redis.call('MEMORY', 'USAGE', key) end; \
                     return {#keys, bytes}";

/// One limit a key, per algorithm.
pub(super) fn run(bench: &Bench, results: &mut Results) -> anyhow::Result<()> {
    let keys = if bench.quick { 100_000 } else { 1_000_000 };
    for kind in KINDS {
        let Kind { algorithm, tokens, in_process, in_redis } = kind;
        let policy = policies::one_limit(algorithm, tokens, "1d");
        let server = Server::tidegate(algorithm, bench, &policy, None)?;
        touch(bench, &server, WARM_KEYS)?;
        let before = server.resident()?;
        touch(bench, &server, keys)?;
        let bytes = server.resident()?.saturating_sub(before) as f64 / f64::from(keys - WARM_KEYS);
        results.figure(&format!("{algorithm}: process memory per key"), bytes, "B", in_process);
        drop(server);

        let store = Redis::start()?;
        let server = Server::tidegate(algorithm, bench, &policy, Some(&store))?;
        touch(bench, &server, REDIS_KEYS)?;
        let bytes = redis_bytes_per_key(&store)?;
        results.figure(&format!("{algorithm}: Redis memory per key"), bytes, "B", in_redis);
    }
    Ok(())
}

/// Checks every one of `keys` keys at least once.
pub(super) fn touch(bench: &Bench, server: &Server, keys: u32) -> anyhow::Result<()> {
    let count = keys.to_string();
    let args = ["--mode", "batch", "--distribution", "sequential", "--keys", &count];
    let mut seconds = 2;
    for _ in 0..TRIES {
        let sample = bench.load.run(server, &args, seconds, "0")?;
        if sample.checks >= f64::from(keys) {
            return Ok(());
        }
        // The next run begins with the first key again, so it gets the time for all of them.
        let needed = Duration::try_from_secs_f64(2.0 * f64::from(keys) / sample.checks_per_second);
        seconds = needed.context("no check was decided")?.as_secs() + 1;
    }
    bail!("{} does not check {keys} keys in the time that it seemed to need", server.name)
}

fn redis_bytes_per_key(store: &Redis) -> anyhow::Result<f64> {
    let usage = store.eval(USAGE)?;
    let number = |index: usize| usage.get(index).and_then(|text| text.parse::<f64>().ok());
    let (keys, bytes) = number(0).zip(number(1)).with_context(|| format!("not two numbers: {usage:?}"))?;
    ensure!(
        keys >= f64::from(REDIS_KEYS),
        "Redis holds {keys} keys after {REDIS_KEYS} subjects were checked"
    );
    Ok(bytes / keys)
}
