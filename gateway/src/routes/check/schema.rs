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
    /// The API key that the request came with. It gives the check the attributes `organization`, `plan`, `api_key` and
    /// `environment`.
    #[schema(nullable = false)]
    api_key: Option<String>,
    /// From where the request came, for API keys that may be used from some networks only.
    #[schema(nullable = false, example = "203.0.113.7")]
    client_ip: Option<String>,
    /// What the API key must be allowed to do: an expression, as `invoices:read and (invoices:write or admin)`, at most 1,024
    /// bytes; or an array of scopes, all of which are needed.
    #[schema(nullable = false, value_type = String, example = "invoices:read")]
    required_scopes: Option<String>,
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
