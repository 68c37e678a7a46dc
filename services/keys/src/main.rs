//! The keys service as its own process. Wiring only: behaviour lives in the library.

use clap::Parser;
use tidegate_chassis::{
    clock::{Clock, Random},
    config::{self, ConfigArgs, Source},
    metrics::Metrics,
    shutdown, telemetry,
};
use tidegate_keys::{CONFIG_DEFAULTS, Config, ENV_ALIASES, FOREIGN_ENV, Service};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Decides who may call: gRPC services tidegate.keys.v1.KeysService and AuthService.
#[derive(Parser)]
#[command(name = "tidegate-keys", version)]
struct Args {
    #[command(flatten)]
    config: ConfigArgs,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let config: Config = config::load(&Source {
        defaults: CONFIG_DEFAULTS,
        file: args.config.config.as_deref(),
        env: Source::process_env(),
        aliases: ENV_ALIASES,
        ignored: FOREIGN_ENV,
    })?;
    if args.config.print_config {
        anstream::print!("{}", config::print_redacted(&config));
        return Ok(());
    }
    let _telemetry = telemetry::install("tidegate-keys", &config.telemetry)?;
    // The control plane of the process; each worker of the server has a runtime of its own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let service = Service::bind(config, Metrics::new(), Clock::system(), Random::system()).await?;
        service.serve(shutdown::signal()).await
    })
}
