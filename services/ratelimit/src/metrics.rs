//! What the service counts of its decisions.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use hashbrown::HashMap;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::MetricType,
};
use tidegate_chassis::metrics::{Metrics, WorkerCounter};

use crate::{limiter::Verdict, usage::Met};

/// What `rate_limit_requests_total` counts by, in the order of [`CheckStats::answers`]. Each check counts
/// under exactly one.
const STATUSES: [&str; 6] = ["allowed", "denied", "degraded_allowed", "degraded_denied", "replayed", "error"];

/// One in so many checks leaves its remaining tokens for the gauge: enough to see, too few to feel.
const REMAINING_EVERY: u64 = 16;

/// The most kinds of keys that the gauge tells apart; those that come later are left out.
const MAX_KEY_TYPES: usize = 64;

/// The decisions of all workers.
#[derive(Clone, Debug)]
pub(crate) struct CheckMetrics {
    workers: Arc<Mutex<Vec<Arc<CheckStats>>>>,
}

impl CheckMetrics {
    /// Registers the counters.
    pub(crate) fn register(metrics: &Metrics) -> Self {
        let these = Self { workers: Arc::default() };
        metrics.register_collector(CheckCollector(these.clone()));
        these
    }

    /// Counters for another worker.
    pub(crate) fn for_worker(&self) -> Arc<CheckStats> {
        let stats = Arc::new(CheckStats::default());
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&stats));
        stats
    }
}

/// The decisions of one worker.
#[derive(Debug, Default)]
pub(crate) struct CheckStats {
    answers: [WorkerCounter; STATUSES.len()],
    shadow_denied: WorkerCounter,
    decided: WorkerCounter,
    /// Tokens left at the binding limit by the attributes of its key. Only ever locked by the worker and
    /// by who reads the metrics.
    remaining: Mutex<HashMap<Box<[Box<str>]>, u64>>,
}

impl CheckStats {
    /// Counts a decision, which met so much.
    #[inline]
    pub(crate) fn record(&self, verdict: &Verdict<'_>, met: Met) {
        let status = match (verdict.degraded, verdict.allowed) {
            (false, true) if verdict.replayed => 4,
            (false, true) => 0,
            (false, false) => 1,
            (true, true) => 2,
            (true, false) => 3,
        };
        self.answers[status].add(1);
        if met.shadow_denied {
            self.shadow_denied.add(1);
        }
        if self.decided.get().is_multiple_of(REMAINING_EVERY)
            && let Some(binding) = verdict.binding
        {
            let binding = &verdict.limits[binding];
            // What comes with requests is no label.
            if !binding.policy.came_with_request() {
                self.saw_remaining(&binding.policy.key_by, binding.outcome.remaining);
            }
        }
        self.decided.add(1);
    }

    /// Counts a check that could not be decided.
    pub(crate) fn record_error(&self) {
        self.answers[5].add(1);
    }

    fn saw_remaining(&self, key_by: &[Box<str>], tokens: u64) {
        let mut seen = self.remaining.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = seen.get_mut(key_by) {
            *last = tokens;
        } else if seen.len() < MAX_KEY_TYPES {
            seen.insert(key_by.into(), tokens);
        }
    }
}

#[derive(Debug)]
struct CheckCollector(CheckMetrics);

impl Collector for CheckCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let workers = self.0.workers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut requests = encoder.encode_descriptor(
            "rate_limit_requests",
            "Checks by what was answered",
            None,
            MetricType::Counter,
        )?;
        for (index, status) in STATUSES.iter().enumerate() {
            let count: u64 = workers.iter().map(|worker| worker.answers[index].get()).sum();
            requests
                .encode_family(&[("status", *status)])?
                .encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        let shadow_denied: u64 = workers.iter().map(|worker| worker.shadow_denied.get()).sum();
        encoder
            .encode_descriptor(
                "tidegate_ratelimit_shadow_denied",
                "Checks admitted although a limit in shadow had no room",
                None,
                MetricType::Counter,
            )?
            .encode_counter::<NoLabelSet, _, u64>(&shadow_denied, None)?;
        // Of what the workers last saw, the least: who looks at it wants to know how near the limit is.
        let mut least = BTreeMap::new();
        for worker in workers.iter() {
            for (key_by, tokens) in &*worker.remaining.lock().unwrap_or_else(PoisonError::into_inner) {
                let least = least.entry(key_type(key_by)).or_insert(*tokens);
                *least = (*least).min(*tokens);
            }
        }
        let mut remaining = encoder.encode_descriptor(
            "rate_limit_remaining",
            "Tokens left at the binding limit, as one of the last checks saw it, by what the limit's key is made of",
            None,
            MetricType::Gauge,
        )?;
        for (key_type, tokens) in least {
            let tokens = i64::try_from(tokens).unwrap_or(i64::MAX);
            remaining.encode_family(&[("key_type", key_type)])?.encode_gauge(&tokens)?;
        }
        Ok(())
    }
}

fn key_type(key_by: &[Box<str>]) -> String {
    if key_by.is_empty() { "namespace".to_owned() } else { key_by.join("+") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remaining_is_the_least_that_a_worker_saw_by_kind_of_key() {
        let metrics = Metrics::new();
        let checks = CheckMetrics::register(&metrics);
        let workers = [checks.for_worker(), checks.for_worker()];
        assert!(!metrics.encode().contains("rate_limit_remaining{"));
        workers[0].saw_remaining(&["ip".into()], 7);
        workers[1].saw_remaining(&["ip".into()], 9);
        workers[1].saw_remaining(&["organization".into(), "path".into()], 3);
        let text = metrics.encode();
        assert!(text.contains("rate_limit_remaining{key_type=\"ip\"} 7"), "{text}");
        assert!(text.contains("rate_limit_remaining{key_type=\"organization+path\"} 3"), "{text}");
    }

    #[test]
    fn kinds_of_keys_are_bounded() {
        let metrics = Metrics::new();
        let worker = CheckMetrics::register(&metrics).for_worker();
        for kind in 0..2 * MAX_KEY_TYPES {
            worker.saw_remaining(&[kind.to_string().into()], 1);
        }
        assert_eq!(metrics.encode().matches("rate_limit_remaining{").count(), MAX_KEY_TYPES);
    }

    #[test]
    fn answers_of_all_workers_are_added_up() {
        let metrics = Metrics::new();
        let checks = CheckMetrics::register(&metrics);
        checks.for_worker().record_error();
        checks.for_worker().record_error();
        let text = metrics.encode();
        assert!(text.contains("rate_limit_requests_total{status=\"error\"} 2"), "{text}");
        assert!(text.contains("rate_limit_requests_total{status=\"denied\"} 0"), "{text}");
    }
}
