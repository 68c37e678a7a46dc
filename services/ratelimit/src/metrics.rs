//! What the service counts of its decisions.

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{counter::Counter, family::Family},
};
use tidegate_chassis::metrics::Metrics;

use crate::limiter::Verdict;

/// Counters of decisions, with handles at hand: the hot path looks nothing up.
#[derive(Clone)]
pub(crate) struct CheckMetrics {
    allowed: Counter,
    denied: Counter,
    degraded_allowed: Counter,
    degraded_denied: Counter,
    replayed: Counter,
    error: Counter,
    shadow_denied: Counter,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StatusLabel {
    status: Status,
}

/// Each check counts under exactly one.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
enum Status {
    Allowed,
    Denied,
    DegradedAllowed,
    DegradedDenied,
    Replayed,
    Error,
}

impl EncodeLabelValue for Status {
    fn encode(
        &self,
        encoder: &mut prometheus_client::encoding::LabelValueEncoder<'_>,
    ) -> Result<(), std::fmt::Error> {
        let word = match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::DegradedAllowed => "degraded_allowed",
            Self::DegradedDenied => "degraded_denied",
            Self::Replayed => "replayed",
            Self::Error => "error",
        };
        EncodeLabelValue::encode(&word, encoder)
    }
}

impl CheckMetrics {
    /// Registers the counters.
    pub(crate) fn register(metrics: &Metrics) -> Self {
        let requests = Family::<StatusLabel, Counter>::default();
        metrics.register("rate_limit_requests", "Checks by what was answered", requests.clone());
        let shadow_denied = Counter::default();
        let help = "Checks admitted although a limit in shadow had no room";
        metrics.register("tidegate_ratelimit_shadow_denied", help, shadow_denied.clone());
        let with = |status| requests.get_or_create_owned(&StatusLabel { status });
        Self {
            allowed: with(Status::Allowed),
            denied: with(Status::Denied),
            degraded_allowed: with(Status::DegradedAllowed),
            degraded_denied: with(Status::DegradedDenied),
            replayed: with(Status::Replayed),
            error: with(Status::Error),
            shadow_denied,
        }
    }

    /// Counts a decision.
    #[inline]
    pub(crate) fn record(&self, verdict: &Verdict<'_>) {
        let counter = match (verdict.degraded, verdict.allowed) {
            (false, true) if verdict.replayed => &self.replayed,
            (false, true) => &self.allowed,
            (false, false) => &self.denied,
            (true, true) => &self.degraded_allowed,
            (true, false) => &self.degraded_denied,
        };
        counter.inc();
        if verdict.allowed && verdict.limits.iter().any(|limit| limit.shadow && limit.outcome.exceeded()) {
            self.shadow_denied.inc();
        }
    }

    /// Counts a check that could not be decided.
    pub(crate) fn record_error(&self) {
        self.error.inc();
    }
}
