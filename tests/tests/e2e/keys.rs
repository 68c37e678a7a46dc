//! Organizations, identity and API keys, over REST and gRPC, with every service as its own process.

mod credits;
mod cross_tenant;
mod enumeration;
mod flood;
mod kills;
mod login_storm;
mod revocation;
mod rotation;
mod story;

use serde_json::json;
use tidegate_tests::{rest::Rest, stack::Stack};

/// So ample that no limit denies, and so that Redis may go.
const POLICIES: &str = r#"
builtin = false
[[plans]]
name = "ample"
limits = [{ name = "minute", limit = 1_000_000_000, period = "1m" }]
[[policies]]
name = "organization"
namespace = "default"
key_by = ["organization"]
plan = { attribute = "plan", default = "ample" }
failure_mode = "open"
[[policies]]
name = "anonymous"
namespace = "gateway"
key_by = ["ip"]
limits = [{ name = "minute", limit = 1_000_000, period = "1m" }]
failure_mode = "open"
"#;

/// Somebody whose organization has the plan `ample`.
async fn ample_tenant(stack: &Stack) -> anyhow::Result<Rest> {
    let (owner, organization) = stack.tenant("ada@example.com", "Analytical Engines").await?;
    let admin = stack.admin().await?;
    admin.patch(&format!("/v1/organizations/{organization}"), &json!({"plan": "ample"})).await?;
    Ok(owner)
}
