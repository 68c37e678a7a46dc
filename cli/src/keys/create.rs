//! `tidegate keys create`.

use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::Args;
use tidegate_chassis::config::HumanDuration;
use tidegate_proto::keys::v1::{CreateApiKeyRequest, KeyLimit, create_api_key_request::MetadataEntry};

use super::{
    Environment, Expiry, Owner,
    shown::{ShownKey, line},
};
use crate::{
    attribute::{self, Attribute},
    client,
};

const EXAMPLES: &str = "\
Examples:
  tidegate keys create 'Production API Key'
  tidegate keys create ci --env test --scope invoices:read --scope 'reports:*' --expires-in 90d
  tidegate keys create partner --cidr 203.0.113.0/24 --limit burst=20/1s --metadata owner=ops
  KEY=$(tidegate keys create backend)

The value goes to stdout, and is shown this once; everything else goes to stderr.";

/// Make a key, and print its value.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    owner: Owner,

    /// Its name.
    name: String,

    /// Where it is to be used; part of its value.
    #[arg(long, default_value = "live")]
    env: Environment,

    /// What it may do; may be repeated.
    #[arg(long = "scope")]
    scopes: Vec<String>,

    #[command(flatten)]
    expiry: Expiry,

    /// From where it may be used, as 203.0.113.0/24; may be repeated. Absent: from anywhere.
    #[arg(long = "cidr", value_name = "NETWORK")]
    cidrs: Vec<String>,

    /// Whatever you want to remember of it; may be repeated.
    #[arg(long, value_name = "NAME=VALUE", value_parser = attribute::parse)]
    metadata: Vec<Attribute>,

    /// A limit of its own, as burst=20/1s or day=1000/1d; may be repeated.
    #[arg(long = "limit", value_name = "NAME=TOKENS/PERIOD", value_parser = limit)]
    limits: Vec<KeyLimit>,

    /// Print the key as JSON, its value included.
    #[arg(long)]
    json: bool,
}

/// Makes it.
pub(super) async fn run(args: CreateArgs) -> anyhow::Result<ExitCode> {
    let mut client = args.owner.connect().await?;
    let metadata = args.metadata.into_iter();
    let request = CreateApiKeyRequest {
        organization_id: args.owner.organization,
        name: args.name,
        environment: args.env.number(),
        scopes: args.scopes,
        expires_at_ms: args.expiry.at_ms(),
        allowed_cidrs: args.cidrs,
        metadata: metadata.map(|of| MetadataEntry { key: of.name, value: of.value }).collect(),
        limits: args.limits,
    };
    let answer =
        client.create_api_key(request).await.map_err(|status| client::explain(&status))?.into_inner();
    let key = answer.key.context("an answer without a key")?;
    if args.json {
        let shown = ShownKey::new(&key, Some(&answer.key_value));
        anstream::println!("{}", serde_json::to_string_pretty(&shown)?);
    } else {
        anstream::eprintln!("{}", line(&key));
        anstream::println!("{}", answer.key_value);
    }
    Ok(ExitCode::SUCCESS)
}

/// As `burst=20/1s`.
pub(super) fn limit(text: &str) -> anyhow::Result<KeyLimit> {
    let write = "write NAME=TOKENS/PERIOD, as day=1000/1d";
    let (name, rate) = text.split_once('=').context(write)?;
    let (tokens, period) = rate.split_once('/').context(write)?;
    let limit = tokens.parse().with_context(|| format!("{tokens:?} is no number of tokens: {write}"))?;
    let period: HumanDuration =
        period.parse().ok().with_context(|| format!("{period:?} is no period: {write}"))?;
    let period_s = period.get().as_secs();
    ensure!(period_s >= 1 && period.get().subsec_nanos() == 0, "a period is whole seconds: {write}");
    Ok(KeyLimit { name: name.to_owned(), limit, period_s })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_they_are_written() {
        let read = limit("day=1000/1d").unwrap();
        assert_eq!((&*read.name, read.limit, read.period_s), ("day", 1_000, 86_400));
        for wrong in ["day", "day=1000", "day=x/1d", "day=10/soon", "day=10/500ms", "day=10/1500ms"] {
            let error = format!("{:#}", limit(wrong).unwrap_err());
            assert!(error.contains("day=1000/1d"), "{wrong}: {error}");
        }
    }
}
