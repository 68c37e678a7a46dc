//! What the OpenAPI document says of leases, as `check/schema.rs` does of checks.
#![expect(dead_code, reason = "only their schemas are used")]

use std::collections::BTreeMap;

use utoipa::ToSchema;

/// For what a lease is to be taken.
#[derive(ToSchema)]
#[schema(as = AcquireLease)]
#[serde(deny_unknown_fields)]
pub(super) struct AcquireBody {
    /// As of a check.
    #[schema(nullable = false, max_length = 128, pattern = "^[A-Za-z0-9._/-]*$", example = "default")]
    namespace: Option<String>,
    /// As of a check.
    #[schema(nullable = false, example = json!({"organization": "acme"}))]
    attributes: Option<BTreeMap<String, String>>,
    /// Tokens of every limit; of concurrency limits they are held. Absent means 1.
    #[schema(nullable = false, minimum = 1, maximum = 1_000_000_000)]
    cost: Option<u64>,
    /// How long it lasts unless it is renewed, in milliseconds; absent means as long as the limits allow, and more than that
    /// is cut to it.
    #[schema(nullable = false, minimum = 1, maximum = 86_400_000)]
    ttl_ms: Option<u64>,
    /// As of a check. A retry is answered the same lease, while it is held.
    #[schema(nullable = false, max_length = 128)]
    idempotency_key: Option<String>,
}

/// Which lease is to last longer.
#[derive(ToSchema)]
#[schema(as = RenewLease)]
#[serde(deny_unknown_fields)]
pub(super) struct RenewBody {
    /// Its id.
    #[schema(min_length = 1, max_length = 6000, pattern = "^[A-Za-z0-9_-]+$")]
    lease_id: String,
    /// How long it lasts from now on, in milliseconds; absent means as long as when it was taken, and more than that is cut
    /// to it.
    #[schema(nullable = false, minimum = 1, maximum = 86_400_000)]
    ttl_ms: Option<u64>,
}

/// Which lease is to end.
#[derive(ToSchema)]
#[schema(as = ReleaseLease)]
#[serde(deny_unknown_fields)]
pub(super) struct ReleaseBody {
    /// Its id.
    #[schema(min_length = 1, max_length = 6000, pattern = "^[A-Za-z0-9_-]+$")]
    lease_id: String,
}
