//! Checks by API key against checks by attributes, and what else the keys service does beside them.

use anyhow::ensure;

use super::{
    Bench, keys_load, policies,
    postgres::Postgres,
    redis::Redis,
    results::{Results, Target},
    server::Server,
    speed::{Shape, UNARY},
};

/// Organizations with a key each, and as many subjects of the checks without.
const ORGANIZATIONS: u32 = 1_000;
/// So few at a time that Redis answers within its deadline also on a slow machine, where it shares a core with what asks.
const FEW: Shape = ("unary 4x8", &["--connections", "4", "--in-flight", "8"]);
const STREAM: Shape =
    ("stream 4x1, window 64", &["--mode", "stream", "--connections", "4", "--in-flight", "1"]);
/// Keys of a round that are looked up for the first time, as organizations and keys of each, and how many a second.
const FRESH: (u32, u32) = (100, 20);
const FRESH_PER_SECOND: &str = "200";
const FRESH_SECONDS: u64 = 10;
const LOGINS_PER_SECOND: u32 = 200;
/// Before and after the measurement that the storm of logins must cover.
const STORM_MARGIN_SECONDS: u64 = 3;
/// Of the checks during it.
const CHECKS_PER_SECOND: &str = "5000";

/// Three sliding windows a check; counters in memory and keys in SQLite, and counters in Redis and keys in PostgreSQL.
pub(super) fn run(bench: &Bench, results: &mut Results) -> anyhow::Result<()> {
    let (store, database) = (Redis::start()?, Postgres::start()?);
    let memory = Server::tidegate("memory", bench, &policies::three_windows(), None)?;
    let redis =
        Server::with_database("redis", bench, &policies::three_windows(), Some(&store), Some(&database))?;
    // One that cannot be measured is no reason to leave out the others.
    let outcomes = [
        ("checks, memory", checks(bench, results, &memory, &[UNARY, STREAM])),
        ("checks, Redis", checks(bench, results, &redis, &[FEW])),
        ("look-ups", look_ups(bench, results, &redis)),
        ("keys service", keys_service(bench, results, &redis)),
        ("logins, memory", logins(bench, results, &memory)),
        ("logins, Redis", logins(bench, results, &redis)),
    ];
    for (what, outcome) in outcomes {
        if let Err(error) = outcome {
            results.failures.push(format!("keys: {what}: {error:#}"));
        }
    }
    Ok(())
}

/// A check by a key that the replica knows, against one by attributes.
fn checks(bench: &Bench, results: &mut Results, server: &Server, loads: &[Shape]) -> anyhow::Result<()> {
    let files = tempfile::tempdir()?;
    let file = files.path().join("keys");
    keys_load::prepare(bench, server, (ORGANIZATIONS, 1), &file)?;
    let (count, path) = (ORGANIZATIONS.to_string(), file.display().to_string());
    // Every key is looked up once before it counts.
    bench.load.run(server, &["--api-keys", &path, "--distribution", "sequential"], 1, "1s")?;
    for _ in 0..bench.rounds {
        for &(load, args) in loads {
            let by_attributes = [args, &["--keys", &count]].concat();
            let by_key = [args, &["--api-keys", &path]].concat();
            let plain = results.measure(bench, (load, &by_attributes), server)?;
            let before = server.counter(LOOK_UPS)?;
            let keyed = results.measure(bench, (&format!("{load}, by API key"), &by_key), server)?;
            let looked_up = server.counter(LOOK_UPS)? - before;
            ensure!(looked_up * 1e3 < keyed.checks, "{looked_up} keys were looked up that were known");
            let name = format!("{load}, {}: by API key / by attributes: server CPU", server.name);
            let target = if load == STREAM.0 { Target::None } else { Target::AtMost(1.2) };
            results.ratio(&name, keyed.server_us / plain.server_us, target);
        }
    }
    Ok(())
}

/// Counts the keys that the replica asked the keys service for.
const LOOK_UPS: &str = "tidegate_ratelimit_key_lookups_total";

/// The first check of each key, in an open loop.
fn look_ups(bench: &Bench, results: &mut Results, server: &Server) -> anyhow::Result<()> {
    for _ in 0..bench.rounds {
        let files = tempfile::tempdir()?;
        let file = files.path().join("keys");
        keys_load::prepare(bench, server, FRESH, &file)?;
        let path = file.display().to_string();
        let args = ["--api-keys", &path, "--distribution", "sequential", "--rate", FRESH_PER_SECOND];
        let before = server.counter(LOOK_UPS)?;
        let sample = bench.load.run(server, &args, FRESH_SECONDS, "0s")?;
        let looked_up = server.counter(LOOK_UPS)? - before;
        ensure!(looked_up >= sample.checks, "{looked_up} of {} keys were looked up", sample.checks);
        ensure!(sample.denied == 0.0, "{} checks by good keys were denied", sample.denied);
        results.figure("first check of a key, PostgreSQL: p50", sample.p50_us / 1e3, "ms", Target::None);
        results.figure(
            "first check of a key, PostgreSQL: p99",
            sample.p99_us / 1e3,
            "ms",
            Target::AtMost(5.0),
        );
    }
    Ok(())
}

/// `VerifyKey` and `CreateApiKey`.
fn keys_service(bench: &Bench, results: &mut Results, server: &Server) -> anyhow::Result<()> {
    let files = tempfile::tempdir()?;
    let file = files.path().join("keys");
    keys_load::prepare(bench, server, (1, 1_000), &file)?;
    let (path, seconds) = (file.display().to_string(), bench.load.duration.as_secs().to_string());
    for _ in 0..bench.rounds {
        for (name, args) in [
            ("VerifyKey", vec!["verify", "--api-keys", &path, "--seconds", &seconds]),
            ("CreateApiKey", vec!["create", "--seconds", &seconds]),
        ] {
            let calls = keys_load::run(bench, server, &args)?;
            calls.all("Ok")?;
            bench.load.say(&format!("{:.0} calls/s, {name}", calls.calls_per_second));
            let figure = |what: &str| format!("{name}, PostgreSQL, 16 at a time: {what}");
            results.figure(&figure("calls"), calls.calls_per_second, "/s", Target::None);
            results.figure(&figure("p50"), calls.p50_us / 1e3, "ms", Target::None);
            results.figure(&figure("p99"), calls.p99_us / 1e3, "ms", Target::None);
        }
    }
    Ok(())
}

/// Checks by API key while logins arrive.
fn logins(bench: &Bench, results: &mut Results, server: &Server) -> anyhow::Result<()> {
    let files = tempfile::tempdir()?;
    let file = files.path().join("keys");
    keys_load::prepare(bench, server, (100, 1), &file)?;
    keys_load::run(bench, server, &["sign-up"])?.all("Ok")?;
    let path = file.display().to_string();
    let args = ["--api-keys", &path, "--rate", CHECKS_PER_SECOND];
    let load = format!("{CHECKS_PER_SECOND}/s by API key");
    let (rate, seconds) =
        (LOGINS_PER_SECOND.to_string(), (bench.load.duration.as_secs() + STORM_MARGIN_SECONDS).to_string());
    let mut judged = 0;
    for _ in 0..bench.rounds {
        let calm = results.measure(bench, (&load, &args), server)?;
        let storm = keys_load::begin(bench, server, &["log-in", "--rate", &rate, "--seconds", &seconds])?;
        let stormy = results.measure(bench, (&format!("{load}, {rate} logins/s"), &args), server)?;
        let logins = storm.end()?;
        let [right, wrong, too_many] =
            ["Ok", "Unauthenticated", "ResourceExhausted"].map(|status| logins.with(status));
        bench
            .load
            .say(&format!("{} logins: {right} let in, {wrong} wrong, {too_many} too many", logins.calls));
        ensure!(right > 0.0 && wrong > 0.0, "no storm: {logins:?}");
        ensure!(right + wrong + too_many == logins.calls, "logins that nobody answered: {logins:?}");
        let name = |what: &str| format!("{rate} logins/s, {}: {what}", server.name);
        results.figure(&name("right ones let in"), right, "", Target::None);
        results.figure(&name("refused, wrong"), wrong, "", Target::None);
        results.figure(&name("refused, too many"), too_many, "", Target::None);
        if calm.kept_schedule && stormy.kept_schedule {
            judged += 1;
            results.ratio(&name("p99 of checks / without"), stormy.p99_us / calm.p99_us, Target::AtMost(1.5));
        }
    }
    ensure!(judged > 0, "{load}: the generator never kept its schedule, so nothing can be said of logins");
    Ok(())
}
