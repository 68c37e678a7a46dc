//! What the store counts of its calls.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, atomic::AtomicI64},
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
use tidegate_chassis::{breaker::BreakerState, metrics::Metrics};
use tokio::sync::Notify;

use super::{breakers::Breakers, call::Failure};
use crate::store::StoreError;

/// Counters of one store in Redis, shared by all workers.
#[derive(Clone, Debug)]
pub(super) struct StoreMetrics {
    /// Connections that are up.
    pub(super) connections: Gauge<i64, AtomicI64>,
    evicting: Evicting,
    calls: Family<OutcomeLabel, Counter>,
    answered: Counter,
    timeouts: Counter,
    checks_per_call: Histogram,
    seconds: Histogram,
    pub(super) denied: DeniedMetrics,
}

/// Counters of the denials that are remembered.
#[derive(Clone, Debug, Default)]
pub(super) struct DeniedMetrics {
    /// Connections that tell of writes.
    pub(super) tracking: Gauge<i64, AtomicI64>,
    /// Checks answered from memory.
    pub(super) hits: Counter,
    /// Denials taken in.
    pub(super) remembered: Counter,
    /// Cells in whose writes interest was registered.
    pub(super) registrations: Counter,
    /// Cells of which a write was told.
    pub(super) invalidations: Counter,
}

impl DeniedMetrics {
    fn register(&self, metrics: &Metrics) {
        metrics.register(
            "tidegate_ratelimit_redis_tracking",
            "Connections over which Redis tells of writes, so that denials are remembered",
            self.tracking.clone(),
        );
        for (name, help, counter) in [
            ("hits", "Checks denied from memory, without asking Redis", &self.hits),
            ("remembered", "Denials taken in, renewed ones included", &self.remembered),
            ("registrations", "Cells in whose writes interest was registered at Redis", &self.registrations),
            ("invalidations", "Cells of which Redis told that they were written", &self.invalidations),
        ] {
            metrics.register(&format!("tidegate_ratelimit_denied_{name}"), help, counter.clone());
        }
    }
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
    Redirected,
}

impl From<&Failure> for CallOutcome {
    fn from(failure: &Failure) -> Self {
        let error = match failure {
            Failure::Elsewhere(_) => return Self::Redirected,
            Failure::Down => return Self::Refused,
            Failure::Store(error) | Failure::Refused(error) => error,
        };
        match error {
            StoreError::Disconnected | StoreError::BreakerOpen | StoreError::Timeout => Self::Disconnected,
            StoreError::Protocol | StoreError::Full | StoreError::Incomplete => Self::Refused,
        }
    }
}

impl CallOutcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Disconnected => "disconnected",
            Self::Refused => "refused",
            Self::Redirected => "redirected",
        }
    }
}

impl StoreMetrics {
    pub(super) fn register(metrics: &Metrics, breakers: Breakers) -> Self {
        let calls = Family::<OutcomeLabel, Counter>::default();
        let answered = calls.get_or_create_owned(&OutcomeLabel { outcome: CallOutcome::Answered.as_str() });
        let these = Self {
            connections: Gauge::default(),
            evicting: Evicting::default(),
            answered,
            calls,
            timeouts: Counter::default(),
            checks_per_call: Histogram::new(exponential_buckets(1.0, 2.0, 9)),
            seconds: Histogram::new(exponential_buckets(0.000_05, 2.0, 12)),
            denied: DeniedMetrics::default(),
        };
        these.denied.register(metrics);
        metrics.register(
            "tidegate_ratelimit_redis_connections",
            "Connections to Redis that are up",
            these.connections.clone(),
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
        metrics.register_collector(these.evicting.clone());
        metrics.register_collector(BreakerMetrics(breakers));
        these
    }

    pub(super) fn called(&self, checks: usize, took: Duration, outcome: CallOutcome) {
        match outcome {
            CallOutcome::Answered => self.answered.inc(),
            CallOutcome::Disconnected | CallOutcome::Refused | CallOutcome::Redirected => {
                self.calls.get_or_create(&OutcomeLabel { outcome: outcome.as_str() }).inc()
            }
        };
        self.checks_per_call.observe(f64::from(u32::try_from(checks).unwrap_or(u32::MAX)));
        self.seconds.observe(took.as_secs_f64());
    }

    /// Takes in whether a node evicts nothing, for as long as a connection to it is `held`.
    pub(super) fn noeviction(&self, node: &str, noeviction: bool, held: &Arc<Notify>) {
        let mut nodes = self.evicting.lock();
        if noeviction {
            nodes.remove(node);
        } else {
            nodes.entry(node.to_owned()).or_default().push(Arc::downgrade(held));
        }
    }

    pub(super) fn timed_out(&self, checks: usize) {
        self.timeouts.inc_by(checks as u64);
    }
}

/// Nodes that may evict, or do not tell, with the connections that they told it to.
#[derive(Clone, Debug, Default)]
struct Evicting(Arc<Mutex<Connections>>);

type Connections = BTreeMap<String, Vec<Weak<Notify>>>;

impl Evicting {
    /// Those that there are connections to: who has left the cluster does not matter any more.
    fn lock(&self) -> MutexGuard<'_, Connections> {
        let mut nodes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.retain(|_, connections| {
            connections.retain(|connection| connection.strong_count() > 0);
            !connections.is_empty()
        });
        nodes
    }
}

impl Collector for Evicting {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let noeviction = self.lock().is_empty();
        encoder
            .encode_descriptor(
                "tidegate_ratelimit_redis_noeviction",
                "1 if the maxmemory-policy of every node is noeviction, 0 if counters may be evicted",
                None,
                MetricType::Gauge,
            )?
            .encode_gauge(&i64::from(noeviction))
    }
}

/// The breakers' states, as they are when somebody asks.
#[derive(Debug)]
struct BreakerMetrics(Breakers);

impl Collector for BreakerMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let now = self.0.states();
        let mut gauge = encoder.encode_descriptor(
            "tidegate_ratelimit_redis_breaker_state",
            "Nodes of Redis whose breaker is in the state: closed (checks are sent), open, half_open (being probed)",
            None,
            MetricType::Gauge,
        )?;
        let states = [
            (BreakerState::Closed, "closed"),
            (BreakerState::HalfOpen, "half_open"),
            (BreakerState::Open, "open"),
        ];
        for (state, word) in states {
            gauge.encode_family(&[("state", word)])?.encode_gauge(
                &i64::try_from(now.iter().filter(|now| **now == state).count()).unwrap_or(i64::MAX),
            )?;
        }
        Ok(())
    }
}
