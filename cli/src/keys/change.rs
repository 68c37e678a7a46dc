//! `tidegate keys update`, `enable`, `disable`, `rotate` and `revoke`.

use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use tidegate_chassis::config::HumanDuration;
use tidegate_proto::keys::v1::{
    ApiKey, CidrList, KeyLimit, KeyLimitList, Metadata, RevokeApiKeyRequest, RotateApiKeyRequest, ScopeList,
    UpdateApiKeyRequest, metadata::EntriesEntry,
};

use super::{
    Expiry, Owner,
    create::limit,
    shown::{ShownKey, line},
};
use crate::{
    attribute::{self, Attribute},
    client,
};

const UPDATE_EXAMPLES: &str = "\
Examples:
  tidegate keys update 0192f0c1-… --name 'Billing' --expires-in 30d
  tidegate keys update 0192f0c1-… --scope invoices:read     all scopes that it has from now on
  tidegate keys update 0192f0c1-… --no-cidrs                from anywhere again";

const ROTATE_EXAMPLES: &str = "\
Examples:
  NEW=$(tidegate keys rotate 0192f0c1-…)                the old key is denied from its next use on
  tidegate keys rotate 0192f0c1-… --grace-period 1h     the old key is accepted for an hour still

The value of the new key goes to stdout, and is shown this once; everything else goes to stderr.";

/// Change a key.
#[derive(Debug, Args)]
#[command(after_help = UPDATE_EXAMPLES)]
pub(crate) struct UpdateArgs {
    #[command(flatten)]
    key: Target,

    /// Its name.
    #[arg(long)]
    name: Option<String>,

    /// All that it may do from now on; may be repeated.
    #[arg(long = "scope")]
    scopes: Vec<String>,

    /// It has no scopes any more.
    #[arg(long, conflicts_with = "scopes")]
    no_scopes: bool,

    #[command(flatten)]
    expiry: Expiry,

    /// All networks from which it may be used from now on; may be repeated.
    #[arg(long = "cidr", value_name = "NETWORK")]
    cidrs: Vec<String>,

    /// It may be used from anywhere.
    #[arg(long, conflicts_with = "cidrs")]
    no_cidrs: bool,

    /// All metadata that it has from now on; may be repeated.
    #[arg(long, value_name = "NAME=VALUE", value_parser = attribute::parse)]
    metadata: Vec<Attribute>,

    /// All limits of its own from now on, as day=1000/1d; may be repeated.
    #[arg(long = "limit", value_name = "NAME=TOKENS/PERIOD", value_parser = limit)]
    limits: Vec<KeyLimit>,

    /// It has no limits of its own any more.
    #[arg(long, conflicts_with = "limits")]
    no_limits: bool,

    /// Only if nobody has changed it since `get` told this etag.
    #[arg(long, default_value = "", hide_default_value = true)]
    etag: String,
}

/// Switch a key on again.
#[derive(Debug, Args)]
pub(crate) struct EnableArgs {
    #[command(flatten)]
    key: Target,
}

/// Switch a key off: it is denied from its next use on, until it is switched on again.
#[derive(Debug, Args)]
pub(crate) struct DisableArgs {
    #[command(flatten)]
    key: Target,
}

/// Put a new key in place of a key, and print its value.
#[derive(Debug, Args)]
#[command(after_help = ROTATE_EXAMPLES)]
pub(crate) struct RotateArgs {
    #[command(flatten)]
    key: Target,

    /// How long the old key is still accepted, at most 30d.
    #[arg(long, value_name = "DURATION", default_value = "0s")]
    grace_period: HumanDuration,
}

/// Revoke a key for good: it is denied from its next use on.
#[derive(Debug, Args)]
pub(crate) struct RevokeArgs {
    #[command(flatten)]
    key: Target,
}

#[derive(Debug, Args)]
struct Target {
    #[command(flatten)]
    owner: Owner,

    /// Id of the key.
    id: String,

    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Changes a key.
pub(super) async fn update(args: UpdateArgs) -> anyhow::Result<ExitCode> {
    let entries = args.metadata.into_iter();
    let entries: Vec<_> = entries.map(|of| EntriesEntry { key: of.name, value: of.value }).collect();
    let given = |wanted: bool, none: bool| wanted || none;
    let changes = UpdateApiKeyRequest {
        name: args.name,
        scopes: given(!args.scopes.is_empty(), args.no_scopes).then_some(ScopeList { scopes: args.scopes }),
        expires_at_ms: args.expiry.at_ms(),
        allowed_cidrs: given(!args.cidrs.is_empty(), args.no_cidrs).then_some(CidrList { cidrs: args.cidrs }),
        metadata: (!entries.is_empty()).then_some(Metadata { entries }),
        limits: given(!args.limits.is_empty(), args.no_limits)
            .then_some(KeyLimitList { limits: args.limits }),
        etag: args.etag,
        ..UpdateApiKeyRequest::default()
    };
    args.key.change(changes).await
}

/// Switches a key on.
pub(super) async fn enable(args: EnableArgs) -> anyhow::Result<ExitCode> {
    args.key.change(UpdateApiKeyRequest { enabled: Some(true), ..UpdateApiKeyRequest::default() }).await
}

/// Switches a key off.
pub(super) async fn disable(args: DisableArgs) -> anyhow::Result<ExitCode> {
    args.key.change(UpdateApiKeyRequest { enabled: Some(false), ..UpdateApiKeyRequest::default() }).await
}

/// Rotates a key.
pub(super) async fn rotate(args: RotateArgs) -> anyhow::Result<ExitCode> {
    let Target { owner, id, json } = args.key;
    let mut client = owner.connect().await?;
    let grace_period_s = args.grace_period.get().as_secs();
    let request = RotateApiKeyRequest { organization_id: owner.organization, api_key_id: id, grace_period_s };
    let answer =
        client.rotate_api_key(request).await.map_err(|status| client::explain(&status))?.into_inner();
    let missing = "an answer without both keys";
    let (old, new) = (answer.old_key.context(missing)?, answer.new_key.context(missing)?);
    if json {
        let shown = serde_json::json!({
            "old_key": ShownKey::new(&old, None),
            "new_key": ShownKey::new(&new, Some(&answer.key_value)),
        });
        anstream::println!("{}", serde_json::to_string_pretty(&shown)?);
    } else {
        anstream::eprintln!("old: {}\nnew: {}", line(&old), line(&new));
        anstream::println!("{}", answer.key_value);
    }
    Ok(ExitCode::SUCCESS)
}

/// Revokes a key.
pub(super) async fn revoke(args: RevokeArgs) -> anyhow::Result<ExitCode> {
    let Target { owner, id, json } = args.key;
    let mut client = owner.connect().await?;
    let request = RevokeApiKeyRequest { organization_id: owner.organization, api_key_id: id };
    let answer = client.revoke_api_key(request).await.map_err(|status| client::explain(&status))?;
    print(answer.into_inner().key, json)
}

impl Target {
    async fn change(self, changes: UpdateApiKeyRequest) -> anyhow::Result<ExitCode> {
        let mut client = self.owner.connect().await?;
        let request =
            UpdateApiKeyRequest { organization_id: self.owner.organization, api_key_id: self.id, ..changes };
        let answer = client.update_api_key(request).await.map_err(|status| client::explain(&status))?;
        print(answer.into_inner().key, self.json)
    }
}

fn print(key: Option<ApiKey>, json: bool) -> anyhow::Result<ExitCode> {
    let key = key.context("an answer without a key")?;
    if json {
        anstream::println!("{}", serde_json::to_string_pretty(&ShownKey::new(&key, None))?);
    } else {
        anstream::println!("{}", line(&key));
    }
    Ok(ExitCode::SUCCESS)
}
