//! `tidegate keys verify`.

use std::{
    io::{self, BufRead},
    process::ExitCode,
};

use clap::Args;
use tidegate_proto::keys::v1::VerifyKeyRequest;

use super::shown::{ShownKey, line};
use crate::{client, orgs::ShownOrganization, session::KeysAddress};

const EXAMPLES: &str = "\
Examples:
  echo \"$KEY\" | tidegate keys verify
  echo \"$KEY\" | tidegate keys verify --required-scopes 'invoices:read and invoices:write' --client-ip 203.0.113.7

The key is read from standard input, so that it is in no list of processes. Exit code: 0 accepted, 1 not.
`tidegate check --api-key-stdin` asks with all limits.";

/// Ask whether a key is accepted, without any limits.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    keys: KeysAddress,

    /// From where it is used.
    #[arg(long, value_name = "ADDRESS", default_value = "", hide_default_value = true)]
    client_ip: String,

    /// Scopes that it must have: names, and, or, parentheses.
    #[arg(long, value_name = "EXPRESSION", default_value = "", hide_default_value = true)]
    required_scopes: String,

    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Asks.
pub(super) async fn run(args: VerifyArgs) -> anyhow::Result<ExitCode> {
    let mut value = String::new();
    io::stdin().lock().read_line(&mut value)?;
    let mut client = args.keys.connect().await?;
    let request = VerifyKeyRequest {
        api_key: value.trim().to_owned(),
        client_ip: args.client_ip,
        required_scopes: args.required_scopes,
    };
    let answer = client.verify_key(request).await.map_err(|status| client::explain(&status))?.into_inner();
    if args.json {
        let shown = serde_json::json!({
            "valid": answer.valid,
            "code": answer.code,
            "key": answer.key.as_ref().map(|key| ShownKey::new(key, None)),
            "organization": answer.organization.as_ref().map(ShownOrganization::new),
        });
        anstream::println!("{}", serde_json::to_string_pretty(&shown)?);
    } else {
        let key = answer.key.as_ref().map(|key| format!(": {}", line(key))).unwrap_or_default();
        anstream::println!("{}{key}", answer.code);
    }
    Ok(if answer.valid { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
