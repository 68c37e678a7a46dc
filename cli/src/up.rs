//! `tidegate up`: every service in one process.

mod banner;
mod config;
mod ready;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use tidegate_chassis::clock::{Clock, Random};
use tidegate_chassis::config::{ConfigArgs, print_redacted};
use tidegate_chassis::metrics::Metrics;
use tidegate_chassis::{shutdown, telemetry};
use tokio_util::sync::CancellationToken;

use config::UpConfig;
pub(crate) use ready::Ready;

const EXAMPLES: &str = "\
Examples:
  tidegate up
  tidegate up --config tidegate.toml
  REDIS_URL=redis://127.0.0.1:6379 tidegate up          counters shared by all replicas
  tidegate up --ephemeral --ready-file ready.json       on free ports, for a test
  tidegate up --print-config                            every setting, with its present value

Settings are those of the services, one table each: [ratelimit.server], [gateway.server], …; in the
environment TIDEGATE_RATELIMIT__SERVER__WORKERS=2. Logs and traces of the process are set by
[ratelimit.telemetry], or by LOG_LEVEL and OTEL_EXPORTER_OTLP_ENDPOINT.

SIGTERM or Ctrl-C leaves gracefully; a second one at once.";

/// Run all services in this process (also without any command).
#[derive(Debug, Default, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct UpArgs {
    #[command(flatten)]
    config: ConfigArgs,

    /// Take free ports, and keep counters in memory only, so that nothing is left behind.
    #[arg(long)]
    ephemeral: bool,

    /// Write the addresses as JSON to this file once all services are SERVING.
    #[arg(long, value_name = "PATH")]
    ready_file: Option<PathBuf>,
}

/// Runs until told to leave, or until a service fails.
pub(crate) fn run(args: UpArgs) -> anyhow::Result<ExitCode> {
    let mut config = UpConfig::load(args.config.config.as_deref())?;
    if args.ephemeral {
        config.make_ephemeral();
    }
    if args.config.print_config {
        anstream::print!("{}", print_redacted(&config));
        return Ok(ExitCode::SUCCESS);
    }
    // The services serve on threads of their own; this runtime only starts and stops them.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(config, args.ready_file))?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(config: UpConfig, ready_file: Option<PathBuf>) -> anyhow::Result<()> {
    let _flush_on_drop = telemetry::install("tidegate", &config.ratelimit.telemetry)?;
    let signalled = shutdown::signal();
    let (clock, random) = (Clock::system(), Random::system());

    let addresses = config.addresses();
    let ratelimit =
        tidegate_ratelimit::Service::bind(config.ratelimit, Metrics::new(), clock.clone(), random.clone())
            .await
            .map_err(|error| addresses.explain("ratelimit", error))?;
    let upstream = format!("http://{}", ready::reachable(ratelimit.addr()));
    let gateway_config = config::with_upstream(config.gateway, upstream)?;
    let gateway = tidegate_gateway::Service::bind(gateway_config, Metrics::new(), clock, random)
        .await
        .map_err(|error| addresses.explain("gateway", error))?;
    let ready = Ready::of(&ratelimit, &gateway);

    // The gateway leaves first: its last requests still need an answer of the service behind it.
    let leave_gateway = signalled.child_token();
    let leave_ratelimit = CancellationToken::new();
    let run_gateway = async {
        let left = gateway.serve(leave_gateway.clone()).await;
        leave_ratelimit.cancel();
        left.context("the gateway failed")
    };
    let run_ratelimit = async {
        let left = ratelimit.serve(leave_ratelimit.clone()).await;
        leave_gateway.cancel();
        left.context("the rate-limit service failed")
    };
    let announce = async {
        let announced = tokio::select! {
            announced = announce(&ready, ready_file) => announced,
            () = leave_gateway.cancelled() => Ok(()),
        };
        if announced.is_err() {
            leave_gateway.cancel();
        }
        announced
    };
    let (announced, gateway, ratelimit) = tokio::join!(announce, run_gateway, run_ratelimit);
    // The service behind first: if it fails, the rest follows from that.
    ratelimit.and(gateway).and(announced)?;
    if !signalled.is_cancelled() {
        bail!("a service ended though nobody asked it to");
    }
    Ok(())
}

async fn announce(ready: &Ready, ready_file: Option<PathBuf>) -> anyhow::Result<()> {
    ready.wait().await;
    if let Some(path) = ready_file {
        ready.write(&path)?;
    }
    banner::print(ready);
    Ok(())
}
