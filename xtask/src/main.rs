//! The project's own commands, run as `cargo xtask <command>`.
#![expect(clippy::print_stdout, reason = "a command line tool talks to its user")]

mod bench;
mod ci;
mod codegen;
mod prerequisites;
mod report;
mod steps;
mod suite;
mod tools;
mod total;

use std::{
    path::{Path, PathBuf},
    process::{Command as Process, ExitCode},
};

use clap::{Parser, Subcommand};

/// The project's own commands.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what the tests need (Debian, as root; else name it), build everything, run all tests.
    Test {
        /// Passed on to `cargo test`: a filter, or `-- --nocapture` and the like.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// The one gate: fmt, clippy, deny, machete, doc, codegen, buf, tests. One summary; the last line counts
    /// every test, and every other step as one.
    Ci {
        /// Fail, instead of saying so, where the database of known vulnerabilities cannot be reached.
        #[arg(long)]
        require_advisories: bool,
    },
    /// Print the figures of the long end-to-end scenarios: never over-admits, Redis outage.
    Report {
        /// Judge a release build instead of a debug build.
        #[arg(long)]
        release: bool,
        /// Run the scenarios whose names contain this.
        filter: Option<String>,
    },
    /// Measure the speed table on this machine: a release build, servers of its own, targets and verdicts.
    Bench(bench::BenchArgs),
    /// Install the pinned cargo-deny and cargo-machete, unless they are there.
    Tools,
    /// Regenerate the committed Rust code from proto/**/*.proto (pure Rust: no protoc needed).
    Codegen {
        /// Write nothing; fail if the committed code differs from what would be generated.
        #[arg(long)]
        check: bool,
    },
}

fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().command {
        Command::Test { args } => {
            let total = suite::run(&args);
            println!("{total}");
            Ok(exit(total.good()))
        }
        Command::Ci { require_advisories } => Ok(exit(ci::run(require_advisories))),
        Command::Report { release, filter } => {
            let total = report::run(release, filter.as_deref())?;
            println!("{total}");
            Ok(exit(total.good()))
        }
        Command::Bench(args) => Ok(exit(bench::run(&args)?)),
        Command::Tools => tools::install().map(|_| ExitCode::SUCCESS),
        Command::Codegen { check } => codegen::run(check).map(|()| ExitCode::SUCCESS),
    }
}

fn exit(good: bool) -> ExitCode {
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The root of the workspace, wherever the command was started.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace root").to_path_buf()
}

/// Where cargo puts what it builds.
pub(crate) fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// The same cargo that runs this, at the root.
pub(crate) fn cargo() -> Process {
    let mut cargo = Process::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // cargo-machete takes it for a sign that it is itself started by `cargo run`.
    cargo.current_dir(root()).env_remove("CARGO_PKG_NAME");
    cargo
}
