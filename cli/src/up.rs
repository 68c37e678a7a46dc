//! `tidegate up`: every service in one process.

mod banner;
mod config;
mod ready;

use std::{fs, io, path::PathBuf, process::ExitCode};

use anyhow::{Context, ensure};
use clap::Args;
use tidegate_chassis::{
    clock::{Clock, Random},
    config::{ConfigArgs, Source, print_redacted},
    metrics::Metrics,
    shutdown, telemetry,
};
use tokio_util::sync::CancellationToken;

use config::UpConfig;
#[cfg(test)]
pub(crate) use config::ratelimit_defaults;
pub(crate) use ready::Ready;

const EXAMPLES: &str = "\
Examples:
  tidegate up
  tidegate up --config tidegate.toml
  REDIS_URL=redis://127.0.0.1:6379 tidegate up          counters shared with other replicas
  tidegate up --ephemeral --ready-file ready.json       on free ports, for a test
  tidegate up --print-config                            every setting, with its present value

Settings are those of the services, one table each: [ratelimit.server], [gateway.server], …; in
the environment TIDEGATE_RATELIMIT__SERVER__WORKERS=2. TIDEGATE_RATELIMIT_LISTEN, REDIS_URL,
LOG_LEVEL and the like mean what they mean to the services. Logs and traces are those of the
whole process, as [ratelimit.telemetry] says.

SIGTERM or Ctrl-C leaves gracefully; a second one at once.";

/// Where things are kept if nothing else is said.
const DATA_DIR: &str = "tidegate-data";

/// Run all services in this process (also without any command).
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct UpArgs {
    #[command(flatten)]
    config: ConfigArgs,

    /// Take free ports instead of the configured ones, and keep nothing on this machine.
    #[arg(long)]
    ephemeral: bool,

    /// Where to keep what was set over the API, unless a database is configured (DATABASE_URL). It is made if it is not there.
    #[arg(long, value_name = "PATH", default_value = DATA_DIR)]
    data_dir: PathBuf,

    /// Write the addresses as JSON to this file once all services are SERVING.
    #[arg(long, value_name = "PATH")]
    ready_file: Option<PathBuf>,

    /// Leave when standard input ends: when the process that started this one has gone, however it went.
    #[arg(long, hide = true)]
    until_stdin_ends: bool,
}

impl Default for UpArgs {
    fn default() -> Self {
        let config = ConfigArgs::default();
        let data_dir = DATA_DIR.into();
        Self { config, ephemeral: false, data_dir, ready_file: None, until_stdin_ends: false }
    }
}

/// Runs until told to leave, or until a service fails.
pub(crate) fn run(args: UpArgs) -> anyhow::Result<ExitCode> {
    let mut config = UpConfig::load(args.config.config.as_deref(), Source::process_env())?;
    if args.ephemeral {
        config.take_free_ports();
    }
    config.keep_in((!args.ephemeral).then_some(&args.data_dir));
    if args.config.print_config {
        anstream::print!("{}", print_redacted(&config));
        return Ok(ExitCode::SUCCESS);
    }
    config.outlast_the_gateway();
    if !args.ephemeral {
        fs::create_dir_all(&args.data_dir)
            .with_context(|| format!("--data-dir {} cannot be made", args.data_dir.display()))?;
    }
    // The services serve on threads of their own; this runtime only starts and stops them.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let leave = shutdown::signal();
        if args.until_stdin_ends {
            let leave = leave.clone();
            std::thread::spawn(move || {
                // An input that cannot be read has ended too.
                io::copy(&mut io::stdin(), &mut io::sink()).ok();
                leave.cancel();
            });
        }
        serve(config, args.ready_file, leave).await
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(
    config: UpConfig,
    ready_file: Option<PathBuf>,
    asked_to_leave: CancellationToken,
) -> anyhow::Result<()> {
    let _telemetry = telemetry::install("tidegate", &config.ratelimit.telemetry)?;
    config.refuse_taken_ports()?;
    if let Some(path) = &ready_file {
        ready::forget(path)?;
    }

    let (clock, random) = (Clock::system(), Random::system());
    let ratelimit = tidegate_ratelimit::Service::bind(
        config.ratelimit.clone(),
        Metrics::new(),
        clock.clone(),
        random.clone(),
    )
    .await
    .context("ratelimit")?;
    let gateway = config.gateway_before(ratelimit.addr())?;
    let gateway =
        tidegate_gateway::Service::bind(gateway, Metrics::new(), clock, random).await.context("gateway")?;
    let ready = Ready::of(&ratelimit, &gateway);

    // Whatever ends takes the rest along.
    let leave = asked_to_leave.child_token();
    let run_ratelimit = async {
        let _others = leave.clone().drop_guard();
        ratelimit.serve(leave.clone()).await.context("ratelimit")
    };
    let run_gateway = async {
        let _others = leave.clone().drop_guard();
        gateway.serve(leave.clone()).await.context("gateway")
    };
    let announce = async {
        let announced =
            leave.run_until_cancelled(announce(&ready, ready_file, config.ratelimit.uses_redis())).await;
        announced.unwrap_or(Ok(())).inspect_err(|_| leave.cancel())
    };
    let (ratelimit, gateway, announced) = tokio::join!(run_ratelimit, run_gateway, announce);
    // The service behind first: if it fails, the rest follows from that.
    ratelimit.and(gateway).and(announced)?;
    ensure!(asked_to_leave.is_cancelled(), "a service ended though nobody asked it to");
    Ok(())
}

async fn announce(ready: &Ready, ready_file: Option<PathBuf>, uses_redis: bool) -> anyhow::Result<()> {
    ready.wait().await;
    if let Some(path) = ready_file {
        ready.write(&path)?;
    }
    let program = std::env::args().next().unwrap_or_else(|| "tidegate".to_owned());
    anstream::println!("{}", banner::text(ready, uses_redis, &program));
    Ok(())
}
