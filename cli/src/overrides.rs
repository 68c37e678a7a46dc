//! `tidegate overrides`: other numbers of limits for some of their callers, in a running service.

mod list;
mod set;

use std::{collections::BTreeMap, process::ExitCode};

use anyhow::ensure;
use clap::{Args, Subcommand};

use crate::{
    attribute::{self, Attribute},
    policies::{
        change::{Condition, delete_entry},
        entry::{Key, file},
        in_force::{self, Service},
        in_runtime,
        shown::Shown,
        which::policy,
    },
};

const GET_EXAMPLES: &str = "\
Examples:
  tidegate overrides get default:organization minute --key organization=acme";

const DELETE_EXAMPLES: &str = "\
Examples:
  tidegate overrides delete default:organization minute --key organization=acme
  tidegate overrides delete default:organization minute --key organization=acme --etag 1f
                                                       # only if nobody has changed it since `get` told this etag";

/// What can be done with overrides.
#[derive(Debug, Subcommand)]
pub(crate) enum OverridesCommand {
    List(list::ListArgs),
    /// Print an override as a policy file that `tidegate policies apply` reads.
    #[command(after_help = GET_EXAMPLES)]
    Get(GetArgs),
    Set(set::SetArgs),
    /// Delete an override of the database: the limit has its own numbers again, or those of a less specific override.
    #[command(after_help = DELETE_EXAMPLES)]
    Delete(DeleteArgs),
}

/// One override.
#[derive(Debug, Args)]
struct Target {
    /// The policy, as default:organization.
    #[arg(value_name = "NAMESPACE:NAME", value_parser = policy)]
    policy: Key,

    /// Its limit, as minute; or with the plan, as free/minute: then it counts while the caller is on that plan.
    #[arg(value_name = "LIMIT")]
    limit: String,

    /// For whom, for each attribute of the policy's key: a value, the beginning of values as trial-*, or * for any.
    #[arg(long = "key", short, value_name = "ATTRIBUTE=PATTERN", value_parser = attribute::parse)]
    key: Vec<Attribute>,
}

#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    #[command(flatten)]
    service: Service,

    #[command(flatten)]
    target: Target,

    /// This version of it, be it still in force or not.
    #[arg(long, value_name = "NUMBER")]
    version: Option<u64>,

    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    #[command(flatten)]
    service: Service,

    #[command(flatten)]
    target: Target,

    #[command(flatten)]
    condition: Condition,
}

/// Runs the command.
pub(crate) fn run(command: OverridesCommand) -> anyhow::Result<ExitCode> {
    match command {
        OverridesCommand::List(args) => in_runtime(list::run(args)),
        OverridesCommand::Get(args) => in_runtime(get(args)),
        OverridesCommand::Set(args) => in_runtime(set::run(args)),
        OverridesCommand::Delete(args) => in_runtime(delete(args)),
    }
}

async fn get(args: GetArgs) -> anyhow::Result<ExitCode> {
    let key = args.target.key()?;
    let mut client = args.service.connect().await?;
    let entry = in_force::one(&mut client, &key, args.version.unwrap_or_default()).await?;
    if args.json {
        anstream::println!("{}", serde_json::to_string_pretty(&Shown::new(&entry))?);
    } else {
        anstream::print!("{}", file(&[entry]));
    }
    Ok(ExitCode::SUCCESS)
}

async fn delete(args: DeleteArgs) -> anyhow::Result<ExitCode> {
    let key = args.target.key()?;
    delete_entry(&mut args.service.connect().await?, key, args.condition).await
}

impl Target {
    /// What it is found by.
    ///
    /// # Errors
    ///
    /// An attribute is there twice.
    fn key(&self) -> anyhow::Result<Key> {
        let (namespace, policy) = named(&self.policy);
        let mut key = BTreeMap::new();
        for Attribute { name, value } in &self.key {
            let before = key.insert(name.clone(), value.clone());
            ensure!(before.is_none(), "--key {name}=… is there twice");
        }
        Ok(Key::Override(namespace.to_owned(), policy.to_owned(), self.limit.clone(), key))
    }
}

/// Namespace and name of a policy.
fn named(policy: &Key) -> (&str, &str) {
    match policy {
        Key::Policy(namespace, name) => (namespace, name),
        Key::Plan(_) | Key::Assignment(..) | Key::Override(..) => ("", ""),
    }
}

#[cfg(test)]
mod tests;
