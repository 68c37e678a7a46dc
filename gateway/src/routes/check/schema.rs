//! What the OpenAPI document says of the check. Bodies are read by hand, so that every fault of them
//! is found at once; these types only describe them.
#![expect(dead_code, reason = "only their schemas are used")]

use std::collections::BTreeMap;

use utoipa::ToSchema;

/// One check.
#[derive(ToSchema)]
#[schema(as = Check)]
#[serde(deny_unknown_fields)]
pub(super) struct CheckBody {
    /// Namespace of the policies; absent or empty means `default`.
    #[schema(nullable = false, max_length = 128, pattern = "^[A-Za-z0-9._/-]*$", example = "default")]
    namespace: Option<String>,
    /// What is known of the request: `organization`, `ip`, `path`, … At most 64; names are 1 to 64 of
    /// `A-Z a-z 0-9 . _ -`, values of any length.
    #[schema(nullable = false, example = json!({"organization": "acme"}))]
    attributes: Option<BTreeMap<String, String>>,
    /// Tokens to charge; absent means 1.
    #[schema(nullable = false, minimum = 1, maximum = 1_000_000_000)]
    cost: Option<u64>,
    /// Decide but charge nothing.
    #[schema(nullable = false)]
    dry_run: Option<bool>,
    /// Makes a retry safe: the same check with the same key is charged once in 24 hours. At most 128
    /// printable ASCII characters.
    #[schema(nullable = false, max_length = 128)]
    idempotency_key: Option<String>,
}

/// Up to 100 checks.
#[derive(ToSchema)]
#[schema(as = CheckBatch)]
#[serde(deny_unknown_fields)]
pub(super) struct BatchBody {
    /// In the order in which they are answered.
    #[schema(min_items = 1, max_items = 100)]
    checks: Vec<CheckBody>,
}
