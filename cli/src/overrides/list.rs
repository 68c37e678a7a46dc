//! `tidegate overrides list`: what is in force.

use std::process::ExitCode;

use clap::Args;
use tidegate_proto::ratelimit::v1::Override;

use super::named;
use crate::{
    attribute::{self, Attribute},
    policies::{
        entry::{Entry, Key, patterns},
        in_force::{self, Service},
        shown::{Shown, provenance},
        which::policy,
    },
    table,
};

const EXAMPLES: &str = "\
Examples:
  tidegate overrides list
  tidegate overrides list default:organization
  tidegate overrides list --key organization=acme
  tidegate overrides list --json | jq '.[] | select(.meta.origin == \"database\")'";

/// List overrides in force, wherever they come from.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    service: Service,

    /// Only those of this policy, as default:organization.
    #[arg(value_name = "NAMESPACE:NAME", value_parser = policy)]
    policy: Option<Key>,

    /// Only those of this namespace.
    #[arg(long, conflicts_with = "policy", default_value = "", hide_default_value = true)]
    namespace: String,

    /// Only those with this very pattern in their key; may be repeated.
    #[arg(long = "key", short, value_name = "ATTRIBUTE=PATTERN", value_parser = attribute::parse)]
    key: Vec<Attribute>,

    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Prints them.
pub(super) async fn run(args: ListArgs) -> anyhow::Result<ExitCode> {
    let (namespace, policy) = args.policy.as_ref().map_or((&*args.namespace, ""), named);
    let mut client = args.service.connect().await?;
    let mut entries = in_force::overrides(&mut client, namespace, policy).await?;
    entries.retain(|entry| has(entry, &args.key));
    if args.json {
        let shown: Vec<_> = entries.iter().map(Shown::new).collect();
        anstream::println!("{}", serde_json::to_string_pretty(&shown)?);
        return Ok(ExitCode::SUCCESS);
    }
    let mut shown = table::new(&["policy", "limit", "key", "tokens", "origin", "version"], [5]);
    for entry in &entries {
        let (Entry::Override(of), Key::Override(namespace, policy, limit, key)) = (entry, entry.key()) else {
            continue;
        };
        let (origin, version) = provenance(&entry.meta());
        let policy = format!("{namespace}:{policy}");
        shown.add_row([policy, limit, patterns(&key), numbers(of), origin, version]);
    }
    anstream::println!("{shown}");
    Ok(ExitCode::SUCCESS)
}

/// Whether the key of an override has all of these patterns.
pub(super) fn has(entry: &Entry, patterns: &[Attribute]) -> bool {
    let Entry::Override(of) = entry else { return false };
    patterns.iter().all(|wanted| of.key.iter().any(|is| is.key == wanted.name && is.value == wanted.value))
}

/// As `50/min`, `200`, `100/5m, burst 300`.
pub(super) fn numbers(of: &Override) -> String {
    let tokens = match (&*of.rate, &*of.period) {
        ("", "") => of.tokens.to_string(),
        ("", period) => format!("{}/{period}", of.tokens),
        (rate, _) => rate.to_owned(),
    };
    if of.burst == 0 { tokens } else { format!("{tokens}, burst {}", of.burst) }
}
