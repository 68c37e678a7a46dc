//! The result, for people and for programs.

mod text;

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::{
    args::{BenchArgs, Distribution, Mode},
    load::Measured,
    tally::Tally,
};

/// An open loop whose calls left later than this (99th percentile) did not keep its schedule.
const LATE: Duration = Duration::from_millis(1);

pub(crate) use text::{micros, thousands};

/// What `--json` prints. Names and units are stable.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Address of the server.
    pub(crate) target: String,
    /// `unary`, `batch` or `stream`.
    pub(crate) mode: &'static str,
    /// `closed` or `open`.
    pub(crate) r#loop: &'static str,
    pub(crate) connections: u32,
    /// Calls or streams open at once per connection.
    pub(crate) in_flight: u32,
    /// Checks per call, with `--mode batch`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) batch_size: Option<u32>,
    /// Unanswered checks per stream, with `--mode stream` in a closed loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) window: Option<u32>,
    /// Checks per second asked for, in an open loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rate: Option<f64>,
    pub(crate) threads: u32,
    pub(crate) keys: u32,
    pub(crate) distribution: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) zipf_exponent: Option<f64>,
    pub(crate) seconds: f64,
    /// Checks decided within the measurement.
    pub(crate) checks: u64,
    pub(crate) checks_per_second: f64,
    pub(crate) allowed: u64,
    pub(crate) denied: u64,
    pub(crate) errors: u64,
    pub(crate) errors_by_code: Vec<ErrorCount>,
    /// Calls or streams that had no answer 5 s after the end.
    pub(crate) unanswered: u64,
    /// Of a call, or of a check on a stream.
    pub(crate) latency_us: Percentiles,
    /// How late calls were sent, in an open loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) schedule: Option<Schedule>,
    /// Of the watched processes.
    pub(crate) cpu: Vec<Cpu>,
    /// Of the generator itself.
    pub(crate) generator_cpu_us_per_check: f64,
}

/// One kind of error.
#[derive(Debug, Serialize)]
pub(crate) struct ErrorCount {
    pub(crate) code: String,
    pub(crate) count: u64,
    /// The words of the first.
    pub(crate) example: String,
}

/// Microseconds.
#[derive(Debug, Serialize)]
pub(crate) struct Percentiles {
    pub(crate) min: f64,
    pub(crate) mean: f64,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

/// Whether an open loop kept its schedule.
#[derive(Debug, Serialize)]
pub(crate) struct Schedule {
    pub(crate) lag_p50_us: f64,
    pub(crate) lag_p99_us: f64,
    pub(crate) lag_max_us: f64,
    /// Calls that were due and never sent.
    pub(crate) unsent: u64,
    /// Whether the generator, not the server, decided what was measured.
    pub(crate) fell_behind: bool,
}

/// CPU time of one process.
#[derive(Debug, Serialize)]
pub(crate) struct Cpu {
    pub(crate) name: String,
    pub(crate) pid: u32,
    pub(crate) us_per_check: f64,
    /// Cores kept busy, 1.0 being one.
    pub(crate) cores: f64,
}

impl Report {
    pub(crate) fn new(args: &BenchArgs, target: &str, measured: &Measured) -> Self {
        let tally = &measured.tally;
        let seconds = args.duration.as_secs_f64();
        let checks = tally.decided.sum();
        let per_check = |time: Duration| time.as_secs_f64() * 1e6 / checks.max(1) as f64;
        let errors_by_code = errors(tally);
        Self {
            target: target.to_owned(),
            mode: args.mode.name(),
            r#loop: if args.rate.is_some() { "open" } else { "closed" },
            connections: args.connections,
            in_flight: args.in_flight(),
            batch_size: (args.mode == Mode::Batch).then_some(args.batch_size),
            window: (args.mode == Mode::Stream && args.rate.is_none()).then_some(args.window),
            rate: args.rate,
            threads: args.threads(),
            keys: measured.keys,
            distribution: args.distribution.name(),
            zipf_exponent: (args.distribution == Distribution::Zipf).then_some(args.zipf_exponent),
            seconds,
            checks,
            checks_per_second: checks as f64 / seconds,
            allowed: tally.decided.allowed,
            denied: tally.decided.denied,
            errors: errors_by_code.iter().map(|error| error.count).sum(),
            errors_by_code,
            unanswered: tally.unanswered,
            latency_us: Percentiles::of(&tally.latency),
            schedule: args.rate.map(|_| Schedule::of(&tally.lag, tally.unsent)),
            cpu: measured
                .cpu
                .iter()
                .map(|(watched, time)| Cpu {
                    name: watched.name.clone(),
                    pid: watched.pid,
                    us_per_check: per_check(*time),
                    cores: time.as_secs_f64() / seconds,
                })
                .collect(),
            generator_cpu_us_per_check: per_check(measured.own_cpu),
        }
    }
}

/// Calls that failed, by code, and checks that were answered by an error.
fn errors(tally: &Tally) -> Vec<ErrorCount> {
    let failed = tally.errors.iter().map(|(code, (count, example))| (code.as_str(), *count, example.clone()));
    let refused = tally.decided.refused;
    let refused =
        (refused > 0).then(|| ("Refused", refused, tally.decided.reason.clone().unwrap_or_default()));
    failed
        .chain(refused)
        .map(|(code, count, example)| ErrorCount { code: code.to_owned(), count, example })
        .collect()
}

impl Percentiles {
    fn of(nanos: &Histogram<u64>) -> Self {
        let at = |quantile| nanos.value_at_quantile(quantile) as f64 / 1000.0;
        Self {
            min: nanos.min() as f64 / 1000.0,
            mean: nanos.mean() / 1000.0,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: nanos.max() as f64 / 1000.0,
        }
    }
}

impl Schedule {
    fn of(lag: &Histogram<u64>, unsent: u64) -> Self {
        let at = |quantile| lag.value_at_quantile(quantile) as f64 / 1000.0;
        let lag_p99_us = at(0.99);
        Self {
            lag_p50_us: at(0.5),
            lag_p99_us,
            lag_max_us: lag.max() as f64 / 1000.0,
            unsent,
            // What never left is later than anything.
            fell_behind: unsent * 100 > lag.len() || lag_p99_us > LATE.as_secs_f64() * 1e6,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_generator_says_so() {
        let mut lag = Histogram::<u64>::new(3).unwrap();
        lag.record_n(50_000, 100).unwrap();
        assert!(!Schedule::of(&lag, 0).fell_behind);
        assert!(!Schedule::of(&lag, 1).fell_behind);
        assert!(Schedule::of(&lag, 2).fell_behind);
        lag.record_n(5_000_000, 10).unwrap();
        assert!(Schedule::of(&lag, 0).fell_behind);
    }
}
