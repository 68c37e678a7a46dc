//! `tidegate bench`: what the hot path does.

mod args;
mod child;
mod client;
mod closed_loop;
mod cpu;
mod keys;
mod load;
mod open_loop;
mod pipe;
mod protocol;
mod report;
mod svg;
mod tally;
mod wire;

use std::process::ExitCode;

use anyhow::Context;

pub(crate) use args::BenchArgs;
use child::OwnServer;
pub(crate) use child::{PLAN, POLICIES};
use cpu::Watched;
use report::Report;

/// Runs the load, prints the result, and says by the exit code whether all checks were decided.
pub(crate) fn run(mut args: BenchArgs) -> anyhow::Result<ExitCode> {
    args.validate()?;
    let own = if args.addr.is_none() { Some(OwnServer::start()?) } else { None };
    let mut pids = args.pids.clone();
    if let Some(own) = &own {
        args.plan.get_or_insert_with(|| PLAN.to_owned());
        pids.insert(0, Watched { name: "server".to_owned(), pid: own.pid() });
    }
    let addr = args.addr.clone().or_else(|| own.as_ref().map(|own| own.addr.clone()));
    let addr = addr.expect("without an address there is a server of our own");

    let measured = load::run(&args, &addr, &pids)?;
    let report = Report::new(&args, &addr, &measured);
    if let Some(path) = &args.svg {
        std::fs::write(path, svg::draw(&report, &measured.tally.latency))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    if args.json {
        anstream::println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        anstream::println!("{}\n{}", report.title(), report.table());
    }
    for warning in report.warnings() {
        anstream::eprintln!("warning: {warning}");
    }
    let decided = report.errors == 0 && report.unanswered == 0;
    Ok(if decided { ExitCode::SUCCESS } else { ExitCode::from(2) })
}
