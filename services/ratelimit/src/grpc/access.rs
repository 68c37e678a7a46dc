//! Who may call what.

use tidegate_chassis::auth::{
    Access,
    Role::{Admin, Service, TenantAdmin, User},
};

/// Checks, and what they come to.
const CHECKS: Access = Access::Roles(&[Service, Admin, TenantAdmin]);
/// What several organizations did, together; and what Envoy asks.
const OVERVIEWS: Access = Access::Roles(&[Service, Admin]);
const RESETS: Access = Access::Roles(&[Admin, TenantAdmin]);
/// What limits there are.
const READS: Access = Access::Roles(&[Admin, TenantAdmin, Service]);
const ANY_ROLE: Access = Access::Roles(&[Admin, TenantAdmin, User, Service]);
const CHANGES: Access = Access::Roles(&[Admin]);
const FENCES: Access = Access::Roles(&[Service]);

/// Who may call each method of the services; those of one organization only what is its own. The proto files say the same.
pub const ACCESS: &[(&str, Access)] = &[
    ("/tidegate.ratelimit.v1.RateLimitService/Check", CHECKS),
    ("/tidegate.ratelimit.v1.RateLimitService/CheckBatch", CHECKS),
    ("/tidegate.ratelimit.v1.RateLimitService/CheckStream", CHECKS),
    ("/tidegate.ratelimit.v1.RateLimitService/Peek", CHECKS),
    ("/tidegate.ratelimit.v1.RateLimitService/Reset", RESETS),
    ("/tidegate.ratelimit.v1.RateLimitService/GetUsage", CHECKS),
    ("/tidegate.ratelimit.v1.RateLimitService/ListTopKeys", OVERVIEWS),
    ("/tidegate.ratelimit.v1.RateLimitService/ListPolicyStats", OVERVIEWS),
    ("/tidegate.ratelimit.v1.RateLimitService/AcquireLease", CHECKS),
    ("/tidegate.ratelimit.v1.RateLimitService/RenewLease", CHECKS),
    ("/tidegate.ratelimit.v1.RateLimitService/ReleaseLease", CHECKS),
    ("/tidegate.ratelimit.v1.RateLimitService/CreatePolicy", CHANGES),
    ("/tidegate.ratelimit.v1.RateLimitService/GetPolicy", READS),
    ("/tidegate.ratelimit.v1.RateLimitService/ListPolicies", READS),
    ("/tidegate.ratelimit.v1.RateLimitService/UpdatePolicy", CHANGES),
    ("/tidegate.ratelimit.v1.RateLimitService/DeletePolicy", CHANGES),
    ("/tidegate.ratelimit.v1.RateLimitService/ListPolicyVersions", READS),
    ("/tidegate.ratelimit.v1.RateLimitService/RollbackPolicy", CHANGES),
    ("/tidegate.ratelimit.v1.RateLimitService/CreatePlan", CHANGES),
    ("/tidegate.ratelimit.v1.RateLimitService/GetPlan", READS),
    ("/tidegate.ratelimit.v1.RateLimitService/ListPlans", ANY_ROLE),
    ("/tidegate.ratelimit.v1.RateLimitService/UpdatePlan", CHANGES),
    ("/tidegate.ratelimit.v1.RateLimitService/DeletePlan", CHANGES),
    ("/tidegate.ratelimit.v1.RateLimitService/SetAssignment", CHANGES),
    ("/tidegate.ratelimit.v1.RateLimitService/DeleteAssignment", CHANGES),
    ("/tidegate.ratelimit.v1.RateLimitService/ListAssignments", READS),
    ("/tidegate.ratelimit.v1.RateLimitService/SetOverride", CHANGES),
    ("/tidegate.ratelimit.v1.RateLimitService/SetOverrides", CHANGES),
    ("/tidegate.ratelimit.v1.RateLimitService/GetOverride", READS),
    ("/tidegate.ratelimit.v1.RateLimitService/DeleteOverride", CHANGES),
    ("/tidegate.ratelimit.v1.RateLimitService/ListOverrides", READS),
    ("/tidegate.ratelimit.v1.RateLimitService/FenceOrganization", FENCES),
    ("/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit", OVERVIEWS),
    ("/envoy.service.auth.v3.Authorization/Check", OVERVIEWS),
];

#[cfg(test)]
mod tests;
