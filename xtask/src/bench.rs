//! `cargo xtask bench`: the speed table.
//!
//! Every figure is taken in one run: the servers of a part are up together, each round measures one
//! after the other, and a ratio is taken within its round. The server has one core, the load another. The
//! yardstick is `tidegate bench-ceiling`, a bare tonic server of the same messages.
//! docs/operations/benchmarking.md says how to read the result.

mod decision;
mod denied;
mod flood;
mod footprint;
mod growth;
mod keys;
mod keys_load;
mod load;
mod machine;
mod peers;
mod policies;
mod postgres;
mod redis;
mod results;
mod server;
mod speed;
mod table;

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};
use serde_json::json;

use self::{load::Load, machine::Cores, results::Results};
use crate::{cargo, root};

/// The file under `target/` that holds every single measurement.
const RESULT: &str = "bench.json";

/// Options of `cargo xtask bench`.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Measure these parts alone; may be repeated [default: all but peers].
    #[arg(long, value_enum, value_name = "PART")]
    only: Vec<Part>,
    /// Also measure other rate limiters that are installed here.
    #[arg(long)]
    peers: bool,
    /// One round of short measurements: to see that it works, not to judge.
    #[arg(long)]
    quick: bool,
    /// Rounds; the median counts, minimum and maximum are shown.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,
    /// How long each measurement counts, after a second of warm-up.
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Leave it to the kernel which cores serve and which make the load.
    #[arg(long)]
    unpinned: bool,
}

/// A part of the table; they are measured in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// One decision without the network.
    Decision,
    /// Unary, stream and batch; counters in memory and in Redis; against the ceiling.
    Speed,
    /// Keys that are denied each time, against admitted ones; counters in Redis.
    Denied,
    /// Checks by API key, against those by attributes; look-ups, logins; keys in PostgreSQL.
    Keys,
    /// A million keys that nobody has: memory, calls of the database, and what good keys feel of it.
    Flood,
    /// 10 to 100,000 policies, 100,000 overrides, 1,000 to 1,000,000 keys.
    Growth,
    /// Memory per key, of the process and of Redis.
    Footprint,
    /// Other rate limiters.
    Peers,
}

/// What all parts share.
struct Bench {
    /// The release build of `tidegate`.
    tidegate: PathBuf,
    cores: Cores,
    load: Load,
    rounds: u32,
    quick: bool,
}

/// Builds, measures, prints. True if every part could be measured and every target is met.
///
/// # Errors
/// The build fails, cores cannot be pinned, or the result cannot be written.
pub(crate) fn run(args: &BenchArgs) -> anyhow::Result<bool> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let wanted = |part| match args.only.as_slice() {
        [] => part != Part::Peers || args.peers,
        only => only.contains(&part) || (part == Part::Peers && args.peers),
    };
    let built = cargo().args(["build", "--release", "--package", "tidegate-cli"]).status()?;
    ensure!(built.success(), "tidegate does not build");
    let cores = Cores::choose(args.unpinned)?;
    let bench = Bench::new(args, &target, cores);

    let mut results = Results::new(machine::describe()?);
    for part in Part::value_variants().iter().filter(|part| wanted(**part)) {
        if let Err(error) = part.measure(&bench, &mut results) {
            let part = part.to_possible_value().expect("no part is hidden");
            results.failures.push(format!("{}: {error:#}", part.get_name()));
        }
    }

    let file = target.join(RESULT);
    write(&file, &bench, &results)?;
    print!("{}", table::text(&results, &bench));
    println!("every measurement: {}", file.display());
    Ok(results.is_good())
}

fn write(file: &Path, bench: &Bench, results: &Results) -> anyhow::Result<()> {
    let json = json!({
        "rounds": bench.rounds,
        "seconds": bench.load.duration.as_secs(),
        "pinned": bench.cores.server.is_some(),
        "results": results,
    });
    let text = serde_json::to_string_pretty(&json)?;
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

impl Part {
    fn measure(self, bench: &Bench, results: &mut Results) -> anyhow::Result<()> {
        match self {
            Self::Decision => decision::run(bench, results),
            Self::Speed => speed::run(bench, results),
            Self::Denied => denied::run(bench, results),
            Self::Keys => keys::run(bench, results),
            Self::Flood => flood::run(bench, results),
            Self::Growth => growth::run(bench, results),
            Self::Footprint => footprint::run(bench, results),
            Self::Peers => peers::run(bench, results),
        }
    }
}

impl Bench {
    fn new(args: &BenchArgs, target: &Path, cores: Cores) -> Self {
        let tidegate = target.join("release/tidegate");
        let (seconds, rounds) = if args.quick { (1, 1) } else { (args.seconds, args.rounds) };
        let load = Load {
            tidegate: tidegate.clone(),
            core: cores.load,
            duration: Duration::from_secs(seconds),
            begun: Instant::now(),
        };
        Self { tidegate, cores, load, rounds, quick: args.quick }
    }
}
