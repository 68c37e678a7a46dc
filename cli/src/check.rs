//! `tidegate check`: one check, by hand or in a script.

mod answer;
mod key;

use std::process::ExitCode;

use clap::Args;
use tidegate_proto::ratelimit::v1::{
    CheckRequest, CheckResponse, check_request::AttributesEntry,
    rate_limit_service_client::RateLimitServiceClient,
};

pub(crate) use self::answer::{Answer, Lease, human};
use self::key::KeyArgs;
use crate::{
    attribute::{self, Attribute},
    client,
};

const EXAMPLES: &str = "\
Examples:
  tidegate check --attribute organization=acme
  tidegate check --attribute organization=acme --attribute plan=startup --cost 5
  tidegate check --attribute organization=acme --dry-run --json
  echo \"$KEY\" | tidegate check --api-key-stdin --required-scopes invoices:read

  if tidegate check --attribute organization=acme >/dev/null; then deploy; fi

Exit code: 0 allowed, 1 denied, 2 could not be decided.";

/// Ask the rate-limit service once.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CheckArgs {
    /// gRPC address of the rate-limit service; with https:// it is spoken to over TLS.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8081")]
    addr: String,

    /// Namespace of the policies; empty means "default".
    #[arg(long, default_value = "", hide_default_value = true)]
    namespace: String,

    /// What is known of the request, as organization=acme; may be repeated.
    #[arg(long = "attribute", short, value_name = "NAME=VALUE", value_parser = attribute::parse)]
    attributes: Vec<Attribute>,

    /// Tokens to charge.
    #[arg(long, value_name = "TOKENS", default_value_t = 1)]
    cost: u64,

    /// Decide but charge nothing.
    #[arg(long)]
    dry_run: bool,

    /// Makes a retry safe: the same check with the same key is charged once.
    #[arg(long, value_name = "KEY", default_value = "", hide_default_value = true)]
    idempotency_key: String,

    #[command(flatten)]
    key: KeyArgs,

    /// Print the answer as JSON.
    #[arg(long)]
    json: bool,
}

/// Asks, prints the answer, and gives it as exit code.
pub(crate) fn run(args: CheckArgs) -> anyhow::Result<ExitCode> {
    let json = args.json;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = Answer::from(runtime.block_on(ask(args))?);
    if json {
        anstream::println!("{}", serde_json::to_string_pretty(&answer)?);
    } else {
        answer.print();
    }
    Ok(if answer.allowed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn ask(args: CheckArgs) -> anyhow::Result<CheckResponse> {
    let api_key = args.key.value()?;
    let channel = client::connect(&args.addr).await?;
    let request = CheckRequest {
        namespace: args.namespace,
        attributes: args.attributes.into_iter().map(AttributesEntry::from).collect(),
        cost: Some(args.cost),
        dry_run: args.dry_run,
        idempotency_key: args.idempotency_key,
        api_key,
        client_ip: args.key.client_ip,
        required_scopes: args.key.required_scopes,
    };
    match RateLimitServiceClient::new(channel).check(request).await {
        Ok(answer) => Ok(answer.into_inner()),
        Err(status) => Err(client::explain(&status)),
    }
}
