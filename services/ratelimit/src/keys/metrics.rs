//! What is counted of keys.

use prometheus_client::metrics::counter::Counter;
use tidegate_chassis::metrics::Metrics;

pub(super) struct KeyMetrics {
    pub(super) lookups: Counter,
    pub(super) failures: Counter,
    pub(super) refused: Counter,
    pub(super) unreported: Counter,
    pub(super) reservations: Counter,
    pub(super) reservation_failures: Counter,
}

impl KeyMetrics {
    pub(super) fn register(metrics: &Metrics) -> Self {
        let counter = |name, help| {
            let counter = Counter::default();
            metrics.register(name, help, counter.clone());
            counter
        };
        Self {
            lookups: counter("tidegate_ratelimit_key_lookups", "Keys that the keys service was asked for"),
            failures: counter("tidegate_ratelimit_key_lookup_failures", "Look-ups that failed"),
            refused: counter(
                "tidegate_ratelimit_key_lookups_refused",
                "Checks not decided since too many keys were being asked for",
            ),
            reservations: counter(
                "tidegate_ratelimit_credit_reservations",
                "Reservations of credits that the keys service was asked for",
            ),
            reservation_failures: counter(
                "tidegate_ratelimit_credit_reservation_failures",
                "Reservations of credits that failed, or whose answer was lost",
            ),
            unreported: counter(
                "tidegate_ratelimit_key_uses_lost",
                "Uses of keys that were not counted, since too many waited to be told, or the keys service did not take them",
            ),
        }
    }
}
