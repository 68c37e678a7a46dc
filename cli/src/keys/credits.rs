//! `tidegate keys credits`.

use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use tidegate_proto::keys::v1::{GetCreditsRequest, GrantCreditsRequest};

use super::Owner;
use crate::{client, when};

const EXAMPLES: &str = "\
Examples:
  tidegate keys credits 0192f0c1-…                                  what is left
  tidegate keys credits 0192f0c1-… --grant 10000                    10,000 more
  tidegate keys credits 0192f0c1-… --refill 5000 --every-days 30    at least 5,000 again every 30 days";

/// Show the credits of a key, or grant some. They belong to its lineage, and stay when it is rotated.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CreditsArgs {
    #[command(flatten)]
    owner: Owner,

    /// Id of the key.
    id: String,

    /// Credits to add.
    #[arg(long, value_name = "CREDITS")]
    grant: Option<u64>,

    /// What each refill sets the credits to, at least; 0 for no refill.
    #[arg(long, value_name = "CREDITS", requires = "every_days")]
    refill: Option<u64>,

    /// Days between refills.
    #[arg(long, value_name = "DAYS", requires = "refill")]
    every_days: Option<u32>,

    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Shows or grants credits.
pub(super) async fn run(args: CreditsArgs) -> anyhow::Result<ExitCode> {
    let mut client = args.owner.connect().await?;
    let (organization_id, api_key_id) = (args.owner.organization, args.id);
    let credits = if args.grant.is_none() && args.refill.is_none() {
        let request = GetCreditsRequest { organization_id, api_key_id };
        client.get_credits(request).await.map_err(|status| client::explain(&status))?.into_inner().credits
    } else {
        let request = GrantCreditsRequest {
            organization_id,
            api_key_id,
            amount: args.grant.unwrap_or_default(),
            refill_amount: args.refill,
            refill_every_days: args.every_days,
        };
        client.grant_credits(request).await.map_err(|status| client::explain(&status))?.into_inner().credits
    };
    let credits = credits.context("an answer without credits")?;
    if args.json {
        let shown = serde_json::json!({
            "balance": credits.balance,
            "refill_amount": credits.refill_amount,
            "refill_every_days": credits.refill_every_days,
            "next_refill_at": (credits.next_refill_at_ms > 0).then(|| when::ms(credits.next_refill_at_ms)),
        });
        anstream::println!("{}", serde_json::to_string_pretty(&shown)?);
        return Ok(ExitCode::SUCCESS);
    }
    let refill = match credits.refill_amount {
        0 => String::new(),
        amount => format!(
            ", at least {amount} again every {} days, next {}",
            credits.refill_every_days,
            when::ms(credits.next_refill_at_ms)
        ),
    };
    anstream::println!("{} credits{refill}", credits.balance);
    Ok(ExitCode::SUCCESS)
}
