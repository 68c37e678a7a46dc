//! `tidegate up`: every service in one process.

mod banner;
mod config;
mod demo;
mod ready;

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

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
use demo::{Demo, Secrets};
pub(crate) use ready::Ready;

const EXAMPLES: &str = "\
Examples:
  tidegate up
  tidegate up --config tidegate.toml
  REDIS_URL=redis://127.0.0.1:6379 tidegate up          counters shared with other replicas
  tidegate up --ephemeral --ready-file ready.json       on free ports, for a test
  tidegate up --print-config                            every setting, with its present value

Settings are those of the services, one table each: [ratelimit.server], [keys.server], [gateway.server];
in the environment TIDEGATE_RATELIMIT__SERVER__WORKERS=2. TIDEGATE_RATELIMIT_LISTEN, REDIS_URL,
LOG_LEVEL and the like mean what they mean to the services. Logs and traces are those of the
whole process, as [ratelimit.telemetry] says.

The first start makes an operator, and an organization with an API key to try things out with, and prints
how to use them, this once. Secrets that are not configured are made then too, and kept in the data folder.

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
pub(crate) fn run(args: &UpArgs) -> anyhow::Result<ExitCode> {
    let mut config = UpConfig::load(args.config.config.as_deref(), Source::process_env())?;
    if args.ephemeral {
        config.take_free_ports()?;
    }
    config.keep_in((!args.ephemeral).then_some(&args.data_dir));
    if args.config.print_config {
        anstream::print!("{}", print_redacted(&config));
        return Ok(ExitCode::SUCCESS);
    }
    config.outlast_the_gateway();
    config.introduce()?;
    let folder = (!args.ephemeral).then_some(&*args.data_dir);
    let secrets = match folder {
        None => Secrets::new()?,
        Some(folder) => {
            fs::create_dir_all(folder)
                .with_context(|| format!("--data-dir {} cannot be made", folder.display()))?;
            Secrets::keep_in(folder)?
        }
    };
    config.take_secrets(&secrets);
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
        let first = FirstStart { secrets, folder };
        serve(config, args.ready_file.as_deref(), first, leave).await
    })?;
    Ok(ExitCode::SUCCESS)
}

/// What the first start has to do, if this is one.
struct FirstStart<'a> {
    secrets: Secrets,
    /// Where the secrets are kept; none if nothing is.
    folder: Option<&'a Path>,
}

impl FirstStart<'_> {
    /// Makes what there is to try things out with. Nothing on a later start.
    async fn demo(&self, ready: &Ready) -> anyhow::Result<Option<Demo>> {
        match &self.secrets.operator_password {
            Some(password) => demo::make(ready.grpc.keys, password).await.map(Some).context("the demo"),
            None => Ok(None),
        }
    }

    /// Takes note that it was shown.
    fn finish(self) -> anyhow::Result<()> {
        match self.folder {
            Some(folder) if self.secrets.operator_password.is_some() => self.secrets.forget_password(folder),
            Some(_) | None => Ok(()),
        }
    }
}

async fn serve(
    mut config: UpConfig,
    ready_file: Option<&Path>,
    mut first: FirstStart<'_>,
    asked_to_leave: CancellationToken,
) -> anyhow::Result<()> {
    let _telemetry = telemetry::install("tidegate", &config.ratelimit.telemetry)?;
    config.refuse_taken_ports()?;
    if let Some(path) = ready_file {
        ready::forget(path)?;
    }
    if !config.has_own_operator() {
        // Who configures an administrator has one, and needs no demo.
        first.secrets.operator_password = None;
    }

    let uses_redis = config.ratelimit.uses_redis();
    let (clock, random) = (Clock::system(), Random::system());
    let injected = || (Metrics::new(), clock.clone(), random.clone());
    let (metrics, of_clock, of_random) = injected();
    let ratelimit = tidegate_ratelimit::Service::bind(config.ratelimit, metrics, of_clock, of_random)
        .await
        .context("ratelimit")?;
    let (metrics, of_clock, of_random) = injected();
    let keys =
        tidegate_keys::Service::bind(config.keys, metrics, of_clock, of_random).await.context("keys")?;
    let (metrics, of_clock, of_random) = injected();
    let gateway = tidegate_gateway::Service::bind(config.gateway, metrics, of_clock, of_random)
        .await
        .context("gateway")?;
    let mut ready = Ready::of(&ratelimit, &keys, &gateway);

    // Whatever ends takes the rest along.
    let leave = asked_to_leave.child_token();
    let run_ratelimit = async {
        let _others = leave.clone().drop_guard();
        ratelimit.serve(leave.clone()).await.context("ratelimit")
    };
    let run_keys = async {
        let _others = leave.clone().drop_guard();
        keys.serve(leave.clone()).await.context("keys")
    };
    let run_gateway = async {
        let _others = leave.clone().drop_guard();
        gateway.serve(leave.clone()).await.context("gateway")
    };
    let announce = async {
        let announced = leave.run_until_cancelled(announce(&mut ready, ready_file, first, uses_redis)).await;
        announced.unwrap_or(Ok(())).inspect_err(|_| leave.cancel())
    };
    let (ratelimit, keys, gateway, announced) = tokio::join!(run_ratelimit, run_keys, run_gateway, announce);
    // The services behind first: if one fails, the rest follows from that.
    ratelimit.and(keys).and(gateway).and(announced)?;
    ensure!(asked_to_leave.is_cancelled(), "a service ended though nobody asked it to");
    Ok(())
}

async fn announce(
    ready: &mut Ready,
    ready_file: Option<&Path>,
    first: FirstStart<'_>,
    uses_redis: bool,
) -> anyhow::Result<()> {
    ready.wait().await;
    ready.demo = first.demo(ready).await?;
    if let Some(path) = ready_file {
        ready.write(path)?;
    }
    let program = std::env::args().next().unwrap_or_else(|| "tidegate".to_owned());
    anstream::println!("{}", banner::text(ready, uses_redis, &program));
    first.finish()
}
