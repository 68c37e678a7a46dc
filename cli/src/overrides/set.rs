//! `tidegate overrides set`: one override.

use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use tidegate_proto::ratelimit::v1::{Override, SetOverrideRequest, r#override::KeyEntry};

use super::{Target, named};
use crate::{
    client,
    policies::{change::Condition, entry::Entry, in_force::Service, shown::Shown},
};

const EXAMPLES: &str = "\
Examples:
  tidegate overrides set default:organization minute --key organization=acme --rate 50/min
  tidegate overrides set default:organization free/day --key organization='trial-*' --tokens 200
  tidegate overrides set shop:orders burst --key user=ann --tokens 10 --burst 40 --dry-run

Many at a time are set by `tidegate policies apply FILE`, where they are [[overrides]].";

/// Set other numbers for a limit of a policy, for some of its callers; they take the place of those that were set for the same.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SetArgs {
    #[command(flatten)]
    service: Service,

    #[command(flatten)]
    target: Target,

    #[command(flatten)]
    numbers: Numbers,

    #[command(flatten)]
    condition: Condition,

    /// Print the override as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Numbers {
    /// Tokens and their period, as 60/min or 100/5m.
    #[arg(long, required_unless_present = "tokens", conflicts_with_all = ["tokens", "period"])]
    rate: Option<String>,

    /// Tokens per period.
    #[arg(long)]
    tokens: Option<u64>,

    /// Another period, as 30s or 1h30m; absent: that of the limit. It makes the callers' counters begin anew.
    #[arg(long)]
    period: Option<String>,

    /// Token buckets only: the most tokens at once; absent: as many as a period has.
    #[arg(long, value_name = "TOKENS")]
    burst: Option<u64>,
}

/// Sets it.
pub(super) async fn run(args: SetArgs) -> anyhow::Result<ExitCode> {
    let key = args.target.key()?;
    let mut client = args.service.connect().await?;
    let Condition { etag, dry_run: validate_only } = args.condition;
    let request =
        SetOverrideRequest { r#override: Some(wanted(args.target, args.numbers)), etag, validate_only };
    let answer = client.set_override(request).await.map_err(|status| client::explain(&status))?;
    let set = answer.into_inner().r#override.with_context(|| format!("an answer without {key}"))?;
    let entry = Entry::Override(set);
    if args.json {
        anstream::println!("{}", serde_json::to_string_pretty(&Shown::new(&entry))?);
    } else if validate_only {
        anstream::println!("{key} could be set; nothing was changed");
    } else {
        anstream::println!("{key} is set, and has version {}", entry.meta().version);
    }
    Ok(ExitCode::SUCCESS)
}

/// The override as it is asked for.
fn wanted(target: Target, numbers: Numbers) -> Override {
    let (namespace, policy) = named(&target.policy);
    let key = target.key.into_iter().map(|of| KeyEntry { key: of.name, value: of.value });
    Override {
        namespace: namespace.to_owned(),
        policy: policy.to_owned(),
        limit: target.limit,
        key: key.collect(),
        tokens: numbers.tokens.unwrap_or_default(),
        period: numbers.period.unwrap_or_default(),
        burst: numbers.burst.unwrap_or_default(),
        rate: numbers.rate.unwrap_or_default(),
        meta: None,
    }
}
