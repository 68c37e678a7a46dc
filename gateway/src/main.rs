//! The gateway as its own process. Wiring only: behaviour lives in the library.

use clap::Parser;
use tidegate_chassis::{
    clock::{Clock, Random},
    config::{self, ConfigArgs, Source},
    metrics::Metrics,
    shutdown, telemetry,
};
use tidegate_gateway::{CONFIG_DEFAULTS, Config, ENV_ALIASES, FOREIGN_ENV, Service};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The REST gateway of Tidegate: JSON over HTTP in front of the gRPC services.
#[derive(Parser)]
#[command(name = "tidegate-gateway", version)]
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
    let _telemetry = telemetry::install("tidegate-gateway", &config.telemetry)?;
    // Accepts and probes only; requests are served by workers with runtimes of their own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let service = Service::bind(config, Metrics::new(), Clock::system(), Random::system()).await?;
        service.serve(shutdown::signal()).await
    })
}
