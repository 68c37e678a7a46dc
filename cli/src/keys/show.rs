//! `tidegate keys list`, `get` and `usage`.

use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, ValueEnum};
use tidegate_proto::keys::v1::{GetApiKeyRequest, GetApiKeyUsageRequest, KeyStatus, ListApiKeysRequest};

use super::{
    Owner,
    shown::{ShownKey, environment, line, status},
};
use crate::{client, table, when};

/// The most on a page.
const PAGE: i32 = 100;

const LIST_EXAMPLES: &str = "\
Examples:
  tidegate keys list
  tidegate keys list --search production --status active
  tidegate keys list --json | jq -r '.[] | select(.last_used_at == null) | .id'";

/// List keys, the newest first.
#[derive(Debug, Args)]
#[command(after_help = LIST_EXAMPLES)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    owner: Owner,

    /// Those whose name or prefix contains this.
    #[arg(long, default_value = "", hide_default_value = true)]
    search: String,

    /// Those with this status.
    #[arg(long)]
    status: Option<Status>,

    /// Those of this lineage: a key, and those it was rotated from and to.
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    lineage: String,

    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Show a key, without its value.
#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    #[command(flatten)]
    owner: Owner,

    /// Its id.
    id: String,

    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Show how a key was used, by day and outcome.
#[derive(Debug, Args)]
pub(crate) struct UsageArgs {
    #[command(flatten)]
    owner: Owner,

    /// Its id.
    id: String,

    /// The first day, as 2026-11-01; absent: 29 days before the last.
    #[arg(long, value_name = "DAY", default_value = "", hide_default_value = true)]
    from: String,

    /// The last day; absent: today (UTC).
    #[arg(long, value_name = "DAY", default_value = "", hide_default_value = true)]
    to: String,

    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Status {
    Active,
    Disabled,
    Expired,
    Revoked,
}

impl Status {
    fn number(self) -> i32 {
        match self {
            Self::Active => KeyStatus::Active.into(),
            Self::Disabled => KeyStatus::Disabled.into(),
            Self::Expired => KeyStatus::Expired.into(),
            Self::Revoked => KeyStatus::Revoked.into(),
        }
    }
}

/// Lists keys.
pub(super) async fn list(args: ListArgs) -> anyhow::Result<ExitCode> {
    let mut client = args.owner.connect().await?;
    let (mut all, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListApiKeysRequest {
            organization_id: args.owner.organization.clone(),
            page_size: PAGE,
            page_token,
            search: args.search.clone(),
            status: args.status.map(Status::number).unwrap_or_default(),
            lineage_id: args.lineage.clone(),
        };
        let page =
            client.list_api_keys(request).await.map_err(|status| client::explain(&status))?.into_inner();
        all.extend(page.keys);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    if args.json {
        let shown: Vec<_> = all.iter().map(|key| ShownKey::new(key, None)).collect();
        anstream::println!("{}", serde_json::to_string_pretty(&shown)?);
        return Ok(ExitCode::SUCCESS);
    }
    let header = ["id", "name", "prefix", "env", "status", "scopes", "expires", "last used"];
    let mut shown = table::new(&header, []);
    for key in &all {
        shown.add_row([
            key.id.clone(),
            key.name.clone(),
            key.key_prefix.clone(),
            environment(key).to_owned(),
            status(key).to_owned(),
            key.scopes.join(" "),
            when::ms(key.expires_at_ms),
            when::ms(key.last_used_at_ms),
        ]);
    }
    anstream::println!("{shown}");
    Ok(ExitCode::SUCCESS)
}

/// Shows a key.
pub(super) async fn get(args: GetArgs) -> anyhow::Result<ExitCode> {
    let mut client = args.owner.connect().await?;
    let request = GetApiKeyRequest { organization_id: args.owner.organization, api_key_id: args.id };
    let answer = client.get_api_key(request).await.map_err(|status| client::explain(&status))?;
    let key = answer.into_inner().key.context("an answer without a key")?;
    if args.json {
        anstream::println!("{}", serde_json::to_string_pretty(&ShownKey::new(&key, None))?);
    } else {
        anstream::println!("{}", line(&key));
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows how a key was used.
pub(super) async fn usage(args: UsageArgs) -> anyhow::Result<ExitCode> {
    let mut client = args.owner.connect().await?;
    let request = GetApiKeyUsageRequest {
        organization_id: args.owner.organization,
        api_key_id: args.id,
        from_day: args.from,
        to_day: args.to,
    };
    let answer = client.get_api_key_usage(request).await.map_err(|status| client::explain(&status))?;
    let usage = answer.into_inner().usage;
    if args.json {
        let shown: Vec<_> = usage
            .iter()
            .map(|of| serde_json::json!({"day": of.day, "outcome": of.outcome, "count": of.count}))
            .collect();
        anstream::println!("{}", serde_json::to_string_pretty(&shown)?);
        return Ok(ExitCode::SUCCESS);
    }
    let mut shown = table::new(&["day", "outcome", "checks"], [2]);
    for of in usage {
        shown.add_row([of.day, of.outcome, of.count.to_string()]);
    }
    anstream::println!("{shown}");
    Ok(ExitCode::SUCCESS)
}
