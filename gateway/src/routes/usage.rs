//! Views of use: what the replicas of the rate-limit service saw, added up.

mod merge;
mod query;

#[cfg(test)]
mod tests;

use axum::{extract::State, response::Response};
use http::Uri;
use serde::Serialize;
use tidegate_proto::ratelimit::v1 as pb;
use tonic::Status;
use utoipa::ToSchema;
use uuid::Uuid;

use self::query::Asked;
use super::{json, times::timestamp};
use crate::{
    app::App,
    edge::RequestContext,
    problem::{Problem, ProblemDocument, from_status},
};

/// What each replica is asked for, so that little is lost when their answers are added up.
const KEYS_OF_EACH: u32 = 1_000;
const POLICIES_OF_EACH: u32 = 10_000;

/// The keys that weigh most
#[derive(Debug, Serialize, ToSchema)]
struct TopKeysAnswer {
    /// The heaviest first. One key under two policies is two.
    keys: Vec<TopKeyAnswer>,
    /// About how many decisions of this kind there were, of all keys and policies.
    total: u64,
    /// A key that is not listed came at most so often, but for the error of the sampling.
    unlisted_at_most: u64,
    /// The replicas that answered.
    replicas: Vec<ReplicaAnswer>,
    /// How many addresses did not answer: what they saw is missing.
    unreachable_replicas: usize,
}

/// One key, and how often it came
#[derive(Debug, Serialize, ToSchema)]
struct TopKeyAnswer {
    /// Namespace of the policy.
    #[schema(example = "default")]
    namespace: String,
    /// Name of the policy.
    #[schema(example = "organizations")]
    policy: String,
    /// The attributes that the policy counts by, in their order.
    attributes: Vec<KeyAttributeAnswer>,
    /// How often it came, estimated and rather too high.
    count: u64,
    /// By how much `count` may be too high because few keys are kept.
    overcount: u64,
    /// Standard error of the sampling; 0 while every decision is looked at.
    standard_error: u64,
    /// `count` as a share of `total`.
    share: f64,
}

/// One attribute of a key
#[derive(Debug, Serialize, ToSchema)]
struct KeyAttributeAnswer {
    /// Its name.
    #[schema(example = "organization")]
    name: String,
    /// Its value; of more than 128 bytes the beginning.
    #[schema(example = "acme")]
    value: String,
    /// Present and true if the value goes on.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    cut: bool,
}

/// One replica of the rate-limit service
#[derive(Debug, Serialize, ToSchema)]
struct ReplicaAnswer {
    /// Identifies this run of it.
    instance_id: Uuid,
    /// When it started: RFC 3339, UTC.
    #[schema(format = DateTime)]
    started_at: String,
    /// When the window began: RFC 3339, UTC.
    #[schema(format = DateTime)]
    window_start: String,
    /// When it was looked at: RFC 3339, UTC.
    #[schema(format = DateTime)]
    at: String,
}

/// What policies said
#[derive(Debug, Serialize, ToSchema)]
struct PoliciesAnswer {
    /// Ranked as asked; equals by namespace and name.
    policies: Vec<PolicyAnswer>,
    /// All policies together that are not counted each for itself.
    others: PolicyCounts,
    /// The replicas that answered.
    replicas: Vec<ReplicaAnswer>,
    /// How many addresses did not answer: what they counted is missing.
    unreachable_replicas: usize,
}

/// What one policy said
#[derive(Debug, Serialize, ToSchema)]
struct PolicyAnswer {
    /// Its namespace.
    #[schema(example = "default")]
    namespace: String,
    /// Its name.
    #[schema(example = "organizations")]
    policy: String,
    #[serde(flatten)]
    counts: PolicyCounts,
}

/// Checks that a policy applied to
#[derive(Debug, Default, Serialize, ToSchema)]
struct PolicyCounts {
    /// Since the replicas started.
    since_start: CheckCounts,
    /// Since the window began.
    in_window: CheckCounts,
}

/// Checks by what became of them
#[derive(Debug, Default, Serialize, ToSchema)]
struct CheckCounts {
    /// All of them.
    checks: u64,
    /// Those that were admitted.
    admitted: u64,
    /// Those that this policy denied; the rest was denied by other policies alone.
    denied: u64,
    /// Those that were admitted and left little of a limit.
    near_limit: u64,
    /// Those that were admitted, and which it would have denied were it not in shadow.
    shadow_denied: u64,
}

/// The keys that are asked for, denied or near a limit most often
///
/// Estimates, with their error, of what all replicas saw whose addresses the gateway knows.
#[utoipa::path(
    get,
    path = "/v1/usage/top-keys",
    tag = "usage",
    params(
        ("kind" = Option<String>, Query, description = "`hot` (default), `denied`, `near_limit` or `shadow_denied`"),
        ("window" = Option<String>, Query, description = "`recent` (default): the last one to two minutes; `hour`: the last 30 to 60"),
        ("namespace" = Option<String>, Query, description = "Keys of policies of this namespace only"),
        ("policy" = Option<String>, Query, description = "Keys of the policy of this name only"),
        ("limit" = Option<u32>, Query, description = "The most keys to list, 1 to 1,000; 50 if absent")
    ),
    responses(
        (status = 200, description = "The keys", body = TopKeysAnswer),
        (status = 400, description = "Parameters are wrong; all are listed",
            body = ProblemDocument, content_type = "application/problem+json"),
        (status = 401, description = "The caller is not on this machine",
            body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "No replica can be reached",
            body = ProblemDocument, content_type = "application/problem+json")
    )
)]
pub(super) async fn top_keys(
    State(app): State<App>,
    context: RequestContext,
    uri: Uri,
) -> Result<Response, Box<Problem>> {
    let asked = Asked::of_keys(&uri)?;
    let request = pb::ListTopKeysRequest {
        namespace: asked.namespace,
        policy: asked.policy,
        kind: asked.kind.into(),
        window: asked.window.into(),
        limit: KEYS_OF_EACH,
    };
    let (answers, unreachable) = answered(app.ratelimit.list_top_keys(request, &context).await)?;
    json(&merge::top_keys(answers, asked.limit, unreachable))
}

/// What each policy said to the checks it applied to
///
/// Exact, of all replicas whose addresses the gateway knows.
#[utoipa::path(
    get,
    path = "/v1/usage/policies",
    tag = "usage",
    params(
        ("order_by" = Option<String>, Query, description = "Number in the window: `checks` (default), `denied`, `near_limit` or `shadow_denied`"),
        ("window" = Option<String>, Query, description = "`recent` (default): the last one to two minutes; `hour`: the last 30 to 60"),
        ("namespace" = Option<String>, Query, description = "Policies of this namespace only"),
        ("policy" = Option<String>, Query, description = "The policy of this name only"),
        ("limit" = Option<u32>, Query, description = "The most policies to list, 1 to 1,000; 50 if absent")
    ),
    responses(
        (status = 200, description = "The policies", body = PoliciesAnswer),
        (status = 400, description = "Parameters are wrong; all are listed",
            body = ProblemDocument, content_type = "application/problem+json"),
        (status = 401, description = "The caller is not on this machine",
            body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "No replica can be reached",
            body = ProblemDocument, content_type = "application/problem+json")
    )
)]
pub(super) async fn policies(
    State(app): State<App>,
    context: RequestContext,
    uri: Uri,
) -> Result<Response, Box<Problem>> {
    let asked = Asked::of_policies(&uri)?;
    let request = pb::ListPolicyStatsRequest {
        namespace: asked.namespace,
        policy: asked.policy,
        window: asked.window.into(),
        limit: POLICIES_OF_EACH,
        order_by: asked.order.into(),
    };
    let (answers, unreachable) = answered(app.ratelimit.list_policy_stats(request, &context).await)?;
    json(&merge::policies(answers, asked.order, asked.limit, unreachable))
}

/// The answers there are, and how many there are not; if there are none, why.
fn answered<T>(all: Vec<Result<T, Status>>) -> Result<(Vec<T>, usize), Box<Problem>> {
    let asked = all.len();
    let mut answers = Vec::with_capacity(asked);
    let mut failure = Status::unavailable("no address is known");
    for answer in all {
        match answer {
            Ok(answer) => answers.push(answer),
            Err(status) => failure = status,
        }
    }
    if answers.is_empty() {
        return Err(Box::new(from_status(&failure)));
    }
    let unreachable = asked - answers.len();
    Ok((answers, unreachable))
}

impl ReplicaAnswer {
    fn new(view: &pb::ReplicaView) -> Self {
        let at = |ms: u64| timestamp(ms.saturating_mul(1_000));
        Self {
            instance_id: Uuid::from_slice(&view.instance_id).unwrap_or_default(),
            started_at: at(view.started_at_ms),
            window_start: at(view.window_start_ms),
            at: at(view.at_ms),
        }
    }
}
