//! `tidegate migrate`: the tables of the services.

use std::process::ExitCode;

use clap::Args;
use tidegate_chassis::config::Secret;

const EXAMPLES: &str = "\
Examples:
  tidegate migrate --database-url postgres://tidegate@db.example.com/tidegate
  DATABASE_URL=sqlite:///var/lib/tidegate/tidegate.db tidegate migrate

Processes that migrate at the same time wait for each other. A migration is made as a whole or not at all. Services do
the same when they start, unless database.migrate = false.";

/// Bring the tables of all services up to date.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct MigrateArgs {
    /// postgres://… or sqlite://….
    #[arg(long, value_name = "URL", env = "DATABASE_URL", hide_env_values = true)]
    database_url: String,
}

/// Runs the command.
pub(crate) fn run(args: MigrateArgs) -> anyhow::Result<ExitCode> {
    let url = Secret::new(args.database_url);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for tables in tidegate_migrations::ALL {
        runtime.block_on(tidegate_migrations::run(url.expose(), tables))?;
        anstream::println!("the tables of {} are up to date", tables.service());
    }
    Ok(ExitCode::SUCCESS)
}
