//! What the server counts.
//!
//! Calls are counted per worker, by plain loads and stores, and added up when they are asked for: a
//! shared histogram would cost every call a contended cache line.

use std::{
    fmt,
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::{MetricType, counter::Counter, gauge::Gauge},
};
use tonic::Code;

use super::methods::{Budget, Method, MethodId, Methods};
use crate::{
    clock::Clock,
    metrics::{Metrics, WorkerCounter},
};

/// Upper bounds of the duration buckets, in nanoseconds and as they are written.
const BUCKETS: [(u64, f64); 15] = [
    (50_000, 0.000_05),
    (100_000, 0.000_1),
    (250_000, 0.000_25),
    (500_000, 0.000_5),
    (1_000_000, 0.001),
    (2_500_000, 0.002_5),
    (5_000_000, 0.005),
    (10_000_000, 0.01),
    (25_000_000, 0.025),
    (50_000_000, 0.05),
    (100_000_000, 0.1),
    (250_000_000, 0.25),
    (500_000_000, 0.5),
    (1_000_000_000, 1.0),
    (2_500_000_000, 2.5),
];
/// Every gRPC status code and its name on the wire.
const CODES: [(Code, &str); 17] = [
    (Code::Ok, "OK"),
    (Code::Cancelled, "CANCELLED"),
    (Code::Unknown, "UNKNOWN"),
    (Code::InvalidArgument, "INVALID_ARGUMENT"),
    (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
    (Code::NotFound, "NOT_FOUND"),
    (Code::AlreadyExists, "ALREADY_EXISTS"),
    (Code::PermissionDenied, "PERMISSION_DENIED"),
    (Code::ResourceExhausted, "RESOURCE_EXHAUSTED"),
    (Code::FailedPrecondition, "FAILED_PRECONDITION"),
    (Code::Aborted, "ABORTED"),
    (Code::OutOfRange, "OUT_OF_RANGE"),
    (Code::Unimplemented, "UNIMPLEMENTED"),
    (Code::Internal, "INTERNAL"),
    (Code::Unavailable, "UNAVAILABLE"),
    (Code::DataLoss, "DATA_LOSS"),
    (Code::Unauthenticated, "UNAUTHENTICATED"),
];

/// Shared by all workers of a server.
#[derive(Clone, Debug, Default)]
pub(super) struct Counters {
    /// Calls being served, by the budget that bounds them.
    in_flight: Arc<[AtomicUsize; 3]>,
    pub(super) panics: Counter,
    pub(super) overloaded: Counter,
    pub(super) connections: Gauge,
    pub(super) accepted: Counter,
    pub(super) refused: Counter,
    pub(super) handshake_failures: Counter,
}

impl Counters {
    /// Calls of `budget` that are being served.
    pub(super) fn in_flight(&self, budget: Budget) -> &AtomicUsize {
        &self.in_flight[budget as usize]
    }

    pub(super) fn register(metrics: &Metrics, clock: &Clock) -> Self {
        let counters = Self::default();
        let started: Gauge = Gauge::default();
        started.set(i64::try_from(clock.now_us() / 1_000_000).unwrap_or(i64::MAX));
        metrics.register("process_start_time_seconds", "When the server started, Unix seconds", started);
        let of_counter = |name, help, counter: &Counter| metrics.register(name, help, counter.clone());
        of_counter(
            "tidegate_server_panics",
            "Handlers that panicked and were answered INTERNAL",
            &counters.panics,
        );
        of_counter(
            "tidegate_server_overloaded_calls",
            "Calls refused because max_in_flight was reached",
            &counters.overloaded,
        );
        of_counter("tidegate_server_accepted_connections", "Connections taken in", &counters.accepted);
        of_counter(
            "tidegate_server_refused_connections",
            "Connections refused because max_connections was reached",
            &counters.refused,
        );
        of_counter(
            "tidegate_server_handshake_failures",
            "Connections that failed to open: TLS or the HTTP/2 preface, wrong, late or missing",
            &counters.handshake_failures,
        );
        metrics.register("tidegate_server_connections", "Open connections", counters.connections.clone());
        counters
    }
}

/// The calls of one worker, by method.
#[derive(Debug)]
pub(super) struct CallStats(Vec<MethodStats>);

#[derive(Debug, Default)]
struct MethodStats {
    started: WorkerCounter,
    finished: [WorkerCounter; CODES.len()],
    buckets: [WorkerCounter; BUCKETS.len() + 1],
    total_ns: WorkerCounter,
}

impl CallStats {
    pub(super) fn new(methods: &Methods) -> Self {
        Self(methods.iter().map(|_| MethodStats::default()).collect())
    }

    pub(super) fn start(&self, method: MethodId) {
        self.0[method.index()].started.add(1);
    }

    pub(super) fn finish(&self, method: MethodId, code: Code, took: Duration) {
        let stats = &self.0[method.index()];
        let took_ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BUCKETS.iter().position(|(bound_ns, _)| took_ns <= *bound_ns).unwrap_or(BUCKETS.len());
        // Discriminants are the codes of the wire, 0 to 16.
        stats.finished[code as usize].add(1);
        stats.buckets[bucket].add(1);
        stats.total_ns.add(took_ns);
    }
}

/// Adds up the calls of all workers.
pub(super) struct CallMetrics {
    pub(super) methods: Arc<Methods>,
    pub(super) workers: Vec<Arc<CallStats>>,
}

impl fmt::Debug for CallMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallMetrics").field("workers", &self.workers.len()).finish_non_exhaustive()
    }
}

impl CallMetrics {
    /// Methods with the sum over the workers of what `read` gives; only those that were ever called.
    fn called(&self) -> impl Iterator<Item = (&Method, Vec<&MethodStats>)> {
        self.methods.iter().enumerate().filter_map(|(index, method)| {
            let stats: Vec<_> = self.workers.iter().map(|worker| &worker.0[index]).collect();
            (sum(&stats, |stats| &stats.started) > 0).then_some((method, stats))
        })
    }
}

fn sum<'a>(stats: &[&'a MethodStats], read: impl Fn(&'a MethodStats) -> &'a WorkerCounter) -> u64 {
    stats.iter().map(|stats| read(stats).get()).sum()
}

impl Collector for CallMetrics {
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds above 2^53 (104 days) may round")]
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let labels =
            |method: &Method| [("rpc_service", method.service.clone()), ("rpc_method", method.name.clone())];
        let help = "Time from the request's metadata to the answer, or to the end of a streamed answer";
        let mut durations = encoder.encode_descriptor(
            "rpc_server_call_duration_seconds",
            help,
            None,
            MetricType::Histogram,
        )?;
        for (method, stats) in self.called() {
            let bounds = BUCKETS.iter().map(|(_, seconds)| *seconds).chain([f64::MAX]);
            let buckets: Vec<_> = bounds
                .enumerate()
                .map(|(at, bound)| (bound, sum(&stats, |stats| &stats.buckets[at])))
                .collect();
            let count = buckets.iter().map(|(_, count)| count).sum();
            let total = sum(&stats, |stats| &stats.total_ns) as f64 / 1e9;
            durations
                .encode_family(&labels(method))?
                .encode_histogram::<NoLabelSet>(total, count, &buckets, None)?;
        }
        let mut calls = encoder.encode_descriptor(
            "rpc_server_calls",
            "Finished calls by gRPC status",
            None,
            MetricType::Counter,
        )?;
        for (method, stats) in self.called() {
            for (code, name) in CODES {
                let count = sum(&stats, |stats| &stats.finished[code as usize]);
                if count > 0 {
                    let [service, method] = labels(method);
                    let labels = [service, method, ("code", name.to_owned())];
                    calls.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
                }
            }
        }
        let mut in_flight = encoder.encode_descriptor(
            "rpc_server_calls_in_flight",
            "Calls being served",
            None,
            MetricType::Gauge,
        )?;
        for (method, stats) in self.called() {
            let finished: u64 = (0..CODES.len()).map(|code| sum(&stats, |stats| &stats.finished[code])).sum();
            let started = sum(&stats, |stats| &stats.started);
            let count = i64::try_from(started.saturating_sub(finished)).unwrap_or(i64::MAX);
            in_flight.encode_family(&labels(method))?.encode_gauge(&count)?;
        }
        Ok(())
    }
}
