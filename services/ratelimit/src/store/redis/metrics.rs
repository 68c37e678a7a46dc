//! What the store counts of its calls.

use std::{
    fmt,
    sync::{Arc, atomic::AtomicI64},
    time::Duration,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet},
    metrics::{
        MetricType,
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
};
use tidegate_chassis::{
    breaker::{Breaker, BreakerState},
    metrics::Metrics,
};

use crate::store::StoreError;

/// Counters of one Redis, shared by the stores of all workers.
#[derive(Clone, Debug)]
pub(super) struct StoreMetrics {
    /// Connections that are up.
    pub(super) connections: Gauge<i64, AtomicI64>,
    /// 1 if Redis says that it evicts nothing.
    pub(super) noeviction: Gauge<i64, AtomicI64>,
    calls: Family<OutcomeLabel, Counter>,
    answered: Counter,
    timeouts: Counter,
    checks_per_call: Histogram,
    seconds: Histogram,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallOutcome {
    Answered,
    Disconnected,
    Refused,
}

impl From<StoreError> for CallOutcome {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Disconnected | StoreError::BreakerOpen | StoreError::Timeout => Self::Disconnected,
            StoreError::Protocol | StoreError::Full => Self::Refused,
        }
    }
}

impl CallOutcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Disconnected => "disconnected",
            Self::Refused => "refused",
        }
    }
}

impl StoreMetrics {
    pub(super) fn register(metrics: &Metrics, breaker: Arc<Breaker>) -> Self {
        let calls = Family::<OutcomeLabel, Counter>::default();
        let answered = calls.get_or_create_owned(&OutcomeLabel { outcome: CallOutcome::Answered.as_str() });
        let these = Self {
            connections: Gauge::default(),
            noeviction: Gauge::default(),
            answered,
            calls,
            timeouts: Counter::default(),
            checks_per_call: Histogram::new(exponential_buckets(1.0, 2.0, 9)),
            seconds: Histogram::new(exponential_buckets(0.000_05, 2.0, 12)),
        };
        metrics.register(
            "tidegate_ratelimit_redis_connections",
            "Connections to Redis that are up",
            these.connections.clone(),
        );
        metrics.register(
            "tidegate_ratelimit_redis_noeviction",
            "1 if the maxmemory-policy of Redis is noeviction, 0 if counters may be evicted",
            these.noeviction.clone(),
        );
        metrics.register(
            "tidegate_ratelimit_redis_calls",
            "Calls of the script, by what became of them",
            these.calls.clone(),
        );
        metrics.register(
            "tidegate_ratelimit_redis_timeouts",
            "Checks that were not answered within the deadline",
            these.timeouts.clone(),
        );
        metrics.register(
            "tidegate_ratelimit_redis_checks_per_call",
            "Checks that went to Redis in one call",
            these.checks_per_call.clone(),
        );
        metrics.register(
            "tidegate_ratelimit_redis_call_duration_seconds",
            "From sending a call to its answer",
            these.seconds.clone(),
        );
        metrics.register_collector(BreakerMetrics(breaker));
        these
    }

    pub(super) fn called(&self, checks: usize, took: Duration, outcome: CallOutcome) {
        match outcome {
            CallOutcome::Answered => self.answered.inc(),
            CallOutcome::Disconnected | CallOutcome::Refused => {
                self.calls.get_or_create(&OutcomeLabel { outcome: outcome.as_str() }).inc()
            }
        };
        self.checks_per_call.observe(f64::from(u32::try_from(checks).unwrap_or(u32::MAX)));
        self.seconds.observe(took.as_secs_f64());
    }

    pub(super) fn timed_out(&self, checks: usize) {
        self.timeouts.inc_by(checks as u64);
    }
}

/// The breaker's state, as it is when somebody asks.
#[derive(Debug)]
struct BreakerMetrics(Arc<Breaker>);

impl Collector for BreakerMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let now = self.0.state();
        let mut gauge = encoder.encode_descriptor(
            "tidegate_ratelimit_redis_breaker_state",
            "1 for the state of the breaker before Redis: closed (checks are sent), open, half_open (being probed)",
            None,
            MetricType::Gauge,
        )?;
        let states = [
            (BreakerState::Closed, "closed"),
            (BreakerState::HalfOpen, "half_open"),
            (BreakerState::Open, "open"),
        ];
        for (state, word) in states {
            gauge.encode_family(&[("state", word)])?.encode_gauge(&i64::from(state == now))?;
        }
        Ok(())
    }
}
