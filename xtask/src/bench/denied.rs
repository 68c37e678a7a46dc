//! What a key costs that is denied each time, as under attack, against one that is admitted.

use anyhow::Context;

use super::{
    Bench, footprint, policies,
    redis::Redis,
    results::{Results, Target},
    server::Server,
    speed::UNARY,
};

/// How many keys are asked for.
const KEYS: [u32; 2] = [1, 64];

/// Commands that Redis was sent since it was started: all but those that the script runs.
const CALLS: &str = "local calls, own = 0, { get = true, set = true, setrange = true, time = true }; \
                     for name, number in string.gmatch(redis.call('INFO', 'commandstats'), 'cmdstat_(%S-):calls=(%d+)') do \
                     if not own[name] then calls = calls + tonumber(number) end end; return calls";

/// Three sliding windows, one of which is used up; counters in Redis.
pub(super) fn run(bench: &Bench, results: &mut Results) -> anyhow::Result<()> {
    let (store, store_of_denied) = (Redis::start()?, Redis::start()?);
    let admitted = Server::tidegate("redis", bench, &policies::three_windows(), Some(&store))?;
    let denied = Server::tidegate("redis, denied", bench, &policies::used_up(), Some(&store_of_denied))?;
    for keys in KEYS {
        footprint::touch(bench, &denied, keys)?;
        let (count, load) = (keys.to_string(), format!("{}, keys: {keys}", UNARY.0));
        let args = [UNARY.1, &["--keys", &count]].concat();
        for _ in 0..bench.rounds {
            let of_admitted = results.measure(bench, (&load, &args), &admitted)?;
            let before = calls(&store_of_denied)?;
            let of_denied = results.measure_denied(bench, (&load, &args), &denied)?;
            let ratio = of_denied.server_us / of_admitted.server_us;
            let name = format!("denied / admitted, keys: {keys}: server CPU");
            results.ratio(&name, ratio, Target::AtMost(0.9));
            // Those of the warm-up too, so it is rather more than less.
            let per_thousand = (calls(&store_of_denied)? - before) / of_denied.checks * 1e3;
            let name = format!("denied, keys: {keys}: calls of Redis per 1,000 checks");
            results.figure(&name, per_thousand, "calls", Target::AtMost(5.0));
        }
    }
    Ok(())
}

fn calls(store: &Redis) -> anyhow::Result<f64> {
    let told = store.eval(CALLS)?;
    told.first().and_then(|text| text.parse().ok()).with_context(|| format!("not a number: {told:?}"))
}
