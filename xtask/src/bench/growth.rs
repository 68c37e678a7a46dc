//! What a check costs when there are many policies, and when there are many keys.

use super::{
    Bench, footprint, policies,
    results::{Results, Target},
    server::Server,
    speed::UNARY,
};

/// Many policies, then many keys; counters in memory.
pub(super) fn run(bench: &Bench, results: &mut Results) -> anyhow::Result<()> {
    let few = Server::tidegate("10 policies", bench, &policies::among(10), None)?;
    let many = Server::tidegate("10,000 policies", bench, &policies::among(10_000), None)?;
    for _ in 0..bench.rounds {
        let of_few = results.measure(bench, UNARY, &few)?;
        let of_many = results.measure(bench, UNARY, &many)?;
        let ratio = of_many.server_us / of_few.server_us;
        results.ratio("10,000 policies / 10: server CPU", ratio, Target::AtMost(1.1));
    }
    drop((few, many));

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
