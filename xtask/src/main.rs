//! The project's own commands, run as `cargo xtask <command>`.
#![expect(clippy::print_stdout, reason = "a command line tool talks to its user")]

mod codegen;

use std::path::{Path, PathBuf};

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
    /// Regenerate the committed Rust code from proto/**/*.proto (pure Rust: no protoc needed).
    Codegen {
        /// Write nothing; fail if the committed code differs from what would be generated.
        #[arg(long)]
        check: bool,
    },
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Codegen { check } => codegen::run(check),
    }
}

/// The root of the workspace, wherever the command was started.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace root").to_path_buf()
}
