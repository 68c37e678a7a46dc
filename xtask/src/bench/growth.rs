//! What a check costs when there are many policies, and when there are many keys.

use super::{
    Bench, footprint,
    load::Sample,
    policies,
    results::{Results, Target},
    server::Server,
    speed::UNARY,
};

/// Organizations that have an override, all of which are checked.
const OVERRIDES: u32 = 100_000;

/// Many policies, many overrides, then many keys; counters in memory.
pub(super) fn run(bench: &Bench, results: &mut Results) -> anyhow::Result<()> {
    overrides(bench, results)?;
    let few = Server::tidegate("10 policies", bench, &policies::among(10), None)?;
    let many = Server::tidegate("10,000 policies", bench, &policies::among(10_000), None)?;
    let very_many = Server::tidegate("100,000 policies", bench, &policies::among(100_000), None)?;
    let started = very_many.started_in.as_secs_f64();
    results.figure("100,000 policies: start", started, "s", Target::AtMost(5.0));
    results.figure("100,000 policies: memory of the process", megabytes(&very_many)?, "MB", Target::None);
    for _ in 0..bench.rounds {
        let of_few = results.measure(bench, UNARY, &few)?;
        let of_many = results.measure(bench, UNARY, &many)?;
        let of_very_many = results.measure(bench, UNARY, &very_many)?;
        let ratio = |of: &Sample| of.server_us / of_few.server_us;
        results.ratio("10,000 policies / 10: server CPU", ratio(&of_many), Target::AtMost(1.1));
        results.ratio("100,000 policies / 10: server CPU", ratio(&of_very_many), Target::AtMost(1.1));
    }
    drop((few, many, very_many));

    let few = Server::tidegate("1,000 keys", bench, &policies::three_windows(), None)?;
    let many = Server::tidegate("1,000,000 keys", bench, &policies::three_windows(), None)?;
    footprint::touch(bench, &few, 1_000)?;
    footprint::touch(bench, &many, 1_000_000)?;
    let of_million = [UNARY.1, &["--keys", "1000000"]].concat();
    for _ in 0..bench.rounds {
        let of_few = results.measure(bench, UNARY, &few)?;
        let of_many = results.measure(bench, (UNARY.0, &of_million), &many)?;
        let ratio = of_many.server_us / of_few.server_us;
        results.ratio("1,000,000 keys / 1,000: server CPU", ratio, Target::AtMost(1.3));
    }
    Ok(())
}

/// The same organizations without overrides and with one each.
fn overrides(bench: &Bench, results: &mut Results) -> anyhow::Result<()> {
    let none = Server::tidegate("10 policies", bench, &policies::among(10), None)?;
    let many = Server::tidegate("100,000 overrides", bench, &policies::overridden(OVERRIDES), None)?;
    let started = many.started_in.as_secs_f64();
    results.figure("100,000 overrides: start", started, "s", Target::AtMost(5.0));
    let (of_none, of_many) = (megabytes(&none)?, megabytes(&many)?);
    results.figure("100,000 overrides: memory of the process, unused", of_many, "MB", Target::None);
    results.figure("100,000 overrides: without them", of_none, "MB", Target::None);
    footprint::touch(bench, &none, OVERRIDES)?;
    footprint::touch(bench, &many, OVERRIDES)?;
    let more = megabytes(&many)? - megabytes(&none)?;
    results.figure("100,000 overrides: memory more than without, all used", more, "MB", Target::None);
    let keys = OVERRIDES.to_string();
    let of_all = [UNARY.1, &["--keys", &keys]].concat();
    for _ in 0..bench.rounds {
        let of_none = results.measure(bench, ("unary 4x32, 100,000 keys", &of_all), &none)?;
        let of_many = results.measure(bench, ("unary 4x32, 100,000 keys", &of_all), &many)?;
        let ratio = of_many.server_us / of_none.server_us;
        results.ratio("100,000 overrides / none, 10 policies: server CPU", ratio, Target::AtMost(1.1));
    }
    Ok(())
}

fn megabytes(server: &Server) -> anyhow::Result<f64> {
    Ok(server.resident()? as f64 / 1e6)
}
