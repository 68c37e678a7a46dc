//! What the keeper tells of itself.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
};
use tidegate_chassis::metrics::Metrics;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabel {
    operation: &'static str,
}

/// Registered only if there is a database.
#[derive(Clone, Debug, Default)]
pub(super) struct KeeperMetrics {
    revision: Gauge,
    synced: Gauge<f64, AtomicU64>,
    valid: Gauge,
    errors: Family<OperationLabel, Counter>,
}

impl KeeperMetrics {
    pub(super) fn register(metrics: &Metrics, has_database: bool) -> Self {
        let these = Self::default();
        these.valid.set(1);
        if has_database {
            metrics.register(
                "tidegate_ratelimit_catalog_revision",
                "Revision of the database that this replica has taken in",
                these.revision.clone(),
            );
            metrics.register(
                "tidegate_ratelimit_catalog_synced_timestamp_seconds",
                "When the database last answered, Unix time; time() less this is how old what is in force may be",
                these.synced.clone(),
            );
            metrics.register(
                "tidegate_ratelimit_catalog_valid",
                "1 if what this replica has taken in is in force, 0 if it does not fit the policy file of the replica",
                these.valid.clone(),
            );
            metrics.register(
                "tidegate_ratelimit_catalog_errors",
                "Questions that the database did not answer",
                these.errors.clone(),
            );
        }
        these
    }

    /// The database answered, and this is what is known of it.
    #[expect(
        clippy::cast_precision_loss,
        reason = "microseconds since 1970 are exact to a fraction of one until 2255"
    )]
    pub(super) fn synced(&self, revision: u64, now_us: u64) {
        self.revision.set(i64::try_from(revision).unwrap_or(i64::MAX));
        self.synced.set(now_us as f64 / 1e6);
    }

    /// Whether what is known is in force.
    pub(super) fn valid(&self, valid: bool) {
        self.valid.set(i64::from(valid));
    }

    /// The database did not answer.
    pub(super) fn failed(&self, operation: &'static str) {
        self.errors.get_or_create(&OperationLabel { operation }).inc();
    }
}
