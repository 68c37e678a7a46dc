//! What the gateway counts. Labels are bounded: routes are templates, never paths as called.

use std::{sync::Arc, time::Duration};

use http::{Method, StatusCode};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
};
use tidegate_chassis::metrics::Metrics;
use tonic::Code;

use crate::upstream::Behind;

/// Seconds; from well below a millisecond, since most answers take that.
const BUCKETS: [f64; 14] =
    [0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Every metric of the gateway.
#[derive(Debug)]
pub(crate) struct GatewayMetrics {
    requests: Family<HttpLabels, Histogram, fn() -> Histogram>,
    upstream_calls: Family<CallLabels, Counter>,
    anonymous: Family<OutcomeLabels, Counter>,
    upstream_retries: Family<ServiceLabels, Counter>,
    /// Connections open now.
    pub connections: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HttpLabels {
    method: &'static str,
    route: Arc<str>,
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    service: &'static str,
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ServiceLabels {
    service: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

/// What became of the check of an anonymous caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AnonymousOutcome {
    /// Within the limit.
    Allowed,
    /// Over it.
    Denied,
    /// Not decided, so let through.
    FailedOpen,
}

impl GatewayMetrics {
    /// Registers them.
    #[must_use]
    pub(crate) fn register(metrics: &Metrics) -> Arc<Self> {
        let this = Self {
            requests: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            upstream_calls: Family::default(),
            anonymous: Family::default(),
            upstream_retries: Family::default(),
            connections: Gauge::default(),
        };
        metrics.register(
            "http_server_request_duration_seconds",
            "From the headers of a request to the end of its handling",
            this.requests.clone(),
        );
        metrics.register(
            "tidegate_gateway_upstream_calls",
            "Calls to the services behind, by their final gRPC code",
            this.upstream_calls.clone(),
        );
        metrics.register(
            "tidegate_gateway_upstream_retries",
            "Calls to the services behind that were sent a second time",
            this.upstream_retries.clone(),
        );
        metrics.register(
            "tidegate_gateway_anonymous_checks",
            "Checks of callers without credentials that are accepted, by address",
            this.anonymous.clone(),
        );
        metrics.register("tidegate_gateway_connections", "Connections open now", this.connections.clone());
        Arc::new(this)
    }

    /// One request was answered; `method` is a [`known`] one.
    pub(crate) fn request(&self, method: &'static str, route: Arc<str>, status: StatusCode, took: Duration) {
        let labels = HttpLabels { method, route, status: class(status) };
        self.requests.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// One call came to its end.
    pub(crate) fn upstream_call(&self, of: Behind, code: Code) {
        let labels = CallLabels { service: of.name(), code: name(code) };
        self.upstream_calls.get_or_create(&labels).inc();
    }

    /// How many calls of a service were sent a second time.
    #[cfg(test)]
    pub(crate) fn upstream_retries(&self, of: Behind) -> u64 {
        self.upstream_retries.get_or_create(&ServiceLabels { service: of.name() }).get()
    }

    /// One call was sent a second time.
    pub(crate) fn upstream_retry(&self, of: Behind) {
        self.upstream_retries.get_or_create(&ServiceLabels { service: of.name() }).inc();
    }

    /// One anonymous caller was checked.
    pub(crate) fn anonymous(&self, outcome: AnonymousOutcome) {
        let outcome = match outcome {
            AnonymousOutcome::Allowed => "allowed",
            AnonymousOutcome::Denied => "denied",
            AnonymousOutcome::FailedOpen => "failed_open",
        };
        self.anonymous.get_or_create(&OutcomeLabels { outcome }).inc();
    }
}

/// A caller may send any word as method; only the known ones become labels and names of spans.
pub(crate) fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "_OTHER",
    }
}

fn class(status: StatusCode) -> &'static str {
    match status.as_u16() {
        ..200 => "1xx",
        200..300 => "2xx",
        300..400 => "3xx",
        400..500 => "4xx",
        500.. => "5xx",
    }
}

fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_caller_can_make_up_a_label() {
        let metrics = Metrics::new();
        let gateway = GatewayMetrics::register(&metrics);
        let method = Method::from_bytes(b"BREW").unwrap();
        gateway.request(known(&method), "unmatched".into(), StatusCode::NOT_FOUND, Duration::from_millis(1));
        gateway.upstream_call(Behind::Keys, Code::Unavailable);
        gateway.upstream_retry(Behind::RateLimit);
        gateway.anonymous(AnonymousOutcome::FailedOpen);
        let page = metrics.encode();
        for line in [
            "http_server_request_duration_seconds_count{method=\"_OTHER\",route=\"unmatched\",status=\"4xx\"} 1",
            "tidegate_gateway_upstream_calls_total{service=\"keys\",code=\"UNAVAILABLE\"} 1",
            "tidegate_gateway_anonymous_checks_total{outcome=\"failed_open\"} 1",
            "tidegate_gateway_upstream_retries_total{service=\"ratelimit\"} 1",
            "tidegate_gateway_connections 0",
        ] {
            assert!(page.lines().any(|found| found == line), "no {line} in\n{page}");
        }
    }
}
