//! `tidegate policies import`: configurations of other rate-limit services.

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::{Args, ValueEnum};
use tidegate_ratelimit::policies::{
    self,
    import::{ImportSource, Imported, import},
};

use super::{ONE_REPLICA, count};

const EXAMPLES: &str = "\
Examples:
  tidegate policies import --from envoy-ratelimit config/*.yaml --out policies.toml
  tidegate policies import --from limitador limits.yaml

Exit code: 0 all of it is imported, 3 some of it is not (it is listed), 1 nothing is.";

/// Some of it was left out.
const PARTIAL: u8 = 3;

/// Turn the configuration of another rate-limit service into a policy file, and list what has no counterpart.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ImportArgs {
    /// Whose configuration it is.
    #[arg(long, value_name = "SERVICE")]
    from: From,

    /// The files (YAML); all of them make one policy file.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,

    /// Write the policy file there, and not to stdout.
    #[arg(long, value_name = "PATH")]
    out: Option<PathBuf>,

    /// Write nothing if anything has no counterpart.
    #[arg(long)]
    strict: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum From {
    /// envoyproxy/ratelimit: one file for a domain.
    EnvoyRatelimit,
    /// Limitador: a file of limits.
    Limitador,
}

/// Runs the command.
pub(super) fn run(args: &ImportArgs) -> anyhow::Result<ExitCode> {
    let source = match args.from {
        From::EnvoyRatelimit => ImportSource::EnvoyRatelimit,
        From::Limitador => ImportSource::Limitador,
    };
    let mut files = Vec::new();
    for path in &args.files {
        let name = path.display().to_string();
        let text = fs::read_to_string(path).with_context(|| format!("{name} cannot be read"))?;
        files.push((name, text));
    }
    let Imported { text, policies: imported, left_out } = match import(source, &files) {
        Ok(imported) => imported,
        Err(broken) => {
            broken.iter().for_each(|fault| anstream::eprintln!("{fault}"));
            return Ok(ExitCode::FAILURE);
        }
    };
    left_out.iter().for_each(|left| anstream::eprintln!("{left}"));
    let counted = format!(
        "{} imported, {} left out or changed",
        count(imported, "policy", "policies"),
        count(left_out.len(), "thing", "things")
    );
    if args.strict && !left_out.is_empty() {
        anstream::eprintln!("{counted}; nothing is written, since --strict asks for all of it");
        return Ok(ExitCode::FAILURE);
    }
    policies::parse(&text, "the imported file", ONE_REPLICA).context("what was imported cannot be used")?;
    match &args.out {
        Some(path) => {
            fs::write(path, &text).with_context(|| format!("{} cannot be written", path.display()))?;
        }
        None => anstream::print!("{text}"),
    }
    anstream::eprintln!("{counted}");
    Ok(if left_out.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(PARTIAL) })
}
