//! `tidegate service-tokens`: tokens of backends.

use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};
use tidegate_chassis::{clock::Clock, config::HumanDuration};
use tidegate_proto::keys::v1::{
    CreateServiceTokenRequest, ListServiceTokensRequest, RevokeServiceTokenRequest,
};

use crate::{client, policies::in_runtime, session::KeysAddress, table, when};

/// The most on a page.
const PAGE: i32 = 100;

const CREATE_EXAMPLES: &str = "\
Examples:
  TOKEN=$(tidegate service-tokens create checkout --expires-in 90d)

The token goes to stdout, and is shown this once; everything else goes to stderr.";

/// What can be done with service tokens.
#[derive(Debug, Subcommand)]
pub(crate) enum ServiceTokensCommand {
    Create(CreateArgs),
    List(ListArgs),
    Revoke(RevokeArgs),
}

/// Make a token with which a backend may ask for checks, and print it.
#[derive(Debug, Args)]
#[command(after_help = CREATE_EXAMPLES)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    keys: KeysAddress,

    /// Its name.
    name: String,

    /// Id of the organization that it is for; absent: all of them for an admin, that of the login for others.
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    organization: String,

    /// How long it is accepted; absent: a year.
    #[arg(long, value_name = "DURATION")]
    expires_in: Option<HumanDuration>,
}

/// List service tokens, the newest first.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    keys: KeysAddress,

    /// Those of this organization; absent: all for an admin, those of the login for others.
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    organization: String,
}

/// Revoke a service token.
#[derive(Debug, Args)]
pub(crate) struct RevokeArgs {
    #[command(flatten)]
    keys: KeysAddress,

    /// Its id.
    id: String,
}

/// Runs the command.
pub(crate) fn run(command: ServiceTokensCommand) -> anyhow::Result<ExitCode> {
    match command {
        ServiceTokensCommand::Create(args) => in_runtime(create(args)),
        ServiceTokensCommand::List(args) => in_runtime(list(args)),
        ServiceTokensCommand::Revoke(args) => in_runtime(revoke(args)),
    }
}

async fn create(args: CreateArgs) -> anyhow::Result<ExitCode> {
    let mut client = args.keys.connect().await?;
    let now_ms = Clock::system().now_us() / 1_000;
    let expires_at_ms = args
        .expires_in
        .map(|after| now_ms.saturating_add(u64::try_from(after.get().as_millis()).unwrap_or(u64::MAX)));
    let request =
        CreateServiceTokenRequest { name: args.name, organization_id: args.organization, expires_at_ms };
    let answer = client.create_service_token(request).await.map_err(|status| client::explain(&status))?;
    let answer = answer.into_inner();
    let of = answer.service_token.context("an answer without a service token")?;
    anstream::eprintln!("{} ({}), accepted until {}", of.name, of.id, when::ms(of.expires_at_ms));
    anstream::println!("{}", answer.token);
    Ok(ExitCode::SUCCESS)
}

async fn list(args: ListArgs) -> anyhow::Result<ExitCode> {
    let mut client = args.keys.connect().await?;
    let mut shown = table::new(&["id", "name", "organization", "created", "expires", "revoked"], []);
    let mut page_token = String::new();
    loop {
        let organization_id = args.organization.clone();
        let request = ListServiceTokensRequest { organization_id, page_size: PAGE, page_token };
        let page = client.list_service_tokens(request).await.map_err(|status| client::explain(&status))?;
        let page = page.into_inner();
        for of in page.service_tokens {
            let times = [of.created_at_ms, of.expires_at_ms, of.revoked_at_ms].map(when::ms);
            shown.add_row([of.id, of.name, of.organization_id].into_iter().chain(times));
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    anstream::println!("{shown}");
    Ok(ExitCode::SUCCESS)
}

async fn revoke(args: RevokeArgs) -> anyhow::Result<ExitCode> {
    let mut client = args.keys.connect().await?;
    let request = RevokeServiceTokenRequest { service_token_id: args.id };
    client.revoke_service_token(request).await.map_err(|status| client::explain(&status))?;
    anstream::println!("revoked");
    Ok(ExitCode::SUCCESS)
}
