//! `tidegate policies`: policy files, and the policies of a running service.

mod apply;
pub(crate) mod change;
pub(crate) mod entry;
mod import;
pub(crate) mod in_force;
mod show;
pub(crate) mod shown;
pub(crate) mod which;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Subcommand;
use tidegate_ratelimit::policies;

use crate::table;

const EXAMPLES: &str = "\
Examples:
  tidegate policies validate policies.toml

Exit code: 0 if the file can be used, 1 if not.";

/// How many replicas share a limit does not make a file better or worse.
const ONE_REPLICA: u32 = 1;

/// What can be done with policies.
#[derive(Debug, Subcommand)]
pub(crate) enum PoliciesCommand {
    List(show::ListArgs),
    Get(show::GetArgs),
    Apply(apply::ApplyArgs),
    Delete(change::DeleteArgs),
    History(show::HistoryArgs),
    Rollback(change::RollbackArgs),
    Import(import::ImportArgs),
    /// Read a policy file as the service would, and list every fault.
    #[command(after_help = EXAMPLES)]
    Validate {
        /// The file (TOML).
        file: PathBuf,
    },
}

/// Runs the command.
pub(crate) fn run(command: PoliciesCommand) -> anyhow::Result<ExitCode> {
    match command {
        PoliciesCommand::Import(args) => import::run(&args),
        PoliciesCommand::Validate { file } => validate(&file),
        PoliciesCommand::List(args) => in_runtime(show::list(args)),
        PoliciesCommand::Get(args) => in_runtime(show::get(args)),
        PoliciesCommand::Apply(args) => in_runtime(apply::run(args)),
        PoliciesCommand::Delete(args) => in_runtime(change::delete(args)),
        PoliciesCommand::History(args) => in_runtime(show::history(args)),
        PoliciesCommand::Rollback(args) => in_runtime(change::rollback(args)),
    }
}

/// Runs what speaks with a service.
pub(crate) fn in_runtime(
    command: impl Future<Output = anyhow::Result<ExitCode>>,
) -> anyhow::Result<ExitCode> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(command)
}

fn validate(file: &Path) -> anyhow::Result<ExitCode> {
    match policies::load(file, ONE_REPLICA) {
        Ok(set) => {
            let summary = set.summary();
            let header =
                ["namespace", "policy", "matches", "key", "limits", "enforcement", "without the store"];
            let mut table = table::new(&header, []);
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
            anstream::println!(
                "{table}\n{} is valid: {}, {}",
                file.display(),
                count(summary.len(), "policy", "policies"),
                count(set.overrides_len(), "override", "overrides")
            );
            Ok(ExitCode::SUCCESS)
        }
        Err(errors) => {
            for error in errors.iter() {
                anstream::eprintln!("{error}");
            }
            anstream::eprintln!(
                "{} cannot be used: {}",
                file.display(),
                count(errors.len(), "fault", "faults")
            );
            Ok(ExitCode::FAILURE)
        }
    }
}

/// As `1 policy`, `2 policies`.
pub(crate) fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}
