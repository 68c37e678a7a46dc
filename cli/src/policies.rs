//! `tidegate policies`: policy files.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use comfy_table::{Table, presets};
use tidegate_ratelimit::policies;

const EXAMPLES: &str = "\
Examples:
  tidegate policies validate policies.toml

Exit code: 0 if the file can be used, 1 if not.";

/// What can be done with policy files.
#[derive(Debug, Subcommand)]
pub(crate) enum PoliciesCommand {
    /// Read a policy file as the service would, and list every fault.
    #[command(after_help = EXAMPLES)]
    Validate {
        /// The file (TOML).
        file: PathBuf,
    },
}

/// Runs the command.
pub(crate) fn run(command: PoliciesCommand) -> anyhow::Result<ExitCode> {
    let PoliciesCommand::Validate { file } = command;
    match policies::load(&file) {
        Ok(set) => {
            let summary = set.summary();
            let mut table = Table::new();
            table.load_style(presets::UTF8_HORIZONTAL_ONLY);
            table.set_header(["namespace", "policy", "matches", "key", "limits", "enforcement", "without the store"]);
            for row in &summary {
                table.add_row([
                    &row.namespace,
                    &row.name,
                    &row.match_,
                    &row.key_by,
                    &row.limits,
                    &row.enforcement,
                    &row.failure_mode,
                ]);
            }
            anstream::println!("{table}\n{} is valid: {} policies", file.display(), summary.len());
            Ok(ExitCode::SUCCESS)
        }
        Err(errors) => {
            for error in errors.iter() {
                anstream::eprintln!("{error}");
            }
            anstream::eprintln!("{} cannot be used: {} faults", file.display(), errors.len());
            Ok(ExitCode::FAILURE)
        }
    }
}
