//! Logs and traces of the process.
//!
//! Logs go to stderr, one JSON object a line: `timestamp` (RFC 3339, UTC), `level`, `message`,
//! `service.name`, then `trace_id`, `span_id`, `request_id` and `tenant` where they are known, then
//! the fields of the event. Never log keys, tokens, bodies or personal data.
//!
//! Traces leave by OTLP over gRPC from a thread of their own, through a bounded queue: a collector
//! that is slow or gone loses spans and delays nothing.

mod json;
mod otlp;

use garde::Validate;
use serde::{Deserialize, Serialize};
use tracing_subscriber::{EnvFilter, Layer, Registry, layer::SubscriberExt, util::SubscriberInitExt};

pub use self::json::JsonLogs;
use self::otlp::Otlp;
use crate::{clock::Clock, config::not_empty, panics, trace};

/// The `[telemetry]` section.
#[derive(Clone, Debug, Deserialize, Serialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct TelemetryConfig {
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter as `info,tidegate_ratelimit=debug`.
    #[garde(custom(is_filter))]
    pub log_level: String,
    /// For machines or for people.
    #[garde(skip)]
    pub log_format: LogFormat,
    /// Collector of traces, `http://127.0.0.1:4317` (OTLP over gRPC); `""`: no traces.
    #[serde(deserialize_with = "not_empty", default)]
    #[garde(custom(is_http_url))]
    pub otlp_endpoint: Option<String>,
    /// Share of the requests without a caller's context that are traced, 0 to 1.
    #[garde(range(min = 0.0, max = 1.0))]
    pub trace_sample_ratio: f64,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// Plain lines for a terminal.
    Text,
}

/// Keeps telemetry going; hold it until the process ends. Dropping it sends what is still queued,
/// for at most two seconds.
#[must_use = "dropping it ends the export of traces"]
pub struct TelemetryGuard {
    _otlp: Option<Otlp>,
}

/// Installs logs and traces for the whole process, and a hook that logs panics; `service` becomes
/// `service.name`. Needs no runtime.
///
/// # Errors
/// If it was called before, or if the filter or the endpoint is malformed.
pub fn install(service: &'static str, config: &TelemetryConfig) -> anyhow::Result<TelemetryGuard> {
    let filter = EnvFilter::builder().parse(&config.log_level)?;
    let logs: Box<dyn Layer<Registry> + Send + Sync> = match config.log_format {
        LogFormat::Json => {
            JsonLogs::new(service, Clock::system(), std::io::stderr).with_filter(filter).boxed()
        }
        LogFormat::Text => {
            tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_filter(filter).boxed()
        }
    };
    let otlp = config.otlp_endpoint.as_deref().map(|endpoint| Otlp::start(service, endpoint)).transpose()?;
    let traces = otlp.as_ref().map(Otlp::layer);
    tracing_subscriber::registry().with(logs).with(traces).try_init()?;
    panics::install_hook();
    if otlp.is_some() {
        trace::enable(config.trace_sample_ratio);
    }
    Ok(TelemetryGuard { _otlp: otlp })
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that garde calls")]
fn is_filter(text: &str, _: &()) -> garde::Result {
    EnvFilter::builder()
        .parse(text)
        .map(drop)
        .map_err(|error| garde::Error::new(format!("not a log filter: {error}")))
}

#[expect(clippy::trivially_copy_pass_by_ref, clippy::ref_option, reason = "the signature that garde calls")]
fn is_http_url(endpoint: &Option<String>, _: &()) -> garde::Result {
    let Some(endpoint) = endpoint else { return Ok(()) };
    let scheme_fits = endpoint.starts_with("http://") || endpoint.starts_with("https://");
    if scheme_fits && endpoint.parse::<http::Uri>().is_ok_and(|uri| uri.host().is_some()) {
        return Ok(());
    }
    Err(garde::Error::new("must be a URL as http://HOST:4317 or https://HOST:4317"))
}
