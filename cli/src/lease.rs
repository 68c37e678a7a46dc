//! `tidegate lease`: places of concurrency limits, by hand, in a script, or around a command.

mod admission;
mod keeper;
mod run;

use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};
use tidegate_chassis::config::HumanDuration;
use tidegate_proto::ratelimit::v1::{
    AcquireLeaseRequest, CheckResponse, ReleaseLeaseRequest, RenewLeaseRequest,
    acquire_lease_request::AttributesEntry, rate_limit_service_client::RateLimitServiceClient,
};

use crate::{
    attribute::{self, Attribute},
    check::{Answer, Lease, human},
    client::{self, Connection},
};

const ACQUIRE_EXAMPLES: &str = "\
Examples:
  tidegate lease acquire --namespace shop --attribute organization=acme
  lease=$(tidegate lease acquire --namespace shop -a organization=acme --ttl 5m) || exit

Prints the id of the lease, and nothing else, to stdout; nothing at all if nothing limits the caller.
Exit code: 0 admitted, 1 denied, 2 could not be decided.";

const RENEW_EXAMPLES: &str = "\
Examples:
  tidegate lease renew \"$lease\" || exit    # its place may be another's: stop

Exit code: 0 renewed, 1 it has ended, 2 nobody knows; renewing again is safe.";

const RELEASE_EXAMPLES: &str = "\
Examples:
  tidegate lease release \"$lease\"

Exit code: 0 it is over, 2 it could not be released and expires by itself.";

/// Could not be decided, or nobody knows.
pub(crate) const UNDECIDED: u8 = 2;

/// What can be done with leases.
#[derive(Debug, Subcommand)]
pub(crate) enum LeaseCommand {
    /// Take places of the concurrency limits that apply, and print the id of the lease.
    #[command(after_help = ACQUIRE_EXAMPLES)]
    Acquire(AcquireArgs),
    /// Let a lease last longer, counted from now.
    #[command(after_help = RENEW_EXAMPLES)]
    Renew(RenewArgs),
    /// Give the places of a lease back.
    #[command(after_help = RELEASE_EXAMPLES)]
    Release(ReleaseArgs),
    Run(run::RunArgs),
}

/// The lease that is wanted.
#[derive(Debug, Args)]
struct Wanted {
    /// gRPC address of the rate-limit service; with https:// it is spoken to over TLS.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8081")]
    addr: String,

    /// Namespace of the policies; empty means "default".
    #[arg(long, default_value = "", hide_default_value = true)]
    namespace: String,

    /// What is known of the holder, as organization=acme; may be repeated.
    #[arg(long = "attribute", short, value_name = "NAME=VALUE", value_parser = attribute::parse)]
    attributes: Vec<Attribute>,

    /// Tokens of every limit that applies; those of concurrency limits are held.
    #[arg(long, value_name = "TOKENS", default_value_t = 1)]
    cost: u64,

    /// How long it lasts unless it is renewed, as 30s; absent: as long as the limits allow.
    #[arg(long, value_name = "DURATION")]
    ttl: Option<HumanDuration>,
}

#[derive(Debug, Args)]
pub(crate) struct AcquireArgs {
    #[command(flatten)]
    wanted: Wanted,

    /// Makes a retry safe: with the same key it is answered the same lease.
    #[arg(long, value_name = "KEY", default_value = "", hide_default_value = true)]
    idempotency_key: String,

    /// Print the whole answer as JSON, also if it is a denial.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RenewArgs {
    /// gRPC address of the rate-limit service; with https:// it is spoken to over TLS.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8081")]
    addr: String,

    /// What the lease was given as its id.
    id: String,

    /// How long it lasts from now on, as 30s; absent: as long as when it was taken.
    #[arg(long, value_name = "DURATION")]
    ttl: Option<HumanDuration>,

    /// Print the lease as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ReleaseArgs {
    /// gRPC address of the rate-limit service; with https:// it is spoken to over TLS.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8081")]
    addr: String,

    /// What the lease was given as its id.
    id: String,
}

impl LeaseCommand {
    /// The exit code that says that it could not be done.
    pub(crate) fn failure(&self) -> u8 {
        if matches!(self, Self::Run(_)) { run::FAILED } else { UNDECIDED }
    }
}

/// Runs the command.
pub(crate) fn run(command: LeaseCommand) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            LeaseCommand::Acquire(args) => acquire(args).await,
            LeaseCommand::Renew(args) => renew(args).await,
            LeaseCommand::Release(args) => release(args).await,
            LeaseCommand::Run(args) => run::run(args).await,
        }
    })
}

async fn acquire(args: AcquireArgs) -> anyhow::Result<ExitCode> {
    let channel = client::connect(&args.wanted.addr).await?;
    let request = args.wanted.request(args.idempotency_key);
    let answer = Answer::from(ask(&channel, request).await?);
    if args.json {
        anstream::println!("{}", serde_json::to_string_pretty(&answer)?);
    } else if !answer.allowed {
        anstream::eprintln!("{}", answer.denial());
    } else if let Some(Lease { id, expires_after_ms }) = &answer.lease {
        anstream::println!("{id}");
        anstream::eprintln!("the lease expires in {} unless it is renewed", human(*expires_after_ms));
    } else {
        anstream::eprintln!("{UNLIMITED}");
    }
    Ok(if answer.allowed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn renew(args: RenewArgs) -> anyhow::Result<ExitCode> {
    let channel = client::connect(&args.addr).await?;
    let request = RenewLeaseRequest { lease_id: args.id, ttl_ms: args.ttl.map(millis) };
    match RateLimitServiceClient::new(channel).renew_lease(request).await {
        Ok(renewed) => {
            let lease = Lease::from(renewed.into_inner().lease.context("an answer without a lease")?);
            if args.json {
                anstream::println!("{}", serde_json::to_string_pretty(&lease)?);
            } else {
                anstream::println!("renewed; it expires in {}", human(lease.expires_after_ms));
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(status) if has_ended(&status) => {
            anstream::eprintln!("{}", client::explain(&status));
            Ok(ExitCode::FAILURE)
        }
        Err(status) => Err(client::explain(&status)),
    }
}

async fn release(args: ReleaseArgs) -> anyhow::Result<ExitCode> {
    let channel = client::connect(&args.addr).await?;
    let request = ReleaseLeaseRequest { lease_id: args.id };
    let answer = RateLimitServiceClient::new(channel).release_lease(request).await;
    let released = answer.map_err(|status| client::explain(&status))?.into_inner().released;
    anstream::println!("{}", if released { "released" } else { "it had ended before" });
    Ok(ExitCode::SUCCESS)
}

const UNLIMITED: &str = "admitted without a lease: nothing limits the caller now";

impl Wanted {
    fn request(&self, idempotency_key: String) -> AcquireLeaseRequest {
        let entry = |of: &Attribute| AttributesEntry { key: of.name.clone(), value: of.value.clone() };
        AcquireLeaseRequest {
            namespace: self.namespace.clone(),
            attributes: self.attributes.iter().map(entry).collect(),
            cost: Some(self.cost),
            ttl_ms: self.ttl.map(millis),
            idempotency_key,
        }
    }
}

async fn ask(channel: &Connection, request: AcquireLeaseRequest) -> anyhow::Result<CheckResponse> {
    match RateLimitServiceClient::new(channel.clone()).acquire_lease(request).await {
        Ok(answer) => answer.into_inner().result.context("an answer without a result"),
        Err(status) => Err(client::explain(&status)),
    }
}

/// Whether a lease is nobody's, or another's, by now.
fn has_ended(status: &tonic::Status) -> bool {
    client::reason(status).as_deref() == Some("LEASE_NOT_FOUND")
}

/// Whole milliseconds; less than one is refused by the service.
fn millis(duration: HumanDuration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
