//! What `tidegate bench` can be told.

use std::{path::PathBuf, str::FromStr, time::Duration};

use anyhow::ensure;
use clap::{Args, ValueEnum};
use tidegate_chassis::config::HumanDuration;

use super::{cpu::Watched, protocol::Protocol};
use crate::attribute::{self, Attribute};

const EXAMPLES: &str = "\
Examples:
  tidegate bench                                        start a server of its own, measure it, stop it
  tidegate bench --addr 127.0.0.1:8081 --plan enterprise
  tidegate bench --rate 10000 --duration 30s            open loop: latency at a fixed arrival rate
  tidegate bench --mode stream --window 64
  tidegate bench --keys 1000000 --distribution zipf --zipf-exponent 1.1
  tidegate bench --addr 127.0.0.1:8081 --api-keys keys.txt
  tidegate bench --json --svg latency.svg > result.json

A closed loop (the default) asks again as soon as it is answered: it finds out what the server can
do. An open loop (--rate) asks at fixed times whether or not the server keeps up, and measures each
answer from the time its question was due: it finds out what callers would feel.

The address is spoken to in plain text HTTP/2. Calls show the token of TIDEGATE_TOKEN, if it is set.";

/// Measure a rate-limit service: checks per second, latency, CPU per check.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct BenchArgs {
    /// gRPC address of the rate-limit service [default: start one, in a process of its own].
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) addr: Option<String>,

    /// How checks are sent.
    #[arg(long, value_enum, default_value_t = Mode::Unary)]
    pub(crate) mode: Mode,

    /// What the server speaks, for comparisons with others.
    #[arg(long, value_enum, default_value_t = Protocol::Tidegate, hide = true)]
    pub(crate) protocol: Protocol,

    /// HTTP/2 connections.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) connections: u32,

    /// Calls, or streams, open at once on each connection [default: unary 32, batch 4, stream 1].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) in_flight: Option<u32>,

    /// Open loop: this many checks per second in all, however fast the answers come.
    #[arg(long, value_name = "PER_SECOND")]
    pub(crate) rate: Option<f64>,

    /// Checks per call with `--mode batch`.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) batch_size: u32,

    /// Unanswered checks per stream with `--mode stream`.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) window: u32,

    /// How long to measure: 500ms, 10s, 2m.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(crate) duration: Duration,

    /// How long to run before measuring.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = duration)]
    pub(crate) warmup: Duration,

    /// Threads that make the load, each with its share of the connections [default: half of the cores].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) threads: Option<u32>,

    /// Distinct keys.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) keys: u32,

    /// How keys are drawn.
    #[arg(long, value_enum, default_value_t = Distribution::Uniform)]
    pub(crate) distribution: Distribution,

    /// With `zipf`: key number k is drawn in proportion to 1 / k^EXPONENT.
    #[arg(long, value_name = "EXPONENT", default_value_t = 1.1)]
    pub(crate) zipf_exponent: f64,

    /// File with an API key a line: each check is by one of them, instead of a key of its own making.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["keys", "attribute_name"])]
    pub(crate) api_keys: Option<PathBuf>,

    /// Namespace of the checks; empty means "default".
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) namespace: String,

    /// Attribute that carries the key.
    #[arg(long, value_name = "NAME", default_value = "organization")]
    pub(crate) attribute_name: String,

    /// Attribute `plan` of every check [default: with a server of its own, a plan that never denies].
    #[arg(long)]
    pub(crate) plan: Option<String>,

    /// Another attribute of every check; may be repeated.
    #[arg(long = "attribute", value_name = "NAME=VALUE", value_parser = attribute::parse)]
    pub(crate) attributes: Vec<Attribute>,

    /// Process whose CPU time is reported per check; may be repeated, the first is "server" unless named.
    #[arg(long = "pid", value_name = "[NAME=]PID", value_parser = Watched::parse)]
    pub(crate) pids: Vec<Watched>,

    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,

    /// Write a picture of the latency percentiles.
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,

    /// Seed of the key draw, so that runs can be repeated.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
}

/// How checks are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// One check per call: `Check`.
    Unary,
    /// Many checks per call: `CheckBatch`.
    Batch,
    /// Checks on long-lived streams: `CheckStream`.
    Stream,
}

/// How keys are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Distribution {
    /// Every key alike.
    Uniform,
    /// A few keys often, most keys seldom.
    Zipf,
    /// One after the other, so that all keys are touched evenly.
    Sequential,
}

impl Mode {
    /// As it is written on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Unary => "unary",
            Self::Batch => "batch",
            Self::Stream => "stream",
        }
    }
}

impl Distribution {
    /// As it is written on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Zipf => "zipf",
            Self::Sequential => "sequential",
        }
    }
}

impl BenchArgs {
    /// Calls or streams open at once on each connection.
    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.unwrap_or(match self.mode {
            Mode::Unary => 32,
            Mode::Batch => 4,
            Mode::Stream => 1,
        })
    }

    /// Threads that make the load: never more than connections.
    pub(crate) fn threads(&self) -> u32 {
        let half = std::thread::available_parallelism().map_or(1, |cores| cores.get() / 2);
        let half = u32::try_from(half).unwrap_or(u32::MAX).max(1);
        self.threads.unwrap_or(half).min(self.connections)
    }

    /// What clap cannot see.
    ///
    /// # Errors
    /// Names the argument whose value makes no sense.
    pub(crate) fn validate(&self) -> anyhow::Result<()> {
        ensure!(
            self.protocol == Protocol::Tidegate || (self.mode == Mode::Unary && self.addr.is_some()),
            "--protocol: other protocols know unary calls only, and need --addr"
        );
        ensure!(
            self.api_keys.is_none() || (self.protocol == Protocol::Tidegate && self.addr.is_some()),
            "--api-keys: checks by API key need the server that knows the keys: say its --addr"
        );
        ensure!(!self.duration.is_zero(), "--duration must be above zero");
        if let Some(rate) = self.rate {
            ensure!(
                (1.0..=10_000_000.0).contains(&rate),
                "--rate must lie between 1 and 10,000,000 per second"
            );
        }
        ensure!(
            self.zipf_exponent.is_finite() && self.zipf_exponent > 0.0 && self.zipf_exponent <= 10.0,
            "--zipf-exponent must be above 0 and at most 10"
        );
        Ok(())
    }
}

fn duration(text: &str) -> Result<Duration, <HumanDuration as FromStr>::Err> {
    HumanDuration::from_str(text).map(HumanDuration::get)
}

#[cfg(test)]
impl BenchArgs {
    /// As if typed behind `tidegate bench`.
    pub(crate) fn typed(line: &str) -> Self {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            bench: BenchArgs,
        }
        <Line as clap::Parser>::parse_from(std::iter::once("bench").chain(line.split_whitespace())).bench
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_that_make_no_sense_are_named() {
        for (line, named) in [
            ("--duration 0", "--duration"),
            ("--rate 0", "--rate"),
            ("--rate NaN", "--rate"),
            ("--zipf-exponent 0", "--zipf-exponent"),
            ("--protocol envoy", "--protocol"),
            ("--api-keys keys.txt", "--api-keys"),
            ("--protocol envoy --addr 127.0.0.1:1 --mode batch", "--protocol"),
        ] {
            let error = BenchArgs::typed(line).validate().unwrap_err().to_string();
            assert!(error.contains(named), "{line}: {error}");
        }
        assert!(BenchArgs::typed("--protocol envoy --addr 127.0.0.1:1").validate().is_ok());
    }

    #[test]
    fn there_are_never_more_threads_than_connections() {
        assert_eq!(BenchArgs::typed("--threads 8 --connections 3").threads(), 3);
    }
}
