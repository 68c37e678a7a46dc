//! A flood of keys that nobody has: what it costs, and what good keys feel of it.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
    thread,
};

use anyhow::{Context, ensure};

use super::{
    Bench, keys_load, policies,
    postgres::Postgres,
    redis::Redis,
    results::{Results, Target},
    server::Server,
    speed::UNARY,
};

/// Keys that nobody has, each of which is asked for once: a million, if it is not only to be seen that it works.
const DISTINCT: u32 = 1_000_000;
const DISTINCT_QUICK: u32 = 20_000;
/// They are asked for at this rate.
const PER_SECOND: u32 = 10_000;
/// Of the checks by good keys beside them.
const GOOD_PER_SECOND: &str = "500";

/// Counters in Redis and keys in PostgreSQL.
pub(super) fn run(bench: &Bench, results: &mut Results) -> anyhow::Result<()> {
    let (store, database) = (Redis::start()?, Postgres::start()?);
    let server =
        Server::with_database("redis", bench, &policies::three_windows(), Some(&store), Some(&database))?;
    let files = tempfile::tempdir()?;
    let (good, bad) = (files.path().join("good"), files.path().join("bad"));
    keys_load::prepare(bench, &server, (100, 1), &good)?;
    let distinct = if bench.quick { DISTINCT_QUICK } else { DISTINCT };
    invent(distinct, &bad)?;
    let (good, bad) = (good.display().to_string(), bad.display().to_string());
    let of_good = ["--api-keys", &good, "--rate", GOOD_PER_SECOND];

    // Once all good keys are known.
    bench.load.run(&server, &["--api-keys", &good, "--distribution", "sequential"], 1, "0s")?;
    let calm = bench.load.measure(&server, &of_good)?;
    let before = (server.resident()?, database.transactions()?);
    let rate = PER_SECOND.to_string();
    let seconds = u64::from(distinct.div_ceil(PER_SECOND));
    let of_bad = [UNARY.1, &["--api-keys", &bad, "--distribution", "sequential", "--rate", &rate]].concat();
    let (flood, beside) = thread::scope(|scope| {
        let flood = scope.spawn(|| bench.load.run(&server, &of_bad, seconds, "0s"));
        let beside = bench.load.run(&server, &of_good, seconds.saturating_sub(2).max(1), "1s");
        (flood.join(), beside)
    });
    let flood = flood.map_err(|_| anyhow::anyhow!("the thread of the flood panicked"))??;
    let beside = beside?;
    ensure!(flood.denied == flood.checks, "a key that nobody has was let in");
    ensure!(beside.denied == 0.0, "{} checks by good keys were denied", beside.denied);

    let grown = server.resident()? as f64 - before.0 as f64;
    let transactions = database.transactions()? - before.1;
    results.figure("flood: keys that nobody has, each asked for once", flood.checks, "", Target::None);
    results.figure("flood: of these in a second", flood.checks_per_second, "/s", Target::None);
    results.figure("flood: growth of the process", grown / f64::from(1 << 20), "MiB", Target::AtMost(64.0));
    let per_thousand = transactions / flood.checks * 1e3;
    results.figure("flood: transactions per 1,000 of them", per_thousand, "", Target::AtMost(50.0));
    results.figure("flood: server CPU of each", flood.server_us, "µs", Target::None);
    results.figure("flood: good keys, p99 without", calm.p99_us / 1e3, "ms", Target::None);
    results.figure("flood: good keys, p50 beside it", beside.p50_us / 1e3, "ms", Target::None);
    results.figure("flood: good keys, p99 beside it", beside.p99_us / 1e3, "ms", Target::None);
    Ok(())
}

/// Values of another form than ours, which may have been imported and so have to be looked up.
fn invent(count: u32, out: &Path) -> anyhow::Result<()> {
    let mut file = BufWriter::new(File::create(out).with_context(|| out.display().to_string())?);
    for number in 0..count {
        writeln!(
            file,
            "acme-{:032x}",
            u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
        )?;
    }
    Ok(file.flush()?)
}
