//! `tidegate keys`: API keys of an organization.

mod change;
mod create;
mod credits;
mod import;
mod show;
mod shown;
mod verify;

use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use tidegate_chassis::{clock::Clock, config::HumanDuration};
use tidegate_proto::keys::v1::{KeyEnvironment, keys_service_client::KeysServiceClient};

use crate::{client::Connection, policies::in_runtime, session::KeysAddress};

/// What can be done with keys.
#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    Create(create::CreateArgs),
    List(show::ListArgs),
    Get(show::GetArgs),
    Update(change::UpdateArgs),
    Enable(change::EnableArgs),
    Disable(change::DisableArgs),
    Rotate(change::RotateArgs),
    Revoke(change::RevokeArgs),
    Usage(show::UsageArgs),
    Credits(credits::CreditsArgs),
    Import(import::ImportArgs),
    Verify(verify::VerifyArgs),
}

/// Runs the command.
pub(crate) fn run(command: KeysCommand) -> anyhow::Result<ExitCode> {
    match command {
        KeysCommand::Create(args) => in_runtime(create::run(args)),
        KeysCommand::List(args) => in_runtime(show::list(args)),
        KeysCommand::Get(args) => in_runtime(show::get(args)),
        KeysCommand::Update(args) => in_runtime(change::update(args)),
        KeysCommand::Enable(args) => in_runtime(change::enable(args)),
        KeysCommand::Disable(args) => in_runtime(change::disable(args)),
        KeysCommand::Rotate(args) => in_runtime(change::rotate(args)),
        KeysCommand::Revoke(args) => in_runtime(change::revoke(args)),
        KeysCommand::Usage(args) => in_runtime(show::usage(args)),
        KeysCommand::Credits(args) => in_runtime(credits::run(args)),
        KeysCommand::Import(args) => in_runtime(import::run(args)),
        KeysCommand::Verify(args) => in_runtime(verify::run(args)),
    }
}

/// Whose keys.
#[derive(Debug, Args)]
pub(crate) struct Owner {
    #[command(flatten)]
    keys: KeysAddress,

    /// Id of the organization; absent: that of the login.
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    organization: String,
}

impl Owner {
    async fn connect(&self) -> anyhow::Result<KeysServiceClient<Connection>> {
        self.keys.connect().await
    }
}

/// Where a key is meant to be used.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Environment {
    Live,
    Test,
}

impl Environment {
    fn number(self) -> i32 {
        match self {
            Self::Live => KeyEnvironment::Live.into(),
            Self::Test => KeyEnvironment::Test.into(),
        }
    }
}

/// When a key expires.
#[derive(Debug, Args)]
struct Expiry {
    /// How long it is accepted, as 90d; absent: as the service has it, a year if nobody set it otherwise.
    #[arg(long, value_name = "DURATION", conflicts_with = "never_expires")]
    expires_in: Option<HumanDuration>,

    /// It never expires.
    #[arg(long)]
    never_expires: bool,
}

impl Expiry {
    fn at_ms(&self) -> Option<u64> {
        let after = |from_now: &HumanDuration| {
            let from_now_ms = u64::try_from(from_now.get().as_millis()).unwrap_or(u64::MAX);
            (Clock::system().now_us() / 1_000).saturating_add(from_now_ms)
        };
        if self.never_expires { Some(0) } else { self.expires_in.as_ref().map(after) }
    }
}
