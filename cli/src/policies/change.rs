//! `tidegate policies delete` and `rollback`: one change of one entry.

use std::process::ExitCode;

use clap::Args;
use tidegate_proto::ratelimit::v1::{
    DeleteAssignmentRequest, DeleteOverrideRequest, DeletePlanRequest, DeletePolicyRequest,
    RollbackPolicyRequest, delete_override_request,
};

use super::{
    entry::{Entry, Key},
    in_force::{Client, Service},
    which::{Which, policy},
};
use crate::client;

const DELETE_EXAMPLES: &str = "\
Examples:
  tidegate policies delete shop:calls
  tidegate policies delete shop:calls --etag 1f    # only if nobody has changed it since `get` told this etag
  tidegate policies delete --plan gold --dry-run
  tidegate policies delete --assignment organization=acme

Versions of a policy stay: `tidegate policies rollback` has it back.";

const ROLLBACK_EXAMPLES: &str = "\
Examples:
  tidegate policies history shop:calls
  tidegate policies rollback shop:calls --to 7";

/// Delete a policy, a plan or an assignment of the database.
#[derive(Debug, Args)]
#[command(after_help = DELETE_EXAMPLES)]
pub(crate) struct DeleteArgs {
    #[command(flatten)]
    service: Service,

    #[command(flatten)]
    which: Which,

    #[command(flatten)]
    condition: Condition,
}

/// Give a policy the content of one of its earlier versions, as a new version.
#[derive(Debug, Args)]
#[command(after_help = ROLLBACK_EXAMPLES)]
pub(crate) struct RollbackArgs {
    #[command(flatten)]
    service: Service,

    /// Which policy; one that was deleted is created again.
    #[arg(value_name = "NAMESPACE:NAME", value_parser = policy)]
    policy: Key,

    /// The version, as `history` lists it.
    #[arg(long, value_name = "VERSION")]
    to: u64,

    #[command(flatten)]
    condition: Condition,
}

/// When a change is made.
#[derive(Debug, Args)]
pub(crate) struct Condition {
    /// Do it only if the entry still has this etag.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) etag: String,

    /// Find out only whether it could be done.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Deletes an entry.
pub(super) async fn delete(args: DeleteArgs) -> anyhow::Result<ExitCode> {
    let key = args.which.key()?;
    delete_entry(&mut args.service.connect().await?, key, args.condition).await
}

/// Deletes what is found by a key, and says so.
pub(crate) async fn delete_entry(
    client: &mut Client,
    key: Key,
    condition: Condition,
) -> anyhow::Result<ExitCode> {
    let Condition { etag, dry_run: validate_only } = condition;
    let deleted = match key.clone() {
        Key::Policy(namespace, name) => {
            let request = DeletePolicyRequest { namespace, name, etag, validate_only };
            client.delete_policy(request).await.map(drop)
        }
        Key::Plan(name) => {
            client.delete_plan(DeletePlanRequest { name, etag, validate_only }).await.map(drop)
        }
        Key::Assignment(attribute, value) => {
            let request = DeleteAssignmentRequest { attribute, value, etag, validate_only };
            client.delete_assignment(request).await.map(drop)
        }
        Key::Override(namespace, policy, limit, key) => {
            let key = key.into_iter().map(|(key, value)| delete_override_request::KeyEntry { key, value });
            let key = key.collect();
            let request = DeleteOverrideRequest { namespace, policy, limit, key, etag, validate_only };
            client.delete_override(request).await.map(drop)
        }
    };
    deleted.map_err(|status| client::explain(&status))?;
    let done = if validate_only { "could be deleted; nothing was changed" } else { "is deleted" };
    anstream::println!("{key} {done}");
    Ok(ExitCode::SUCCESS)
}

/// Rolls a policy back.
pub(super) async fn rollback(args: RollbackArgs) -> anyhow::Result<ExitCode> {
    let Key::Policy(namespace, name) = args.policy.clone() else { return Ok(ExitCode::FAILURE) };
    let mut client = args.service.connect().await?;
    let Condition { etag, dry_run: validate_only } = args.condition;
    let request = RollbackPolicyRequest { namespace, name, version: args.to, etag, validate_only };
    let answer = client.rollback_policy(request).await.map_err(|status| client::explain(&status))?;
    let entry = Entry::Policy(answer.into_inner().policy.unwrap_or_default());
    if validate_only {
        anstream::println!("{} could be as in version {}; nothing was changed", args.policy, args.to);
    } else {
        anstream::println!(
            "{} is as in version {}, and has version {}",
            args.policy,
            args.to,
            entry.meta().version
        );
    }
    Ok(ExitCode::SUCCESS)
}
