//! What the OpenAPI document says of the bodies. They are read by hand, so that every fault of them is found at once.
#![expect(dead_code, reason = "only their schemas are used")]

use std::collections::BTreeMap;

use utoipa::ToSchema;

use super::answer::KeyLimitAnswer;

/// A new API key.
#[derive(ToSchema)]
#[schema(as = CreateApiKey)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateBody {
    /// 1 to 128 characters.
    #[schema(example = "Production API Key")]
    name: String,
    /// `live` or `test`; absent means `live`.
    #[schema(nullable = false, example = "live")]
    environment: Option<String>,
    /// What it may do: at most 64 of 1 to 128 of `a-z 0-9 . _ : * / -`.
    #[schema(nullable = false)]
    scopes: Option<Vec<String>>,
    /// Until when it is accepted: RFC 3339; null for ever; absent means for 365 days.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    /// From where it may be used, as `203.0.113.0/24`: at most 64; none means from anywhere.
    #[schema(nullable = false)]
    allowed_cidrs: Option<Vec<String>>,
    /// What its owner wants to remember: at most 16 entries.
    #[schema(nullable = false)]
    metadata: Option<BTreeMap<String, String>>,
    /// Limits of its own, beside those of policies: at most 8.
    #[schema(nullable = false)]
    limits: Option<Vec<KeyLimitAnswer>>,
}

/// What is to change of an API key.
#[derive(ToSchema)]
#[schema(as = UpdateApiKey)]
#[serde(deny_unknown_fields)]
pub(super) struct UpdateBody {
    /// 1 to 128 characters.
    #[schema(nullable = false)]
    name: Option<String>,
    /// What it may do, all of it.
    #[schema(nullable = false)]
    scopes: Option<Vec<String>>,
    /// False to switch it off, true to switch it on.
    #[schema(nullable = false)]
    enabled: Option<bool>,
    /// Until when it is accepted: RFC 3339; null for ever.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    /// From where it may be used, all of it.
    #[schema(nullable = false)]
    allowed_cidrs: Option<Vec<String>>,
    /// What its owner wants to remember, all of it.
    #[schema(nullable = false)]
    metadata: Option<BTreeMap<String, String>>,
    /// Limits of its own, all of them.
    #[schema(nullable = false)]
    limits: Option<Vec<KeyLimitAnswer>>,
}

/// How to rotate an API key.
#[derive(ToSchema)]
#[schema(as = RotateApiKey)]
#[serde(deny_unknown_fields)]
pub(super) struct RotateBody {
    /// How long the old key is still accepted, at most 2,592,000; absent or 0 means not at all.
    #[schema(nullable = false, example = 3600)]
    grace_period_seconds: Option<u64>,
}

/// Credits to give.
#[derive(ToSchema)]
#[schema(as = GrantCredits)]
#[serde(deny_unknown_fields)]
pub(super) struct GrantBody {
    /// Credits to add, 0 to 1,000,000,000,000; absent means 0.
    #[schema(nullable = false, example = 1000)]
    amount: Option<u64>,
    /// What each refill sets the balance to, at least; 0 for no refill; absent means as it is.
    #[schema(nullable = false)]
    refill_amount: Option<u64>,
    /// Days between refills, 1 to 366; 0 for no refill; absent means as it is.
    #[schema(nullable = false)]
    refill_every_days: Option<u32>,
}

/// Keys of another system.
#[derive(ToSchema)]
#[schema(as = ImportApiKeys)]
#[serde(deny_unknown_fields)]
pub(super) struct ImportBody {
    /// 1 to 1,000.
    keys: Vec<ImportedBody>,
}

/// A key of another system.
#[derive(ToSchema)]
#[schema(as = ImportedKey)]
#[serde(deny_unknown_fields)]
struct ImportedBody {
    /// SHA-256 of its value: 64 hexadecimal digits.
    key_sha256: String,
    /// 1 to 128 characters.
    name: String,
    /// The beginning of its value, for people: at most 32 printable ASCII characters.
    #[schema(nullable = false)]
    key_prefix: Option<String>,
    /// `live` or `test`; absent means `live`.
    #[schema(nullable = false)]
    environment: Option<String>,
    /// What it may do.
    #[schema(nullable = false)]
    scopes: Option<Vec<String>>,
    /// Until when it is accepted: RFC 3339; absent or null means for ever.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    /// What its owner wants to remember.
    #[schema(nullable = false)]
    metadata: Option<BTreeMap<String, String>>,
}
